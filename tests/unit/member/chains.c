/* The chain's arbiter in Redis decides as the pure one does, whatever it is told. */
#include "throughline/chain.h"
#include "throughline/service.h"

#include "watcher.h"

#include <string.h>

#define STEPS  1500
#define LENGTH 3u
#define NAMES  6u /* incarnations in play: few, so that they meet */

static const struct tl_chain_place place = {.shard = 2, .length = LENGTH};

static uint64_t next_random(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *seed, uint64_t n) {
    return next_random(seed) % n;
}

/* Some are larger than any double, and than any 19 digits. */
static struct tl_chain_node random_node(uint64_t *seed) {
    uint64_t name = below(seed, NAMES);
    return (struct tl_chain_node){(uint32_t)below(seed, LENGTH),
                                  name < 3 ? name + 1 : UINT64_MAX - name};
}

static void same(const struct tl_chain_look *a, const struct tl_chain_look *b) {
    char x[TL_CHAIN_TEXT_MAX], y[TL_CHAIN_TEXT_MAX];
    tl_chain_config_format(&a->config, x);
    tl_chain_config_format(&b->config, y);
    assert_string_equal(x, y);
    assert_int_equal(a->life, b->life);
    assert_int_equal(a->is_settled, b->is_settled);
    assert_int_equal(a->is_vacant, b->is_vacant);
}

struct pair {
    struct tl_member *m;
    struct tl_chain_arbiter pure;
    uint64_t seed, life; /* what replicas saw last */
    struct tl_chain_config known;
    uint64_t decided;
};

static void show(struct pair *p) {
    struct tl_chain_look in_redis;
    struct tl_chain_node node = random_node(&p->seed);
    struct tl_chain_config none = {.number = 0};
    const struct tl_chain_config *known = below(&p->seed, 4) == 0 ? &none : &p->known;
    uint64_t seen = below(&p->seed, 5) == 0 ? 77 : p->life;
    assert_int_equal(tl_member_chain_show(p->m, &place, node, known, seen,
                                          test_deadline(), &in_redis),
                     0);
    tl_chain_arbiter_show(&p->pure, node, known, seen, in_redis.life);
    struct tl_chain_look look = tl_chain_arbiter_look(&p->pure, LENGTH);
    same(&in_redis, &look);
    p->life = in_redis.life;
}

static struct tl_chain_config successor(struct pair *p, bool *ret_forms) {
    const struct tl_chain_config *c = &p->pure.config;
    struct tl_chain_node node = random_node(&p->seed);
    *ret_forms = c->count == 0 || below(&p->seed, 3) == 0;
    if (*ret_forms) {
        return tl_chain_formed(c, node, below(&p->seed, 3));
    }
    bool has_slot = false;
    for (uint32_t i = 0; i < c->count; i++) {
        has_slot = has_slot || c->nodes[i].slot == node.slot;
    }
    if (!has_slot) {
        return tl_chain_with(c, node);
    }
    return c->count > 1 ? tl_chain_without(c, c->nodes[below(&p->seed, c->count)])
                        : tl_chain_renewed(c, below(&p->seed, 20));
}

static void decide(struct pair *p) {
    struct tl_chain_look in_redis;
    bool forms;
    struct tl_chain_config next = successor(p, &forms);
    uint64_t expected = p->pure.config.number + (below(&p->seed, 4) == 0 ? 1 : 0);
    assert_int_equal(tl_member_chain_decide(p->m, &place, expected, &next, forms,
                                            test_deadline(), &in_redis),
                     0);
    p->decided += tl_chain_arbiter_decide(&p->pure, expected, &next, forms, LENGTH);
    struct tl_chain_look look = tl_chain_arbiter_look(&p->pure, LENGTH);
    same(&in_redis, &look);
    if (below(&p->seed, 3) > 0) {
        p->known = in_redis.config;
    }
}

static void redis_decides_as_the_arbiter_does(void **state) {
    (void)state;
    struct pair p = {.seed = 5};
    uint64_t flushes = 0;
    p.m = test_member(redis.url, "chains", 0, 0, NULL);
    for (int i = 0; i < STEPS; i++) {
        uint64_t what = below(&p.seed, 100);
        if (what == 0) {
            test_redis_flush(&redis);
            p.pure = (struct tl_chain_arbiter){.life = 0};
            flushes++;
        } else if (what < 60) {
            show(&p);
        } else {
            decide(&p);
        }
    }
    assert_true(p.decided > 50);
    assert_true(flushes > 3);
    tl_member_close(p.m);
}

static void only_one_of_many_is_decided(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "one", 0, 0, NULL);
    const struct tl_chain_config none = {.number = 0};
    struct tl_chain_look look = {.life = 0};
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t slot = 0; slot < LENGTH; slot++) {
            struct tl_chain_node node = {slot, 10 + slot};
            assert_int_equal(tl_member_chain_show(m, &place, node, &none, look.life,
                                                  test_deadline(), &look),
                             0);
        }
    }
    assert_true(look.is_vacant);
    for (uint32_t slot = 0; slot < LENGTH; slot++) {
        struct tl_chain_config next =
            tl_chain_formed(&none, (struct tl_chain_node){slot, 10 + slot}, 0);
        assert_int_equal(
            tl_member_chain_decide(m, &place, 0, &next, true, test_deadline(), &look),
            0);
        assert_int_equal(look.config.number, 1);
        assert_int_equal(look.config.nodes[0].slot, 0); /* the first one stands */
    }
    assert_false(look.is_vacant);
    tl_member_close(m);
}

static void a_foreign_value_is_told(void **state) {
    (void)state;
    struct tl_member *m = test_member(redis.url, "foreign", 0, 0, NULL);
    const struct tl_chain_config none = {.number = 0};
    struct tl_chain_look look;
    freeReplyObject(test_redis_try(&redis, "HSET tl:{job/foreign}:chains 2 nonsense"));
    assert_int_equal(tl_member_chain_show(m, &place, (struct tl_chain_node){0, 1},
                                          &none, 0, test_deadline(), &look),
                     TL_E_CORRUPT);
    tl_member_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_decides_as_the_arbiter_does),
        cmocka_unit_test(only_one_of_many_is_decided),
        cmocka_unit_test(a_foreign_value_is_told),
    };
    return cmocka_run_group_tests(tests, watcher_redis_setup, watcher_redis_teardown);
}
