/* A run's figures, told by a timeline that was made up for it. */
#include "throughline/report.h"

#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *figures_of(const char *lines) {
    struct tl_figures *f = NULL;
    assert_int_equal(tl_figures_new(&f), 0);
    char *copy = strdup(lines);
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line != NULL && line[0] != '\0';
         line = strsep(&rest, "\n")) {
        json_error_t error;
        json_t *json = json_loads(line, 0, &error);
        if (json == NULL) {
            fail_msg("%s: %s", error.text, line);
        }
        assert_int_equal(tl_figures_add(f, json), 0);
        json_decref(json);
    }
    json_t *figures = tl_figures_json(f);
    assert_non_null(figures);
    tl_figures_free(f);
    free(copy);
    return figures;
}

static void assert_figure(const json_t *figures, const char *key, double expected) {
    const json_t *v = json_object_get(figures, key);
    if (!json_is_number(v) || fabs(json_number_value(v) - expected) > 1e-9) {
        fail_msg("%s is %.9g, not %.9g", key, json_number_value(v), expected);
    }
}

static void assert_unknown(const json_t *figures, const char *key) {
    if (json_is_number(json_object_get(figures, key))) {
        fail_msg("%s is known", key);
    }
}

#define SAMPLE(t, accuracy)                                                            \
    "{\"kind\":\"sample\",\"t\":" #t ",\"accuracy\":" #accuracy                        \
    ",\"loss\":1.5,\"evaluate_seconds\":0.5}\n"

/* Killed at 10 with 0.8, down for 3 s, at work after 4 s; lowest 0.6, 0.81 at 16. */
static const char killed_once[] = SAMPLE(2, 0.72) SAMPLE(
    9, 0.8) "{\"kind\":\"event\",\"event\":\"kill\",\"service\":\"server/0\",\"t\":10,"
            "\"version\":500}\n" SAMPLE(
                11, null) "{\"kind\":\"event\",\"event\":\"restart\",\"service\":"
                          "\"server/0\",\"t\":13}\n"
                          "{\"kind\":\"event\",\"event\":\"recovered\",\"service\":"
                          "\"server/0\",\"t\":14,"
                          "\"resumed_from\":400,\"restore_seconds\":0.75,\"resume_"
                          "seconds\":0.25}\n" SAMPLE(14, 0.6) SAMPLE(15, 0.7) SAMPLE(
                              16,
                              0.81) "{\"kind\":\"later\",\"t\":17}\n"
                                    "{\"kind\":\"sample\",\"t\":20,\"accuracy\":0.86,"
                                    "\"loss\":0.4,\"version\":900,"
                                    "\"evaluate_seconds\":0.5,\"gradients\":{"
                                    "\"acknowledged\":1000,\"lost\":100},"
                                    "\"processes\":[{\"service\":\"worker/"
                                    "0\",\"cpu_seconds\":7,\"wait_seconds\":1,"
                                    "\"compute_seconds\":3,\"resident_bytes\":null}]}";

static void learning_is_timed(void **state) {
    (void)state;
    json_t *f = figures_of(killed_once);
    assert_figure(f, "accuracy", 0.86);
    assert_figure(f, "loss", 0.4);
    assert_figure(f, "seconds_to_70", 2);
    assert_figure(f, "seconds_to_80", 9);
    assert_figure(f, "seconds_to_85", 20);
    assert_unknown(f, "seconds_to_90");
    assert_unknown(f, "evaluate_share"); /* no monitor was seen */
    json_decref(f);
}

static void a_kill_is_priced(void **state) {
    (void)state;
    json_t *f = figures_of(killed_once);
    const json_t *kill = json_array_get(json_object_get(f, "kills"), 0);
    assert_figure(kill, "accuracy_before", 0.8);
    assert_figure(kill, "accuracy_lost", 0.2);
    assert_figure(kill, "regain_seconds", 6);
    assert_figure(kill, "down_seconds", 3);
    assert_figure(kill, "restore_seconds", 0.75);
    assert_figure(kill, "resume_seconds", 0.25);
    assert_figure(f, "recovery_seconds", 4);
    assert_figure(kill, "resumed_from", 400);
    json_decref(f);
}

