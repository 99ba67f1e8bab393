/* replica.c - a process: chain and fold, and what the driver does with its actions. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TICK_MS (SIM_LEASE / 8)

/* ---- states as bytes
 * ------------------------------------------------------------------ */

static void read_cut(struct sim_body *b) {
    const void *bytes;
    size_t size;
    b->bytes = malloc(tl_cut_bytes(b->cut));
    if (b->bytes == NULL) {
        abort();
    }
    for (size_t i = 0; tl_cut_segment(b->cut, i, &bytes, &size); i++) {
        memcpy(b->bytes + b->size, bytes, size);
        b->size += size;
    }
    tl_cut_release(b->cut);
    b->cut = NULL;
    *b->holder = NULL;
}

/* As late as can be, while the fold goes on: a cut is immutable. */
void sim_body_bytes(struct sim *s, struct sim_body *b) {
    (void)s;
    if (b != NULL && b->cut != NULL) {
        read_cut(b);
    }
}

static void body_done(struct tl_chain_body *base) {
    struct sim_body *b = (struct sim_body *)base;
    if (b->cut != NULL) {
        tl_cut_release(b->cut);
        *b->holder = NULL;
    }
    free(b->bytes);
    free(b);
}

static struct sim_body *new_body(void) {
    struct sim_body *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        abort();
    }
    b->base = (struct tl_chain_body){.holders = 1, .done = body_done};
    return b;
}

uint64_t sim_fold_digest(struct tl_fold *f) {
    struct tl_cut *cut;
    const void *bytes;
    size_t size;
    uint64_t digest = 1;
    if (tl_fold_cut(f, &cut) != 0) {
        return 0;
    }
    for (size_t i = 0; tl_cut_segment(cut, i, &bytes, &size); i++) {
        digest = XXH3_64bits_withSeed(bytes, size, digest);
    }
    tl_cut_release(cut);
    return digest;
}

static struct tl_fold *fresh_fold(const struct sim *s) {
    const float weights[SIM_FLOATS] = {0.5f, -0.25f, 0.125f};
    struct tl_fold *f = NULL;
    if (tl_fold_new(&s->fold_config, weights, &f) != 0) {
        abort();
    }
    return f;
}

static void replace_fold(struct sim *s, struct sim_replica *r, struct tl_fold *f) {
    sim_body_bytes(s, r->cut);
    tl_fold_free(r->fold);
    r->fold = f;
}

/* ---- life
 * ------------------------------------------------------------------------------ */

static void schedule_tick(struct sim *s, int i, int64_t delay) {
    sim_at(
        s, delay,
        (struct sim_event){.kind = EVENT_TICK, .end = i, .life = s->replicas[i].life});
}

void sim_replica_start(struct sim *s, int i) {
    struct sim_replica *r = &s->replicas[i];
    const struct tl_chain_settings settings = {
        .slot = (uint32_t)i,
        .length = s->nodes,
        .replication = s->replication,
        .every = s->every,
        .lease_ms = SIM_LEASE,
        .seed = sim_random(&s->random),
    };
    if (tl_chain_new(&settings, s->now, &r->chain) != 0) {
        abort();
    }
    r->life++;
    r->is_alive = true;
    r->is_paused = false;
    r->paused_until = 0;
    r->fold = fresh_fold(s);
    r->ask_id = 0;
    r->has_proposal = false;
    r->waiting_count = 0;
    sim_trace(s, "replica %d starts", i);
    schedule_tick(s, i, (int64_t)sim_below(s, TICK_MS));
}

static void add_stats(struct sim *s, const struct tl_chain *c) {
    struct tl_chain_stats t;
    tl_chain_stats(c, &t);
    s->rejected += t.rejected;
    s->removals += t.removals;
    s->transfers += t.transfers;
    s->resets += t.resets;
}

void sim_replica_crash(struct sim *s, int i) {
    struct sim_replica *r = &s->replicas[i];
    if (!r->is_alive) {
        return;
    }
    sim_trace(s, "replica %d dies", i);
    r->is_alive = false;
    sim_break_all(s, i);
    add_stats(s, r->chain);
    sim_body_bytes(s, r->cut);
    tl_chain_free(r->chain);
    tl_fold_free(r->fold);
    r->chain = NULL;
    r->fold = NULL;
}

