/* The roster's judgement under virtual time. */
#include "throughline/member.h"

#include "test.h"

#include <string.h>

#define LEASE 3000u
#define LOOK  1000
#define LONG  INT64_C(600000)

static const struct tl_member_entry server = {.role = TL_ROLE_SERVER,
                                              .index = 0,
                                              .incarnation = 77,
                                              .epoch = 3,
                                              .beat = 1,
                                              .state = TL_MEMBER_SERVING,
                                              .address = "tcp://a:1"};
static const struct tl_member_entry worker = {
    .role = TL_ROLE_WORKER, .index = 2, .incarnation = 1, .beat = 1};

/* A roster with its virtual clock and what the last look reported. */
struct bench {
    struct tl_roster *roster;
    int64_t now_ms;
    struct tl_roster_event events[8];
    size_t count;
};

static int setup(void **state) {
    struct bench *b = test_calloc(1, sizeof(*b));
    assert_int_equal(tl_roster_new(LEASE, &b->roster), 0);
    b->now_ms = 5000;
    *state = b;
    return 0;
}

static int teardown(void **state) {
    struct bench *b = *state;
    tl_roster_free(b->roster);
    test_free(b);
    return 0;
}

static void look(struct bench *b, int64_t after_ms, const struct tl_member_entry *list,
                 size_t n, bool is_complete) {
    b->now_ms += after_ms;
    b->count = tl_roster_observe(b->roster, b->now_ms, list, n, is_complete, b->events,
                                 sizeof(b->events) / sizeof(b->events[0]));
}

static void expect(const struct bench *b, enum tl_roster_event_kind kind,
                   const struct tl_member_entry *entry) {
    assert_int_equal(b->count, 1);
    assert_int_equal(b->events[0].kind, kind);
    assert_int_equal(b->events[0].entry.role, entry->role);
    assert_int_equal(b->events[0].entry.index, entry->index);
    assert_int_equal(b->events[0].entry.incarnation, entry->incarnation);
}

static bool is_alive(const struct bench *b, const struct tl_member_entry *e) {
    struct tl_member_entry found;
    return tl_roster_find(b->roster, e->role, e->index, &found) == 0;
}

static void beats_keep_a_member_alive(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    expect(b, TL_ROSTER_UP, &e);
    for (int i = 0; i < 20; i++) {
        e.beat++;
        look(b, LOOK, &e, 1, true);
        assert_int_equal(b->count, 0);
    }
    assert_true(is_alive(b, &e));
}

static void silence_of_a_lease_is_death_and_a_beat_is_life(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    look(b, LOOK, &e, 1, true);
    look(b, LOOK, &e, 1, true);
    assert_int_equal(b->count, 0);
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_DOWN, &e);
    assert_false(is_alive(b, &e));
    look(b, LOOK, &e, 1, true);
    assert_int_equal(b->count, 0); /* reported once, and a left-over stays dead */
    e.beat++;
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_UP, &e);
    assert_true(is_alive(b, &e));
}

static void an_observer_that_slept_blames_nobody(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    look(b, LONG, &e, 1, true);
    assert_int_equal(b->count, 0);
    look(b, LONG, &e, 1, true);
    assert_int_equal(b->count, 0);
    e.beat++;
    look(b, LOOK, &e, 1, true);
    assert_int_equal(b->count, 0);
    assert_true(is_alive(b, &e));
}

static void many_quick_looks_are_no_lease(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    for (int i = 0; i < 299; i++) {
        look(b, 10, &e, 1, true);
        assert_int_equal(b->count, 0);
    }
    look(b, 10, &e, 1, true);
    expect(b, TL_ROSTER_DOWN, &e);
}

static void a_clock_that_goes_back_counts_nothing(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    for (int i = 0; i < 10; i++) {
        look(b, -LOOK, &e, 1, true);
        assert_int_equal(b->count, 0);
    }
}

static void leaving_in_order_is_gone_at_once(void **state) {
    struct bench *b = *state;
    look(b, 0, &server, 1, true);
    look(b, LOOK, NULL, 0, true);
    expect(b, TL_ROSTER_GONE, &server);
    assert_false(is_alive(b, &server));
    look(b, LOOK, &server, 1, true);
    expect(b, TL_ROSTER_UP, &server);
}

static void an_incomplete_list_takes_nobody_down(void **state) {
    struct bench *b = *state;
    struct tl_member_entry both[] = {server, worker};
    look(b, 0, both, 2, true);
    for (int i = 0; i < 20; i++) {
        look(b, LOOK, &server, 1, false); /* one old beat, one absent */
        assert_int_equal(b->count, 0);
    }
    assert_true(is_alive(b, &server));
    assert_true(is_alive(b, &worker));
}

