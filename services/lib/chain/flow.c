/* flow.c - records down, acknowledgements up, states to who lacks them.
 *
 * strict: each record is forwarded as it comes, and committed when the follower says
 * that it is. The tail commits what it has. A joiner behaves as a tail of its own: it
 * has nothing that the tail has not.
 * periodic: the head commits by itself, up to `every` records beyond the state that the
 * whole chain has; then that state's successor goes down. */
#include "chain_internal.h"

#include <stddef.h>

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* ---- followers ------------------------------------------------------------------ */

void chain_follow(struct tl_chain *c, struct tl_chain_node node, bool is_joiner) {
    c->follower = (struct chain_follower){
        .phase = is_joiner ? CHAIN_WAITS : CHAIN_UNKNOWN,
        .node = node,
        .is_joiner = is_joiner,
        .counts = !is_joiner,
        .sent = c->committed,
        .acked = c->committed,
    };
}

void chain_unfollow(struct tl_chain *c) {
    c->follower = (struct chain_follower){.phase = CHAIN_NOBODY};
}

static bool is_fed(const struct chain_follower *f) {
    return f->phase == CHAIN_SENT || f->phase == CHAIN_SYNCED;
}

/* ---- states -----------------------------------------------------------------------
 */

static void send_state(struct tl_chain *c, struct tl_chain_body *body) {
    struct tl_chain_message *m = chain_send(c, c->follower.node, TL_CHAIN_STATE);
    if (m == NULL) {
        return;
    }
    m->position = c->committed;
    m->body = body;
    tl_chain_body_hold(body);
    c->follower.sent = c->committed;
    if (c->follower.phase == CHAIN_WAITS) {
        c->follower.phase = CHAIN_SENT;
        c->follower.acked = c->committed;
    }
    c->stats.transfers++;
}

void tl_chain_cut_taken(struct tl_chain *c, struct tl_chain_body *body) {
    c->is_cutting = false;
    bool is_wanted = c->follower.phase == CHAIN_WAITS ||
                     (!chain_is_strict(c) && chain_is_head(c) && is_fed(&c->follower));
    if (is_wanted) {
        send_state(c, body);
        chain_flow(c);
    }
    tl_chain_body_release(body);
}

static void want_cut(struct tl_chain *c) {
    if (!c->is_cutting) {
        c->is_cutting = true;
        (void)chain_act(c, TL_CHAIN_CUT);
    }
}

/* Who lacks a state gets ours: the one we were sent (periodic), or a cut of our fold.
 */
static void offer_state(struct tl_chain *c) {
    struct chain_follower *f = &c->follower;
    if (f->phase == CHAIN_WAITS && c->state != NULL) {
        send_state(c, c->state);
    } else if (f->phase == CHAIN_WAITS) {
        want_cut(c);
    }
    bool is_free = is_fed(f) && f->sent <= f->acked;
    if (chain_is_strict(c) || !is_free || f->acked >= c->committed) {
        return;
    }
    if (c->state != NULL) {
        send_state(c, c->state);
    } else if (c->committed - f->acked >= c->settings.every) {
        want_cut(c);
    }
}

/* ---- down -------------------------------------------------------------------------
 */

static void forward(struct tl_chain *c) {
    struct chain_follower *f = &c->follower;
    while (chain_is_strict(c) && is_fed(f) && f->sent < c->ring.last) {
        const struct chain_entry *e = chain_ring_at(&c->ring, f->sent + 1);
        struct tl_chain_message *m =
            e == NULL ? NULL : chain_send(c, f->node, TL_CHAIN_RECORD);
        if (m == NULL) {
            return;
        }
        m->position = f->sent + 1;
        m->record = e->record;
        m->body = e->body;
        tl_chain_body_hold(e->body);
        f->sent++;
    }
}

/* ---- up ---------------------------------------------------------------------------
 */

static uint64_t commit_limit(const struct tl_chain *c) {
    const struct chain_follower *f = &c->follower;
    if (f->phase == CHAIN_NOBODY || !f->counts || TL_MUTATE(ack_before_tail)) {
        return c->ring.last;
    }
    if (chain_is_strict(c)) {
        return min_u64(f->acked, c->ring.last);
    }
    uint64_t limit = is_fed(f) ? f->acked + c->settings.every : c->committed;
    return min_u64(limit, c->ring.last);
}

static bool commit(struct tl_chain *c) {
    uint64_t limit = commit_limit(c);
    bool has_committed = c->committed < limit;
    while (c->committed < limit) {
        c->committed++;
        const struct chain_entry *e = chain_ring_at(&c->ring, c->committed);
        struct tl_chain_action *a = chain_act(c, TL_CHAIN_COMMIT);
        a->record = e->record;
        a->body = e->body;
        tl_chain_body_hold(e->body);
    }
    return has_committed;
}