/* ---- what the driver does
 * ---------------------------------------------------------------- */

static void answer(struct sim *s, int i, const struct sim_waiting *w, int status,
                   const struct tl_record *r) {
    struct sim_replica *p = &s->replicas[i];
    struct tl_fold_worker known;
    if (tl_fold_worker(p->fold, w->worker, &known) != 0) {
        known = (struct tl_fold_worker){.sequence = 0};
    }
    struct sim_request reply = {
        .kind = r != NULL && r->kind == TL_RECORD_JOIN ? REQUEST_JOIN : REQUEST_PUSH,
        .worker = w->worker,
        .attempt = w->attempt,
        .status = status,
        .sequence = r != NULL ? r->sequence : 0,
        .epoch = tl_chain_config(p->chain)->epoch,
        .writer = tl_chain_self(p->chain).incarnation,
        .version = tl_fold_version(p->fold),
        .settled = known.sequence,
        .incarnation = known.incarnation,
        .has_weights = s->fold_config.consistency == TL_ASYNC,
        .from = i,
    };
    bool is_push = reply.kind == REQUEST_PUSH && r != NULL;
    if (is_push && (status == 0 || status == TL_E_DUPLICATE)) {
        sim_check_acknowledged(s, w->worker, r->sequence);
    }
    sim_reply(s, i, &reply);
}

static void answer_waiting(struct sim *s, int i, const struct tl_record *r,
                           int status) {
    struct sim_replica *p = &s->replicas[i];
    for (uint32_t k = 0; k < p->waiting_count; k++) {
        if (p->waiting[k].position == r->position) {
            answer(s, i, &p->waiting[k], status, r);
            p->waiting[k] = p->waiting[--p->waiting_count];
            return;
        }
    }
}

static void on_commit(struct sim *s, int i, const struct tl_chain_action *a) {
    struct sim_replica *p = &s->replicas[i];
    struct tl_fold_effect effect = {0};
    uint64_t version = tl_fold_version(p->fold);
    int rc = tl_fold_apply(p->fold, &a->record, &effect);
    s->commits++;
    s->duplicates += rc == TL_E_DUPLICATE;
    sim_trace(s, "%d commits %llu: kind %d worker %u sequence %llu: %d, version %llu",
              i, (unsigned long long)a->record.position, (int)a->record.kind,
              a->record.worker, (unsigned long long)a->record.sequence, rc,
              (unsigned long long)tl_fold_version(p->fold));
    sim_check_commit(s, i, &a->record, rc, &effect, version);
    if (tl_chain_role(p->chain) == TL_CHAIN_HEAD || TL_MUTATE(rejected_acknowledged)) {
        answer_waiting(s, i, &a->record, rc);
    }
}

static void on_load(struct sim *s, int i, const struct tl_chain_action *a) {
    struct sim_body *b = (struct sim_body *)a->body;
    struct tl_restore *restore = NULL;
    struct tl_fold *f = NULL;
    int rc = tl_restore_new(&s->fold_config, &restore);
    rc = rc == 0 ? tl_restore_feed(restore, b->bytes, b->size) : rc;
    rc = rc == 0 ? tl_restore_done(restore, &f) : rc;
    if (rc != 0) {
        tl_restore_free(restore);
        sim_fail(s, "state can be read", "%s", tl_error_text());
        return;
    }
    replace_fold(s, &s->replicas[i], f);
    sim_trace(s, "%d loads a state at %llu", i, (unsigned long long)a->position);
    sim_check_load(s, i, a->position);
}

/* Whoever waits is told to look for the head and to send again. */
static void on_reset(struct sim *s, int i) {
    struct sim_replica *p = &s->replicas[i];
    sim_trace(s, "%d drops its state", i);
    s->trouble[i] = s->now;
    for (uint32_t k = 0; k < p->waiting_count; k++) {
        answer(s, i, &p->waiting[k], TL_E_EPOCH, NULL);
    }
    p->waiting_count = 0;
    replace_fold(s, p, fresh_fold(s));
}

