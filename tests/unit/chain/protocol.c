/* The protocol step by step, in the order in which docs/chain.md tells it; everything
 * out of the ordinary is the simulator's (tests/sim). */
#include "throughline/chain.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH 3u

/* Three replicas, an arbiter, and a network that is as quick as the test wants. */
struct rig {
    struct tl_chain_arbiter arbiter;
    struct tl_chain *nodes[LENGTH];
    bool is_dead[LENGTH];
    bool is_cut_off[LENGTH]; /* its messages stay with it */
    uint64_t committed[LENGTH];
    uint32_t loads[LENGTH], resets[LENGTH], leads[LENGTH];
    uint64_t state_at[LENGTH];
    uint32_t bodies;
};

static uint32_t *bodies;

static void body_done(struct tl_chain_body *body) {
    (*bodies)--;
    free(body);
}

static struct tl_chain_body *new_body(struct rig *r) {
    struct tl_chain_body *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    *b = (struct tl_chain_body){.holders = 1, .done = body_done};
    r->bodies++;
    bodies = &r->bodies;
    return b;
}

static struct tl_chain *start_node(uint32_t slot, enum tl_replication replication,
                                   uint64_t seed) {
    const struct tl_chain_settings settings = {.slot = slot,
                                               .length = LENGTH,
                                               .replication = replication,
                                               .every = 3,
                                               .lease_ms = 100,
                                               .seed = seed};
    struct tl_chain *c = NULL;
    assert_int_equal(tl_chain_new(&settings, 0, &c), 0);
    return c;
}

static bool is_same(const struct rig *r, struct tl_chain_node node) {
    return !r->is_dead[node.slot] &&
           tl_chain_node_is(tl_chain_self(r->nodes[node.slot]), node);
}

static bool act(struct rig *r, uint32_t i);

static void carry_out(struct rig *r, uint32_t i, const struct tl_chain_action *a) {
    struct tl_chain *c = r->nodes[i];
    struct tl_chain_node self = tl_chain_self(c);
    switch (a->kind) {
    case TL_CHAIN_SEND:
        if (is_same(r, a->node) && !r->is_cut_off[i]) {
            tl_chain_receive(r->nodes[a->node.slot], self, &a->message);
        }
        break;
    case TL_CHAIN_DIAL:
        if (is_same(r, a->node)) {
            tl_chain_link_up(r->nodes[a->node.slot], self, false);
            tl_chain_link_up(c, a->node, true);
        } else {
            tl_chain_tried(c, a->node, TL_CHAIN_GONE);
        }
        break;
    case TL_CHAIN_PROBE:
        tl_chain_tried(c, a->node,
                       is_same(r, a->node) ? TL_CHAIN_PRESENT : TL_CHAIN_GONE);
        break;
    case TL_CHAIN_CLOSE:
        if (is_same(r, a->node)) {
            tl_chain_link_down(r->nodes[a->node.slot], self);
        }
        break;
    case TL_CHAIN_PROPOSE: {
        (void)tl_chain_arbiter_decide(&r->arbiter, a->expected, &a->config, a->forms,
                                      LENGTH);
        struct tl_chain_look look = tl_chain_arbiter_look(&r->arbiter, LENGTH);
        tl_chain_decided(c, &look);
        break;
    }
    case TL_CHAIN_COMMIT:
        assert_int_equal(a->record.position, r->state_at[i] + 1);
        r->state_at[i]++;
        r->committed[i]++;
        break;
    case TL_CHAIN_CUT:
        tl_chain_cut_taken(c, new_body(r));
        break;
    case TL_CHAIN_LOAD:
        r->loads[i]++;
        r->state_at[i] = a->position;
        break;
    case TL_CHAIN_RESET:
        r->resets[i]++;
        r->state_at[i] = 0;
        break;
    case TL_CHAIN_LEAD:
        r->leads[i]++;
        break;
    }
}

static bool act(struct rig *r, uint32_t i) {
    struct tl_chain_action a;
    if (r->is_dead[i] || !tl_chain_next(r->nodes[i], &a)) {
        return false;
    }
    carry_out(r, i, &a);
    tl_chain_body_release(a.body);
    return true;
}

