/* Options from text, flags and the environment: what is right is taken exactly, what is
 * wrong is refused in one line and changes nothing. */
#include "sample_options.h"
#include "scratch.h"

#include <inttypes.h>

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

static void defaults_fill_everything(void **state) {
    (void)state;
    memset(&s, 0xff, sizeof(s));
    assert_int_equal(tl_config_defaults(&sample_table, &s), 0);
    assert_false(s.loud);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.limit, 5);
    assert_true(s.rate == 0.5);
    assert_string_equal(s.name, "");
    assert_int_equal(s.color, 1);
    assert_null(s.shape);
}

static void required_ones_are_asked_for(void **state) {
    (void)state;
    assert_int_equal(tl_config_complete(&sample_table, &s), TL_E_CONFIG);
    assert_string_equal(tl_error_text(),
                        "\"name\" is missing: give text of at most 15 bytes");
    assert_int_equal(tl_config_set(&sample_table, &s, "name", "x", "test"), 0);
    assert_int_equal(tl_config_complete(&sample_table, &s), 0);
}

struct wrong {
    const char *name, *value, *text;
};

static void wrong_text_is_refused(void **state) {
    (void)state;
    static const char whole[] =
        "test: \"count\" must be a whole number from 1 to 10, not ";
    const struct wrong cases[] = {
        {"count", "", whole},
        {"count", "-1", whole},
        {"count", "+1", whole},
        {"count", " 1", whole},
        {"count", "1 ", whole},
        {"count", "1x", whole},
        {"count", "0x3", whole},
        {"count", "1.0", whole},
        {"count", "0", whole},
        {"count", "11", whole},
        {"count", "4294967297", whole},
        {"count", "99999999999999999999999", whole},
        {"group.limit", "9007199254740993", "from 0 to 9007199254740992"},
        {"group.limit", "18446744073709551617", "a whole number"},
        {"group.rate", "nan", "must be a number from 0 to 1, not \"nan\""},
        {"group.rate", "inf", "a number"},
        {"group.rate", "0x1p-1", "a number"},
        {"group.rate", "0.5.5", "a number"},
        {"group.rate", "1e999", "a number"},
        {"group.rate", "-0.1", "a number"},
        {"group.rate", "1.01", "a number"},
        {"loud", "maybe", "must be true or false, not \"maybe\""},
        {"name", "sixteen-bytes-xx", "must be text of at most 15 bytes, not of 16"},
        {"name", "a\nb", "control character"},
        {"color", "pink", "must be one of red, green, blue, not \"pink\""},
        {"colour", "red", "test: \"colour\" is not known"},
        {"shape", "/nowhere/at.json", "/nowhere/at.json: cannot be opened"},
    };
    const struct sample before = s;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct wrong *c = &cases[i];
        assert_int_equal(tl_config_set(&sample_table, &s, c->name, c->value, "test"),
                         TL_E_CONFIG);
        if (strstr(tl_error_text(), c->text) == NULL) {
            fail_msg("%s=%s: %s", c->name, c->value, tl_error_text());
        }
        assert_memory_equal(&s, &before, sizeof(s));
    }
}

static void right_text_is_taken(void **state) {
    (void)state;
    assert_int_equal(tl_config_set(&sample_table, &s, "count", "10", "t"), 0);
    assert_int_equal(s.count, 10);
    assert_int_equal(
        tl_config_set(&sample_table, &s, "group.limit", "9007199254740992", "t"), 0);
    assert_true(s.limit == UINT64_C(9007199254740992));
    assert_int_equal(tl_config_set(&sample_table, &s, "group.rate", "2.5e-1", "t"), 0);
    assert_true(s.rate == 0.25);
    assert_int_equal(tl_config_set(&sample_table, &s, "loud", "on", "t"), 0);
    assert_true(s.loud);
    assert_int_equal(tl_config_set(&sample_table, &s, "loud", "0", "t"), 0);
    assert_false(s.loud);
    assert_int_equal(tl_config_set(&sample_table, &s, "color", "blue", "t"), 0);
    assert_int_equal(s.color, 2);
}

/* ---- flags ---------------------------------------------------------------------- */

