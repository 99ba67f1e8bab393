/* schedule.c - one run from its seed to its verdict; smaller ones that fail alike. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define WELL_WITHIN_MS (60 * SIM_LEASE)

static void choose_fold(struct sim *s) {
    static const enum tl_consistency often[] = {TL_ASYNC, TL_ASYNC, TL_SYNC, TL_SSP};
    s->fold_config = (struct tl_fold_config){
        .shards = 1,
        .count = SIM_FLOATS,
        .consistency = often[sim_below(s, 4)],
        .spare_copies = 1,
        .staleness = 2,
        .optimizer = {.kind = sim_chance(s, 30) ? TL_ADAM : TL_SGD,
                      .learning_rate = 0.125,
                      .momentum = 0.5,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-8},
    };
    struct tl_fold_config *c = &s->fold_config;
    c->optimizer.momentum = c->optimizer.kind == TL_SGD ? 0.5 : 0.0;
    c->max_staleness = c->consistency == TL_ASYNC && sim_chance(s, 30) ? 2 : 0;
}

static void choose(struct sim *s) {
    static const uint32_t lengths[] = {1, 2, 2, 3, 3, 3, 3, 4, 5};
    s->nodes = lengths[sim_below(s, 9)];
    s->workers = 1 + (uint32_t)sim_below(s, SIM_WORKERS);
    s->replication = sim_chance(s, 80) ? TL_STRICT : TL_PERIODIC;
    s->every = 3 + sim_below(s, 10);
    choose_fold(s);
}

static void begin(struct sim *s, uint64_t seed, uint32_t mask, bool is_told) {
    struct sim_event *heap = s->heap;
    size_t capacity = s->heap_capacity;
    char *trace = s->trace;
    size_t facts = offsetof(struct sim, history) + offsetof(struct sim_history, length);
    memset(s, 0, offsetof(struct sim, history));
    memset((char *)s + facts, 0, sizeof(*s) - facts);
    memset(&s->history.facts[0], 0, sizeof(s->history.facts[0]));
    s->heap = heap;
    s->heap_capacity = capacity;
    s->trace = trace;
    s->seed = s->random = seed;
    s->fault_mask = mask;
    s->is_told = is_told;
    s->trace_hash = UINT64_C(14695981039346656037);
    choose(s);
    sim_faults_plan(s);
    for (int i = 0; i < (int)s->nodes; i++) {
        sim_replica_start(s, i);
    }
    for (uint32_t w = 0; w < s->workers; w++) {
        sim_worker_start(s, w);
    }
}

/* Whose it is died, or is stopped: nothing, or later. */
static bool is_put_off(struct sim *s, struct sim_event *e) {
    if (e->end < 0 || e->end == (int)SIM_REDIS) {
        return false;
    }
    struct sim_replica *r = &s->replicas[e->end];
    if (!r->is_alive || r->life != e->life) {
        if (e->kind == EVENT_ANSWER || e->kind == EVENT_REQUEST) {
            free(e->data);
        } else if (e->kind != EVENT_ASK_LOST && e->kind != EVENT_TICK) {
            sim_event_drop(s, e);
        }
        return true;
    }
    if (r->is_paused && r->paused_until > s->now) {
        sim_put_off(s, r->paused_until, *e);
        return true;
    }
    return false;
}

static void dispatch(struct sim *s, struct sim_event *e) {
    switch (e->kind) {
    case EVENT_ASK:
    case EVENT_ANSWER:
    case EVENT_ASK_LOST:
        sim_redis_event(s, e);
        if (e->kind != EVENT_ASK) {
            sim_replica_act(s, e->end);
        }
        break;
    case EVENT_REPLY:
    case EVENT_WORKER:
        sim_worker_event(s, e);
        break;
    case EVENT_FAULT:
    case EVENT_FAULT_OVER:
        sim_faults_event(s, e);
        break;
    case EVENT_REQUEST:
        sim_replica_event(s, e);
        free(e->data);
        break;
    default:
        sim_replica_event(s, e);
        if (e->data != NULL) {
            sim_event_drop(s, e);
        }
        break;
    }
}

static void end(struct sim *s) {
    struct sim_event e;
    for (int i = 0; i < (int)s->nodes; i++) {
        sim_replica_crash(s, i);
    }
    while (sim_pop(s, &e)) {
        if (e.data == NULL) {
            continue;
        }
        if (e.kind == EVENT_MESSAGE) {
            sim_event_drop(s, &e);
        } else {
            free(e.data);
        }
    }
}

void sim_run(struct sim *s, uint64_t seed, uint32_t mask, bool is_told) {
    struct sim_event e;
    begin(s, seed, mask, is_told);
    bool is_over = false;
    while (!s->has_failed && !s->is_cut_short && !is_over && sim_pop(s, &e)) {
        s->now = e.at;
        if (!s->is_healed && s->now >= SIM_TROUBLE) {
            sim_heal(s);
        }
        if (!is_put_off(s, &e)) {
            dispatch(s, &e);
            sim_check_step(s);
        }
        s->events_done++;
        is_over =
            s->is_healed && (sim_is_well(s) || s->now > SIM_TROUBLE + WELL_WITHIN_MS);
    }
    if (!s->has_failed && !s->is_cut_short) {
        sim_check_end(s);
    }
    end(s);
}

void sim_done(struct sim *s) {
    free(s->heap);
    free(s->trace);
    s->heap = NULL;
    s->trace = NULL;
}

/* Leave out one fault after the other for as long as the same invariant breaks. */
uint32_t sim_minimise(struct sim *s, uint64_t seed) {
    char invariant[sizeof(s->invariant)];
    uint32_t mask = UINT32_MAX;
    sim_run(s, seed, mask, false);
    memcpy(invariant, s->invariant, sizeof(invariant));
    mask = (1u << s->fault_count) - 1;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        uint32_t smaller = mask & ~(1u << i);
        if (smaller == mask) {
            continue;
        }
        sim_run(s, seed, smaller, false);
        bool is_same = s->has_failed && strcmp(s->invariant, invariant) == 0;
        mask = is_same ? smaller : mask;
    }
    return mask;
}
