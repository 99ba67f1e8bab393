/* Members on a real Redis: they see each other come, change, die, return and leave. */
#include "watcher.h"

#include <stdlib.h>
#include <string.h>

/* The entry as `m` sees it; zeros when it does not. */
static struct tl_member_entry find(const struct tl_member *m, enum tl_role role,
                                   uint32_t index) {
    struct tl_member_entry e = {0};
    return tl_member_find(m, role, index, &e) == 0 ? e : (struct tl_member_entry){0};
}

static void two_members_see_each_other(void **state) {
    (void)state;
    struct watcher w = {0};
    struct tl_member *a = test_member(redis.url, "two", TL_ROLE_WORKER, 4, &w);
    struct tl_member *b = test_member(redis.url, "two", TL_ROLE_MONITOR, 0, NULL);
    assert_soon(test_sees(a, TL_ROLE_MONITOR, 0) && test_sees(b, TL_ROLE_WORKER, 4));
    assert_true(tl_member_is_connected(a));
    assert_int_equal(watcher_count(&w, TL_ROSTER_UP, TL_ROLE_MONITOR), 1);
    assert_true(atomic_load(&w.changes) > 0);
    struct tl_member_entry monitor = find(a, TL_ROLE_MONITOR, 0);
    assert_true(monitor.incarnation != 0);
    assert_int_equal(monitor.pid, getpid());
    assert_string_equal(monitor.address, "unix:///nowhere");
    struct tl_member_entry all[3];
    assert_int_equal(tl_member_list(a, all, 3), 2);
    tl_member_close(b);
    assert_soon(watcher_count(&w, TL_ROSTER_GONE, TL_ROLE_MONITOR) == 1);
    assert_int_equal(watcher_count(&w, TL_ROSTER_DOWN, TL_ROLE_MONITOR), 0);
    tl_member_close(a);
}

static void runs_do_not_mix(void **state) {
    (void)state;
    struct tl_member *a = test_member(redis.url, "one", TL_ROLE_WORKER, 1, NULL);
    struct tl_member *b = test_member(redis.url, "other", TL_ROLE_WORKER, 2, NULL);
    assert_soon(test_sees(a, TL_ROLE_WORKER, 1) && test_sees(b, TL_ROLE_WORKER, 2));
    assert_false(test_sees(a, TL_ROLE_WORKER, 2));
    assert_false(test_sees(b, TL_ROLE_WORKER, 1));
    tl_member_close(a);
    tl_member_close(b);
}

static void an_announcement_arrives_before_its_turn(void **state) {
    (void)state;
    struct watcher w = {0};
    struct tl_member *a = test_member(redis.url, "news", 0, 0, &w);
    struct tl_member *b = test_member(redis.url, "news", TL_ROLE_SERVER, 0, NULL);
    assert_soon(test_sees(a, TL_ROLE_SERVER, 0));
    struct tl_member_entry self = {
        .role = TL_ROLE_WORKER, /* is not believed */
        .index = 9,
        .version = 41,
        .state = TL_MEMBER_SERVING,
        .address = "tcp://new:1",
    };
    int changes = atomic_load(&w.changes);
    uint64_t before = find(a, TL_ROLE_SERVER, 0).incarnation;
    tl_member_announce(b, &self, true);
    assert_soon(find(a, TL_ROLE_SERVER, 0).version == 41);
    struct tl_member_entry e = find(a, TL_ROLE_SERVER, 0);
    assert_string_equal(e.address, "tcp://new:1");
    assert_int_equal(e.state, TL_MEMBER_SERVING);
    assert_int_equal(e.incarnation, before);
    assert_soon(atomic_load(&w.changes) > changes);
    tl_member_close(a);
    tl_member_close(b);
}