static int flag(const char *first, const char *second) {
    char a[64];
    char b[64];
    (void)snprintf(a, sizeof(a), "%s", first);
    (void)snprintf(b, sizeof(b), "%s", second != NULL ? second : "");
    char *argv[] = {a, b, NULL};
    return tl_config_flag(&sample_table, &s, second != NULL ? 2 : 1, argv);
}

static void flags_are_taken(void **state) {
    (void)state;
    assert_int_equal(flag("--group-deep-path", "x/y"), 2);
    assert_string_equal(s.path, "x/y");
    assert_int_equal(flag("--group-rate=0.75", "next"), 1);
    assert_true(s.rate == 0.75);
    assert_int_equal(flag("--loud", "next"), 1);
    assert_true(s.loud);
    assert_int_equal(flag("--no-loud", NULL), 1);
    assert_false(s.loud);
    assert_int_equal(flag("--loud=true", NULL), 1);
    assert_true(s.loud);
    assert_int_equal(flag("--name=", NULL), 1);
    assert_string_equal(s.name, "");
}

static void flags_of_others_are_left(void **state) {
    (void)state;
    assert_int_equal(flag("--elsewhere", "1"), 0);
    assert_int_equal(flag("--countless", "1"), 0);
    assert_int_equal(flag("--coun", "1"), 0);
    assert_int_equal(flag("--no-count", NULL), 0);
    assert_int_equal(flag("count", "1"), 0);
    assert_int_equal(flag("--", NULL), 0);
    assert_int_equal(flag("", NULL), 0);
}

static void wrong_flags_are_refused(void **state) {
    (void)state;
    assert_int_equal(flag("--count", NULL), TL_E_CONFIG);
    assert_string_equal(tl_error_text(), "--count needs a value");
    assert_int_equal(flag("--count", "--loud"), TL_E_CONFIG);
    assert_int_equal(flag("--count", "7x"), TL_E_CONFIG);
    assert_string_equal(tl_error_text(),
                        "--count must be a whole number from 1 to 10, not \"7x\"");
    assert_int_equal(flag("--no-loud=false", NULL), TL_E_CONFIG);
    assert_int_equal(flag("--shape", "x.json"), TL_E_CONFIG);
}

/* ---- secrets -------------------------------------------------------------------- */

static void a_secret_comes_from_a_file(void **state) {
    (void)state;
    char with_file[256];
    assert_int_equal(flag("--token", "hunter2"), TL_E_CONFIG);
    assert_null(strstr(tl_error_text(), "hunter2"));
    assert_string_equal(s.token, "");
    (void)snprintf(with_file, sizeof(with_file), "--token-file=%s",
                   scratch_write("token", "hunter2\r\n"));
    char *argv[] = {with_file, NULL};
    assert_int_equal(tl_config_flag(&sample_table, &s, 1, argv), 1);
    assert_string_equal(s.token, "hunter2");
}

static void a_secret_is_never_shown(void **state) {
    (void)state;
    const char *secret = "a-secret-that-is-much-longer-than-its-field";
    assert_int_equal(setenv("THROUGHLINE_TOKEN_FILE", scratch_write("long", secret), 1),
                     0);
    assert_int_equal(tl_config_environment(&sample_table, &s), TL_E_CONFIG);
    assert_null(strstr(tl_error_text(), "a-secret"));
    assert_int_equal(unsetenv("THROUGHLINE_TOKEN_FILE"), 0);
    assert_int_equal(tl_config_set(&sample_table, &s, "token", "hunter2", "t"), 0);
    json_t *dump = tl_config_dump(&sample_table, &s);
    assert_non_null(dump);
    assert_null(json_object_get(dump, "token"));
    json_decref(dump);
}

static void an_empty_or_missing_secret_is_refused(void **state) {
    (void)state;
    assert_int_equal(setenv("THROUGHLINE_TOKEN_FILE", scratch_write("empty", "\n"), 1),
                     0);
    assert_int_equal(tl_config_environment(&sample_table, &s), TL_E_CONFIG);
    assert_int_equal(setenv("THROUGHLINE_TOKEN_FILE", scratch_path("none"), 1), 0);
    assert_int_equal(tl_config_environment(&sample_table, &s), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "No such file"));
    assert_int_equal(unsetenv("THROUGHLINE_TOKEN_FILE"), 0);
}

/* ---- environment ---------------------------------------------------------------- */