/* periodic: what a node has is acknowledged when all below have it too. */
bool chain_acknowledged(const struct tl_chain *c, uint64_t *ret_position) {
    const struct chain_follower *f = &c->follower;
    bool has_below = !chain_is_strict(c) && f->counts;
    *ret_position = has_below ? min_u64(f->acked, c->committed) : c->committed;
    return !has_below || is_fed(f);
}

void chain_acknowledge(struct tl_chain *c) {
    uint64_t position;
    bool has_state = chain_is_member(c) || (c->is_complete && c->doubts == 0);
    struct tl_chain_message *m = has_state && chain_acknowledged(c, &position)
                                     ? chain_send(c, chain_source(c), TL_CHAIN_ACK)
                                     : NULL;
    if (m != NULL) {
        m->position = position;
    }
}

/* What is committed and nobody's any more is forgotten. A joiner that is too slow for
 * what we can keep begins again. */
static void forget(struct tl_chain *c) {
    const struct chain_follower *f = &c->follower;
    uint64_t keep = c->committed;
    if (chain_is_strict(c) && is_fed(f)) {
        keep = min_u64(keep, f->acked);
    }
    chain_ring_trim(&c->ring, keep);
    bool is_slow = f->is_joiner && !f->counts &&
                   chain_ring_count(&c->ring) >= TL_CHAIN_PENDING_MAX;
    if (is_slow) {
        chain_unfollow(c);
        chain_peers_tidy(c);
        chain_ring_trim(&c->ring, c->committed);
    }
}

void chain_flow(struct tl_chain *c) {
    forward(c);
    if (commit(c)) {
        chain_acknowledge(c);
    }
    offer_state(c);
    forget(c);
}

/* ---- what arrives -----------------------------------------------------------------
 */

void chain_synchronise(struct tl_chain *c, const struct tl_chain_message *greet) {
    struct chain_follower *f = &c->follower;
    f->phase = CHAIN_SYNCED;
    f->sent = greet->position;
    if (TL_MUTATE(forwards_lost)) {
        f->sent = c->ring.last;
    }
    if (chain_is_strict(c)) {
        f->acked = max_u64(f->acked, greet->committed);
    } else {
        f->acked = greet->committed;
        chain_acknowledge(c);
    }
    chain_flow(c);
}

void chain_resend(struct tl_chain *c, const struct tl_chain_message *greet) {
    struct chain_follower *f = &c->follower;
    if (is_fed(f) && greet->position >= f->acked && greet->position < f->sent) {
        f->sent = greet->position;
        chain_flow(c);
    }
}

void chain_take_record(struct tl_chain *c, const struct tl_chain_message *m) {
    bool is_ready = chain_is_member(c) || (c->is_complete && c->doubts == 0);
    if (!is_ready || m->position <= c->ring.last) {
        return;
    }
    if (m->position > c->ring.last + 1) {
        chain_greet(c, chain_source(c)); /* which says from where on */
        return;
    }
    if (chain_ring_count(&c->ring) < CHAIN_RING) {
        chain_ring_push(&c->ring, &m->record, m->body);
        chain_flow(c);
    }
}

static void keep_state(struct tl_chain *c, struct tl_chain_body *body) {
    tl_chain_body_hold(body);
    tl_chain_body_release(c->state);
    c->state = body;
}

void chain_take_state(struct tl_chain *c, const struct tl_chain_message *m) {
    if (c->doubts > 0 ||
        (chain_is_strict(c) && (chain_is_member(c) || c->is_complete))) {
        return;
    }
    c->is_complete = true;
    if (TL_MUTATE(suffix_kept) && m->position <= c->ring.last) {
        chain_flow(c);
        chain_acknowledge(c);
        return;
    }
    chain_ring_init(&c->ring, m->position);
    c->committed = m->position;
    if (chain_is_strict(c)) {
        struct tl_chain_action *a = chain_act(c, TL_CHAIN_LOAD);
        a->position = m->position;
        a->body = m->body;
        tl_chain_body_hold(m->body);
    } else {
        keep_state(c, m->body);
    }
    chain_acknowledge(c);
    chain_flow(c);
}

/* A joiner that is near enough counts from here on: before it is proposed, so that no
 * outcome of that can find anything committed that it does not have. */
static void admit(struct tl_chain *c) {
    struct chain_follower *f = &c->follower;
    uint64_t behind = c->ring.last - min_u64(f->acked, c->ring.last);
    bool is_near = !chain_is_strict(c) || behind <= CHAIN_NEAR;
    if (f->phase == CHAIN_SENT && is_near) {
        f->phase = CHAIN_SYNCED;
        f->counts = !TL_MUTATE(tail_commits_alone);
    }
}

void chain_take_ack(struct tl_chain *c, const struct tl_chain_message *m) {
    struct chain_follower *f = &c->follower;
    if (!is_fed(f) || m->position > max_u64(c->ring.last, c->committed)) {
        return;
    }
    f->acked = max_u64(f->acked, m->position);
    if (f->is_joiner) {
        admit(c);
    }
    if (!chain_is_strict(c)) {
        chain_acknowledge(c);
    }
    chain_flow(c);
    chain_consider(c);
}