static void settle(struct rig *r) {
    bool is_busy = true;
    for (int steps = 0; is_busy; steps++) {
        assert_true(steps < 10000);
        is_busy = false;
        for (uint32_t i = 0; i < LENGTH; i++) {
            is_busy = act(r, i) || is_busy;
        }
    }
}

static void look(struct rig *r, uint32_t i) {
    tl_chain_arbiter_show(&r->arbiter, tl_chain_self(r->nodes[i]),
                          tl_chain_config(r->nodes[i]),
                          tl_chain_last_look(r->nodes[i])->life, 5);
    struct tl_chain_look l = tl_chain_arbiter_look(&r->arbiter, LENGTH);
    tl_chain_looked(r->nodes[i], &l);
}

/* Time goes by: every node ticks, and looks at the arbiter. */
static void pass(struct rig *r, int64_t from_ms, int64_t to_ms) {
    for (int64_t now = from_ms; now <= to_ms; now += 10) {
        for (uint32_t i = 0; i < LENGTH; i++) {
            if (!r->is_dead[i]) {
                tl_chain_tick(r->nodes[i], now);
                look(r, i);
            }
        }
        settle(r);
    }
}

static void start(struct rig *r, enum tl_replication replication) {
    memset(r, 0, sizeof(*r));
    for (uint32_t i = 0; i < LENGTH; i++) {
        r->nodes[i] = start_node(i, replication, 1000 + i);
    }
    pass(r, 0, 300);
    assert_int_equal(r->arbiter.config.count, LENGTH);
    assert_int_equal(tl_chain_role(r->nodes[0]), TL_CHAIN_HEAD);
}

static void stop(struct rig *r) {
    for (uint32_t i = 0; i < LENGTH; i++) {
        tl_chain_free(r->nodes[i]);
    }
    assert_int_equal(r->bodies, 0); /* every holder has let go */
}

static void kill_node(struct rig *r, uint32_t i) {
    struct tl_chain_node node = tl_chain_self(r->nodes[i]);
    r->is_dead[i] = true;
    for (uint32_t k = 0; k < LENGTH; k++) {
        if (!r->is_dead[k]) {
            tl_chain_link_down(r->nodes[k], node);
        }
    }
}

static int push(struct rig *r, uint32_t head) {
    struct tl_record record = {.kind = TL_RECORD_GRADIENT, .sequence = 1};
    struct tl_chain_body *b = new_body(r);
    int rc = tl_chain_append(r->nodes[head], &record, b);
    tl_chain_body_release(b);
    return rc;
}

static uint32_t tail_of(const struct rig *r) {
    return r->arbiter.config.nodes[r->arbiter.config.count - 1].slot;
}

static void a_record_is_committed_by_all_from_the_tail_up(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_STRICT);
    uint64_t before = tl_chain_committed(r.nodes[0]);
    r.is_cut_off[tail_of(&r)] = true; /* the tail's acknowledgement stays with it */
    assert_int_equal(push(&r, 0), 0);
    settle(&r);
    assert_int_equal(tl_chain_committed(r.nodes[tail_of(&r)]), before + 1);
    assert_int_equal(tl_chain_committed(r.nodes[0]), before);
    assert_int_equal(tl_chain_last(r.nodes[0]), before + 1);
    r.is_cut_off[tail_of(&r)] = false;
    assert_int_equal(push(&r, 0), 0); /* its acknowledgement covers both */
    settle(&r);
    for (uint32_t i = 0; i < LENGTH; i++) {
        assert_int_equal(tl_chain_committed(r.nodes[i]), before + 2);
        assert_true(tl_chain_may_read(r.nodes[i]));
    }
    stop(&r);
}

static void only_the_head_takes_records_and_not_without_end(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_STRICT);
    assert_int_equal(push(&r, tail_of(&r)), TL_E_EPOCH);
    for (uint32_t i = 0; i < LENGTH; i++) {
        r.is_cut_off[i] = true;
    }
    for (uint32_t n = 0; n < TL_CHAIN_PENDING_MAX; n++) {
        assert_int_equal(push(&r, 0), 0);
    }
    assert_int_equal(push(&r, 0), TL_E_BUSY);
    stop(&r);
}

