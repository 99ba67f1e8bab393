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
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
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
        cmocka_unit_test(means_have_intervals),
        cmocka_unit_test(curves_are_averaged_where_all_are_known),
        cmocka_unit_test(csv_is_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
