/* Redis refused, killed, flushed, damaged: nobody dies of it, and it heals. */
#include "watcher.h"

#include <stdlib.h>
#include <string.h>

static bool redis_has(const char *run, const char *field) {
    redisReply *reply =
        test_redis_try(&redis, "HEXISTS tl:{job/%s}:members %s", run, field);
    bool has = reply != NULL && reply->integer == 1;
    freeReplyObject(reply);
    return has;
}

static uint64_t redis_epoch(const char *run, uint32_t shard) {
    redisReply *reply =
        test_redis_try(&redis, "HGET tl:{job/%s}:epochs %u", run, shard);
    uint64_t epoch =
        reply != NULL && reply->str != NULL ? strtoull(reply->str, NULL, 10) : 0;
    freeReplyObject(reply);
    return epoch;
}

static int downs(struct watcher *w) {
    return watcher_count(w, TL_ROSTER_DOWN, TL_ROLE_SERVER) +
           watcher_count(w, TL_ROSTER_DOWN, TL_ROLE_WORKER) +
           watcher_count(w, TL_ROSTER_GONE, TL_ROLE_SERVER) +
           watcher_count(w, TL_ROSTER_GONE, TL_ROLE_WORKER);
}

/* A server of epoch 6 and a worker, both watching. */
struct pair {
    struct watcher of_server, of_worker;
    struct tl_member *server, *worker;
    const char *run;
};

static void open_pair(struct pair *p, const char *run) {
    uint64_t epoch = 0;
    *p = (struct pair){.run = run};
    p->server = test_member(redis.url, run, TL_ROLE_SERVER, 0, &p->of_server);
    p->worker = test_member(redis.url, run, TL_ROLE_WORKER, 1, &p->of_worker);
    assert_int_equal(tl_member_raise_epoch(p->server, 0, 5, test_deadline(), &epoch),
                     0);
    assert_int_equal(epoch, 6);
    assert_soon(test_sees(p->server, TL_ROLE_WORKER, 1) &&
                test_sees(p->worker, TL_ROLE_SERVER, 0) &&
                tl_member_newest_epoch(p->worker, 0) == 6);
}

static bool is_whole_again(const struct pair *p) {
    return redis_has(p->run, "server/0") && redis_has(p->run, "worker/1") &&
           redis_epoch(p->run, 0) == 6;
}

/* Past the time in which absence is forgiven, so that a wrong verdict would show. */
static void watch_for_verdicts(const struct pair *p) {
    int64_t until_ms = tl_now_ms() + 4 * (int64_t)TEST_LEASE_MS;
    assert_soon(tl_now_ms() >= until_ms);
    assert_true(test_sees(p->server, TL_ROLE_WORKER, 1));
    assert_true(test_sees(p->worker, TL_ROLE_SERVER, 0));
}

static void close_pair(struct pair *p) {
    tl_member_close(p->server);
    tl_member_close(p->worker);
}

static void redis_dies_and_comes_back_empty(void **state) {
    (void)state;
    struct pair p;
    open_pair(&p, "empty");
    int64_t age_ms = tl_member_run_age_ms(p.worker);
    test_redis_kill(&redis);
    assert_soon(!tl_member_is_connected(p.server) && !tl_member_is_connected(p.worker));
    char why[256];
    tl_member_trouble(p.worker, why, sizeof(why));
    assert_non_null(strstr(why, redis.socket));
    int64_t until_ms = tl_now_ms() + 2 * (int64_t)TEST_LEASE_MS;
    assert_soon(tl_now_ms() >= until_ms);
    assert_true(test_sees(p.worker, TL_ROLE_SERVER, 0)); /* the last roster stays */
    assert_true(tl_member_run_age_ms(p.worker) > age_ms);
    test_redis_restart(&redis, false);
    assert_soon(is_whole_again(&p));
    watch_for_verdicts(&p);
    assert_int_equal(downs(&p.of_server) + downs(&p.of_worker), 0);
    uint64_t epoch = 0;
    assert_int_equal(tl_member_raise_epoch(p.server, 0, 0, test_deadline(), &epoch), 0);
    assert_int_equal(epoch, 7);
    close_pair(&p);
}

static void redis_dies_and_comes_back_with_its_data(void **state) {
    (void)state;
    struct pair p;
    open_pair(&p, "kept");
    test_redis_kill(&redis);
    assert_soon(!tl_member_is_connected(p.server) && !tl_member_is_connected(p.worker));
    test_redis_restart(&redis, true);
    assert_int_equal(redis_epoch("kept", 0), 6);
    assert_soon(tl_member_is_connected(p.server) && tl_member_is_connected(p.worker));
    watch_for_verdicts(&p);
    assert_int_equal(downs(&p.of_server) + downs(&p.of_worker), 0);
    close_pair(&p);
}

