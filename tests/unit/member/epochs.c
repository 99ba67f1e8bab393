/* Epochs, incarnations and steps: one answer for everybody, and never a lower one. */
#include "watcher.h"

#include <stdlib.h>
#include <string.h>

#define PROCESSES 8
#define RAISES    10

static uint64_t raise_epoch(struct tl_member *m, uint32_t shard, uint64_t floor) {
    uint64_t epoch = 0;
    assert_int_equal(tl_member_raise_epoch(m, shard, floor, test_deadline(), &epoch),
                     0);
    return epoch;
}

static void an_epoch_is_above_redis_and_the_floor(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "floor", TL_ROLE_SERVER, 1, NULL);
    assert_int_equal(raise_epoch(m, 1, 0), 1);
    assert_int_equal(raise_epoch(m, 1, 0), 2);
    assert_int_equal(raise_epoch(m, 1, 40), 41);
    assert_int_equal(raise_epoch(m, 1, 7), 42);
    assert_int_equal(raise_epoch(m, 0, 0), 1); /* another shard's */
    assert_int_equal(tl_member_newest_epoch(m, 1), 42);
    assert_int_equal(tl_member_newest_epoch(m, 2), 0);
    uint64_t large = UINT64_C(9007199254740993); /* 2^53 + 1: no double holds it */
    assert_int_equal(raise_epoch(m, 1, large), large + 1);
    uint64_t epoch;
    assert_int_equal(tl_member_raise_epoch(m, 1, UINT64_MAX, test_deadline(), &epoch),
                     TL_E_INVALID);
    tl_member_close(m);
}

static bool is_registered_with(const char *field, const char *start) {
    redisReply *entry = test_redis_try(&redis, "HGET tl:{job/with}:members %s", field);
    bool is = entry != NULL && entry->str != NULL &&
              strncmp(entry->str, start, strlen(start)) == 0;
    freeReplyObject(entry);
    return is;
}

static void a_raised_epoch_is_registered_with_it(void **state) {
    (void)state;
    struct tl_member *watch = test_member(redis.url, "with", 0, 0, NULL);
    struct tl_member *m = test_member(redis.url, "with", TL_ROLE_SERVER, 0, NULL);
    assert_soon(test_sees(watch, TL_ROLE_SERVER, 0));
    uint64_t epoch = raise_epoch(m, 0, 11);
    assert_int_equal(epoch, 12);
    assert_soon(is_registered_with("server/0", "{\"epoch\":12,"));
    struct tl_member_entry e = {0};
    assert_soon(tl_member_find(watch, TL_ROLE_SERVER, 0, &e) == 0 && e.epoch == epoch);
    assert_soon(tl_member_newest_epoch(watch, 0) == epoch);
    tl_member_close(m);
    tl_member_close(watch);
}

/* Raise and send each epoch to the parent. */
static void race(int fd, uint32_t index) {
    struct tl_member *m = test_member(redis.url, "race", TL_ROLE_SERVER, index, NULL);
    for (int i = 0; i < RAISES; i++) {
        uint64_t epoch = raise_epoch(m, 0, 0);
        assert_int_equal(write(fd, &epoch, sizeof(epoch)), sizeof(epoch));
    }
    tl_member_close(m);
}