static void who_does_not_come_back_goes_down_by_its_lease(void **state) {
    struct bench *b = *state;
    struct tl_member_entry both[] = {server, worker};
    look(b, 0, both, 2, true);
    look(b, LOOK, NULL, 0, false);
    for (int i = 0; i < 2; i++) {
        both[0].beat++;
        look(b, LOOK, both, 1, true);
        assert_int_equal(b->count, 0);
    }
    both[0].beat++;
    look(b, LOOK, both, 1, true);
    expect(b, TL_ROSTER_DOWN, &worker); /* not GONE: it did not say so */
    assert_true(is_alive(b, &server));
    look(b, LOOK, both, 1, true);
    assert_int_equal(b->count, 0);
}

static void another_process_replaces(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    e.incarnation = 78;
    e.epoch = 0; /* it has none yet */
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_REPLACED, &e);
    e.epoch = 4; /* takes its first */
    e.beat++;
    look(b, LOOK, &e, 1, true);
    assert_int_equal(b->count, 0);
    e.epoch = 5; /* and a higher one, since a caller had seen 4 elsewhere */
    e.beat++;
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_REPLACED, &e);
}

static void a_first_incarnation_replaces_nobody(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = worker;
    e.incarnation = 0;
    look(b, 0, &e, 1, true);
    e.incarnation = 5;
    e.beat++;
    look(b, LOOK, &e, 1, true);
    assert_int_equal(b->count, 0);
    e.incarnation = 6;
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_REPLACED, &e);
}

static void a_successor_of_the_dead_comes_up(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    for (int i = 0; i < 3; i++) {
        look(b, LOOK, &e, 1, true);
    }
    expect(b, TL_ROSTER_DOWN, &e);
    e.incarnation = 78;
    look(b, LOOK, &e, 1, true);
    expect(b, TL_ROSTER_UP, &e);
}

static void what_does_not_fit_is_found_again(void **state) {
    struct bench *b = *state;
    struct tl_member_entry list[20];
    size_t ups = 0, gone = 0;
    for (uint32_t i = 0; i < 20; i++) {
        list[i] = worker;
        list[i].index = 19 - i;
    }
    for (int i = 0; i < 3; i++) {
        look(b, 0, list, 20, true);
        ups += b->count;
        assert_in_range(b->count, 4, 8);
    }
    assert_int_equal(ups, 20);
    for (int i = 0; i < 3; i++) {
        look(b, LOOK, NULL, 0, true);
        gone += b->count;
    }
    assert_int_equal(gone, 20);
    struct tl_member_entry left[20];
    assert_int_equal(tl_roster_list(b->roster, left, 20), 0);
}

static void lists_are_in_order_and_bounded(void **state) {
    struct bench *b = *state;
    struct tl_member_entry list[] = {worker, worker, server}, got[3];
    list[0].index = 9;
    look(b, 0, list, 3, true);
    assert_int_equal(tl_roster_list(b->roster, got, 3), 3);
    assert_int_equal(got[0].role, TL_ROLE_SERVER);
    assert_int_equal(got[1].index, 2);
    assert_int_equal(got[2].index, 9);
    assert_int_equal(tl_roster_list(b->roster, got, 2), 2);
}

static void the_revision_ignores_beats_and_versions(void **state) {
    struct bench *b = *state;
    struct tl_member_entry e = server;
    look(b, 0, &e, 1, true);
    uint64_t before = tl_roster_revision(b->roster);
    e.beat++;
    e.version++;
    look(b, LOOK, &e, 1, true);
    assert_int_equal(tl_roster_revision(b->roster), before);
    e.beat++;
    strcpy(e.address, "tcp://b:1"); /* NOLINT: it fits */
    look(b, LOOK, &e, 1, true);
    assert_true(tl_roster_revision(b->roster) > before);
}

static void a_lease_of_nothing_is_refused(void **state) {
    (void)state;
    struct tl_roster *r;
    assert_int_equal(tl_roster_new(0, &r), TL_E_INVALID);
    tl_roster_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(beats_keep_a_member_alive),
        TEST(silence_of_a_lease_is_death_and_a_beat_is_life),
        TEST(an_observer_that_slept_blames_nobody),
        TEST(many_quick_looks_are_no_lease),
        TEST(a_clock_that_goes_back_counts_nothing),
        TEST(leaving_in_order_is_gone_at_once),
        TEST(an_incomplete_list_takes_nobody_down),
        TEST(who_does_not_come_back_goes_down_by_its_lease),
        TEST(another_process_replaces),
        TEST(a_first_incarnation_replaces_nobody),
        TEST(a_successor_of_the_dead_comes_up),
        TEST(what_does_not_fit_is_found_again),
        TEST(lists_are_in_order_and_bounded),
        TEST(the_revision_ignores_beats_and_versions),
        cmocka_unit_test(a_lease_of_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
