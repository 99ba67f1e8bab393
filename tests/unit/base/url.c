/* URLs with passwords: taken from files and variables, refused on a command line, never
 * shown. */
#include "throughline/service.h"

#include "scratch.h"

static const char url[] = "redis://someone:p@ss/word@10.0.0.1:6379/2";

static int take(struct tl_service_options *o, const char *flag, const char *value) {
    char *argv[] = {(char *)flag, (char *)value};
    return tl_config_flag(&tl_service_table, o, 2, argv);
}

static void a_password_is_not_for_the_command_line(void **state) {
    (void)state;
    struct tl_service_options o;
    assert_int_equal(tl_config_defaults(&tl_service_table, &o), 0);
    assert_int_equal(take(&o, "--redis", url), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "--redis-file"));
    assert_null(strstr(tl_error_text(), "p@ss"));
    assert_int_equal(take(&o, "--redis", "redis://10.0.0.1:6379"), 2);
    assert_int_equal(take(&o, "--redis", "unix:///run/redis@2.sock"), 2);
}

static void it_comes_from_a_file_or_a_variable(void **state) {
    (void)state;
    struct tl_service_options o;
    assert_int_equal(tl_config_defaults(&tl_service_table, &o), 0);
    assert_int_equal(take(&o, "--redis-file", scratch_write("url", url)), 2);
    assert_string_equal(o.redis, url);

    assert_int_equal(tl_config_defaults(&tl_service_table, &o), 0);
    assert_int_equal(setenv("THROUGHLINE_REDIS_FILE", scratch_path("url"), 1), 0);
    assert_int_equal(tl_config_environment(&tl_service_table, &o), 0);
    assert_string_equal(o.redis, url);
    assert_int_equal(unsetenv("THROUGHLINE_REDIS_FILE"), 0);
}

static void too_long_a_url_is_not_repeated(void **state) {
    (void)state;
    static char longer[TL_PATH_MAX + 100];
    struct tl_service_options o;
    memset(longer, 'x', sizeof(longer) - 1);
    for (size_t i = 0; url[i] != '\0'; i++) {
        longer[i] = url[i];
    }
    assert_int_equal(tl_config_defaults(&tl_service_table, &o), 0);
    assert_int_equal(
        tl_config_set(&tl_service_table, &o, "redis", longer, "a variable"),
        TL_E_CONFIG);
    assert_null(strstr(tl_error_text(), "p@ss"));
}

static void what_is_shown_has_no_password(void **state) {
    (void)state;
    char text[128];
    tl_url_show(url, text, sizeof(text));
    assert_string_equal(text, "redis://***@10.0.0.1:6379/2");
    tl_url_show("redis://:secret@host", text, sizeof(text));
    assert_string_equal(text, "redis://***@host");
    tl_url_show("redis://host:6379/1", text, sizeof(text));
    assert_string_equal(text, "redis://host:6379/1");
    tl_url_show("unix:///a/b@c.sock", text, sizeof(text));
    assert_string_equal(text, "unix:///a/b@c.sock");
    tl_url_show("no url", text, sizeof(text));
    assert_string_equal(text, "no url");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_password_is_not_for_the_command_line),
        cmocka_unit_test(it_comes_from_a_file_or_a_variable),
        cmocka_unit_test(too_long_a_url_is_not_repeated),
        cmocka_unit_test(what_is_shown_has_no_password),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
