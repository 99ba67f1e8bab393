/* network.c - links between replicas: in order while they last, and they may not last.
 */
#include "sim.h"

#include <stdlib.h>

static struct sim_link *link_by_id(struct sim *s, uint64_t id) {
    struct sim_link *l = &s->links[id % SIM_LINKS];
    return l->used && l->id == id ? l : NULL;
}

/* The link of `replica` with `node` that is up at its end, and which end that is. */
static struct sim_link *find(struct sim *s, int replica, struct tl_chain_node node,
                             int *ret_end) {
    for (size_t i = 0; i < SIM_LINKS; i++) {
        struct sim_link *l = &s->links[i];
        for (int end = 0; l->used && end < 2; end++) {
            if (l->at[end] == replica && l->up[end] &&
                l->lives[end] == s->replicas[replica].life &&
                tl_chain_node_is(l->ends[1 - end], node)) {
                *ret_end = end;
                return l;
            }
        }
    }
    return NULL;
}

static bool is_same_life(const struct sim *s, const struct sim_link *l, int end) {
    const struct sim_replica *r = &s->replicas[l->at[end]];
    return r->is_alive && r->life == l->lives[end] &&
           tl_chain_node_is(tl_chain_self(r->chain), l->ends[end]);
}

static void free_if_over(struct sim_link *l) {
    l->used = l->up[0] || l->up[1];
}

/* ---- dialling ----------------------------------------------------------------------
 */

static void tell(struct sim *s, int replica, struct tl_chain_node node,
                 enum tl_chain_answer answer, int64_t delay) {
    struct tl_chain_node *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        abort();
    }
    *copy = node;
    sim_at(s, delay,
           (struct sim_event){.kind = EVENT_TRIED,
                              .end = replica,
                              .life = s->replicas[replica].life,
                              .a = answer,
                              .data = copy});
}

struct dial {
    struct tl_chain_node from, to;
    int replica;
    uint32_t life;
    bool is_probe;
};

void sim_dial(struct sim *s, int from, struct tl_chain_node node, bool is_probe) {
    int to = (int)node.slot;
    if (s->is_blocked[from][to]) {
        tell(s, from, node, TL_CHAIN_SILENT, SIM_LEASE / 2);
        return;
    }
    if (!s->replicas[to].is_alive) {
        tell(s, from, node, TL_CHAIN_GONE, sim_delay(s));
        return;
    }
    struct dial *d = malloc(sizeof(*d));
    if (d == NULL) {
        abort();
    }
    *d = (struct dial){tl_chain_self(s->replicas[from].chain), node, from,
                       s->replicas[from].life, is_probe};
    sim_at(
        s, sim_delay(s),
        (struct sim_event){
            .kind = EVENT_DIALLED, .end = to, .life = s->replicas[to].life, .data = d});
}

static struct sim_link *new_link(struct sim *s) {
    for (size_t tries = 0; tries < SIM_LINKS; tries++) {
        struct sim_link *l = &s->links[++s->link_id % SIM_LINKS];
        if (!l->used) {
            *l = (struct sim_link){.used = true, .id = s->link_id};
            return l;
        }
    }
    return NULL;
}

