/* outcome.c - down and recovery times count what they say, from the kill on. */
#include "throughline/drill.h"

#include "test.h"

static struct tl_drill drill;

static void given(const char *text) {
    struct tl_drill_kill kill;
    const struct tl_drill_moment moment = {
        .now_ms = 10000, .has_version = true, .version = 300};
    tl_drill_init(&drill);
    assert_int_equal(tl_drill_parse(text, &kill), 0);
    assert_int_equal(tl_drill_add(&drill, &kill), 0);
    assert_true(tl_drill_down_seconds(&drill.slots[0]) < 0);
    tl_drill_killed(&drill, 0, &moment);
}

static void test_server_recovers_with_its_first_update(void **state) {
    (void)state;
    given("server@updates=300,down=2s");
    assert_int_equal(drill.slots[0].version, 300);
    assert_false(tl_drill_seen(&drill, 0, 10010, 301)); /* the dead one's last words */
    tl_drill_restarted(&drill, 0, 12000);
    assert_true(tl_drill_down_seconds(&drill.slots[0]) == 2.0);
    assert_false(tl_drill_seen(&drill, 0, 12100, 200)); /* back at the snapshot */
    assert_false(tl_drill_seen(&drill, 0, 12500, 200)); /* nothing folded yet */
    assert_true(tl_drill_recovery_seconds(&drill.slots[0]) < 0);
    assert_true(tl_drill_seen(&drill, 0, 12750, 201));
    assert_false(tl_drill_seen(&drill, 0, 13000, 202)); /* only once */
    assert_int_equal(drill.slots[0].base, 200);
    assert_true(tl_drill_recovery_seconds(&drill.slots[0]) == 2.75);
    assert_true(tl_drill_down_seconds(&drill.slots[0]) == 2.0);
}

static void test_others_recover_when_they_are_seen(void **state) {
    (void)state;
    given("redis@seconds=10");
    tl_drill_restarted(&drill, 0, 10000);
    assert_true(tl_drill_seen(&drill, 0, 10040, 0));
    assert_true(tl_drill_recovery_seconds(&drill.slots[0]) == 0.04);
    assert_false(drill.slots[0].has_base);
}

static void test_nothing_of_the_kind(void **state) {
    (void)state;
    given("worker@seconds=10,down=forever");
    assert_true(tl_drill_down_seconds(&drill.slots[0]) < 0);
    assert_true(tl_drill_recovery_seconds(&drill.slots[0]) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_recovers_with_its_first_update),
        cmocka_unit_test(test_others_recover_when_they_are_seen),
        cmocka_unit_test(test_nothing_of_the_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
