/* faults.c - what goes wrong, and when: planned before the run begins, so that a run
 * can be repeated with fewer. */
#include "sim.h"

#include <stdlib.h>

static void plan_one(struct sim *s, struct sim_fault *f) {
    static const enum sim_fault_kind often[] = {
        FAULT_CRASH,       FAULT_CRASH,       FAULT_CRASH,  FAULT_PAUSE,
        FAULT_PAUSE,       FAULT_BREAK,       FAULT_BREAK,  FAULT_PARTITION,
        FAULT_REDIS_CRASH, FAULT_REDIS_FLUSH, FAULT_WORKER, FAULT_WORKER};
    f->kind = often[sim_below(s, sizeof(often) / sizeof(often[0]))];
    f->at = 40 + (int64_t)sim_below(s, SIM_TROUBLE - 140);
    f->lasts = 5 + (int64_t)sim_below(s, sim_chance(s, 60) ? SIM_LEASE / 2 : 200);
    f->a = (int)sim_below(s, s->nodes);
    f->b = (int)sim_below(s, s->nodes + 1);
    f->b = f->b == (int)s->nodes ? (int)SIM_REDIS : f->b;
    f->forgets = sim_chance(s, 70);
}

/* Faults like company: half of them come soon after the one before. */
void sim_faults_plan(struct sim *s) {
    s->fault_count = (uint32_t)sim_below(s, SIM_FAULTS - 1);
    for (uint32_t i = 0; i < s->fault_count; i++) {
        struct sim_fault *f = &s->faults[i];
        plan_one(s, f);
        if (i > 0 && sim_chance(s, 50)) {
            f->at = s->faults[i - 1].at + (int64_t)sim_below(s, 20);
        }
    }
    for (uint32_t i = 0; i < s->fault_count; i++) {
        if ((s->fault_mask >> i & 1u) != 0) {
            sim_at(s, s->faults[i].at,
                   (struct sim_event){.kind = EVENT_FAULT, .end = -1, .a = i});
        }
    }
}

static void mark(struct sim *s, int end) {
    if (end < (int)SIM_NODES) {
        s->trouble[end] = s->now;
    }
}

/* A stopped process gets what was meant for it when it goes on. */
static void pause(struct sim *s, const struct sim_fault *f) {
    struct sim_replica *r = &s->replicas[f->a];
    sim_trace(s, "replica %d stops for %lld ms", f->a, (long long)f->lasts);
    int64_t until = s->now + f->lasts;
    r->is_paused = true;
    r->paused_until = until > r->paused_until ? until : r->paused_until;
}

static void break_links(struct sim *s, const struct sim_fault *f) {
    for (size_t i = 0; i < SIM_LINKS; i++) {
        struct sim_link *l = &s->links[i];
        if (l->used && (l->at[0] == f->a || l->at[1] == f->a)) {
            mark(s, l->at[0]);
            mark(s, l->at[1]);
            sim_break(s, l);
        }
    }
}

static void begin(struct sim *s, const struct sim_fault *f) {
    static const char *const names[] = {
        "crash", "pause", "break", "partition", "redis crash", "redis flush", "worker"};
    sim_trace(s, "FAULT %s %d %d for %lld ms", names[f->kind], f->a, f->b,
              (long long)f->lasts);
    mark(s, f->a);
    switch (f->kind) {
    case FAULT_CRASH:
        sim_replica_crash(s, f->a);
        break;
    case FAULT_PAUSE:
        pause(s, f);
        break;
    case FAULT_BREAK:
        break_links(s, f);
        break;
    case FAULT_PARTITION:
        mark(s, f->b);
        sim_partition(s, f->a, f->b, f->a != f->b);
        break;
    case FAULT_REDIS_CRASH:
        s->redis.is_down = true;
        break;
    case FAULT_REDIS_FLUSH:
        s->redis.arbiter = (struct tl_chain_arbiter){.life = 0};
        break;
    default:
        sim_worker_crash(s, (uint32_t)f->a % s->workers);
        break;
    }
}

static void end(struct sim *s, const struct sim_fault *f) {
    mark(s, f->a);
    switch (f->kind) {
    case FAULT_CRASH:
        if (!s->replicas[f->a].is_alive) {
            sim_replica_start(s, f->a);
            sim_replica_act(s, f->a);
        }
        break;
    case FAULT_PAUSE:
        s->replicas[f->a].is_paused = s->replicas[f->a].paused_until > s->now;
        break;
    case FAULT_PARTITION:
        mark(s, f->b);
        sim_partition(s, f->a, f->b, false);
        break;
    case FAULT_REDIS_CRASH:
        if (s->redis.is_down && f->forgets) {
            s->redis.arbiter = (struct tl_chain_arbiter){.life = 0};
        }
        s->redis.is_down = false;
        break;
    case FAULT_WORKER:
        if (!s->worker[(uint32_t)f->a % s->workers].is_alive) {
            sim_worker_start(s, (uint32_t)f->a % s->workers);
        }
        break;
    default:
        break;
    }
}

void sim_faults_event(struct sim *s, struct sim_event *e) {
    const struct sim_fault *f = &s->faults[e->a];
    if (e->kind == EVENT_FAULT) {
        begin(s, f);
        sim_at(s, f->lasts,
               (struct sim_event){.kind = EVENT_FAULT_OVER, .end = -1, .a = e->a});
    } else if (!s->is_healed) {
        end(s, f);
    }
}

/* Everything that can be repaired is. */
void sim_heal(struct sim *s) {
    s->is_healed = true;
    sim_trace(s, "everything is healed");
    for (uint32_t i = 0; i < s->fault_count; i++) {
        if ((s->fault_mask >> i & 1u) != 0) {
            end(s, &s->faults[i]);
        }
    }
    for (int i = 0; i < (int)s->nodes; i++) {
        mark(s, i);
    }
}