static void redis_is_flushed(void **state) {
    (void)state;
    struct pair p;
    open_pair(&p, "flushed");
    assert_int_equal(tl_member_declare_end(p.server, "seconds=3", test_deadline()), 0);
    assert_soon(tl_member_run_age_ms(p.worker) >= 200);
    int64_t age_ms = tl_member_run_age_ms(p.worker);
    test_redis_flush(&redis);
    assert_soon(is_whole_again(&p));
    struct tl_member *late = test_member(redis.url, "flushed", 0, 0, NULL);
    assert_soon(tl_member_has_ended(late, NULL, 0));
    assert_soon(tl_member_run_age_ms(late) >= age_ms);
    tl_member_close(late);
    watch_for_verdicts(&p);
    assert_int_equal(downs(&p.of_server) + downs(&p.of_worker), 0);
    close_pair(&p);
}

static void who_dies_with_redis_is_found_dead(void **state) {
    (void)state;
    struct watcher w = {0};
    struct tl_member *m = test_member(redis.url, "both", TL_ROLE_SERVER, 0, &w);
    struct tl_member *other = test_member(redis.url, "both", TL_ROLE_WORKER, 0, NULL);
    assert_soon(test_sees(m, TL_ROLE_WORKER, 0));
    test_redis_kill(&redis);
    assert_soon(!tl_member_is_connected(other));
    tl_member_close(other); /* it cannot say so */
    test_redis_restart(&redis, false);
    assert_soon(watcher_count(&w, TL_ROSTER_DOWN, TL_ROLE_WORKER) == 1);
    assert_int_equal(watcher_count(&w, TL_ROSTER_GONE, TL_ROLE_WORKER), 0);
    tl_member_close(m);
}

static void nobody_answers(void **state) {
    (void)state;
    char port[8], url[64];
    test_free_port(port);
    (void)snprintf(url, sizeof(url), "redis://:hush@127.0.0.1:%s", port);
    struct tl_member *m = test_member(url, "refused", TL_ROLE_WORKER, 0, NULL);
    uint64_t epoch = 99;
    int64_t before_ms = tl_now_ms();
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, before_ms + 200, &epoch),
                     TL_E_UNAVAILABLE);
    assert_in_range(tl_now_ms() - before_ms, 100, 2000);
    assert_int_equal(epoch, 99);
    assert_non_null(strstr(tl_error_text(), port));
    assert_null(strstr(tl_error_text(), "hush"));
    char why[256] = "";
    assert_soon((tl_member_trouble(m, why, sizeof(why)), why[0] != '\0'));
    assert_non_null(strstr(why, "refused"));
    assert_false(tl_member_is_connected(m));
    uint64_t commands, failures;
    assert_soon((tl_member_stats(m, &commands, &failures), failures >= 2));
    before_ms = tl_now_ms();
    tl_member_close(m);
    assert_true(tl_now_ms() - before_ms < 2000);
}

/* It accepts, and says nothing: only the kernel answers. */
static void redis_is_silent(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "silent", TL_ROLE_WORKER, 0, NULL);
    assert_soon(tl_member_is_connected(m));
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    uint64_t epoch;
    int64_t before_ms = tl_now_ms();
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, before_ms + 300, &epoch),
                     TL_E_UNAVAILABLE);
    assert_true(tl_now_ms() - before_ms < 3000);
    assert_soon(!tl_member_is_connected(m));
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    assert_soon(tl_member_is_connected(m));
    tl_member_close(m);
}

/* A Redis with a password, on TCP. */
static void start_locked(struct test_redis *r) {
    char port[8];
    test_free_port(port);
    test_redis_prepare(r, "right", port);
    test_redis_run(r);
}

