/* When a snapshot is due, by updates and by time, through recoveries; and that the
 * question for the version is put neither too late nor all the time; and how fast it is
 * stored. */
#include "throughline/snapshot.h"

#include "test.h"

#include <math.h>

static struct tl_pace by_updates(uint64_t every) {
    return (struct tl_pace){.every_updates = every, .taken_ms = 1000, .seen_ms = 1000};
}

static void due_after_so_many_updates(void **state) {
    struct tl_pace p = by_updates(100);
    (void)state;
    tl_pace_seen(&p, 1100, 0, 1);
    assert_false(tl_pace_is_due(&p, 1100));
    tl_pace_seen(&p, 2000, 99, 1);
    assert_false(tl_pace_is_due(&p, 1000000));
    tl_pace_seen(&p, 2010, 100, 1);
    assert_true(tl_pace_is_due(&p, 2010));
    tl_pace_taken(&p, 2050, 103, 1);
    assert_false(tl_pace_is_due(&p, 2050));
    tl_pace_seen(&p, 3000, 203, 1);
    assert_true(tl_pace_is_due(&p, 3000));
}

static void due_after_so_much_time_if_there_is_anything_new(void **state) {
    struct tl_pace p = {.every_ms = 5000, .taken_ms = 1000};
    (void)state;
    tl_pace_seen(&p, 2000, 0, 1);
    assert_false(tl_pace_is_due(&p, 60000));
    tl_pace_seen(&p, 3000, 1, 1);
    assert_false(tl_pace_is_due(&p, 5999));
    assert_true(tl_pace_is_due(&p, 6000));
    tl_pace_taken(&p, 6100, 1, 1);
    assert_false(tl_pace_is_due(&p, 60000));
}

static void neither_means_never(void **state) {
    struct tl_pace p = by_updates(0);
    (void)state;
    tl_pace_seen(&p, 2000, 1000000, 1);
    assert_false(tl_pace_is_due(&p, 1000000000));
}

static void a_recovery_starts_counting_where_it_went_back_to(void **state) {
    struct tl_pace p = by_updates(100);
    (void)state;
    tl_pace_taken(&p, 2000, 500, 1);
    tl_pace_seen(&p, 3000, 580, 1);
    /* From the newest snapshot: nothing new until it is passed by 100. */
    tl_pace_seen(&p, 4000, 500, 2);
    assert_false(tl_pace_is_due(&p, 4000));
    tl_pace_seen(&p, 5000, 599, 2);
    assert_false(tl_pace_is_due(&p, 5000));
    tl_pace_seen(&p, 5010, 600, 2);
    assert_true(tl_pace_is_due(&p, 5010));
    /* From an older one: a version below the newest snapshot's is new all the same. */
    tl_pace_taken(&p, 6000, 600, 2);
    tl_pace_seen(&p, 7000, 400, 3);
    assert_false(tl_pace_is_due(&p, 7000));
    tl_pace_seen(&p, 8000, 500, 3);
    assert_true(tl_pace_is_due(&p, 8000));
}

static void the_question_comes_when_it_should_be_due(void **state) {
    struct tl_pace p = by_updates(100);
    (void)state;
    tl_pace_seen(&p, 1000, 0, 1);
    assert_int_equal(tl_pace_next_ms(&p, 1000), 1100); /* the rate is not known */
    tl_pace_seen(&p, 1100, 50, 1);
    assert_int_equal(tl_pace_next_ms(&p, 1100), 1200); /* 0.5 a millisecond, 50 left */
    tl_pace_seen(&p, 1200, 99, 1);
    assert_int_equal(tl_pace_next_ms(&p, 1200), 1210); /* not sooner than this */
    tl_pace_seen(&p, 2200, 99, 1);
    assert_int_equal(tl_pace_next_ms(&p, 2200), 2300); /* at a standstill */
    p.every_updates = 1000000;
    tl_pace_seen(&p, 2300, 100, 1);
    assert_int_equal(tl_pace_next_ms(&p, 2300), 2800); /* nor later: the end may come */
}

static void the_question_comes_in_time_for_an_interval(void **state) {
    struct tl_pace p = {.every_ms = 5000, .taken_ms = 1000};
    (void)state;
    tl_pace_seen(&p, 2000, 10, 1);
    assert_int_equal(tl_pace_next_ms(&p, 2000), 2500);
    assert_int_equal(tl_pace_next_ms(&p, 5900), 6000);
    assert_int_equal(tl_pace_next_ms(&p, 9000), 9010);
}

