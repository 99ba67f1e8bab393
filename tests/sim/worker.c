/* worker.c - the client: finds the head, joins, pushes, pulls; resends what was not
 * acknowledged; forgets everything but its ledger when it dies. */
#include "sim.h"

#include <stdlib.h>

#define PATIENCE_MS (2 * SIM_LEASE)

static void next_step(struct sim *s, uint32_t w, int64_t delay) {
    sim_at(s, delay,
           (struct sim_event){
               .kind = EVENT_WORKER, .end = -1, .a = w, .b = s->worker[w].attempt});
}

/* Where the head is: Redis knows, unless it is away; else any replica. */
static int find_head(struct sim *s, const struct sim_worker *w) {
    const struct tl_chain_config *c = &s->redis.arbiter.config;
    bool is_known = !s->redis.is_down && c->count > 0 && sim_chance(s, 80);
    if (is_known) {
        return (int)c->nodes[0].slot;
    }
    return sim_chance(s, 30) ? w->replica : (int)sim_below(s, s->nodes);
}

/* A request of an attempt that was given up may still arrive: on another connection,
 * later than what was sent after it. */
static void send_request(struct sim *s, uint32_t number, enum sim_request_kind kind) {
    struct sim_worker *w = &s->worker[number];
    struct sim_request *q = malloc(sizeof(*q));
    if (q == NULL) {
        abort();
    }
    *q = (struct sim_request){
        .kind = kind,
        .worker = number,
        .attempt = w->attempt,
        .incarnation = w->incarnation,
        .sequence = kind == REQUEST_JOIN ? w->acknowledged : w->sequence,
        .epoch = w->epoch,
        .writer = w->writer,
        .read_version = w->has_version ? w->version : UINT64_MAX,
    };
    struct sim_replica *r = &s->replicas[w->replica];
    /* Some arrive when their sender's successor is at work already. */
    int64_t delay =
        sim_chance(s, 5) ? (int64_t)sim_below(s, 4 * SIM_LEASE) : sim_delay(s);
    if (r->is_alive) {
        sim_at(
            s, delay,
            (struct sim_event){
                .kind = EVENT_REQUEST, .end = w->replica, .life = r->life, .data = q});
    } else {
        free(q);
    }
    next_step(s, number, PATIENCE_MS); /* unless a reply comes before */
}

void sim_worker_start(struct sim *s, uint32_t number) {
    struct sim_worker *w = &s->worker[number];
    w->is_alive = true;
    w->is_joined = false;
    w->has_version = false;
    w->incarnation = ++s->incarnations[number];
    w->sequence = 0;
    w->epoch = w->writer = 0;
    w->attempt++;
    sim_trace(s, "worker %u starts as %llu", number,
              (unsigned long long)w->incarnation);
    next_step(s, number, (int64_t)sim_below(s, 10));
}

void sim_worker_crash(struct sim *s, uint32_t number) {
    struct sim_worker *w = &s->worker[number];
    sim_trace(s, "worker %u dies", number);
    w->is_alive = false;
    w->attempt++;
}

/* Begin (again) with JOIN: the exchange's answer to everything that goes wrong. */
static void join(struct sim *s, uint32_t number) {
    struct sim_worker *w = &s->worker[number];
    w->is_joined = false;
    w->attempt++;
    w->replica = find_head(s, w);
    send_request(s, number, REQUEST_JOIN);
}

static void go_on(struct sim *s, uint32_t number) {
    struct sim_worker *w = &s->worker[number];
    w->attempt++;
    bool needs_weights = !w->has_version || w->is_pulling;
    send_request(s, number, needs_weights ? REQUEST_PULL : REQUEST_PUSH);
}

void sim_reply(struct sim *s, int replica, const struct sim_request *r) {
    struct sim_request *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        abort();
    }
    *copy = *r;
    (void)replica;
    sim_at(s, sim_delay(s),
           (struct sim_event){.kind = EVENT_REPLY, .end = -1, .data = copy});
}

static void acknowledge(struct sim *s, uint32_t number, uint64_t sequence) {
    struct sim_worker *w = &s->worker[number];
    sim_trace(s, "worker %u: %llu is acknowledged", number,
              (unsigned long long)sequence);
    w->acknowledged = sequence;
    w->pushed_after_heal = s->is_healed;
}