static void the_successor_of_a_dead_head_goes_on_with_what_it_has(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_STRICT);
    uint32_t second = r.arbiter.config.nodes[1].slot;
    r.is_cut_off[tail_of(&r)] = true; /* nothing is acknowledged any more */
    assert_int_equal(push(&r, 0), 0);
    settle(&r);
    uint64_t held = tl_chain_last(r.nodes[second]);
    assert_true(tl_chain_committed(r.nodes[second]) < held);
    r.is_cut_off[tail_of(&r)] = false;
    uint64_t epoch = r.arbiter.config.epoch;
    kill_node(&r, 0);
    pass(&r, 310, 330); /* less than a lease: the refusal is enough */
    assert_int_equal(tl_chain_role(r.nodes[second]), TL_CHAIN_HEAD);
    assert_int_equal(r.leads[second], 1);
    assert_true(r.arbiter.config.epoch > epoch);
    assert_int_equal(tl_chain_committed(r.nodes[second]), held);
    stop(&r);
}

static void what_a_dead_middle_had_is_sent_again(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_STRICT);
    uint32_t middle = r.arbiter.config.nodes[1].slot, tail = tail_of(&r);
    r.is_cut_off[middle] = true; /* it forwards nothing */
    assert_int_equal(push(&r, 0), 0);
    assert_int_equal(push(&r, 0), 0);
    settle(&r);
    uint64_t last = tl_chain_last(r.nodes[0]);
    assert_int_equal(tl_chain_last(r.nodes[tail]), last - 2);
    kill_node(&r, middle);
    pass(&r, 310, 360);
    assert_int_equal(tl_chain_committed(r.nodes[0]), last);
    assert_int_equal(tl_chain_committed(r.nodes[tail]), last);
    assert_int_equal(r.arbiter.config.count, 2);
    stop(&r);
}

static void a_head_that_was_removed_can_commit_nothing_and_comes_back(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_STRICT);
    struct tl_chain_node old = tl_chain_self(r.nodes[0]);
    uint64_t committed = tl_chain_committed(r.nodes[0]);
    struct tl_chain_config next = tl_chain_without(&r.arbiter.config, old);
    assert_true(tl_chain_arbiter_decide(&r.arbiter, r.arbiter.config.number, &next,
                                        false, LENGTH));
    look(&r, next.nodes[0].slot); /* the others know, the head does not */
    look(&r, next.nodes[1].slot);
    assert_int_equal(push(&r, 0), 0);
    settle(&r);
    assert_int_equal(tl_chain_committed(r.nodes[1]), committed);
    assert_int_equal(r.resets[0], 1);
    assert_false(tl_chain_node_is(old, tl_chain_self(r.nodes[0])));
    pass(&r, 310, 500);
    assert_int_equal(r.arbiter.config.count, LENGTH);
    assert_int_equal(tl_chain_role(r.nodes[0]), TL_CHAIN_TAIL);
    stop(&r);
}

static void periodic_the_head_is_at_most_so_far_ahead(void **state) {
    (void)state;
    struct rig r;
    start(&r, TL_PERIODIC);
    uint64_t start_at = tl_chain_committed(r.nodes[0]);
    for (int n = 0; n < 3; n++) {
        assert_int_equal(push(&r, 0), 0);
    }
    assert_int_equal(tl_chain_committed(r.nodes[0]), start_at + 3); /* at once */
    for (uint32_t i = 0; i < LENGTH; i++) {
        r.is_cut_off[i] = true;
    }
    settle(&r);
    for (int n = 0; n < 5; n++) {
        assert_int_equal(push(&r, 0), 0);
    }
    settle(&r);
    assert_int_equal(tl_chain_committed(r.nodes[0]), start_at + 3);
    stop(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_committed_by_all_from_the_tail_up),
        cmocka_unit_test(only_the_head_takes_records_and_not_without_end),
        cmocka_unit_test(the_successor_of_a_dead_head_goes_on_with_what_it_has),
        cmocka_unit_test(what_a_dead_middle_had_is_sent_again),
        cmocka_unit_test(a_head_that_was_removed_can_commit_nothing_and_comes_back),
        cmocka_unit_test(periodic_the_head_is_at_most_so_far_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
