/* table.c - the workers: who may contribute, and what is known of each one's sequence.
 *
 * The table is part of the state. That is what makes a gradient that arrives twice be
 * folded once across any crash, and what tells a worker that comes back exactly how
 * much of what was acknowledged to it the state does not have. */
#include "fold_internal.h"

#include <inttypes.h>

static struct tl_fold_worker *entry(struct tl_fold *f, uint32_t worker) {
    return &f->workers[worker];
}

static bool is_known(const struct tl_fold_worker *w) {
    return w->incarnation > 0;
}

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Only the newest incarnation of a worker is heard. */
static int check_incarnation(const struct tl_fold_worker *w,
                             const struct tl_record *r) {
    if (!is_known(w) || r->incarnation > w->incarnation) {
        return tl_fail(TL_E_NOTJOINED,
                       "worker %" PRIu32 " incarnation %" PRIu64
                       " has not joined; send JOIN first",
                       r->worker, r->incarnation);
    }
    if (r->incarnation < w->incarnation && !TL_MUTATE(zombie_worker)) {
        return tl_fail(TL_E_FENCED,
                       "worker %" PRIu32 " incarnation %" PRIu64
                       " was replaced by incarnation %" PRIu64,
                       r->worker, r->incarnation, w->incarnation);
    }
    return 0;
}

/* What was acknowledged up to `acknowledged` and is not in this state is lost. */
static uint64_t settle_lost(struct tl_fold *f, struct tl_fold_worker *w,
                            uint64_t acknowledged) {
    if (acknowledged <= w->sequence || TL_MUTATE(loss_not_counted)) {
        return 0;
    }
    uint64_t lost = acknowledged - w->sequence;
    w->sequence = acknowledged;
    w->lost += lost;
    f->counters.lost += lost;
    return lost;
}

/* The step from which a joining worker contributes. It does so once per step: not again
 * to an open step that has its part; and one that comes back to a step which waits for
 * it does not make the step wait in vain. */
static uint64_t first_step(const struct tl_fold *f, const struct tl_fold_worker *w,
                           uint64_t step) {
    if (w->contributed && !TL_MUTATE(contributes_twice)) {
        return max_u64(step, f->version + 1);
    }
    step = max_u64(step, f->version);
    return w->active ? min_u64(step, w->from_step) : step;
}

/* Has the open step given this worker's part up? It can be had after all when the
 * worker is back before the step is committed. */
static bool is_missed(const struct tl_fold *f, const struct tl_fold_worker *w) {
    return f->config.consistency == TL_SYNC && is_known(w) && !w->active &&
           !w->contributed && w->from_step <= f->version &&
           w->until_step == f->version + 1;
}

static void activate(struct tl_fold *f, struct tl_fold_worker *w, uint64_t step) {
    bool was_missed = is_missed(f, w);
    w->from_step = first_step(f, w, step);
    f->counters.missing -= was_missed && w->from_step <= f->version ? 1 : 0;
    w->until_step = UINT64_MAX;
    if (!w->active) {
        w->clock = tl_barrier_slowest(f, w->clock);
    }
    w->active = true;
}

int tl_table_join(struct tl_fold *f, const struct tl_record *r, uint64_t *ret_lost) {
    struct tl_fold_worker *w = entry(f, r->worker);
    if (r->incarnation == 0 || r->incarnation < w->incarnation) {
        return tl_fail(TL_E_FENCED,
                       "worker %" PRIu32 " joins as incarnation %" PRIu64
                       ", but %" PRIu64 " has joined; take a higher one",
                       r->worker, r->incarnation, w->incarnation);
    }
    activate(f, w, r->step);
    w->worker = r->worker;
    w->incarnation = r->incarnation;
    if (f->worker_end <= r->worker) {
        f->worker_end = r->worker + 1;
    }
    if (TL_MUTATE(join_resets_sequence)) {
        w->sequence = 0;
    }
    *ret_lost = settle_lost(f, w, r->sequence);
    return 0;
}

int tl_table_leave(struct tl_fold *f, const struct tl_record *r) {
    struct tl_fold_worker *w = entry(f, r->worker);
    int rc = check_incarnation(w, r);
    if (rc != 0 || !w->active) {
        return rc;
    }
    bool owes = f->config.consistency == TL_SYNC && !w->contributed &&
                w->from_step <= f->version && f->version < r->step;
    if (owes) {
        f->counters.missing++;
    }
    w->until_step = min_u64(r->step, f->version + 1);
    w->active = false;
    return 0;
}

int tl_table_admit(struct tl_fold *f, const struct tl_record *r,
                   struct tl_fold_worker **ret_worker) {
    struct tl_fold_worker *w = entry(f, r->worker);
    int rc = check_incarnation(w, r);
    if (rc != 0) {
        return rc;
    }
    if (r->sequence <= w->sequence && !TL_MUTATE(dedup_off)) {
        f->counters.duplicated++;
        return tl_fail(TL_E_DUPLICATE,
                       "worker %" PRIu32 " sequence %" PRIu64
                       " is settled already, up to %" PRIu64,
                       r->worker, r->sequence, w->sequence);
    }
    if (!w->active) {
        return tl_fail(TL_E_NOTJOINED, "worker %" PRIu32 " has left; send JOIN first",
                       r->worker);
    }
    *ret_worker = w;
    return 0;
}

void tl_table_settle(struct tl_fold_worker *w, uint64_t sequence) {
    w->sequence = sequence;
}

void tl_table_count_folded(struct tl_fold *f, struct tl_fold_worker *w) {
    f->counters.folded++;
    w->folded++;
    w->clock++;
}

uint32_t tl_table_joined(const struct tl_fold *f) {
    uint32_t joined = 0;
    for (uint32_t i = 0; i < f->worker_end; i++) {
        joined += is_known(&f->workers[i]);
    }
    return joined;
}

uint32_t tl_fold_active_workers(const struct tl_fold *f) {
    uint32_t active = 0;
    for (uint32_t i = 0; i < f->worker_end; i++) {
        active += f->workers[i].active;
    }
    return active;
}

int tl_fold_worker(const struct tl_fold *f, uint32_t worker,
                   struct tl_fold_worker *ret_worker) {
    if (worker >= f->worker_end || !is_known(&f->workers[worker])) {
        return tl_fail(TL_E_NOTFOUND, "worker %" PRIu32 " has never joined", worker);
    }
    *ret_worker = f->workers[worker];
    return 0;
}