static void concurrent_raises_are_all_distinct(void **state) {
    (void)state;
    int fds[2];
    bool given[PROCESSES * RAISES + 1] = {false};
    assert_int_equal(pipe(fds), 0);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            race(fds[1], i);
            _exit(0);
        }
    }
    (void)close(fds[1]);
    for (int i = 0; i < PROCESSES * RAISES; i++) {
        uint64_t epoch;
        assert_int_equal(read(fds[0], &epoch, sizeof(epoch)), sizeof(epoch));
        assert_in_range(epoch, 1, PROCESSES * RAISES);
        assert_false(given[epoch]);
        given[epoch] = true;
    }
    (void)close(fds[0]);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void a_zombie_sees_the_newer_epoch_and_keeps_off(void **state) {
    (void)state;
    struct watcher w = {0};
    struct tl_member *watch = test_member(redis.url, "zombie", 0, 0, &w);
    struct tl_member *old = test_member(redis.url, "zombie", TL_ROLE_SERVER, 0, NULL);
    uint64_t before = raise_epoch(old, 0, 0);
    struct tl_member *new = test_member(redis.url, "zombie", TL_ROLE_SERVER, 0, NULL);
    uint64_t after = raise_epoch(new, 0, 0);
    assert_true(after > before);
    assert_soon(tl_member_newest_epoch(old, 0) == after);
    struct tl_member_entry e = {0};
    assert_soon(tl_member_find(watch, TL_ROLE_SERVER, 0, &e) == 0 && e.epoch == after);
    int replaced = watcher_count(&w, TL_ROSTER_REPLACED, TL_ROLE_SERVER);
    uint64_t commands, later, failures;
    tl_member_stats(old, &commands, &failures);
    assert_soon((tl_member_stats(old, &later, &failures), later > commands + 5));
    assert_int_equal(tl_member_find(watch, TL_ROLE_SERVER, 0, &e), 0);
    assert_int_equal(e.epoch, after);
    assert_int_equal(watcher_count(&w, TL_ROSTER_REPLACED, TL_ROLE_SERVER), replaced);
    tl_member_close(old);
    tl_member_close(new);
    tl_member_close(watch);
}

static uint64_t next_incarnation(struct tl_member *m, uint32_t worker, uint64_t floor) {
    uint64_t n = 0;
    assert_int_equal(tl_member_next_incarnation(m, TL_ROLE_WORKER, worker, floor,
                                                test_deadline(), &n),
                     0);
    return n;
}

static void incarnations_rise_above_the_floor(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "lives", 0, 0, NULL);
    assert_int_equal(next_incarnation(m, 0, 0), 1);
    assert_int_equal(next_incarnation(m, 0, 0), 2);
    assert_int_equal(next_incarnation(m, 0, 9), 10);
    assert_int_equal(next_incarnation(m, 1, 0), 1);
    test_redis_flush(&redis);
    assert_int_equal(next_incarnation(m, 0, 10), 11);
    tl_member_close(m);
}

static void a_dead_worker_has_one_last_step(void **state) {
    (void)state;
    struct tl_member *a = test_member(redis.url, "retire", TL_ROLE_SERVER, 0, NULL);
    struct tl_member *b = test_member(redis.url, "retire", TL_ROLE_SERVER, 1, NULL);
    struct tl_member_entry self = {.version = 70, .state = TL_MEMBER_SERVING};
    struct tl_member_entry seen = {0};
    tl_member_announce(b, &self, true);
    assert_soon(tl_member_find(a, TL_ROLE_SERVER, 1, &seen) == 0 && seen.version == 70);
    uint64_t first = 0, second = 0, other = 0;
    assert_int_equal(tl_member_retire(a, 5, 2, 60, test_deadline(), &first), 0);
    assert_int_equal(tl_member_retire(b, 5, 2, 90, test_deadline(), &second), 0);
    assert_int_equal(tl_member_retire(b, 5, 3, 90, test_deadline(), &other), 0);
    assert_int_equal(first, 70); /* the furthest server's */
    assert_int_equal(second, first);
    assert_int_equal(other, 90); /* another incarnation is another death */
    tl_member_close(a);
    tl_member_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(concurrent_raises_are_all_distinct),
        cmocka_unit_test(an_epoch_is_above_redis_and_the_floor),
        cmocka_unit_test(a_raised_epoch_is_registered_with_it),
        cmocka_unit_test(a_zombie_sees_the_newer_epoch_and_keeps_off),
        cmocka_unit_test(incarnations_rise_above_the_floor),
        cmocka_unit_test(a_dead_worker_has_one_last_step),
    };
    return cmocka_run_group_tests(tests, watcher_redis_setup, watcher_redis_teardown);
}
