/* barrier.c - who waits for whom: sync's open step and ssp's bound.
 *
 * sync: a gradient belongs to the step of its read version; the open step is the
 * present version, and is committed when every worker that belongs to it has
 * contributed, or a quorum has.
 * ssp: a worker's clock counts its gradients since it joined, starting level with the
 * slowest; whoever is further ahead than the bound waits. */
#include "fold_internal.h"

#include <inttypes.h>

bool tl_barrier_started(const struct tl_fold *f) {
    return f->config.start_workers == 0 ||
           tl_table_joined(f) >= f->config.start_workers;
}

/* ---- sync --------------------------------------------------------------------- */

int tl_barrier_admit_sync(struct tl_fold *f, const struct tl_record *r,
                          struct tl_fold_worker *w) {
    if (r->read_version < f->version) {
        f->counters.late++;
        tl_table_settle(w, r->sequence);
        return tl_fail(TL_E_LATE,
                       "worker %" PRIu32 ": step %" PRIu64
                       " was committed without it, step %" PRIu64 " is open",
                       r->worker, r->read_version, f->version);
    }
    bool has_part = w->contributed && !TL_MUTATE(contributes_twice);
    if (r->read_version > f->version || has_part) {
        f->counters.stale++;
        return tl_fail(TL_E_STALE,
                       "worker %" PRIu32 ": computed for step %" PRIu64
                       ", but step %" PRIu64 " is open%s; pull and compute again",
                       r->worker, r->read_version, f->version,
                       has_part ? " and has its part" : "");
    }
    if (w->from_step > f->version) {
        return tl_fail(TL_E_NOTJOINED,
                       "worker %" PRIu32 " contributes from step %" PRIu64
                       " on; wait for it",
                       r->worker, w->from_step);
    }
    return 0;
}

static bool is_awaited(const struct tl_fold *f, const struct tl_fold_worker *w) {
    return w->active && w->from_step <= f->version && !w->contributed;
}

static bool everybody_contributed(const struct tl_fold *f) {
    for (uint32_t i = 0; i < f->worker_end; i++) {
        if (is_awaited(f, &f->workers[i])) {
            return false;
        }
    }
    return true;
}

static bool has_quorum(const struct tl_fold *f) {
    return f->config.quorum > 0 && f->contributions >= f->config.quorum;
}

bool tl_barrier_ready(const struct tl_fold *f) {
    return f->config.consistency == TL_SYNC && f->contributions > 0 &&
           tl_barrier_started(f) && (has_quorum(f) || everybody_contributed(f));
}

float tl_barrier_divisor(const struct tl_fold *f) {
    return f->config.reduce == TL_REDUCE_MEAN ? (float)f->contributions : 1.0f;
}

void tl_barrier_next_step(struct tl_fold *f) {
    for (uint32_t i = 0; i < f->worker_end; i++) {
        f->workers[i].contributed = false;
    }
    f->contributions = 0;
}

/* ---- ssp ---------------------------------------------------------------------- */

uint64_t tl_barrier_slowest(const struct tl_fold *f, uint64_t otherwise) {
    uint64_t slowest = UINT64_MAX;
    for (uint32_t i = 0; i < f->worker_end; i++) {
        const struct tl_fold_worker *w = &f->workers[i];
        if (w->active && w->clock < slowest) {
            slowest = w->clock;
        }
    }
    return slowest == UINT64_MAX ? otherwise : slowest;
}

static bool is_within_bound(const struct tl_fold *f, const struct tl_fold_worker *w) {
    return w->clock - tl_barrier_slowest(f, w->clock) <= f->config.staleness;
}

int tl_barrier_admit_ssp(struct tl_fold *f, const struct tl_fold_worker *w) {
    if ((tl_barrier_started(f) && is_within_bound(f, w)) ||
        TL_MUTATE(staleness_unbounded)) {
        return 0;
    }
    f->counters.stale++;
    return tl_fail(TL_E_STALE,
                   "worker %" PRIu32
                   " is ahead of the slowest one by more than %" PRIu64
                   " gradients, or the job's workers have not all joined; pull to wait",
                   w->worker, f->config.staleness);
}

bool tl_fold_may_read(const struct tl_fold *f, uint32_t worker) {
    bool is_bound = f->config.consistency == TL_SSP && worker < f->worker_end &&
                    f->workers[worker].active;
    if (!is_bound) {
        return true;
    }
    return tl_barrier_started(f) && is_within_bound(f, &f->workers[worker]);
}
