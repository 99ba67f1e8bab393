/* peers.c - links: who is heard, who is silent, who is gone.
 *
 * A process that dies closes its connections and refuses new ones: a closed link is
 * dialled (or, by the one below, probed) again at once, and a refusal is as good as a
 * death certificate. A host that vanishes says nothing: its silence counts, in our own
 * waking time, until it has lasted a lease. Neither is proof, and neither has to be:
 * whoever is removed wrongly finds that nobody takes its messages any more. */
#include "chain_internal.h"

#include <stddef.h>

static int64_t lease_part(const struct tl_chain *c, int64_t parts) {
    int64_t part = (int64_t)c->settings.lease_ms / parts;
    return part > 0 ? part : 1;
}

struct chain_peer *chain_peer(struct tl_chain *c, struct tl_chain_node node) {
    for (size_t i = 0; i < CHAIN_PEERS && node.incarnation != 0; i++) {
        if (tl_chain_node_is(c->peers[i].node, node)) {
            return &c->peers[i];
        }
    }
    return NULL;
}

struct chain_peer *chain_peer_add(struct tl_chain *c, struct tl_chain_node node) {
    struct chain_peer *p = chain_peer(c, node);
    for (size_t i = 0; i < CHAIN_PEERS && p == NULL; i++) {
        if (c->peers[i].node.incarnation == 0) {
            p = &c->peers[i];
            *p = (struct chain_peer){.node = node, .tried_ms = INT64_MIN / 2};
        }
    }
    return p;
}

bool chain_is_linked(struct tl_chain *c, struct tl_chain_node node) {
    const struct chain_peer *p = chain_peer(c, node);
    return p != NULL && p->linked;
}

bool chain_is_suspect(struct tl_chain *c, struct tl_chain_node node) {
    const struct chain_peer *p = chain_peer(c, node);
    return p != NULL && (p->gone || p->silent_ms >= (int64_t)c->settings.lease_ms);
}

static bool is_neighbour(const struct tl_chain *c, struct tl_chain_node node) {
    bool is_follower =
        c->follower.phase != CHAIN_NOBODY && tl_chain_node_is(c->follower.node, node);
    return is_follower || tl_chain_node_is(chain_source(c), node);
}

/* A node that was stopped has learnt nothing meanwhile: what waits for it in its
 * sockets comes before anybody is suspected. */
void chain_peers_age(struct tl_chain *c, int64_t elapsed_ms) {
    int64_t most = lease_part(c, 3);
    if (elapsed_ms > most && !TL_MUTATE(lease_of_sleeper)) {
        elapsed_ms = most;
    }
    for (size_t i = 0; i < CHAIN_PEERS; i++) {
        struct chain_peer *p = &c->peers[i];
        p->silent_ms = is_neighbour(c, p->node) ? p->silent_ms + elapsed_ms : 0;
    }
}

/* Another try is due: at once after a link has closed, then now and then. */
static bool is_due(struct tl_chain *c, struct tl_chain_node node) {
    struct chain_peer *p = chain_peer_add(c, node);
    if (p == NULL || p->linked || p->gone || p->is_tried ||
        c->now_ms - p->tried_ms < lease_part(c, 8)) {
        return false;
    }
    p->tried_ms = c->now_ms;
    p->is_tried = true;
    return true;
}

void chain_peers_reach(struct tl_chain *c) {
    struct tl_chain_node source = chain_source(c);
    bool is_follower = c->follower.phase != CHAIN_NOBODY && !c->follower.is_joiner;
    if (is_follower && is_due(c, c->follower.node)) {
        chain_act(c, TL_CHAIN_DIAL)->node = c->follower.node;
    }
    if (source.incarnation != 0 && c->doubts == 0 && is_due(c, source)) {
        chain_act(c, chain_is_member(c) ? TL_CHAIN_PROBE : TL_CHAIN_DIAL)->node =
            source;
    }
}

/* One whose outcome is to come is kept until then: nobody is dialled twice at once. */
static void close_peer(struct tl_chain *c, struct chain_peer *p) {
    if (p->linked) {
        chain_act(c, TL_CHAIN_CLOSE)->node = p->node;
    }
    struct tl_chain_node none = {0, 0};
    *p = (struct chain_peer){.node = p->is_tried ? p->node : none,
                             .is_tried = p->is_tried,
                             .tried_ms = p->tried_ms};
}

void chain_peers_tidy(struct tl_chain *c) {
    for (size_t i = 0; i < CHAIN_PEERS; i++) {
        struct chain_peer *p = &c->peers[i];
        if (p->node.incarnation != 0 && !is_neighbour(c, p->node)) {
            close_peer(c, p);
        }
    }
}

void chain_peers_drop(struct tl_chain *c) {
    for (size_t i = 0; i < CHAIN_PEERS; i++) {
        if (c->peers[i].node.incarnation != 0) {
            close_peer(c, &c->peers[i]);
        }
    }
}

/* ---- sending ------------------------------------------------------------------- */

struct tl_chain_message *chain_send(struct tl_chain *c, struct tl_chain_node node,
                                    enum tl_chain_message_kind kind) {
    if (!chain_is_linked(c, node)) {
        return NULL;
    }
    struct tl_chain_action *a = chain_act(c, TL_CHAIN_SEND);
    a->node = node;
    a->message.kind = kind;
    a->message.number = c->config.number;
    a->message.digest = c->digest;
    return &a->message;
}

void chain_greet(struct tl_chain *c, struct tl_chain_node node) {
    struct tl_chain_message *m = chain_send(c, node, TL_CHAIN_GREET);
    if (m != NULL) {
        m->view = c->config;
        m->position = c->ring.last;
        uint64_t position;
        m->committed = chain_acknowledged(c, &position) ? position : 0;
    }
}

void chain_greet_all(struct tl_chain *c) {
    for (size_t i = 0; i < CHAIN_PEERS; i++) {
        if (c->peers[i].linked) {
            chain_greet(c, c->peers[i].node);
        }
    }
}

void chain_pulse(struct tl_chain *c) {
    if (c->now_ms - c->pulse_ms < lease_part(c, 4)) {
        return;
    }
    c->pulse_ms = c->now_ms;
    for (size_t i = 0; i < CHAIN_PEERS; i++) {
        if (c->peers[i].linked) {
            (void)chain_send(c, c->peers[i].node, TL_CHAIN_PULSE);
        }
    }
}