static void variables_are_taken(void **state) {
    (void)state;
    (void)setenv("THROUGHLINE_GROUP_DEEP_PATH", "p/q", 1);
    (void)setenv("THROUGHLINE_COUNT", "", 1);
    (void)setenv("THROUGHLINE_NAME_PORT", "tcp://10.0.0.1:80", 1);
    assert_int_equal(tl_config_environment(&sample_table, &s), 0);
    assert_string_equal(s.path, "p/q");
    assert_int_equal(s.count, 3);
    assert_string_equal(s.name, "");
    (void)setenv("THROUGHLINE_COUNT", "3,5", 1);
    assert_int_equal(tl_config_environment(&sample_table, &s), TL_E_CONFIG);
    assert_string_equal(
        tl_error_text(),
        "THROUGHLINE_COUNT must be a whole number from 1 to 10, not \"3,5\"");
    (void)unsetenv("THROUGHLINE_COUNT");
    (void)unsetenv("THROUGHLINE_GROUP_DEEP_PATH");
    (void)unsetenv("THROUGHLINE_NAME_PORT");
}

/* What a file cannot hold, the environment does: a child reads the same. */
static void secrets_alone_stay_in_the_environment(void **state) {
    (void)state;
    struct sample child;
    (void)setenv("THROUGHLINE_COUNT", "7", 1);
    (void)setenv("THROUGHLINE_NAME_PORT", "tcp://10.0.0.1:80", 1);
    (void)setenv("THROUGHLINE_TOKEN_FILE", "/nonexistent", 1);
    (void)snprintf(s.token, sizeof(s.token), "hidden");
    assert_int_equal(tl_config_environment_replace(&sample_table, &s), 0);
    assert_null(getenv("THROUGHLINE_COUNT"));
    assert_null(getenv("THROUGHLINE_TOKEN_FILE"));
    assert_non_null(getenv("THROUGHLINE_NAME_PORT"));
    assert_int_equal(tl_config_defaults(&sample_table, &child), 0);
    assert_int_equal(tl_config_environment(&sample_table, &child), 0);
    assert_string_equal(child.token, "hidden");
    assert_int_equal(child.count, 3);
    (void)unsetenv("THROUGHLINE_TOKEN");
    (void)unsetenv("THROUGHLINE_NAME_PORT");
}

/* ---- documentation -------------------------------------------------------------- */

static void the_table_prints_itself(void **state) {
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    tl_config_help(&sample_table, out);
    tl_config_markdown(&sample_table, out);
    tl_config_flags(&sample_table, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text,
                           "  --count N\n      How many.\n      default 3; a whole "
                           "number from 1 to 10, in pieces\n"));
    assert_non_null(strstr(
        text, "| `count` | whole number | `3` | 1 to 10 pieces | How many. |\n"));
    assert_non_null(strstr(
        text, "| `color` | word | `green` | `red`, `green`, `blue` | Which. |\n"));
    assert_non_null(strstr(text, "| `name` | text | required |"));
    assert_non_null(strstr(text, "--loud\n--no-loud\n--count\n"));
    assert_non_null(strstr(text, "--token-file"));
    assert_null(strstr(text, "--token "));
    assert_null(strstr(text, "--shape"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_fill_everything, fresh, done),
        cmocka_unit_test_setup_teardown(required_ones_are_asked_for, fresh, done),
        cmocka_unit_test_setup_teardown(wrong_text_is_refused, fresh, done),
        cmocka_unit_test_setup_teardown(right_text_is_taken, fresh, done),
        cmocka_unit_test_setup_teardown(flags_are_taken, fresh, done),
        cmocka_unit_test_setup_teardown(flags_of_others_are_left, fresh, done),
        cmocka_unit_test_setup_teardown(wrong_flags_are_refused, fresh, done),
        cmocka_unit_test_setup_teardown(a_secret_comes_from_a_file, fresh, done),
        cmocka_unit_test_setup_teardown(a_secret_is_never_shown, fresh, done),
        cmocka_unit_test_setup_teardown(an_empty_or_missing_secret_is_refused, fresh,
                                        done),
        cmocka_unit_test_setup_teardown(variables_are_taken, fresh, done),
        cmocka_unit_test_setup_teardown(secrets_alone_stay_in_the_environment, fresh,
                                        done),
        cmocka_unit_test_setup_teardown(the_table_prints_itself, fresh, done),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
