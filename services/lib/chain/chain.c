/* chain.c - the object: events in, actions out. */
#include "chain_internal.h"

#include <assert.h>
#include <stdlib.h>

#define DOUBTS 2u

/* ---- life ----------------------------------------------------------------------- */

uint64_t chain_random(struct tl_chain *c) {
    uint64_t z = (c->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return z != 0 ? z : 1;
}

static int check(const struct tl_chain_settings *s) {
    if (s->length == 0 || s->length > TL_CHAIN_NODES_MAX) {
        return tl_fail(TL_E_CONFIG, "chain: length must be from 1 to %u",
                       TL_CHAIN_NODES_MAX);
    }
    if (s->slot >= s->length) {
        return tl_fail(TL_E_CONFIG, "chain: slot %u is not below its length, %u",
                       s->slot, s->length);
    }
    if (s->lease_ms == 0 || (s->replication == TL_PERIODIC && s->every == 0)) {
        return tl_fail(TL_E_CONFIG, "chain: lease and every must be at least 1");
    }
    return 0;
}

int tl_chain_new(const struct tl_chain_settings *settings, int64_t now_ms,
                 struct tl_chain **ret_chain) {
    int rc = check(settings);
    if (rc != 0) {
        return rc;
    }
    struct tl_chain *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return tl_fail(TL_E_NOMEM, "chain: out of memory");
    }
    c->settings = *settings;
    c->random = settings->seed;
    c->now_ms = now_ms;
    c->at = -1;
    c->self = (struct tl_chain_node){settings->slot, chain_random(c)};
    c->digest = tl_chain_config_digest(&c->config);
    c->committed = settings->position;
    chain_ring_init(&c->ring, settings->position);
    *ret_chain = c;
    return 0;
}

void tl_chain_free(struct tl_chain *c) {
    if (c == NULL) {
        return;
    }
    struct tl_chain_action a;
    while (tl_chain_next(c, &a)) {
        tl_chain_body_release(a.body);
    }
    chain_ring_trim(&c->ring, c->ring.last);
    tl_chain_body_release(c->state);
    free(c);
}

/* ---- places --------------------------------------------------------------------- */

bool chain_is_member(const struct tl_chain *c) {
    return c->at >= 0;
}

bool chain_is_head(const struct tl_chain *c) {
    return c->at == 0;
}

bool chain_is_tail(const struct tl_chain *c) {
    return c->at >= 0 && (uint32_t)c->at + 1 == c->config.count;
}

bool chain_is_strict(const struct tl_chain *c) {
    return c->settings.replication == TL_STRICT;
}

struct tl_chain_node chain_source(const struct tl_chain *c) {
    if (c->at > 0) {
        return c->config.nodes[c->at - 1];
    }
    if (c->at < 0 && c->config.count > 0) {
        return c->config.nodes[c->config.count - 1];
    }
    return (struct tl_chain_node){0, 0};
}

/* ---- actions -------------------------------------------------------------------- */

struct tl_chain_action *chain_act(struct tl_chain *c, enum tl_chain_action_kind kind) {
    assert(c->action_count < CHAIN_ACTIONS);
    struct tl_chain_action *a =
        &c->actions[(c->action_first + c->action_count++) % CHAIN_ACTIONS];
    *a = (struct tl_chain_action){.kind = kind};
    return a;
}

bool tl_chain_next(struct tl_chain *c, struct tl_chain_action *ret_action) {
    if (c->action_count == 0) {
        return false;
    }
    *ret_action = c->actions[c->action_first];
    if (ret_action->kind == TL_CHAIN_SEND) {
        ret_action->body = ret_action->message.body;
    }
    c->action_first = (c->action_first + 1) % CHAIN_ACTIONS;
    c->action_count--;
    return true;
}

/* ---- events --------------------------------------------------------------------- */

void tl_chain_tick(struct tl_chain *c, int64_t now_ms) {
    chain_peers_age(c, now_ms - c->now_ms);
    c->now_ms = now_ms;
    chain_pulse(c);
    chain_peers_reach(c);
    chain_consider(c);
}

/* What an emptied Redis was made to believe loses against what it has settled. */
static bool is_better(const struct tl_chain *c, const struct tl_chain_look *look) {
    if (look->config.number != c->config.number) {
        return look->config.number > c->config.number;
    }
    return look->is_settled && tl_chain_config_digest(&look->config) != c->digest;
}

void tl_chain_looked(struct tl_chain *c, const struct tl_chain_look *look) {
    c->look = *look;
    c->must_show = look->config.number < c->config.number;
    if (is_better(c, look)) {
        chain_adopt(c, &look->config);
    }
    if (c->doubts > 0 && --c->doubts == 0) {
        chain_reset(c);
        chain_peers_reach(c);
    }
    chain_consider(c);
}