static void on_cut(struct sim *s, int i) {
    struct sim_replica *p = &s->replicas[i];
    struct sim_body *b = new_body();
    if (p->cut != NULL || tl_fold_cut(p->fold, &b->cut) != 0) {
        b->cut = NULL; /* somebody holds one: later */
        free(b);
        sim_at(s, sim_delay(s),
               (struct sim_event){.kind = EVENT_CUT, .end = i, .life = p->life});
        return;
    }
    b->holder = &p->cut;
    p->cut = b;
    if (tl_cut_position(b->cut) != tl_chain_committed(p->chain)) {
        sim_fail(s, "one cut", "replica %d: cut at %llu, committed %llu", i,
                 (unsigned long long)tl_cut_position(b->cut),
                 (unsigned long long)tl_chain_committed(p->chain));
    }
    tl_chain_cut_taken(p->chain, &b->base);
}

static void carry_out(struct sim *s, int i, const struct tl_chain_action *a) {
    struct sim_replica *p = &s->replicas[i];
    switch (a->kind) {
    case TL_CHAIN_SEND:
        sim_send(s, i, a);
        break;
    case TL_CHAIN_DIAL:
    case TL_CHAIN_PROBE:
        sim_dial(s, i, a->node, a->kind == TL_CHAIN_PROBE);
        break;
    case TL_CHAIN_CLOSE:
        sim_close(s, i, a->node);
        break;
    case TL_CHAIN_PROPOSE:
        p->has_proposal = true;
        p->proposal = *a;
        break;
    case TL_CHAIN_COMMIT:
        on_commit(s, i, a);
        break;
    case TL_CHAIN_CUT:
        sim_at(s, sim_delay(s),
               (struct sim_event){.kind = EVENT_CUT, .end = i, .life = p->life});
        break;
    case TL_CHAIN_LOAD:
        on_load(s, i, a);
        break;
    case TL_CHAIN_RESET:
        on_reset(s, i);
        break;
    case TL_CHAIN_LEAD:
        sim_trace(s, "%d leads under epoch %llu", i,
                  (unsigned long long)a->config.epoch);
        sim_check_lead(s, i, a->config.epoch);
        break;
    }
}

void sim_replica_act(struct sim *s, int i) {
    struct sim_replica *p = &s->replicas[i];
    struct tl_chain_action a;
    while (p->is_alive && tl_chain_next(p->chain, &a)) {
        carry_out(s, i, &a);
        tl_chain_body_release(a.body);
    }
    if (p->is_alive && p->has_proposal && p->ask_id == 0) {
        p->has_proposal = false;
        sim_redis_ask(s, i, &p->proposal);
    }
}

/* ---- requests of workers
 * ------------------------------------------------------------------ */

static void refuse(struct sim *s, int i, const struct sim_request *q, int status) {
    struct sim_request reply = *q;
    reply.status = status;
    reply.from = i;
    reply.epoch = tl_chain_config(s->replicas[i].chain)->epoch;
    reply.writer = tl_chain_self(s->replicas[i].chain).incarnation;
    sim_reply(s, i, &reply);
}

static void append(struct sim *s, int i, const struct sim_request *q) {
    struct sim_replica *p = &s->replicas[i];
    struct sim_body *b = NULL;
    struct tl_record r = {
        .kind = q->kind == REQUEST_JOIN ? TL_RECORD_JOIN : TL_RECORD_GRADIENT,
        .worker = q->worker,
        .incarnation = q->incarnation,
        .sequence = q->sequence,
        .read_version = q->read_version,
        .step = tl_fold_version(p->fold),
    };
    if (r.kind == TL_RECORD_GRADIENT) {
        b = new_body();
        for (uint32_t k = 0; k < SIM_FLOATS; k++) {
            b->values[k] = (float)((q->worker + 1) * (q->sequence % 97 + k)) / 64.0f;
        }
        r.values = b->values;
        r.value_count = SIM_FLOATS;
    }
    int rc = p->waiting_count == SIM_REPLIES
                 ? TL_E_BUSY
                 : tl_chain_append(p->chain, &r, b == NULL ? NULL : &b->base);
    if (rc == 0) {
        p->waiting[p->waiting_count++] =
            (struct sim_waiting){r.position, q->worker, q->attempt};
    } else {
        refuse(s, i, q, rc);
    }
    tl_chain_body_release(b == NULL ? NULL : &b->base);
}

