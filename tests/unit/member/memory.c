/* Memory runs out in a member: a call says so; its thread loses the connection at most,
 * and comes back. Against a real Redis. */
#include "scarce.h"
#include "watcher.h"

#define POINTS 120u

static int open_and_close(void *ctx) {
    struct tl_member *m = NULL;
    const struct tl_member_config config = {.redis = redis.url,
                                            .job = "job",
                                            .run = "opened",
                                            .lease_ms = TEST_LEASE_MS,
                                            .self = {.role = TL_ROLE_MONITOR}};
    (void)ctx;
    int rc = tl_member_open(&config, &m);
    tl_member_close(m);
    return rc;
}

static void while_it_is_opened(void **state) {
    (void)state;
    scarce_torture(open_and_close, NULL);
}

static int take_epoch(void *ctx) {
    uint64_t epoch = 0;
    return tl_member_raise_epoch(ctx, 0, 0, test_deadline(), &epoch);
}

static int take_incarnation(void *ctx) {
    uint64_t incarnation = 0;
    return tl_member_next_incarnation(ctx, TL_ROLE_WORKER, 0, 0, test_deadline(),
                                      &incarnation);
}

static int take_step(void *ctx) {
    uint64_t step = 0;
    return tl_member_retire(ctx, 1, 1, 5, test_deadline(), &step);
}

static int take_end(void *ctx) {
    return tl_member_declare_end(ctx, "updates=1", test_deadline());
}

static void in_a_call(void **state) {
    (void)state;
    int (*const calls[])(void *) = {take_epoch, take_incarnation, take_step, take_end};
    struct tl_member *m = test_member(redis.url, "calls", TL_ROLE_SERVER, 0, NULL);
    assert_soon(tl_member_is_connected(m));
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        scarce_torture(calls[i], m);
    }
    tl_member_close(m);
}

static void in_its_thread(void **state) {
    (void)state;
    unsigned failures = 0;
    for (unsigned n = 1; n <= POINTS; n++) {
        struct tl_member *seen =
            test_member(redis.url, "thread", TL_ROLE_WORKER, 1, NULL);
        scarce_begin_elsewhere(n);
        struct tl_member *m = test_member(redis.url, "thread", TL_ROLE_WORKER, 2, NULL);
        assert_soon(test_sees(m, TL_ROLE_WORKER, 1) &&
                    test_sees(seen, TL_ROLE_WORKER, 2));
        failures += scarce_end();
        assert_soon(tl_member_is_connected(m) && tl_member_is_connected(seen));
        tl_member_close(m);
        tl_member_close(seen);
    }
    print_message("%u failures in the threads\n", failures);
    assert_true(failures > POINTS / 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_it_is_opened),
        cmocka_unit_test(in_a_call),
        cmocka_unit_test(in_its_thread),
    };
    return cmocka_run_group_tests_name("member/memory", tests, watcher_redis_setup,
                                       watcher_redis_teardown);
}
