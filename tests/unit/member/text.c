/* URLs and entries as text: what is read back, and what is refused. */
#include "member_internal.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void urls_that_are_good(void **state) {
    (void)state;
    struct tl_redis_url u;
    assert_int_equal(tl_redis_url_parse("redis://example.org", &u), 0);
    assert_string_equal(u.host, "example.org");
    assert_int_equal(u.port, 6379);
    assert_int_equal(tl_redis_url_parse("redis://:p%40s%3a@h:7000/12", &u), 0);
    assert_string_equal(u.password, "p@s:");
    assert_string_equal(u.user, "");
    assert_int_equal(u.port, 7000);
    assert_int_equal(u.db, 12);
    assert_int_equal(tl_redis_url_parse("redis://me:p@ss@[::1]:7000/", &u), 0);
    assert_string_equal(u.user, "me");
    assert_string_equal(u.password, "p@ss");
    assert_string_equal(u.host, "::1");
    assert_int_equal(tl_redis_url_parse("unix:///run/r.sock?db=3", &u), 0);
    assert_true(u.is_unix);
    assert_string_equal(u.host, "/run/r.sock");
    assert_int_equal(u.db, 3);
}

static void urls_that_are_not(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "redis:/x",
        "http://h:1",
        "redis://",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:1x",
        "redis://h:",
        "redis://h/x",
        "redis://[::1",
        "redis://me@h",
        "redis://:p%4@h",
        "redis://:p%00@h",
        "redis://:p%zz@h",
        "unix://relative",
        "unix:///",
        "unix:///a?db=",
        "unix:///a?x=1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tl_redis_url u;
        assert_int_equal(tl_redis_url_parse(bad[i], &u), TL_E_CONFIG);
    }
    struct tl_redis_url u;
    char long_path[128] = "unix:///";
    memset(long_path + 8, 'x', sizeof(long_path) - 9);
    assert_int_equal(tl_redis_url_parse(long_path, &u), TL_E_CONFIG);
    assert_int_equal(tl_redis_url_parse(NULL, &u), TL_E_CONFIG);
    assert_int_equal(tl_redis_url_parse("rediss://h", &u), TL_E_UNSUPPORTED);
}

static void a_password_is_never_shown(void **state) {
    (void)state;
    struct tl_redis_url u;
    char shown[300];
    assert_int_equal(tl_redis_url_parse("redis://:hush@h:1/2", &u), 0);
    tl_redis_url_show(&u, shown, sizeof(shown));
    assert_string_equal(shown, "h:1/2");
    assert_int_equal(tl_redis_url_parse("redis://:hush@h:1x", &u), TL_E_CONFIG);
    assert_null(strstr(tl_error_text(), "hush"));
    assert_int_equal(tl_redis_url_parse("hush://:hush@h", &u), TL_E_CONFIG);
    assert_null(strstr(tl_error_text(), "hush"));
}

static int decode(const char *field, const char *text, struct tl_member_entry *e) {
    return tl_entry_decode(field, strlen(field), text, strlen(text), e);
}

static void entries_come_back_as_they_were(void **state) {
    (void)state;
    struct tl_member_entry e = {.role = TL_ROLE_CHECKPOINTER,
                                .index = UINT32_MAX,
                                .incarnation = UINT64_MAX,
                                .epoch = 1,
                                .version = (uint64_t)INT64_MAX,
                                .beat = 9,
                                .state = TL_MEMBER_LEAVING,
                                .pid = 12},
                           got;
    memset(e.address, '"', sizeof(e.address) - 1); /* the worst to escape but \u0001 */
    memset(e.http, '\1', sizeof(e.http) - 1);
    memset(e.tail, '\1', sizeof(e.tail) - 1);
    char field[TL_FIELD_MAX], *text;
    tl_entry_field(e.role, e.index, field);
    assert_string_equal(field, "checkpointer/4294967295");
    assert_int_equal(tl_entry_encode(&e, &text), 0);
    assert_int_equal(strncmp(text, "{\"epoch\":1,", 11), 0);
    assert_null(strchr(text, ' '));
    assert_true(strlen(text) <= TL_ENTRY_TEXT_MAX);
    assert_int_equal(decode(field, text, &got), 0);
    assert_int_equal(got.incarnation, e.incarnation);
    assert_int_equal(got.version, e.version);
    assert_int_equal(got.index, e.index);
    assert_string_equal(got.address, e.address);
    assert_string_equal(got.http, e.http);
    assert_string_equal(got.tail, e.tail);
    free(text);
}

