/* tail.c - weights of a chain: from its tail, and from its head when that cannot be.
 *
 * Two fake servers over TCP are head and tail; a real Redis says so. Their versions lie
 * far apart, so that the weights show whose they are. */
#include "throughline/client.h"
#include "throughline/member.h"
#include "throughline/service.h"

#include "fake_shard.h"
#include "redis.h"
#include "test.h"

#include <sched.h>
#include <stdatomic.h>

enum { COUNT = 8, HEAD_VERSION = 10, TAIL_VERSION = 30, PATIENCE_MS = 8000 };

static struct test_redis redis;
static struct fake_shard head, tail;
static bool tail_is_up;
static struct tl_member *registered;
static struct tl_client *client;
static float gradient[COUNT];
static uint64_t sequence;

/* Each pull finds something newer. */
static enum fake_act fold_another(struct fake_shard *s,
                                  const struct tl_header *request) {
    s->version += request->kind == TL_KIND_PULL;
    return ACT_SERVE;
}

static enum fake_act be_silent(struct fake_shard *s, const struct tl_header *request) {
    (void)s;
    return request->kind == TL_KIND_PULL ? ACT_SILENCE : ACT_SERVE;
}

static enum fake_act refuse(struct fake_shard *s, const struct tl_header *request) {
    s->status = TL_E_STALE;
    return request->kind == TL_KIND_PUSH ? ACT_STATUS : ACT_SERVE;
}

static enum fake_act give_halves(struct fake_shard *s,
                                 const struct tl_header *request) {
    return fold_another(s, request) == ACT_SERVE && request->kind == TL_KIND_PULL
               ? ACT_HALVES
               : ACT_SERVE;
}

static _Atomic bool first_half_is_out;

/* The head refuses only now, and its weights are on their way before the rest is. */
static void until_the_head_has_given_weights(void) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE_MS;
    first_half_is_out = true;
    while (fake_shard_asked(&head, TL_KIND_PULL) < 2 && tl_now_ms() < deadline_ms) {
        (void)sched_yield();
    }
}

static enum fake_act refuse_between_halves(struct fake_shard *s,
                                           const struct tl_header *request) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE_MS;
    while (request->kind == TL_KIND_PUSH && !first_half_is_out &&
           tl_now_ms() < deadline_ms) {
        (void)sched_yield();
    }
    return refuse(s, request);
}

static void stop_tail(void) {
    if (tail_is_up) {
        fake_shard_stop(&tail);
        tail_is_up = false;
    }
}

static void join(void) {
    const struct tl_client_config config = {.redis = redis.url,
                                            .job = "job",
                                            .run = "run",
                                            .worker = 3,
                                            .patience_ms = PATIENCE_MS,
                                            .request_ms = 300};
    struct tl_client_join joined;
    assert_int_equal(tl_client_open(&config, &client), 0);
    assert_int_equal(tl_client_join(client, &joined), 0);
    sequence = joined.next_sequence;
    assert_true(tl_client_version(client) == HEAD_VERSION);
}

static int start(void **state) {
    (void)state;
    test_redis_start(&redis);
    fake_shard_listen(&head, true, 0, 1, COUNT);
    fake_shard_listen(&tail, true, 0, 1, COUNT);
    head.version = HEAD_VERSION;
    tail.version = TAIL_VERSION;
    tail.plan = fold_another;
    tail_is_up = true;
    struct tl_member_config config = {
        .redis = redis.url,
        .job = "job",
        .run = "run",
        .self = {.role = TL_ROLE_SERVER, .epoch = 1, .state = TL_MEMBER_SERVING},
    };
    (void)snprintf(config.self.address, sizeof(config.self.address), "%s",
                   head.server.address);
    (void)snprintf(config.self.tail, sizeof(config.self.tail), "%s",
                   tail.server.address);
    assert_int_equal(tl_member_open(&config, &registered), 0);
    join();
    return 0;
}

static int stop(void **state) {
    (void)state;
    tl_client_free(client);
    tl_member_close(registered);
    stop_tail(); /* it may be looking at the head */
    fake_shard_stop(&head);
    test_redis_stop(&redis);
    return 0;
}