void tl_chain_decided(struct tl_chain *c, const struct tl_chain_look *look) {
    c->is_proposing = false;
    c->propose_after_ms = c->now_ms + (int64_t)c->settings.lease_ms / 16;
    if (look != NULL) {
        uint64_t before = c->config.number;
        tl_chain_looked(c, look);
        if (c->config.number != before) {
            c->propose_after_ms = c->now_ms;
            chain_consider(c);
        }
    }
}

/* What was on its way on a link of `node` is lost. A joiner does not know what that was
 * and begins anew, unless it has been made a member without hearing of it: whoever
 * decided that may have died of it, and then what we have may be all that is left. So
 * it asks first; a look that was under way may be older than the decision. Everybody
 * else is told again from where on. */
static void lose_link(struct tl_chain *c, struct tl_chain_node node) {
    struct chain_follower *f = &c->follower;
    bool is_follower = f->phase != CHAIN_NOBODY && tl_chain_node_is(f->node, node);
    bool is_source = !chain_is_member(c) && tl_chain_node_is(chain_source(c), node);
    if (is_follower && !f->is_joiner) {
        f->phase = CHAIN_UNKNOWN;
    }
    if (is_source && c->is_complete && c->doubts == 0) {
        c->doubts = DOUBTS;
    }
}

/* A second link with a node: what came on the first is lost. Where that means to begin
 * anew, this link, too, is of the past. */
static bool replaces_in_vain(struct tl_chain *c, struct chain_peer *p) {
    struct tl_chain_node node = p->node, self = c->self;
    const struct chain_follower *f = &c->follower;
    bool is_joiner = f->is_joiner && tl_chain_node_is(f->node, node);
    if (is_joiner) {
        chain_act(c, TL_CHAIN_CLOSE)->node = node;
        p->linked = false;
    }
    lose_link(c, node);
    if (!is_joiner && c->doubts == 0 && tl_chain_node_is(self, c->self)) {
        return false;
    }
    if (c->doubts > 0) {
        chain_act(c, TL_CHAIN_CLOSE)->node = node;
        p->linked = false;
    }
    chain_peers_reach(c);
    chain_consider(c);
    return true;
}

void tl_chain_link_up(struct tl_chain *c, struct tl_chain_node node, bool is_dialled) {
    struct chain_peer *p = chain_peer_add(c, node);
    if (p == NULL) {
        chain_act(c, TL_CHAIN_CLOSE)->node = node;
        return;
    }
    p->is_tried = p->is_tried && !is_dialled;
    if (c->doubts > 0 && !p->linked && tl_chain_node_is(chain_source(c), node)) {
        chain_act(c, TL_CHAIN_CLOSE)->node = node; /* once we know what we are */
        return;
    }
    if (p->linked && replaces_in_vain(c, p)) {
        return;
    }
    p->linked = true;
    p->gone = false;
    p->silent_ms = 0;
    chain_greet(c, node);
}

void tl_chain_link_down(struct tl_chain *c, struct tl_chain_node node) {
    struct chain_peer *p = chain_peer(c, node);
    if (p == NULL) {
        return;
    }
    p->linked = false;
    p->tried_ms = INT64_MIN / 2;
    lose_link(c, node);
    chain_peers_reach(c);
    chain_consider(c);
}

/* Outside, the tail is not ours to remove when it is gone: it is tried again. */
void tl_chain_tried(struct tl_chain *c, struct tl_chain_node node,
                    enum tl_chain_answer answer) {
    struct chain_peer *p = chain_peer(c, node);
    if (p == NULL) {
        return;
    }
    p->is_tried = false;
    p->silent_ms = answer == TL_CHAIN_PRESENT ? 0 : p->silent_ms;
    p->gone = answer == TL_CHAIN_GONE && !p->linked && chain_is_member(c);
    chain_consider(c);
}

void tl_chain_raise(struct tl_chain *c, uint64_t epoch) {
    c->floor = epoch > c->floor ? epoch : c->floor;
    chain_consider(c);
}

int tl_chain_append(struct tl_chain *c, struct tl_record *record,
                    struct tl_chain_body *body) {
    if (!chain_is_head(c)) {
        return tl_fail(TL_E_EPOCH, "this replica is not the head of its chain");
    }
    if (c->ring.last - c->committed >= TL_CHAIN_PENDING_MAX) {
        return tl_fail(TL_E_BUSY, "%u records are on their way down the chain",
                       TL_CHAIN_PENDING_MAX);
    }
    record->position = c->ring.last + 1;
    record->epoch = c->config.epoch;
    chain_ring_push(&c->ring, record, body);
    chain_flow(c);
    return 0;
}

