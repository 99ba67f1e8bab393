/* change.c - another configuration: taking one over, proposing one. */
#include "chain_internal.h"

#include <stddef.h>

/* ---- leaving ----------------------------------------------------------------------
 */

/* Whoever is not in the chain has nothing that counts: what it was sent and not yet
 * committed is dropped, its state too, and it comes back under another name, so that
 * nothing said of the old one is taken for the new. */
void chain_reset(struct tl_chain *c) {
    if (TL_MUTATE(rejected_acknowledged)) {
        chain_unfollow(c);
        chain_flow(c);
    }
    chain_peers_drop(c);
    chain_unfollow(c);
    c->at = -1;
    c->is_complete = false;
    c->doubts = 0;
    c->is_cutting = false;
    c->self.incarnation = chain_random(c);
    c->stats.resets++;
    if (TL_MUTATE(suffix_kept)) {
        return;
    }
    chain_ring_init(&c->ring, c->settings.position);
    c->committed = c->settings.position;
    tl_chain_body_release(c->state);
    c->state = NULL;
    (void)chain_act(c, TL_CHAIN_RESET);
}

/* ---- taking over --------------------------------------------------------------------
 */

/* The successor under the new configuration; one that has joined keeps its place in the
 * stream. */
static void follow_successor(struct tl_chain *c) {
    bool has_successor = (uint32_t)c->at + 1 < c->config.count;
    struct chain_follower *f = &c->follower;
    if (!has_successor) {
        if (!f->is_joiner || f->phase != CHAIN_SYNCED) {
            chain_unfollow(c); /* a joiner on its way asks again */
        } else {
            f->is_proposed = false; /* another configuration was decided instead */
        }
        return;
    }
    struct tl_chain_node next = c->config.nodes[c->at + 1];
    bool is_same = f->phase != CHAIN_NOBODY && tl_chain_node_is(f->node, next);
    if (!is_same) {
        chain_follow(c, next, false);
    } else if (f->is_joiner) {
        f->is_joiner = false;
        f->is_proposed = false;
        f->counts = true;
    } else {
        f->phase = CHAIN_UNKNOWN;
    }
}

static void lead(struct tl_chain *c) {
    if (c->state != NULL) {
        struct tl_chain_action *load = chain_act(c, TL_CHAIN_LOAD);
        load->position = c->committed;
        load->body = c->state; /* the action's from here on */
        c->state = NULL;
    }
    chain_act(c, TL_CHAIN_LEAD)->config = c->config;
}

/* A chain of one that was formed anew begins with what a fresh node has. */
static bool is_formed_here(const struct tl_chain *c,
                           const struct tl_chain_config *config) {
    return config->count == 1 && config->epoch == config->number && !c->is_complete;
}

static void take_place(struct tl_chain *c, int at, bool led_before,
                       uint64_t epoch_before) {
    c->at = at;
    c->is_complete = true;
    c->doubts = 0;
    follow_successor(c);
    bool leads_anew = at == 0 && (!led_before || c->config.epoch != epoch_before);
    if (leads_anew) {
        lead(c);
    }
    chain_greet_all(c);
    chain_peers_tidy(c);
    chain_peers_reach(c);
    chain_flow(c);
    chain_acknowledge(c);
}

/* Outside: go on with the transfer if its sender is the tail still, else begin anew. */
static void stay_outside(struct tl_chain *c, struct tl_chain_node source_before) {
    bool is_same = tl_chain_node_is(chain_source(c), source_before);
    if (c->is_complete && !is_same) {
        chain_reset(c);
    }
    chain_greet_all(c);
    chain_peers_tidy(c);
    chain_peers_reach(c);
}

void chain_adopt(struct tl_chain *c, const struct tl_chain_config *config) {
    struct tl_chain_node source_before = chain_source(c);
    bool was_member = chain_is_member(c);
    if (TL_MUTATE(removed_goes_on) && was_member &&
        tl_chain_find(config, c->self) < 0) {
        return;
    }
    bool led_before = chain_is_head(c);
    uint64_t epoch_before = c->config.epoch;
    int at = tl_chain_find(config, c->self);
    bool is_formed = at >= 0 && !was_member && is_formed_here(c, config);
    c->config = *config;
    c->digest = tl_chain_config_digest(config);
    if (at >= 0 &&
        (was_member || c->is_complete || is_formed || TL_MUTATE(joiner_added_early))) {
        take_place(c, at, led_before, epoch_before);
        return;
    }
    if (was_member || at >= 0) {
        chain_reset(c);
    }
    stay_outside(c, source_before);
}

