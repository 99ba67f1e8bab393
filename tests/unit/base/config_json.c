/* Options from JSON: strictly typed, nested, relative to their file; dumped the same.
 */
#include "sample_options.h"
#include "scratch.h"

static struct sample s;

static int fresh(void **state) {
    (void)state;
    return tl_config_defaults(&sample_table, &s);
}

static int done(void **state) {
    (void)state;
    tl_config_done(&sample_table, &s);
    return 0;
}

static int overlay(const char *text, const char *where) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    const int rc = tl_config_json(&sample_table, &s, json, where);
    json_decref(json);
    return rc;
}

static void nested_objects_are_dotted_names(void **state) {
    (void)state;
    assert_int_equal(overlay("{\"count\": 7, \"loud\": true, \"name\": \"n\", "
                             "\"color\": \"red\", \"group\": {\"rate\": 1, "
                             "\"deep\": {\"path\": \"a/b\"}}, "
                             "\"shape\": {\"sides\": [1, 2]}}",
                             "dir/job.json"),
                     0);
    assert_int_equal(s.count, 7);
    assert_true(s.loud);
    assert_int_equal(s.color, 0);
    assert_true(s.rate == 1.0);
    assert_string_equal(s.path, "dir/a/b");
    assert_int_equal(json_array_size(json_object_get(s.shape, "sides")), 2);
}

static void absolute_paths_stay(void **state) {
    (void)state;
    assert_int_equal(overlay("{\"group\": {\"deep\": {\"path\": \"/a\"}}}", "d/j"), 0);
    assert_string_equal(s.path, "/a");
    assert_int_equal(overlay("{\"group\": {\"deep\": {\"path\": \"b\"}}}", "j"), 0);
    assert_string_equal(s.path, "b");
    assert_int_equal(overlay("{\"group\": {\"deep\": {\"path\": \"\"}}}", "d/j"), 0);
    assert_string_equal(s.path, "");
}

struct wrong {
    const char *json, *text;
};