static void a_watcher_leaves_no_trace(void **state) {
    (void)state;
    struct tl_member *a = test_member(redis.url, "trace", 0, 0, NULL);
    assert_soon(tl_member_is_connected(a));
    uint64_t commands, later, failures;
    tl_member_stats(a, &commands, &failures);
    assert_soon((tl_member_stats(a, &later, &failures), later > commands + 3));
    redisReply *keys = test_redis_try(&redis, "KEYS tl:{job/trace}*");
    assert_non_null(keys);
    assert_int_equal(keys->elements, 0);
    freeReplyObject(keys);
    assert_int_equal(tl_member_run_age_ms(a), -1);
    assert_int_equal(failures, 0);
    tl_member_close(a);
}

static int64_t ttl(const char *key) {
    redisReply *reply = test_redis_try(&redis, "TTL %s", key);
    assert_non_null(reply);
    int64_t seconds = reply->integer;
    freeReplyObject(reply);
    return seconds;
}

static void keys_expire_and_are_erased(void **state) {
    (void)state;
    struct tl_member *a = test_member(redis.url, "keys", TL_ROLE_SERVER, 0, NULL);
    uint64_t number;
    assert_int_equal(tl_member_raise_epoch(a, 0, 0, test_deadline(), &number), 0);
    assert_int_equal(
        tl_member_next_incarnation(a, TL_ROLE_WORKER, 0, 0, test_deadline(), &number),
        0);
    assert_int_equal(tl_member_retire(a, 0, 1, 5, test_deadline(), &number), 0);
    assert_int_equal(tl_member_declare_end(a, "test", test_deadline()), 0);
    assert_soon(ttl("tl:{job/keys}:origin") > 0);
    static const char *const keys[] = {"members", "epochs", "incarnations",
                                       "origin",  "end",    "retired"};
    for (size_t i = 0; i < 6; i++) {
        char key[64];
        (void)snprintf(key, sizeof(key), "tl:{job/keys}:%s", keys[i]);
        assert_in_range(ttl(key), 86000, 86400);
    }
    assert_int_equal(tl_member_erase_run(a, test_deadline()), 0);
    uint64_t commands, later, failures;
    tl_member_stats(a, &commands, &failures);
    assert_soon((tl_member_stats(a, &later, &failures), later > commands + 3));
    redisReply *left = test_redis_try(&redis, "KEYS tl:{job/keys}*");
    assert_non_null(left);
    assert_int_equal(left->elements, 0);
    freeReplyObject(left);
    tl_member_close(a);
}

/* A process of its own that is a worker until it is killed. */
static pid_t fork_worker(const char *run, uint32_t index) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)test_member(redis.url, run, TL_ROLE_WORKER, index, NULL);
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