static void counters_are_the_last_ones(void **state) {
    (void)state;
    json_t *f = figures_of(killed_once);
    assert_figure(f, "lost", 100);
    assert_figure(f, "gradients_per_second", 50);
    assert_figure(f, "idle_share", 0.25);
    assert_figure(f, "cpu_seconds", 7);
    assert_figure(f, "updates", 900);
    json_decref(f);
}

/* Killed at 10, seen at 12, started again at 14, served at 17: 0.5 s of that loading,
 * 1.5 s replaying the log. What the killed process (pid 7) had said of its own start
 * does not count. */
static void a_recovery_is_taken_apart(void **state) {
    (void)state;
#define SERVER(t, state, pid, load)                                                    \
    "{\"kind\":\"sample\",\"t\":" #t ",\"processes\":[{\"service\":\"server/0\","      \
    "\"state\":\"" state "\",\"pid\":" #pid ",\"load_seconds\":" #load                 \
    ",\"replay_seconds\":1.5}]}\n"
#define EVENT(t, event, more)                                                          \
    "{\"kind\":\"event\",\"service\":\"server/0\",\"t\":" #t ",\"event\":\"" event     \
    "\"" more "}\n"
    json_t *f = figures_of(
        SERVER(9, "serving", 7, 9) EVENT(10, "kill", ",\"pid\":7") EVENT(12, "down", "")
            EVENT(14, "restart", "") SERVER(15, "down", 7, 9)
                SERVER(16, "starting", 8, 0.1) SERVER(18, "serving", 8, 0.5) EVENT(
                    19, "recovered", ",\"restore_seconds\":3,\"resume_seconds\":2"));
#undef SERVER
#undef EVENT
    assert_figure(f, "detection_seconds", 2);
    assert_figure(f, "down_seconds", 4);
    assert_figure(f, "start_seconds", 1);
    assert_figure(f, "load_seconds", 0.5);
    assert_figure(f, "replay_seconds", 1.5);
    assert_figure(f, "resume_seconds", 2);
    assert_figure(f, "recovery_seconds", 9);
    json_decref(f);
}

/* The next replica has taken over long before the dead one is started again. */
static void a_head_is_replaced_by_another(void **state) {
    (void)state;
    json_t *f = figures_of(
        "{\"kind\":\"event\",\"event\":\"kill\",\"service\":\"replica/0\",\"t\":6}\n"
        "{\"kind\":\"event\",\"event\":\"recovered\",\"service\":\"replica/0\","
        "\"t\":6.5,\"restore_seconds\":0.3,\"resume_seconds\":0.2}\n"
        "{\"kind\":\"event\",\"event\":\"back\",\"service\":\"server/0\",\"t\":6.25}\n"
        "{\"kind\":\"event\",\"event\":\"down\",\"service\":\"worker/0\",\"t\":6.1}\n"
        "{\"kind\":\"event\",\"event\":\"restart\",\"service\":\"replica/0\","
        "\"t\":10}\n");
    assert_figure(f, "recovery_seconds", 0.5);
    assert_figure(f, "detection_seconds", 0.25);
    assert_figure(f, "down_seconds", 4);
    assert_unknown(f, "load_seconds");
    json_decref(f);
}