static void on_dialled(struct sim *s, int to, const struct dial *d) {
    struct sim_replica *r = &s->replicas[to];
    bool is_there = tl_chain_node_is(tl_chain_self(r->chain), d->to);
    if (d->life != s->replicas[d->replica].life) {
        return;
    }
    if (!is_there || d->is_probe) {
        tell(s, d->replica, d->to, is_there ? TL_CHAIN_PRESENT : TL_CHAIN_GONE,
             sim_delay(s));
        return;
    }
    struct sim_link *l = new_link(s);
    if (l == NULL) {
        tell(s, d->replica, d->to, TL_CHAIN_SILENT, sim_delay(s));
        return;
    }
    int end;
    struct sim_link *old = find(s, to, d->from, &end);
    if (old != NULL) {
        old->up[end] = false; /* the newest counts */
        old->is_dead = true;
        free_if_over(old);
    }
    l->ends[0] = d->from;
    l->ends[1] = d->to;
    l->at[0] = d->replica;
    l->at[1] = to;
    l->lives[0] = d->life;
    l->lives[1] = r->life;
    l->up[1] = true;
    l->arrival[0] = s->now + sim_delay(s);
    sim_trace(s, "link %d-%d", d->replica, to);
    struct tl_chain_node *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        abort();
    }
    *copy = d->to;
    sim_at(s, l->arrival[0] - s->now,
           (struct sim_event){.kind = EVENT_LINKED,
                              .end = d->replica,
                              .life = d->life,
                              .a = l->id,
                              .data = copy});
    tl_chain_link_up(r->chain, d->from, false);
}

static void on_linked(struct sim *s, struct sim_event *e) {
    struct sim_link *l = link_by_id(s, e->a);
    const struct tl_chain_node *node = e->data;
    if (l == NULL || l->is_dead) {
        tl_chain_tried(s->replicas[e->end].chain, *node, TL_CHAIN_SILENT);
        return;
    }
    if (!is_same_life(s, l, 0)) {
        sim_break(s, l);
        tl_chain_tried(s->replicas[e->end].chain, *node, TL_CHAIN_SILENT);
        return;
    }
    int end;
    struct sim_link *old = find(s, l->at[0], l->ends[1], &end);
    if (old != NULL) {
        old->up[end] = false;
        old->is_dead = true;
        free_if_over(old);
    }
    l->up[0] = true;
    tl_chain_link_up(s->replicas[l->at[0]].chain, l->ends[1], true);
}

/* ---- messages
 * ------------------------------------------------------------------------ */

void sim_send(struct sim *s, int from, const struct tl_chain_action *a) {
    int end;
    struct sim_link *l = find(s, from, a->node, &end);
    if (l == NULL) {
        return;
    }
    if (s->is_blocked[l->at[0]][l->at[1]]) {
        l->is_dead = true;
    }
    if (l->is_dead) {
        return;
    }
    struct sim_flight *f = malloc(sizeof(*f));
    if (f == NULL) {
        abort();
    }
    int64_t at = s->now + sim_delay(s);
    int to = 1 - end;
    at = at < l->arrival[to] ? l->arrival[to] : at;
    l->arrival[to] = at;
    *f = (struct sim_flight){.link = l->id, .to = to, .message = a->message};
    tl_chain_body_hold(f->message.body);
    sim_at(
        s, at - s->now,
        (struct sim_event){
            .kind = EVENT_MESSAGE, .end = l->at[to], .life = l->lives[to], .data = f});
}

static const char *kind_name(enum tl_chain_message_kind kind) {
    static const char *const names[] = {"?",     "greet", "record",
                                        "state", "ack",   "pulse"};
    return names[kind];
}

static void on_message(struct sim *s, const struct sim_flight *f) {
    struct sim_link *l = link_by_id(s, f->link);
    if (l == NULL || l->is_dead || !l->up[f->to] || !is_same_life(s, l, f->to)) {
        return;
    }
    const struct tl_chain_message *m = &f->message;
    if (m->kind != TL_CHAIN_PULSE) {
        sim_trace(s, "%d -> %d %s config %llu position %llu", l->at[1 - f->to],
                  l->at[f->to], kind_name(m->kind), (unsigned long long)m->number,
                  (unsigned long long)m->position);
    }
    if (m->kind == TL_CHAIN_STATE) {
        sim_body_bytes(s, (struct sim_body *)m->body);
    }
    tl_chain_receive(s->replicas[l->at[f->to]].chain, l->ends[1 - f->to], m);
}

/* ---- breaking
 * ------------------------------------------------------------------------ */