/* ---- joiners ------------------------------------------------------------------------
 */

void chain_meet_joiner(struct tl_chain *c, struct tl_chain_node node) {
    bool has_room = c->config.count < c->settings.length;
    for (uint32_t i = 0; i < c->config.count; i++) {
        has_room = has_room && c->config.nodes[i].slot != node.slot;
    }
    if (chain_is_tail(c) && has_room && c->follower.phase == CHAIN_NOBODY) {
        chain_follow(c, node, true);
        chain_flow(c);
    }
}

/* ---- proposing
 * ------------------------------------------------------------------------ */

static void propose(struct tl_chain *c, struct tl_chain_config next, bool forms) {
    struct tl_chain_action *a = chain_act(c, TL_CHAIN_PROPOSE);
    a->expected = c->config.number;
    a->config = next;
    a->forms = forms;
    c->is_proposing = true;
}

/* Everybody who was in the chain is dead: the first slot begins anew. It takes every
 * slot's word that nobody is left, and it has nothing of the old chain itself. */
static void propose_outside(struct tl_chain *c) {
    bool may_form = c->look.is_vacant && !c->is_complete && c->settings.slot == 0 &&
                    c->look.config.number == c->config.number;
    if (may_form) {
        propose(c, tl_chain_formed(&c->config, c->self, c->floor), true);
    }
}

static bool propose_removal(struct tl_chain *c, struct tl_chain_node node) {
    if (node.incarnation == 0 || !chain_is_suspect(c, node)) {
        return false;
    }
    c->stats.removals++;
    propose(c, tl_chain_without(&c->config, node), false);
    return true;
}

/* A joiner is lost: if it may have been made the tail without our knowing, the chain
 * decides once more that it has not; nothing is committed without it before. */
static void lose_joiner(struct tl_chain *c) {
    if (c->follower.is_proposed && !TL_MUTATE(unknown_forgotten)) {
        propose(c, tl_chain_renewed(&c->config, 0), false);
        return;
    }
    chain_unfollow(c);
    chain_peers_tidy(c);
    chain_flow(c);
}

static bool propose_joiner(struct tl_chain *c) {
    struct chain_follower *f = &c->follower;
    if (!f->is_joiner) {
        return false;
    }
    if (!chain_is_linked(c, f->node) || chain_is_suspect(c, f->node)) {
        lose_joiner(c);
        return true;
    }
    uint64_t may_lack = chain_is_strict(c) ? 0 : c->settings.every;
    bool has_enough = f->phase == CHAIN_SYNCED && f->acked + may_lack >= c->committed;
    bool is_ready = has_enough || TL_MUTATE(joiner_added_early);
    if (is_ready) {
        f->is_proposed = true;
        propose(c, tl_chain_with(&c->config, f->node), false);
    }
    return is_ready;
}

void chain_consider(struct tl_chain *c) {
    if (c->is_proposing || c->now_ms < c->propose_after_ms) {
        return;
    }
    if (!chain_is_member(c)) {
        propose_outside(c);
        return;
    }
    if (!c->look.is_settled || c->must_show) {
        return; /* it would be refused; showing ourselves is what helps */
    }
    struct tl_chain_node source = chain_source(c);
    bool has_successor = c->follower.phase != CHAIN_NOBODY && !c->follower.is_joiner;
    struct tl_chain_node successor =
        has_successor ? c->follower.node : (struct tl_chain_node){0, 0};
    if (propose_removal(c, source) || propose_removal(c, successor) ||
        propose_joiner(c)) {
        return;
    }
    if (chain_is_head(c) && c->floor >= c->config.epoch) {
        propose(c, tl_chain_renewed(&c->config, c->floor), false);
    }
}