/* The counters of the last sample; memory in the store over time. */
static void stores_are_counted(void **state) {
    (void)state;
    json_t *f = figures_of(
        "{\"kind\":\"sample\",\"t\":1,\"backends\":{\"redis_reads\":1}}\n"
        "{\"kind\":\"sample\",\"t\":5,\"evaluate_cpu_seconds\":2,\"backends\":{"
        "\"redis_reads\":7,\"store_write_bytes\":3000,\"store_held_bytes\":5e8},"
        "\"processes\":[{\"service\":\"monitor\",\"cpu_seconds\":2.5}]}\n");
    assert_figure(f, "redis_reads", 7);
    assert_figure(f, "store_write_bytes", 3000);
    assert_figure(f, "held_gigabyte_seconds", 2);
    assert_figure(f, "evaluate_share", 0.4);
    assert_figure(f, "watch_share", 0.1);
    json_decref(f);
}

/* Down to the end: nothing is made up. */
static void what_never_happened_is_not_known(void **state) {
    (void)state;
    json_t *f = figures_of(SAMPLE(2, 0.5) "{\"kind\":\"event\",\"event\":\"kill\","
                                          "\"service\":\"server/0\",\"t\":3}");
    assert_unknown(f, "recovery_seconds");
    assert_unknown(f, "regain_seconds");
    assert_unknown(f, "idle_share");
    assert_unknown(f, "lost");
    json_decref(f);
    f = figures_of("{\"kind\":\"event\"}");
    assert_unknown(f, "accuracy");
    assert_unknown(f, "seconds");
    json_decref(f);
}

/* ---- several runs ------------------------------------------------------------------
 */

static void means_have_intervals(void **state) {
    (void)state;
    json_t *runs = json_pack("[{s:f,s:f},{s:f,s:n},{s:f,s:f}]", "accuracy", 0.7,
                             "seconds_to_80", 1.0, "accuracy", 0.8, "seconds_to_80",
                             "accuracy", 0.9, "seconds_to_80", 3.0);
    json_t *means = tl_compare_means(runs);
    assert_figure(means, "accuracy", 0.8);
    /* t = 4.303 with two degrees of freedom, s = 0.1. */
    const double interval =
        json_number_value(json_object_get(means, "accuracy_interval"));
    assert_true(fabs(interval - 4.303 * 0.1 / sqrt(3)) < 1e-6);
    /* One of three never got there: the others' mean would flatter. */
    assert_unknown(means, "seconds_to_80");
    assert_figure(means, "seeds", 3);
    json_decref(means);
    json_decref(runs);
}

static void curves_are_averaged_where_all_are_known(void **state) {
    (void)state;
    json_t *curves = json_pack("[{s:[i,i],s:[f,f]},{s:[i,i],s:[f,f]}]", "x", 0, 10, "y",
                               0.0, 1.0, "x", 2, 20, "y", 0.5, 0.5);
    json_t *curve = tl_compare_curves(curves, 10);
    const json_t *x = json_object_get(curve, "x");
    assert_int_equal(json_array_size(x), 9); /* 2, 3, ... 10 */
    assert_true(json_number_value(json_array_get(x, 0)) == 2);
    const double first =
        json_number_value(json_array_get(json_object_get(curve, "y"), 0));
    assert_true(fabs(first - 0.35) < 1e-9);
    assert_int_equal(json_array_size(json_object_get(curve, "low")), 9);
    json_decref(curve);
    json_decref(curves);
}

/* Pairs 0.1 and 0.3 above their controls. */
static void a_gap_has_an_interval(void **state) {
    (void)state;
    json_t *curves = json_pack("[{s:[i,i],s:[f,f]},{s:[i,i],s:[f,f]}]", "x", 0, 10, "y",
                               0.5, 0.5, "x", 0, 20, "y", 0.8, 0.8);
    json_t *controls = json_pack("[{s:[i,i],s:[f,f]},{s:[i,i],s:[f,f]}]", "x", 2, 10,
                                 "y", 0.4, 0.4, "x", 0, 10, "y", 0.5, 0.5);
    json_t *gap = tl_compare_gap(curves, controls);
    assert_figure(gap, "gap", 0.2);
    /* t = 12.706 with one degree of freedom, s = 0.1 * sqrt(2). */
    const double interval = json_number_value(json_object_get(gap, "gap_interval"));
    assert_true(fabs(interval - 12.706 * 0.1) < 1e-6);
    json_decref(gap);
    (void)json_array_remove(controls, 1); /* no pairs any more */
    gap = tl_compare_gap(curves, controls);
    assert_unknown(gap, "gap");
    json_decref(gap);
    json_decref(curves);
    json_decref(controls);
}