static struct tl_client_result push_pull(void) {
    struct tl_client_result r;
    if (tl_client_push_pull(client, sequence++, gradient, &r) != 0) {
        fail_msg("%s", tl_error_text());
    }
    return r;
}

static void assert_weights_of(uint64_t version) {
    assert_int_equal(tl_client_version(client), version);
    for (unsigned i = 0; i < COUNT; i++) {
        float expected = (float)version + (float)i / 1000.0F;
        assert_true(tl_client_weights(client)[i] == expected);
    }
}

static void the_tail_gives_what_the_head_has_taken(void **state) {
    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(push_pull().refused, 0);
        assert_weights_of(TAIL_VERSION + i);
    }
    assert_int_equal(fake_shard_asked(&head, TL_KIND_PUSH), 3);
    assert_int_equal(fake_shard_asked(&head, TL_KIND_PUSH_PULL), 0);
    assert_int_equal(fake_shard_asked(&head, TL_KIND_PULL), 1); /* joining */
    assert_int_equal(fake_shard_asked(&tail, TL_KIND_PULL), 3);
    assert_int_equal(fake_shard_asked(&tail, TL_KIND_JOIN), 0);
    assert_true((tail.greeted_flags & TL_FLAG_READS) != 0);
}

static void the_head_gives_them_when_the_tail_is_gone(void **state) {
    (void)state;
    stop_tail();
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(push_pull().refused, 0);
        assert_weights_of(HEAD_VERSION + i);
    }
    assert_int_equal(fake_shard_asked(&head, TL_KIND_PUSH) +
                         fake_shard_asked(&head, TL_KIND_PUSH_PULL),
                     3);
}

/* ... and a tail that says nothing is left alone for a while. */
static void a_silent_tail_costs_one_wait(void **state) {
    (void)state;
    fake_shard_plan(&tail, be_silent);
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(push_pull().refused, 0);
        assert_weights_of(HEAD_VERSION + i);
    }
    assert_int_equal(fake_shard_asked(&tail, TL_KIND_PULL), 1);
    assert_int_equal(fake_shard_asked(&head, TL_KIND_PUSH_PULL), 19);
}

/* What will be in nobody's weights is not waited for at the tail. */
static void a_refused_gradient_brings_the_heads_weights(void **state) {
    (void)state;
    fake_shard_plan(&tail, be_silent);
    fake_shard_plan(&head, refuse);
    pthread_mutex_lock(&head.lock);
    head.version++;
    pthread_mutex_unlock(&head.lock);
    struct tl_client_result r = push_pull();
    assert_int_equal(r.refused, 1);
    assert_int_equal(r.refusal, TL_E_STALE);
    assert_weights_of(HEAD_VERSION + 1);
}

/* ... nor mixed with what had come from there. */
static void weights_are_of_one_of_them(void **state) {
    (void)state;
    first_half_is_out = false;
    tail.between = until_the_head_has_given_weights;
    fake_shard_plan(&tail, give_halves);
    fake_shard_plan(&head, refuse_between_halves);
    pthread_mutex_lock(&head.lock);
    head.version++;
    pthread_mutex_unlock(&head.lock);
    assert_int_equal(push_pull().refused, 1);
    assert_true(first_half_is_out);
    assert_weights_of(HEAD_VERSION + 1);
}

/* A head that has not heard of the last commit is a step behind: within an epoch the
 * caller's weights do not go back. */
static void weights_do_not_go_back(void **state) {
    (void)state;
    assert_int_equal(push_pull().refused, 0);
    assert_weights_of(TAIL_VERSION + 1);
    stop_tail();
    assert_int_equal(push_pull().refused, 0);
    assert_weights_of(TAIL_VERSION + 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_tail_gives_what_the_head_has_taken),
        TEST(the_head_gives_them_when_the_tail_is_gone),
        TEST(a_silent_tail_costs_one_wait),
        TEST(a_refused_gradient_brings_the_heads_weights),
        TEST(weights_are_of_one_of_them),
        TEST(weights_do_not_go_back),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