static void wrong_values_are_refused(void **state) {
    (void)state;
    const struct wrong cases[] = {
        {"{\"count\": \"7\"}",
         "f.json: \"count\" must be a whole number from 1 to 10, not \"7\""},
        {"{\"count\": 7.0}", "not 7.0"},
        {"{\"count\": -7}", "not -7"},
        {"{\"count\": 11}", "not 11"},
        {"{\"count\": null}", "not null"},
        {"{\"count\": true}", "not true"},
        {"{\"loud\": 1}", "f.json: \"loud\" must be true or false, not 1"},
        {"{\"group\": {\"rate\": \"0.5\"}}",
         "f.json: \"group.rate\" must be a number from 0 to 1"},
        {"{\"group\": {\"rate\": 1.5}}", "not 1.5"},
        {"{\"group\": {\"rate\": [0.5]}}", "not [0.5]"},
        {"{\"group\": 3}", "f.json: \"group\" must be an object"},
        {"{\"name\": {}}", "f.json: \"name\" must be text"},
        {"{\"name\": \"0123456789abcdef\"}", "at most 15 bytes"},
        {"{\"color\": 1}", "one of red, green, blue, not 1"},
        {"{\"color\": \"pink\"}", "not \"pink\""},
        {"{\"shape\": 4}", "f.json: \"shape\" must be an object"},
        {"{\"shape\": \"nowhere.json\"}", "nowhere.json: cannot be opened"},
        {"{\"group.rate\": 0.5}", "must be written as an object in an object"},
        {"{\"token\": 5}", "f.json: \"token\" must be text of at most 31 bytes"},
        {"{\"token_file\": 5}", "must be the path of a file"},
        {"[]", "f.json: must be a JSON object"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(overlay(cases[i].json, "f.json"), TL_E_CONFIG);
        if (strstr(tl_error_text(), cases[i].text) == NULL) {
            fail_msg("%s: %s", cases[i].json, tl_error_text());
        }
    }
    assert_int_equal(s.count, 3);
    assert_true(s.rate == 0.5);
}

static void unknown_keys_name_the_nearest(void **state) {
    (void)state;
    const struct wrong cases[] = {
        {"{\"cuont\": 7}", "f.json: \"cuont\" is not known; did you mean \"count\"?"},
        {"{\"group\": {\"rat\": 1}}",
         "f.json: \"group.rat\" is not known; did you mean \"group.rate\"?"},
        {"{\"gruop\": {\"rate\": 1}}",
         "f.json: \"gruop\" is not known; did you mean \"group\"?"},
        {"{\"group\": {\"deeep\": {\"path\": \"\"}}}",
         "f.json: \"group.deeep\" is not known; did you mean \"group.deep\"?"},
        {"{\"something\": 1}", "f.json: \"something\" is not known"},
        {"{\"name_file\": \"x\"}", "f.json: \"name_file\" is not known"},
        {"{\"\": 1}", "f.json: \"\" is not known"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(overlay(cases[i].json, "f.json"), TL_E_CONFIG);
        assert_string_equal(tl_error_text(), cases[i].text);
    }
}

static void a_very_long_key_is_refused(void **state) {
    (void)state;
    char key[3000];
    char text[3100];
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    (void)snprintf(text, sizeof(text), "{\"group\": {\"%s\": 1}}", key);
    assert_int_equal(overlay(text, "f.json"), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "is not known"));
}

static void an_object_can_stand_in_a_file(void **state) {
    (void)state;
    (void)scratch_write("shape.json", "{\"sides\": 3}");
    assert_int_equal(overlay("{\"shape\": \"shape.json\"}", scratch_path("job.json")),
                     0);
    assert_int_equal(json_integer_value(json_object_get(s.shape, "sides")), 3);
    /* Given again, the first one is let go of (the leak checker sees to it). */
    assert_int_equal(overlay("{\"shape\": {\"sides\": 4}}", "f.json"), 0);
    assert_int_equal(json_integer_value(json_object_get(s.shape, "sides")), 4);
}

static void a_secret_can_stand_in_a_file(void **state) {
    (void)state;
    (void)scratch_write("token", "hunter2\n");
    assert_int_equal(overlay("{\"token_file\": \"token\"}", scratch_path("job.json")),
                     0);
    assert_string_equal(s.token, "hunter2");
}

static void a_dump_reads_back_the_same(void **state) {
    (void)state;
    struct sample again;
    assert_int_equal(overlay("{\"count\": 9, \"name\": \"n\", \"color\": \"blue\", "
                             "\"group\": {\"rate\": 0.1, \"limit\": 9007199254740992, "
                             "\"deep\": {\"path\": \"/p\"}}, \"shape\": {\"a\": 1}}",
                             "f.json"),
                     0);
    json_t *dump = tl_config_dump(&sample_table, &s);
    assert_int_equal(tl_config_defaults(&sample_table, &again), 0);
    assert_int_equal(tl_config_json(&sample_table, &again, dump, "dump"), 0);
    json_t *second = tl_config_dump(&sample_table, &again);
    assert_true(json_equal(dump, second));
    assert_true(again.rate == s.rate);
    assert_true(again.limit == s.limit);
    json_decref(dump);
    json_decref(second);
    tl_config_done(&sample_table, &again);
}

/* ---- files ---------------------------------------------------------------------- */

static void bad_files_are_located(void **state) {
    (void)state;
    const struct wrong cases[] = {
        {"{\"a\": 1,\n \"a\": 2}", ":2:4: not JSON: duplicate object key"},
        {"{\"a\": 1} trailing", ":1:"},
        {"{\"a\": NaN}", ":1:"},
        {"{\"a\": -}", ":1:"},
        {"{\"a\": 1e999}", "real number overflow"},
        {"{\"a\": 99999999999999999999}", "too big integer"},
        {"{\"a\": \"\\u0000\"}", "not JSON"},
        {"{\"a\": \"\xff\"}", "not JSON"},
        {"3", "not JSON"},
        {"", "not JSON"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *json = NULL;
        const char *path = scratch_write("bad.json", cases[i].json);
        assert_int_equal(tl_json_load(path, &json), TL_E_CONFIG);
        assert_null(json);
        assert_memory_equal(tl_error_text(), path, strlen(path));
        if (strstr(tl_error_text(), cases[i].text) == NULL) {
            fail_msg("%s: %s", cases[i].json, tl_error_text());
        }
    }
}

static void directories_and_giants_are_refused(void **state) {
    (void)state;
    json_t *json = NULL;
    assert_int_equal(tl_json_load(scratch, &json), TL_E_CONFIG);
    const char *path = scratch_write("giant.json", "{");
    assert_int_equal(truncate(path, (17 << 20)), 0);
    assert_int_equal(tl_json_load(path, &json), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "larger than 16 MiB"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nested_objects_are_dotted_names, fresh, done),
        cmocka_unit_test_setup_teardown(absolute_paths_stay, fresh, done),
        cmocka_unit_test_setup_teardown(wrong_values_are_refused, fresh, done),
        cmocka_unit_test_setup_teardown(unknown_keys_name_the_nearest, fresh, done),
        cmocka_unit_test_setup_teardown(a_very_long_key_is_refused, fresh, done),
        cmocka_unit_test_setup_teardown(an_object_can_stand_in_a_file, fresh, done),
        cmocka_unit_test_setup_teardown(a_secret_can_stand_in_a_file, fresh, done),
        cmocka_unit_test_setup_teardown(a_dump_reads_back_the_same, fresh, done),
        cmocka_unit_test(bad_files_are_located),
        cmocka_unit_test(directories_and_giants_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
