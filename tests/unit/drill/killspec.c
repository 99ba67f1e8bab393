/* killspec.c - --kill is read strictly, and what can never happen is refused. */
#include "throughline/drill.h"

#include "test.h"

#include <string.h>

static struct tl_drill_kill parsed(const char *text) {
    struct tl_drill_kill kill;
    assert_int_equal(tl_drill_parse(text, &kill), 0);
    assert_string_equal(kill.text, text);
    return kill;
}

static void test_every_target(void **state) {
    (void)state;
    assert_int_equal(parsed("server@updates=1").target, TL_DRILL_SERVER);
    assert_int_equal(parsed("worker@updates=1").target, TL_DRILL_WORKER);
    assert_int_equal(parsed("checkpointer@updates=1").target, TL_DRILL_CHECKPOINTER);
    assert_int_equal(parsed("monitor@updates=1").target, TL_DRILL_MONITOR);
    assert_int_equal(parsed("redis@updates=1").target, TL_DRILL_REDIS);
    assert_int_equal(parsed("server@updates=1").index, 0);
    assert_int_equal(parsed("server/3@updates=1").index, 3);
    assert_int_equal(parsed("worker/12@updates=1").index, 12);
}

static void test_every_trigger(void **state) {
    (void)state;
    struct tl_drill_kill kill = parsed("server@updates=300,down=5s");
    assert_int_equal(kill.trigger, TL_DRILL_AT_VERSION);
    assert_int_equal(kill.version, 300);
    assert_int_equal(kill.down_ms, 5000);
    kill = parsed("server@version=301");
    assert_int_equal(kill.trigger, TL_DRILL_AT_VERSION);
    assert_int_equal(kill.version, 301);
    assert_int_equal(kill.down_ms, 0);
    kill = parsed("worker/1@seconds=2.5,down=250ms");
    assert_int_equal(kill.trigger, TL_DRILL_AT_TIME);
    assert_int_equal(kill.at_ms, 2500);
    assert_int_equal(kill.down_ms, 250);
    assert_int_equal(parsed("redis@seconds=10s,down=3").down_ms, 3000);
    assert_int_equal(parsed("worker@seconds=1,down=forever").down_ms, TL_DRILL_FOREVER);
}

static void test_everything_else_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "server",
        "@updates=1",
        "server@",
        "server@300",
        "server@updates",
        "server@updates=",
        "server@updates=-1",
        "server@updates=+1",
        "server@updates= 1",
        "server@updates=1x",
        "server@updates=1.5",
        "server@updates=99999999999999999999999",
        "server@update=1",
        "server@seconds=",
        "server@seconds=-1",
        "server@seconds=nan",
        "server@seconds=inf",
        "server@seconds=0x10",
        "server@seconds=1e99",
        "server@seconds=1m",
        "server@seconds=1 s",
        "server@updates=1,",
        "server@updates=1,down",
        "server@updates=1,down=",
        "server@updates=1,down=never",
        "server@updates=1,down=-5s",
        "server@updates=1,up=5s",
        "server@updates=1,down=5s,down=6s",
        "server/@updates=1",
        "server/x@updates=1",
        "server/-1@updates=1",
        "server/4294967296@updates=1",
        "redis/0@updates=1",
        "monitor/1@updates=1",
        "Server@updates=1",
        "server @updates=1",
        "servers/0/1@updates=1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tl_drill_kill kill = {.version = 4711};
        if (tl_drill_parse(bad[i], &kill) != TL_E_CONFIG) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
        assert_int_equal(kill.version, 4711); /* untouched on failure */
        assert_non_null(strstr(tl_error_text(), bad[i]));
    }
}

static void test_too_long(void **state) {
    (void)state;
    char text[2 * TL_DRILL_TEXT_MAX];
    memset(text, '1', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "server@updates=", 15);
    struct tl_drill_kill kill;
    assert_int_equal(tl_drill_parse(text, &kill), TL_E_CONFIG);
}

static void test_misspelt_target(void **state) {
    (void)state;
    struct tl_drill_kill kill;
    assert_int_equal(tl_drill_parse("serer@updates=1", &kill), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "did you mean \"server\"?"));
    assert_int_equal(tl_drill_parse("elephant@updates=1", &kill), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "replica, head, middle or tail"));
}

static int check(const char *text, const struct tl_drill_limits *limits) {
    struct tl_drill_kill kill = parsed(text);
    return tl_drill_check(&kill, limits);
}

static void test_impossible_kills(void **state) {
    (void)state;
    const struct tl_drill_limits limits = {.servers = 2,
                                           .workers = 3,
                                           .checkpointer = true,
                                           .until_updates = 800,
                                           .until_seconds = 60};
    assert_int_equal(check("server/1@updates=799", &limits), 0);
    assert_int_equal(check("server/2@updates=1", &limits), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "the last is server/1"));
    assert_int_equal(check("worker/2@seconds=59.9", &limits), 0);
    assert_int_equal(check("worker/3@seconds=1", &limits), TL_E_CONFIG);
    assert_int_equal(check("server@updates=800", &limits), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "ends at 800 updates"));
    assert_int_equal(check("redis@seconds=60", &limits), TL_E_CONFIG);
    assert_int_equal(check("checkpointer@updates=1", &limits), 0);
}

static void test_no_end_no_checkpointer(void **state) {
    (void)state;
    const struct tl_drill_limits limits = {.servers = 1, .workers = 1};
    assert_int_equal(check("server@updates=1000000", &limits), 0);
    assert_int_equal(check("server@seconds=86400", &limits), 0);
    assert_int_equal(check("checkpointer@updates=1", &limits), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "--strategy checkpoint"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_target),
        cmocka_unit_test(test_every_trigger),
        cmocka_unit_test(test_everything_else_is_refused),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_misspelt_target),
        cmocka_unit_test(test_impossible_kills),
        cmocka_unit_test(test_no_end_no_checkpointer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