static void stop_process(pid_t pid) {
    int status;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void a_stopped_process_is_down_until_it_goes_on(void **state) {
    (void)state;
    struct watcher w = {0};
    pid_t pid = fork_worker("stopped", 3);
    struct tl_member *m = test_member(redis.url, "stopped", 0, 0, &w);
    assert_soon(test_sees(m, TL_ROLE_WORKER, 3));
    int64_t before_ms = tl_now_ms();
    stop_process(pid);
    assert_soon(watcher_count(&w, TL_ROSTER_DOWN, TL_ROLE_WORKER) == 1);
    assert_true(tl_now_ms() - before_ms >= TEST_LEASE_MS - TEST_LEASE_MS / 3);
    assert_false(test_sees(m, TL_ROLE_WORKER, 3));
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_soon(watcher_count(&w, TL_ROSTER_UP, TL_ROLE_WORKER) == 2);
    assert_true(test_sees(m, TL_ROLE_WORKER, 3));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_soon(watcher_count(&w, TL_ROSTER_DOWN, TL_ROLE_WORKER) == 2);
    tl_member_close(m);
}

static void a_successor_knows_its_predecessor(void **state) {
    (void)state;
    struct tl_member_entry e = {.version = 321};
    struct tl_member *watch = test_member(redis.url, "heir", 0, 0, NULL);
    struct tl_member *a = test_member(redis.url, "heir", TL_ROLE_SERVER, 0, NULL);
    assert_soon(tl_member_predecessor(a, &e) != TL_E_BUSY);
    assert_int_equal(tl_member_predecessor(a, &e), TL_E_NOTFOUND);
    tl_member_announce(a, &e, true);
    assert_soon(find(watch, TL_ROLE_SERVER, 0).version == 321);
    struct tl_member *b = test_member(redis.url, "heir", TL_ROLE_SERVER, 0, NULL);
    assert_soon(tl_member_predecessor(b, &e) == 0);
    assert_int_equal(e.version, 321);
    tl_member_close(a); /* its successor's entry stays */
    uint64_t heir = 0;
    assert_soon((heir = find(watch, TL_ROLE_SERVER, 0).incarnation) != 0 &&
                heir != e.incarnation);
    tl_member_close(b);
    tl_member_close(watch);
}

static void the_run_has_one_age(void **state) {
    (void)state;
    struct tl_member *a = test_member(redis.url, "age", TL_ROLE_WORKER, 0, NULL);
    assert_soon(tl_member_run_age_ms(a) >= 100);
    struct tl_member *b = test_member(redis.url, "age", TL_ROLE_WORKER, 1, NULL);
    assert_soon(tl_member_run_age_ms(b) >= 0);
    int64_t difference_ms = tl_member_run_age_ms(a) - tl_member_run_age_ms(b);
    assert_true(llabs(difference_ms) <
                90); /* what b would be off by if it began anew */
    tl_member_close(a);
    tl_member_close(b);
}

static void the_end_is_seen_by_all_and_the_first_stands(void **state) {
    (void)state;
    struct watcher w = {0};
    char reason[64] = "";
    struct tl_member *a = test_member(redis.url, "end", TL_ROLE_MONITOR, 0, NULL);
    struct tl_member *b = test_member(redis.url, "end", TL_ROLE_SERVER, 0, &w);
    assert_soon(test_sees(b, TL_ROLE_MONITOR, 0));
    assert_false(tl_member_has_ended(b, reason, sizeof(reason)));
    assert_int_equal(tl_member_declare_end(a, "accuracy=0.9", test_deadline()), 0);
    assert_true(tl_member_has_ended(a, NULL, 0));
    assert_int_equal(tl_member_declare_end(b, "updates=7", test_deadline()), 0);
    assert_soon(tl_member_has_ended(b, reason, sizeof(reason)));
    assert_string_equal(reason, "accuracy=0.9");
    char tirade[1024] = "";
    memset(tirade, 'x', sizeof(tirade) - 1);
    assert_int_equal(tl_member_declare_end(b, tirade, test_deadline()), TL_E_INVALID);
    struct tl_member *late = test_member(redis.url, "end", 0, 0, NULL);
    assert_soon(tl_member_has_ended(late, reason, sizeof(reason)));
    tl_member_close(late);
    tl_member_close(a);
    tl_member_close(b);
}

static void a_bad_configuration_is_named(void **state) {
    (void)state;
    struct tl_member *m;
    struct tl_member_config good = {.redis = redis.url, .job = "job", .run = "r-1"};
    struct tl_member_config c = good;
    c.job = "Job";
    assert_int_equal(tl_member_open(&c, &m), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "job"));
    c = good;
    c.run = "a/b";
    assert_int_equal(tl_member_open(&c, &m), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "run"));
    c = good;
    c.redis = "localhost:6379";
    assert_int_equal(tl_member_open(&c, &m), TL_E_CONFIG);
    c = good;
    c.lease_ms = 10;
    assert_int_equal(tl_member_open(&c, &m), TL_E_CONFIG);
    tl_member_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_members_see_each_other),
        cmocka_unit_test(runs_do_not_mix),
        cmocka_unit_test(an_announcement_arrives_before_its_turn),
        cmocka_unit_test(a_watcher_leaves_no_trace),
        cmocka_unit_test(keys_expire_and_are_erased),
        cmocka_unit_test(a_stopped_process_is_down_until_it_goes_on),
        cmocka_unit_test(a_successor_knows_its_predecessor),
        cmocka_unit_test(the_run_has_one_age),
        cmocka_unit_test(the_end_is_seen_by_all_and_the_first_stands),
        cmocka_unit_test(a_bad_configuration_is_named),
    };
    return cmocka_run_group_tests(tests, watcher_redis_setup, watcher_redis_teardown);
}