static void assert_text(const json_t *row, const char *key, const char *expected) {
    const char *text = json_string_value(json_object_get(row, key));
    assert_string_equal(text != NULL ? text : "null", expected);
}

static void targets_are_judged(void **state) {
    (void)state;
    json_t *row =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "accuracy", 0.8, "paper_accuracy",
                  0.75, "seconds_to_70", 12.0, "paper_seconds_to_70", 119.0, "gap",
                  -0.02, "gap_interval", 0.01);
    tl_targets_judge(row);
    assert_figure(row, "accuracy_gain", 5);
    assert_text(row, "is_above", "yes");
    assert_text(row, "is_sooner", "no"); /* 9.9 times */
    assert_text(row, "is_undisturbed", "no");
    json_decref(row);
    row = json_pack("{s:n, s:f, s:n}", "accuracy", "gap", 0.1, "gap_interval");
    tl_targets_judge(row);
    assert_unknown(row, "accuracy_gain");
    assert_text(row, "is_above", "null");
    assert_text(row, "is_undisturbed", "null"); /* one seed has no interval */
    json_decref(row);
}

/* An hour of a core and a thousand writes, at prices of which one was given. */
static void costs_have_two_prices(void **state) {
    (void)state;
    json_t *runs = json_pack("[{s:s, s:{s:i, s:i}}]", "label", "x", "figures",
                             "cpu_seconds", 3600, "store_writes", 1000);
    json_t *prices =
        json_pack("{s:{s:f, s:f}}", "vCPU-hour", "on_demand", 1.0, "spot", 0.25);
    assert_int_equal(tl_costs_check(prices), 0);
    json_t *costs = tl_costs(runs, prices);
    json_t *rows = tl_costs_rows(costs);
    assert_figure(json_array_get(rows, 0), "on_demand", 1.005);
    assert_figure(json_array_get(rows, 0), "spot", 0.255);
    json_decref(rows);
    json_decref(costs);
    json_decref(prices);
    json_decref(runs);
    prices = json_pack("{s:f}", "vCPU", 1.0);
    assert_int_equal(tl_costs_check(prices), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "\"vCPU-hour\""));
    json_decref(prices);
}

/* ---- printing -----------------------------------------------------------------------
 */

static void csv_is_quoted(void **state) {
    (void)state;
    json_t *tables =
        json_pack("[{s:[{s:s,s:b},{s:s}],s:[{s:s,s:f},{s:s,s:n}]}]", "columns", "key",
                  "label", "text", 1, "key", "value", "rows", "label", "a, \"b\"",
                  "value", 0.125, "label", "c", "value");
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    tl_print_csv(tables, out);
    (void)fclose(out);
    assert_string_equal(text, "label,value\r\n\"a, \"\"b\"\"\",0.125\r\nc,\r\n");
    free(text);
    json_decref(tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learning_is_timed),
        cmocka_unit_test(a_kill_is_priced),
        cmocka_unit_test(counters_are_the_last_ones),
        cmocka_unit_test(what_never_happened_is_not_known),
        cmocka_unit_test(a_recovery_is_taken_apart),
        cmocka_unit_test(a_head_is_replaced_by_another),
        cmocka_unit_test(stores_are_counted),
        cmocka_unit_test(means_have_intervals),
        cmocka_unit_test(curves_are_averaged_where_all_are_known),
        cmocka_unit_test(a_gap_has_an_interval),
        cmocka_unit_test(targets_are_judged),
        cmocka_unit_test(costs_have_two_prices),
        cmocka_unit_test(csv_is_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