/* An end that lives learns of it a little later, unless it has closed it meanwhile. */
static void tell_down(struct sim *s, struct sim_link *l, int end) {
    const struct sim_replica *r = &s->replicas[l->at[end]];
    if (l->up[end] && r->is_alive && r->life == l->lives[end]) {
        sim_at(s, sim_delay(s),
               (struct sim_event){.kind = EVENT_BROKEN,
                                  .end = l->at[end],
                                  .life = l->lives[end],
                                  .a = l->id,
                                  .b = (uint64_t)end});
    } else {
        l->up[end] = false;
    }
}

void sim_break(struct sim *s, struct sim_link *l) {
    l->is_dead = true;
    tell_down(s, l, 0);
    tell_down(s, l, 1);
    free_if_over(l);
}

static void on_broken(struct sim *s, const struct sim_event *e) {
    struct sim_link *l = link_by_id(s, e->a);
    if (l != NULL && l->up[e->b]) {
        l->up[e->b] = false;
        free_if_over(l);
        sim_trace(s, "%d loses its link with %u", e->end, l->ends[1 - e->b].slot);
        tl_chain_link_down(s->replicas[e->end].chain, l->ends[1 - e->b]);
    }
}

void sim_close(struct sim *s, int from, struct tl_chain_node node) {
    int end;
    struct sim_link *l = find(s, from, node, &end);
    if (l == NULL) {
        return;
    }
    l->up[end] = false;
    if (s->is_blocked[l->at[0]][l->at[1]] || l->is_dead) {
        l->is_dead = true;
        free_if_over(l);
        return;
    }
    sim_break(s, l);
}

void sim_break_all(struct sim *s, int replica) {
    for (size_t i = 0; i < SIM_LINKS; i++) {
        struct sim_link *l = &s->links[i];
        if (!l->used || (l->at[0] != replica && l->at[1] != replica)) {
            continue;
        }
        if (s->is_blocked[l->at[0]][l->at[1]]) {
            l->is_dead = true; /* half-open: the other end is not told */
        } else {
            sim_break(s, l);
        }
    }
}

void sim_partition(struct sim *s, int a, int b, bool is_on) {
    s->is_blocked[a][b] = s->is_blocked[b][a] = is_on;
    for (size_t i = 0; i < SIM_LINKS && !is_on; i++) {
        struct sim_link *l = &s->links[i];
        bool is_it = l->used && ((l->at[0] == a && l->at[1] == b) ||
                                 (l->at[0] == b && l->at[1] == a));
        if (is_it && l->is_dead) {
            sim_break(s, l);
        }
    }
}

void sim_network_event(struct sim *s, struct sim_event *e) {
    struct tl_chain_node *node = e->data;
    switch (e->kind) {
    case EVENT_DIALLED:
        on_dialled(s, e->end, e->data);
        break;
    case EVENT_LINKED:
        on_linked(s, e);
        break;
    case EVENT_MESSAGE:
        on_message(s, e->data);
        break;
    case EVENT_BROKEN:
        on_broken(s, e);
        break;
    default:
        tl_chain_tried(s->replicas[e->end].chain, *node, (enum tl_chain_answer)e->a);
        break;
    }
}

/* Whoever dials a process that dies meanwhile learns that. */
void sim_event_drop(struct sim *s, struct sim_event *e) {
    if (e->kind == EVENT_DIALLED) {
        const struct dial *d = e->data;
        bool is_waiting =
            s->replicas[d->replica].is_alive && s->replicas[d->replica].life == d->life;
        bool has_died =
            !s->replicas[e->end].is_alive || s->replicas[e->end].life != e->life;
        if (is_waiting && has_died) {
            tell(s, d->replica, d->to, TL_CHAIN_GONE, sim_delay(s));
        }
    }
    if (e->kind == EVENT_MESSAGE) {
        tl_chain_body_release(((struct sim_flight *)e->data)->message.body);
    }
    free(e->data);
}