/* sync: who has contributed to the open step waits for the next version. */
static bool waits_for_step(const struct sim_replica *p, const struct sim_request *q) {
    struct tl_fold_worker w;
    return tl_fold_config(p->fold)->consistency == TL_SYNC &&
           tl_fold_version(p->fold) == q->read_version &&
           tl_fold_worker(p->fold, q->worker, &w) == 0 && w.contributed;
}

static void pull(struct sim *s, int i, const struct sim_request *q) {
    struct sim_replica *p = &s->replicas[i];
    struct sim_request reply = *q;
    reply.has_weights = !waits_for_step(p, q) && tl_fold_may_read(p->fold, q->worker);
    reply.status = 0;
    reply.version = tl_fold_version(p->fold);
    reply.epoch = tl_chain_config(p->chain)->epoch;
    reply.writer = tl_chain_self(p->chain).incarnation;
    reply.from = i;
    sim_reply(s, i, &reply);
}

static void on_request(struct sim *s, int i, const struct sim_request *q) {
    struct sim_replica *p = &s->replicas[i];
    if (q->kind == REQUEST_READ) {
        if (tl_chain_may_read(p->chain)) {
            sim_check_read(s, i);
        }
        return;
    }
    uint64_t epoch = tl_chain_config(p->chain)->epoch;
    bool is_head = tl_chain_role(p->chain) == TL_CHAIN_HEAD;
    bool is_ours = q->writer == tl_chain_self(p->chain).incarnation;
    bool is_behind = q->epoch > epoch || (q->epoch == epoch && !is_ours);
    if (is_head && is_behind) {
        tl_chain_raise(p->chain, q->epoch);
    }
    bool is_current =
        is_head && !is_behind && (q->kind == REQUEST_JOIN || q->epoch == epoch);
    if (!is_current) {
        refuse(s, i, q, TL_E_EPOCH);
    } else if (q->kind == REQUEST_PULL) {
        pull(s, i, q);
    } else {
        append(s, i, q);
    }
}

/* ---- the rest of the driver: retired workers, a new rate, now and then
 * -------------------- */

static void offer(struct sim *s, int i, struct tl_record r) {
    if (tl_chain_append(s->replicas[i].chain, &r, NULL) == 0) {
        sim_trace(s, "%d offers kind %d of worker %u", i, (int)r.kind, r.worker);
    }
}

static void house_keeping(struct sim *s, int i) {
    struct sim_replica *p = &s->replicas[i];
    if (tl_chain_role(p->chain) != TL_CHAIN_HEAD) {
        return;
    }
    for (uint32_t w = 0; w < s->workers; w++) {
        struct tl_fold_worker known;
        if (!s->worker[w].is_alive && tl_fold_worker(p->fold, w, &known) == 0 &&
            known.active && sim_chance(s, 20)) {
            offer(s, i,
                  (struct tl_record){.kind = TL_RECORD_LEAVE,
                                     .worker = w,
                                     .incarnation = known.incarnation,
                                     .step = tl_fold_version(p->fold)});
        }
    }
    if (sim_chance(s, 2)) {
        offer(s, i,
              (struct tl_record){.kind = TL_RECORD_RATE,
                                 .rate = 0.25 / (double)(1 + sim_below(s, 8))});
    }
}

static void on_tick(struct sim *s, int i) {
    struct sim_replica *p = &s->replicas[i];
    tl_chain_tick(p->chain, s->now);
    sim_replica_act(s, i);
    house_keeping(s, i);
    sim_replica_act(s, i);
    if (p->ask_id == 0 && sim_chance(s, 40)) {
        sim_redis_ask(s, i, NULL);
    }
    schedule_tick(s, i, TICK_MS);
}

void sim_replica_event(struct sim *s, struct sim_event *e) {
    switch (e->kind) {
    case EVENT_TICK:
        on_tick(s, e->end);
        break;
    case EVENT_CUT:
        on_cut(s, e->end);
        break;
    case EVENT_REQUEST:
        on_request(s, e->end, e->data);
        break;
    default:
        sim_network_event(s, e);
        break;
    }
    sim_replica_act(s, e->end);
}
