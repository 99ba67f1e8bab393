/* schedule.c - kills and restarts fall due when they should, once, and are not lost. */
#include "throughline/drill.h"

#include "test.h"

static struct tl_drill drill;

static int setup(void **state) {
    (void)state;
    tl_drill_init(&drill);
    return 0;
}

static void add(const char *text) {
    struct tl_drill_kill kill;
    assert_int_equal(tl_drill_parse(text, &kill), 0);
    assert_int_equal(tl_drill_add(&drill, &kill), 0);
}

static size_t due(int64_t now_ms, uint64_t version, struct tl_drill_action *actions) {
    const struct tl_drill_moment moment = {
        .now_ms = now_ms, .has_version = true, .version = version};
    return tl_drill_due(&drill, &moment, actions, TL_DRILL_MAX);
}

static void killed(size_t slot, int64_t now_ms) {
    const struct tl_drill_moment moment = {.now_ms = now_ms};
    tl_drill_killed(&drill, slot, &moment);
}

static struct tl_drill_action actions[TL_DRILL_MAX];

static void test_by_version(void **state) {
    (void)state;
    add("server@updates=300,down=5s");
    assert_int_equal(due(1000, 299, actions), 0);
    assert_int_equal(due(1100, 300, actions), 1);
    assert_int_equal(actions[0].kind, TL_DRILL_KILL);
    killed(actions[0].slot, 1100);
    assert_int_equal(due(6099, 300, actions), 0);
    assert_int_equal(due(6100, 300, actions), 1);
    assert_int_equal(actions[0].kind, TL_DRILL_RESTART);
    tl_drill_restarted(&drill, actions[0].slot, 6100);
    /* The version falls and comes by again: nothing happens twice. */
    assert_int_equal(due(7000, 250, actions), 0);
    assert_int_equal(due(9000, 400, actions), 0);
}

static void test_unknown_version_is_no_version(void **state) {
    (void)state;
    add("server@updates=0");
    const struct tl_drill_moment moment = {.now_ms = 1, .has_version = false};
    assert_int_equal(tl_drill_due(&drill, &moment, actions, TL_DRILL_MAX), 0);
    assert_int_equal(due(1, 0, actions), 1);
}

static void test_by_time(void **state) {
    (void)state;
    add("redis@seconds=1.5");
    assert_int_equal(due(1499, 9999, actions), 0);
    assert_int_equal(due(1500, 0, actions), 1);
}

static void test_not_done_is_due_again(void **state) {
    (void)state;
    add("server@updates=10,down=1s");
    add("server@updates=20,down=1s");
    assert_int_equal(due(100, 25, actions), 2);
    assert_int_equal(actions[0].slot, 0);
    killed(0, 100); /* the second could not be: the target is down */
    assert_int_equal(due(200, 25, actions), 1);
    assert_int_equal(actions[0].kind, TL_DRILL_KILL);
    assert_int_equal(actions[0].slot, 1);
    /* Both at once: the restart comes first, so that the kill finds its target. */
    assert_int_equal(due(1100, 25, actions), 2);
    assert_int_equal(actions[0].kind, TL_DRILL_RESTART);
    assert_int_equal(actions[1].kind, TL_DRILL_KILL);
}

static void test_down_forever(void **state) {
    (void)state;
    add("worker@seconds=1,down=forever");
    killed(0, 1000);
    assert_int_equal(due(INT64_MAX / 2, 0, actions), 0);
    assert_int_equal(drill.slots[0].state, TL_DRILL_DOWN);
}

static void test_bounded(void **state) {
    (void)state;
    for (unsigned i = 0; i < TL_DRILL_MAX; i++) {
        add("worker@seconds=1");
    }
    struct tl_drill_kill kill = drill.slots[0].kill;
    assert_int_equal(tl_drill_add(&drill, &kill), TL_E_LIMIT);
    assert_int_equal(due(1000, 0, actions), TL_DRILL_MAX);
    const struct tl_drill_moment moment = {.now_ms = 1000};
    assert_int_equal(tl_drill_due(&drill, &moment, actions, 3), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_by_version, setup),
        cmocka_unit_test_setup(test_unknown_version_is_no_version, setup),
        cmocka_unit_test_setup(test_by_time, setup),
        cmocka_unit_test_setup(test_not_done_is_due_again, setup),
        cmocka_unit_test_setup(test_down_forever, setup),
        cmocka_unit_test_setup(test_bounded, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