static void the_interval_is_seen_from_cut_to_cut(void **state) {
    struct tl_pace p = by_updates(100);
    (void)state;
    assert_int_equal(tl_pace_cut(&p, 1000, 7, 1), 0); /* the first of an epoch */
    /* As it goes: asked just before, and told again when the state is here. */
    tl_pace_seen(&p, 2999, 106, 1);
    assert_int_equal(tl_pace_cut(&p, 3000, 107, 1), 2000);
    tl_pace_seen(&p, 3800, 107, 1);
    /* Twice as many updates as asked for, because the store took so long. */
    assert_int_equal(tl_pace_cut(&p, 7000, 307, 1), 2000);
    assert_int_equal(tl_pace_cut(&p, 7100, 307, 1), 0); /* at a standstill */
    assert_int_equal(tl_pace_cut(&p, 9000, 400, 2), 0);
    assert_int_equal(tl_pace_cut(&p, 9001, 4000000, 2), 1); /* known, if short */
}

static void the_interval_is_the_shorter_one(void **state) {
    struct tl_pace p = by_updates(100);
    (void)state;
    p.every_ms = 1500;
    assert_int_equal(tl_pace_cut(&p, 1000, 0, 1), 1500);
    assert_int_equal(tl_pace_cut(&p, 2000, 100, 1), 1000);
    assert_int_equal(tl_pace_cut(&p, 4000, 200, 1), 1500);
    p.every_updates = UINT64_MAX; /* no overflow */
    p.every_ms = 0;
    assert_true(tl_pace_cut(&p, INT64_MAX, 201, 1) > 0);
}

#define MIB UINT64_C(1048576)

/* Milliseconds that `bytes` take from `now_s` on, in pieces of 256 KiB, each of which
 * the store itself needs `store_s` for. */
static long ms_for(struct tl_tempo t, double now_s, uint64_t bytes, double store_s) {
    const double start_s = now_s;
    for (uint64_t at = 0; at < bytes; at += MIB / 4) {
        now_s += store_s;
        now_s += tl_tempo_rest_s(&t, now_s, MIB / 4);
    }
    return lround((now_s - start_s) * 1000.0);
}

static void a_large_state_walks_and_a_small_one_does_not(void **state) {
    const struct tl_tempo large = tl_tempo_of(50.0, 64 * MIB, 1, 0);
    const struct tl_tempo small = tl_tempo_of(50.0, 8 * MIB - 1, 1, 60000);
    (void)state;
    assert_int_equal(ms_for(large, 50.0, 64 * MIB, 0.0), 2000);
    assert_int_equal(ms_for(large, 50.0, 64 * MIB, 0.005), 2000);
    assert_int_equal(ms_for(large, 50.0, 64 * MIB, 0.020), 5120); /* a slow store */
    assert_int_equal(ms_for(small, 50.0, 8 * MIB, 0.0), 0);
}

static void a_state_is_there_within_a_quarter_of_the_interval(void **state) {
    const struct tl_tempo often = tl_tempo_of(50.0, 64 * MIB, 1, 2000);
    const struct tl_tempo sharded = tl_tempo_of(50.0, 64 * MIB, 4, 2000);
    const struct tl_tempo seldom = tl_tempo_of(50.0, 64 * MIB, 1, 600000);
    (void)state;
    assert_int_equal(ms_for(often, 50.0, 64 * MIB, 0.0), 500);
    assert_int_equal(ms_for(sharded, 50.0, 64 * MIB, 0.0), 125); /* one by one */
    assert_int_equal(ms_for(seldom, 50.0, 64 * MIB, 0.0), 2000);
}

/* After a store that stood still for a second there is no second at a run. */
static void only_a_little_is_made_up_for(void **state) {
    struct tl_tempo t = tl_tempo_of(50.0, 64 * MIB, 1, 0);
    (void)state;
    assert_true(tl_tempo_rest_s(&t, 51.0, MIB / 4) <= 0.0);
    assert_in_range(ms_for(t, 51.0, 64 * MIB, 0.0), 1950, 1990);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(due_after_so_many_updates),
        cmocka_unit_test(due_after_so_much_time_if_there_is_anything_new),
        cmocka_unit_test(neither_means_never),
        cmocka_unit_test(a_recovery_starts_counting_where_it_went_back_to),
        cmocka_unit_test(the_question_comes_when_it_should_be_due),
        cmocka_unit_test(the_question_comes_in_time_for_an_interval),
        cmocka_unit_test(the_interval_is_seen_from_cut_to_cut),
        cmocka_unit_test(the_interval_is_the_shorter_one),
        cmocka_unit_test(a_large_state_walks_and_a_small_one_does_not),
        cmocka_unit_test(a_state_is_there_within_a_quarter_of_the_interval),
        cmocka_unit_test(only_a_little_is_made_up_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