/* An entry's text with these parts. */
static const char *entry(const char *epoch, const char *incarnation,
                         const char *state) {
    static char text[256];
    (void)snprintf(
        text, sizeof(text),
        "{\"epoch\":%s,\"incarnation\":%s,\"version\":3,\"beat\":4,"
        "\"state\":%s,\"pid\":5,\"address\":\"\",\"http\":\"\",\"tail\":\"\"}",
        epoch, incarnation, state);
    return text;
}

static void foreign_entries_are_refused(void **state) {
    (void)state;
    static const char *const fields[] = {
        "",       "server", "server/",   "server/-1",         "server/01",
        "oven/1", "/1",     "server/1 ", "server/4294967296", "servers/1"};
    static const char *const texts[] = {"", "x", "[]", "{}", "null", "{\"epoch\":1}"};
    static const char *const parts[][3] = {
        {"-1", "\"2\"", "1"},    {"1.5", "\"2\"", "1"},
        {"\"1\"", "\"2\"", "1"}, {"1", "2", "1"},
        {"1", "\"02\"", "1"},    {"1", "\"18446744073709551616\"", "1"},
        {"1", "\"2\"", "3"},     {"1", "\"2\"", "null"},
        {"1", "\"2\"", "1}"},
    };
    struct tl_member_entry e;
    assert_int_equal(decode("server/1", entry("1", "\"2\"", "1"), &e), 0);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        assert_int_equal(decode(fields[i], entry("1", "\"2\"", "1"), &e), TL_E_CORRUPT);
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(decode("server/1", texts[i], &e), TL_E_CORRUPT);
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const char *text = entry(parts[i][0], parts[i][1], parts[i][2]);
        assert_int_equal(decode("server/1", text, &e), TL_E_CORRUPT);
    }
}

static void over_long_entries_are_refused(void **state) {
    (void)state;
    static char text[2 * TL_ENTRY_TEXT_MAX];
    struct tl_member_entry e;
    (void)snprintf(text, sizeof(text), "%-*s", (int)sizeof(text) - 1,
                   entry("1", "\"2\"", "1"));
    assert_int_equal(tl_entry_decode("server/1", 8, text, TL_ENTRY_TEXT_MAX, &e), 0);
    assert_int_equal(tl_entry_decode("server/1", 8, text, TL_ENTRY_TEXT_MAX + 1, &e),
                     TL_E_CORRUPT);
}

static void ends_come_back(void **state) {
    (void)state;
    char *text, reason[16];
    assert_int_equal(tl_end_encode("updates=\"600\"", "monitor/0", &text), 0);
    assert_int_equal(tl_end_decode(text, strlen(text), reason, sizeof(reason)), 0);
    assert_string_equal(reason, "updates=\"600\"");
    free(text);
    assert_int_equal(tl_end_decode("{\"reason\":5}", 12, reason, sizeof(reason)),
                     TL_E_CORRUPT);
    assert_int_equal(tl_end_decode("over", 4, reason, sizeof(reason)), TL_E_CORRUPT);
    assert_int_equal(tl_end_encode("\xff\xfe", "monitor/0", &text), TL_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_that_are_good),
        cmocka_unit_test(urls_that_are_not),
        cmocka_unit_test(a_password_is_never_shown),
        cmocka_unit_test(entries_come_back_as_they_were),
        cmocka_unit_test(foreign_entries_are_refused),
        cmocka_unit_test(over_long_entries_are_refused),
        cmocka_unit_test(ends_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