static void passwords_are_checked(void **state) {
    (void)state;
    struct test_redis locked;
    char url[64], why[256] = "";
    uint64_t epoch = 0;
    start_locked(&locked);
    (void)snprintf(url, sizeof(url), "redis://:wrong-one@127.0.0.1:%s", locked.port);
    struct tl_member *m = test_member(url, "auth", TL_ROLE_SERVER, 0, NULL);
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, test_deadline(), &epoch),
                     TL_E_DENIED);
    assert_null(strstr(tl_error_text(), "wrong-one"));
    assert_soon((tl_member_trouble(m, why, sizeof(why)), why[0] != '\0'));
    assert_non_null(strstr(why, "password"));
    assert_null(strstr(why, "wrong-one"));
    tl_member_close(m);
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%s", locked.port);
    m = test_member(url, "auth", TL_ROLE_SERVER, 0, NULL);
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, test_deadline(), &epoch),
                     TL_E_DENIED);
    tl_member_close(m);
    (void)snprintf(url, sizeof(url), "redis://default:right@127.0.0.1:%s/3",
                   locked.port);
    m = test_member(url, "auth", TL_ROLE_SERVER, 0, NULL);
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, test_deadline(), &epoch), 0);
    assert_soon(tl_member_is_connected(m));
    tl_member_close(m);
    test_redis_stop(&locked);
}

static void a_key_of_another_kind_is_an_error(void **state) {
    (void)state;
    uint64_t epoch;
    char why[256] = "";
    test_redis_do(&redis, "SET tl:{job/kind}:members x");
    test_redis_do(&redis, "SET tl:{job/kind}:epochs x");
    struct tl_member *m = test_member(redis.url, "kind", TL_ROLE_SERVER, 0, NULL);
    assert_soon((tl_member_trouble(m, why, sizeof(why)), why[0] != '\0'));
    assert_non_null(strstr(why, "WRONGTYPE"));
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, test_deadline(), &epoch),
                     TL_E_CORRUPT);
    assert_non_null(strstr(tl_error_text(), "delete"));
    test_redis_do(&redis, "DEL tl:{job/kind}:members tl:{job/kind}:epochs");
    assert_soon(tl_member_is_connected(m));
    tl_member_close(m);
}

static void damaged_values_are_passed_over(void **state) {
    (void)state;
    uint64_t number;
    test_redis_do(&redis, "HSET tl:{job/damage}:members server/0 %s worker/x {} no %s",
                  "{\"epoch\":", "role");
    test_redis_do(&redis, "HSET tl:{job/damage}:epochs 0 many x 3 1 "
                          "99999999999999999999999999");
    test_redis_do(&redis, "HSET tl:{job/damage}:origin started soon token %s",
                  "a-token-that-is-far-too-long-to-be-one-of-ours");
    test_redis_do(&redis, "HSET tl:{job/damage}:retired 1/1 never");
    test_redis_do(&redis, "SET tl:{job/damage}:end over");
    struct tl_member *m = test_member(redis.url, "damage", TL_ROLE_WORKER, 0, NULL);
    assert_soon(test_sees(m, TL_ROLE_WORKER, 0));
    struct tl_member_entry all[4];
    assert_int_equal(tl_member_list(m, all, 4), 1);
    assert_int_equal(tl_member_newest_epoch(m, 0), 0);
    assert_false(tl_member_has_ended(m, NULL, 0));
    assert_true(tl_member_run_age_ms(m) >= 0);
    assert_int_equal(tl_member_raise_epoch(m, 0, 0, test_deadline(), &number),
                     TL_E_CORRUPT);
    assert_non_null(strstr(tl_error_text(), "tl:{job/damage}:epochs"));
    assert_int_equal(tl_member_retire(m, 1, 1, 0, test_deadline(), &number),
                     TL_E_CORRUPT);
    assert_int_equal(tl_member_declare_end(m, "over", test_deadline()), TL_E_CORRUPT);
    tl_member_close(m);
}

static void forgotten_scripts_are_loaded_again(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "scripts", TL_ROLE_WORKER, 0, NULL);
    assert_soon(tl_member_is_connected(m));
    uint64_t commands, later, failures;
    test_redis_do(&redis, "SCRIPT FLUSH");
    tl_member_stats(m, &commands, &failures);
    assert_soon((tl_member_stats(m, &later, &failures), later > commands + 5));
    assert_true(tl_member_is_connected(m));
    assert_int_equal(failures, 1); /* the NOSCRIPT itself: it did happen */
    tl_member_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_dies_and_comes_back_empty),
        cmocka_unit_test(redis_dies_and_comes_back_with_its_data),
        cmocka_unit_test(redis_is_flushed),
        cmocka_unit_test(who_dies_with_redis_is_found_dead),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(redis_is_silent),
        cmocka_unit_test(passwords_are_checked),
        cmocka_unit_test(a_key_of_another_kind_is_an_error),
        cmocka_unit_test(damaged_values_are_passed_over),
        cmocka_unit_test(forgotten_scripts_are_loaded_again),
    };
    return cmocka_run_group_tests(tests, watcher_redis_setup, watcher_redis_teardown);
}
