/* An experiment's file becomes the runs that it asks for, or one line says why not. */
#include "throughline/report.h"

#include "test.h"

#include <string.h>

#define KILLS                                                                          \
    "\"kills\":{\"none\":[],\"two\":[\"server/0@seconds=15,down=15s\","                \
    "\"worker/1@updates=300,down=forever\"]}"
#define FILE_OF(rest) "{\"job\":\"x.json\",\"seeds\":[1,2]," KILLS "," rest "}"

static int plan(const char *text, double scale, json_t **ret_plan) {
    json_error_t error;
    json_t *file = json_loads(text, 0, &error);
    if (file == NULL) {
        fail_msg("%s in %s", error.text, text);
    }
    const int rc = tl_plan_read(file, scale, ret_plan);
    json_decref(file);
    return rc;
}

static bool has_argument(const json_t *run, const char *argument) {
    size_t i = 0;
    const json_t *a = NULL;
    json_array_foreach(json_object_get(run, "arguments"), i, a) {
        if (strcmp(json_string_value(a), argument) == 0) {
            return true;
        }
    }
    return false;
}

static const json_t *run_named(const json_t *runs, const char *name) {
    size_t i = 0;
    const json_t *run = NULL;
    json_array_foreach(runs, i, run) {
        if (strcmp(json_string_value(json_object_get(run, "name")), name) == 0) {
            return run;
        }
    }
    fail_msg("no run %s", name);
    return NULL;
}

static void an_array_is_an_axis(void **state) {
    (void)state;
    json_t *runs = NULL;
    assert_int_equal(plan(FILE_OF("\"arms\":[{\"name\":\"A\",\"set\":{\"strategy\":"
                                  "[\"none\",\"checkpoint\"],\"workers\":[2,4],"
                                  "\"batch\":8}}]"),
                          1, &runs),
                     0);
    /* 2 strategies x 2 numbers of workers x 2 failures x 2 seeds */
    assert_int_equal(json_array_size(runs), 16);
    const json_t *run = run_named(runs, "a-checkpoint-4-two-seed2");
    assert_true(has_argument(run, "--strategy=checkpoint"));
    assert_true(has_argument(run, "--workers=4"));
    assert_true(has_argument(run, "--batch=8"));
    assert_true(has_argument(run, "--seed=2"));
    assert_true(has_argument(run, "--kill=server/0@seconds=15.000,down=15000ms"));
    assert_true(has_argument(run, "--kill=worker/1@updates=300,down=forever"));
    json_decref(runs);
}

/* A chain has a head where others have a server. */
static void an_arm_names_its_victim(void **state) {
    (void)state;
    json_t *runs = NULL;
    assert_int_equal(plan(FILE_OF("\"arms\":[{\"name\":\"a\",\"victim\":\"head\","
                                  "\"kills\":[\"two\"]}]"),
                          1, &runs),
                     0);
    const json_t *run = run_named(runs, "a-two-seed1");
    assert_true(has_argument(run, "--kill=head/0@seconds=15.000,down=15000ms"));
    assert_true(has_argument(run, "--kill=worker/1@updates=300,down=forever"));
    json_decref(runs);
    assert_int_equal(plan("{\"job\":\"x\",\"seeds\":[1],\"arms\":[{\"name\":\"a\"}],"
                          "\"kills\":{\"k\":[\"tail/1@seconds=2,down=0\"]}}",
                          1, &runs),
                     0);
    assert_true(has_argument(run_named(runs, "a-k-seed1"),
                             "--kill=tail/1@seconds=2.000,down=0ms"));
    json_decref(runs);
}

static void a_scale_keeps_the_shape(void **state) {
    (void)state;
    json_t *runs = NULL;
    assert_int_equal(
        plan(FILE_OF("\"until\":{\"seconds\":240,\"updates\":1000,\"accuracy\":0.9},"
                     "\"set\":{\"monitor.every_seconds\":2,\"checkpoint.every_updates\""
                     ":100,\"batch\":32},"
                     "\"scaled\":[\"monitor.every_seconds\",\"checkpoint.every_"
                     "updates\"],"
                     "\"arms\":[{\"name\":\"a\",\"kills\":[\"two\"]}]"),
             0.1, &runs),
        0);
    const json_t *run = run_named(runs, "a-two-seed1");
    assert_true(has_argument(run, "--until=seconds=24"));
    assert_true(has_argument(run, "--until=updates=100"));
    assert_true(has_argument(run, "--until=accuracy=0.9"));
    assert_true(has_argument(run, "--monitor-every-seconds=0.2"));
    assert_true(has_argument(run, "--checkpoint-every-updates=10"));
    assert_true(has_argument(run, "--batch=32"));
    assert_true(has_argument(run, "--kill=server/0@seconds=1.500,down=1500ms"));
    assert_true(has_argument(run, "--kill=worker/1@updates=30,down=forever"));
    json_decref(runs);
}

static void mistakes_are_named(void **state) {
    (void)state;
    static const struct {
        const char *file, *says;
    } wrong[] = {
        {"{}", "needs"},
        {FILE_OF("\"arms\":[{\"name\":\"a\"}],\"unitl\":{}"), "did you mean \"until\""},
        {FILE_OF("\"arms\":[{\"name\":\"a\",\"kills\":[\"three\"]}]"), "\"three\""},
        {FILE_OF("\"arms\":[{\"name\":\"a\"},{\"name\":\"A\"}]"), "one name"},
        {FILE_OF("\"arms\":[{\"name\":\"a\",\"set\":{\"x\":{}}}]"), "\"x\""},
        {FILE_OF("\"arms\":[{\"name\":\"a\",\"victm\":\"head\"}]"),
         "did you mean \"victim\""},
        {FILE_OF("\"arms\":[7]"), "must be an object"},
        {"{\"job\":\"x\",\"seeds\":[1],\"kills\":{\"k\":[\"server@noon\"]},\"arms\":["
         "{}]}",
         "noon"},
        {"{\"job\":\"x\",\"seeds\":[1.5],\"kills\":{\"k\":[]},\"arms\":[{}]}", "seeds"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        json_t *runs = NULL;
        assert_int_equal(plan(wrong[i].file, 1, &runs), TL_E_CONFIG);
        assert_null(runs);
        if (strstr(tl_error_text(), wrong[i].says) == NULL) {
            fail_msg("no \"%s\" in: %s", wrong[i].says, tl_error_text());
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_is_an_axis),
        cmocka_unit_test(an_arm_names_its_victim),
        cmocka_unit_test(a_scale_keeps_the_shape),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