/* ---- messages ------------------------------------------------------------------- */

/* Taken from a member of what it says, since that is what members are asked about when
 * Redis has forgotten (arbiter.c). */
static void take_greeting(struct tl_chain *c, struct tl_chain_node from,
                          const struct tl_chain_message *m) {
    if (m->number > c->config.number && tl_chain_find(&m->view, from) >= 0) {
        chain_adopt(c, &m->view);
    }
    if (m->number < c->config.number) {
        chain_greet(c, from);
        return;
    }
    if (m->digest != c->digest || chain_peer(c, from) == NULL) {
        return;
    }
    const struct chain_follower *f = &c->follower;
    bool is_follower = f->phase != CHAIN_NOBODY && tl_chain_node_is(f->node, from);
    if (is_follower && !f->is_joiner) {
        chain_synchronise(c, m);
    } else if (is_follower) {
        chain_resend(c, m);
    } else if (tl_chain_node_is(chain_source(c), from)) {
        chain_acknowledge(c);
    } else if (tl_chain_find(&c->config, from) < 0) {
        chain_meet_joiner(c, from);
    }
}

static bool is_from_source(const struct tl_chain *c, struct tl_chain_node from) {
    return tl_chain_node_is(chain_source(c), from);
}

static bool is_from_follower(const struct tl_chain *c, struct tl_chain_node from) {
    return c->follower.phase != CHAIN_NOBODY &&
           tl_chain_node_is(c->follower.node, from);
}

/* Of this configuration, and from whom it may come. */
static bool is_valid(const struct tl_chain *c, struct tl_chain_node from,
                     const struct tl_chain_message *m) {
    bool is_down = m->kind != TL_CHAIN_ACK;
    bool is_current = m->number == c->config.number && m->digest == c->digest &&
                      (is_down ? is_from_source(c, from) : is_from_follower(c, from));
    return is_current;
}

void tl_chain_receive(struct tl_chain *c, struct tl_chain_node from,
                      const struct tl_chain_message *message) {
    struct chain_peer *p = chain_peer(c, from);
    if (p == NULL || !p->linked) {
        c->stats.rejected += message->kind == TL_CHAIN_RECORD;
        return;
    }
    p->silent_ms = 0;
    if (message->kind == TL_CHAIN_GREET) {
        take_greeting(c, from, message);
        return;
    }
    if (message->kind == TL_CHAIN_PULSE) {
        if (message->number < c->config.number) {
            chain_greet(c, from);
        }
        return;
    }
    if (!is_valid(c, from, message)) {
        c->stats.rejected++;
        chain_greet(c, from);
        return;
    }
    if (message->kind == TL_CHAIN_RECORD) {
        chain_take_record(c, message);
    } else if (message->kind == TL_CHAIN_STATE) {
        chain_take_state(c, message);
    } else {
        chain_take_ack(c, message);
    }
}

/* ---- what can be asked ------------------------------------------------------------
 */

struct tl_chain_node tl_chain_self(const struct tl_chain *c) {
    return c->self;
}

const struct tl_chain_config *tl_chain_config(const struct tl_chain *c) {
    return &c->config;
}

const struct tl_chain_look *tl_chain_last_look(const struct tl_chain *c) {
    return &c->look;
}

enum tl_chain_role tl_chain_role(const struct tl_chain *c) {
    if (!chain_is_member(c)) {
        return TL_CHAIN_OUTSIDE;
    }
    if (chain_is_head(c)) {
        return TL_CHAIN_HEAD;
    }
    return chain_is_tail(c) ? TL_CHAIN_TAIL : TL_CHAIN_MIDDLE;
}

const char *tl_chain_role_name(enum tl_chain_role role) {
    static const char *const names[] = {"outside", "head", "middle", "tail"};
    return role <= TL_CHAIN_TAIL ? names[role] : "?";
}

uint64_t tl_chain_last(const struct tl_chain *c) {
    return c->ring.last;
}

uint64_t tl_chain_committed(const struct tl_chain *c) {
    return c->committed;
}

const struct tl_record *tl_chain_record(const struct tl_chain *c, uint64_t position) {
    bool is_held = position >= c->ring.first && position <= c->ring.last;
    return is_held ? &c->ring.entries[position % CHAIN_RING].record : NULL;
}

bool tl_chain_may_read(const struct tl_chain *c) {
    return chain_is_member(c) || TL_MUTATE(joiner_serves);
}

void tl_chain_stats(const struct tl_chain *c, struct tl_chain_stats *ret_stats) {
    *ret_stats = c->stats;
}