static void take_weights(struct sim *s, uint32_t number, const struct sim_request *r) {
    struct sim_worker *w = &s->worker[number];
    if (w->has_version && r->epoch == w->epoch && r->version < w->version) {
        sim_fail(s, "versions never go back",
                 "worker %u had %llu, is given %llu in epoch %llu", number,
                 (unsigned long long)w->version, (unsigned long long)r->version,
                 (unsigned long long)r->epoch);
    }
    w->version = r->version;
    w->has_version = true;
    w->is_pulling = false;
}

static void on_joined(struct sim *s, uint32_t number, const struct sim_request *r) {
    struct sim_worker *w = &s->worker[number];
    if (r->status != 0) {
        next_step(s, number, sim_delay(s));
        return;
    }
    w->has_version = w->has_version && r->epoch == w->epoch;
    w->epoch = r->epoch;
    w->writer = r->writer;
    w->is_joined = true;
    if (w->sequence == 0) {
        uint64_t settled = r->settled > w->acknowledged ? r->settled : w->acknowledged;
        w->sequence = settled + 1;
    }
    go_on(s, number);
}

static void on_pushed(struct sim *s, uint32_t number, const struct sim_request *r) {
    struct sim_worker *w = &s->worker[number];
    bool is_settled = r->status == 0 || r->status == TL_E_DUPLICATE;
    if (is_settled) {
        acknowledge(s, number, w->sequence);
        w->sequence++;
    } else if (r->status == TL_E_LATE || r->status == TL_E_NONFINITE) {
        w->sequence++;
    } else if (r->status == TL_E_STALE) {
        w->sequence += s->fold_config.consistency == TL_ASYNC ? 1 : 0;
    } else {
        join(s, number); /* EPOCH, NOTJOINED, FENCED, BUSY */
        return;
    }
    w->is_pulling = true;
    if (r->status == 0 && r->has_weights) {
        take_weights(s, number, r);
    }
    w->attempt++;
    next_step(s, number, 1 + (int64_t)sim_below(s, 12));
}

static void on_reply(struct sim *s, const struct sim_request *r) {
    struct sim_worker *w = &s->worker[r->worker];
    if (!w->is_alive || r->attempt != w->attempt) {
        return;
    }
    bool is_rival = r->epoch == w->epoch && r->writer != w->writer;
    bool is_other = r->epoch != w->epoch || is_rival;
    if (r->epoch < w->epoch || is_rival || (r->kind != REQUEST_JOIN && is_other) ||
        r->status == TL_E_EPOCH || r->status == TL_E_BUSY) {
        w->is_joined = false;
        w->attempt++;
        next_step(s, r->worker, sim_delay(s));
        return;
    }
    if (r->kind == REQUEST_JOIN) {
        on_joined(s, r->worker, r);
    } else if (r->kind == REQUEST_PUSH) {
        on_pushed(s, r->worker, r);
    } else {
        if (r->has_weights) {
            take_weights(s, r->worker, r);
        }
        w->attempt++;
        next_step(s, r->worker, 2 + sim_delay(s));
    }
}

/* Somebody reads weights anywhere: a monitor. */
static void read_somewhere(struct sim *s) {
    int i = (int)sim_below(s, s->nodes);
    struct sim_request *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        abort();
    }
    q->kind = REQUEST_READ;
    sim_at(
        s, sim_delay(s),
        (struct sim_event){
            .kind = EVENT_REQUEST, .end = i, .life = s->replicas[i].life, .data = q});
}

void sim_worker_event(struct sim *s, struct sim_event *e) {
    if (e->kind == EVENT_REPLY) {
        on_reply(s, e->data);
        free(e->data);
        return;
    }
    struct sim_worker *w = &s->worker[e->a];
    if (!w->is_alive || e->b != w->attempt) {
        return;
    }
    if (sim_chance(s, 10)) {
        read_somewhere(s);
    }
    if (w->is_joined && !sim_chance(s, 3)) {
        go_on(s, (uint32_t)e->a);
    } else {
        join(s, (uint32_t)e->a);
    }
}
