/* fold.c - records in log order, each to what it concerns.
 *
 * A record is either folded or refused; both settle its position, so that two folds of
 * one log agree about every record in it. Everything that can refuse a record is asked
 * before anything is changed. */
#include "fold_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- life --------------------------------------------------------------------- */

size_t tl_fold_block_size(const struct tl_fold *f, size_t i) {
    uint64_t left = f->config.count - (uint64_t)i * TL_BLOCK_FLOATS;
    return left < TL_BLOCK_FLOATS ? (size_t)left : TL_BLOCK_FLOATS;
}

/* How many arrays of the slice the pool must hold so that the fold never runs out:
 * weights: the versions that views hold, that of a cut, and the one being made;
 * others: a cut's and the one being made; kept versions: a cut's, and those now. */
static size_t pool_arrays(const struct tl_fold_config *c) {
    size_t weights = c->spare_copies + 2;
    size_t slots = tl_optimizer_slots(&c->optimizer);
    size_t sums = c->consistency == TL_SYNC ? 1 : 0;
    size_t stale = tl_stale_has_array(c) ? 1 : 0;
    return weights + 2 * (slots + sums + stale + tl_history_most(c));
}

static bool has_array(const struct tl_fold_config *c, enum tl_fold_array array) {
    if (array == TL_ARRAY_SUM) {
        return c->consistency == TL_SYNC;
    }
    if (array == TL_ARRAY_STALE) {
        return tl_stale_has_array(c);
    }
    return array <= tl_optimizer_slots(&c->optimizer);
}

/* Small slices get small blocks, whole pages all the same. */
static size_t block_distance(const struct tl_fold_config *c) {
    const size_t page_floats = 1024;
    if (c->count >= TL_BLOCK_FLOATS) {
        return TL_BLOCK_FLOATS;
    }
    return ((size_t)c->count + page_floats - 1) / page_floats * page_floats;
}

static int create_pool(struct tl_fold *f) {
    size_t blocks = pool_arrays(&f->config) * f->block_count;
    if (blocks > UINT32_MAX) {
        return tl_fail(TL_E_CONFIG,
                       "fold: %" PRIu32 " spare_copies of %" PRIu64
                       " parameters are too many; use more shards",
                       f->config.spare_copies, f->config.count);
    }
    return tl_blocks_init(&f->pool, (uint32_t)blocks, block_distance(&f->config));
}

/* The live arrays lie together at the pool's beginning. */
static void create_arrays(struct tl_fold *f, uint32_t *indices) {
    for (enum tl_fold_array a = TL_ARRAY_WEIGHTS; a < TL_ARRAYS; a++) {
        if (!has_array(&f->config, a)) {
            continue;
        }
        f->arrays[a] = indices + a * f->block_count;
        for (size_t i = 0; i < f->block_count; i++) {
            f->arrays[a][i] = tl_blocks_take(&f->pool);
        }
    }
}

static int create_lists(struct tl_fold *f) {
    size_t most = tl_history_most(&f->config), of_state = TL_ARRAYS + most;
    size_t lists = 2 * of_state + f->config.spare_copies;
    f->indices = calloc(lists * f->block_count, sizeof(*f->indices));
    f->views = calloc(f->config.spare_copies, sizeof(*f->views));
    if (!f->indices || !f->views) {
        return tl_fail(TL_E_NOMEM, "fold: out of memory for lists of blocks");
    }
    create_arrays(f, f->indices);
    tl_views_init(f, f->indices + 2 * of_state * f->block_count);
    int rc = tl_history_init(f, f->indices + TL_ARRAYS * f->block_count);
    return rc == 0 ? tl_cut_init(f, f->indices + of_state * f->block_count) : rc;
}

int tl_fold_create(const struct tl_fold_config *config, struct tl_fold **ret_fold) {
    int rc = tl_fold_check_config(config);
    if (rc != 0) {
        return rc;
    }
    struct tl_fold *f = calloc(1, sizeof(*f));
    if (!f) {
        (void)tl_fail(TL_E_NOMEM, "fold: out of memory");
        return TL_E_NOMEM;
    }
    f->config = *config;
    f->rate = config->optimizer.learning_rate;
    f->beta1_power = 1.0;
    f->beta2_power = 1.0;
    f->step_power = 1.0;
    f->block_count = (size_t)((config->count + TL_BLOCK_FLOATS - 1) / TL_BLOCK_FLOATS);
    rc = create_pool(f);
    if (rc == 0) {
        rc = create_lists(f);
    }
    if (rc != 0) {
        tl_fold_free(f);
        return rc;
    }
    *ret_fold = f;
    return 0;
}

int tl_fold_new(const struct tl_fold_config *config, const float *weights,
                struct tl_fold **ret_fold) {
    struct tl_fold *f = NULL;
    int rc = tl_fold_create(config, &f);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < f->block_count; i++) {
        memcpy(tl_blocks_at(&f->pool, f->arrays[TL_ARRAY_WEIGHTS][i]),
               weights + i * TL_BLOCK_FLOATS,
               tl_fold_block_size(f, i) * sizeof(*weights));
    }
    *ret_fold = f;
    return 0;
}

void tl_fold_free(struct tl_fold *f) {
    if (!f) {
        return;
    }
    assert(!f->views || !tl_views_held(f));
    assert(!f->cut.held);
    tl_cut_done(f);
    tl_history_done(f);
    tl_blocks_done(&f->pool);
    free(f->views);
    free(f->indices);
    free(f);
}

/* ---- gradients ---------------------------------------------------------------- */

static uint64_t staleness_of(const struct tl_fold *f, const struct tl_record *r) {
    return r->read_version < f->version ? f->version - r->read_version : 0;
}

/* 0, 1, 2-3, 4-7, ...: the number of significant bits. */
static uint32_t staleness_bucket(uint64_t staleness) {
    uint32_t bits = staleness ? 64u - (uint32_t)__builtin_clzll(staleness) : 0;
    return bits < TL_STALENESS_BUCKETS ? bits : TL_STALENESS_BUCKETS - 1;
}

static int admit_async(struct tl_fold *f, const struct tl_record *r,
                       struct tl_fold_worker *w) {
    uint64_t staleness = staleness_of(f, r);
    if (f->config.max_staleness == 0 || staleness <= f->config.max_staleness ||
        TL_MUTATE(staleness_unbounded)) {
        return 0;
    }
    f->counters.stale++;
    tl_table_settle(w, r->sequence);
    return tl_fail(TL_E_STALE,
                   "worker %" PRIu32 " sequence %" PRIu64 " is %" PRIu64
                   " versions old; %" PRIu64 " are allowed",
                   r->worker, r->sequence, staleness, f->config.max_staleness);
}

static int admit_by_consistency(struct tl_fold *f, const struct tl_record *r,
                                struct tl_fold_worker *w) {
    switch (f->config.consistency) {
    case TL_SYNC:
        return tl_barrier_admit_sync(f, r, w);
    case TL_SSP:
        return tl_barrier_admit_ssp(f, w);
    case TL_ASYNC:
    default:
        return admit_async(f, r, w);
    }
}

static bool has_ended(const struct tl_fold *f) {
    return f->config.until_version > 0 && f->version >= f->config.until_version;
}

static int check_shape(const struct tl_fold *f, const struct tl_record *r) {
    if (r->value_count == f->config.count && r->values) {
        const struct tl_encoded e = tl_record_encoded(r);
        return tl_codec_check(&e);
    }
    return tl_fail(TL_E_SHAPE,
                   "worker %" PRIu32 " sequence %" PRIu64 ": %" PRIu64
                   " values for a slice of %" PRIu64,
                   r->worker, r->sequence, r->value_count, f->config.count);
}

static int check_values(struct tl_fold *f, const struct tl_record *r,
                        struct tl_fold_worker *w) {
    int rc = tl_update_check(f, r);
    if (rc == 0) {
        return 0;
    }
    f->counters.nonfinite++;
    tl_table_settle(w, r->sequence);
    return rc;
}

/* All that can refuse a gradient, the cheapest first. */
static int admit(struct tl_fold *f, const struct tl_record *r,
                 struct tl_fold_worker **ret_worker) {
    struct tl_fold_worker *w = NULL;
    int rc = check_shape(f, r);
    if (rc == 0) {
        rc = tl_table_admit(f, r, &w);
    }
    if (rc == 0 && has_ended(f)) {
        rc = tl_fail(TL_E_ENDED, "version %" PRIu64 " ends the job", f->version);
    }
    if (rc == 0) {
        rc = admit_by_consistency(f, r, w);
    }
    if (rc == 0) {
        rc = check_values(f, r, w);
    }
    if (rc == 0) {
        *ret_worker = w;
    }
    return rc;
}

/* Commit the open step if it has what it needs; `r` (may be NULL) is the contribution
 * that is not yet in its sum of `earlier` ones. */
static bool commit_if_ready(struct tl_fold *f, const struct tl_record *r,
                            uint32_t earlier) {
    if (!tl_barrier_ready(f)) {
        return false;
    }
    tl_update_commit(f, r, earlier);
    tl_barrier_next_step(f);
    return true;
}

static bool contribute(struct tl_fold *f, const struct tl_record *r,
                       struct tl_fold_worker *w) {
    uint32_t earlier = f->contributions++;
    w->contributed = true;
    if (commit_if_ready(f, r, earlier)) {
        return true;
    }
    tl_update_accumulate(f, r, earlier);
    return false;
}

static int apply_gradient(struct tl_fold *f, const struct tl_record *r,
                          struct tl_fold_effect *effect) {
    struct tl_fold_worker *w = NULL;
    int rc = admit(f, r, &w);
    if (rc != 0) {
        return rc;
    }
    effect->staleness = staleness_of(f, r);
    f->staleness[staleness_bucket(effect->staleness)]++;
    tl_table_settle(w, r->sequence);
    tl_table_count_folded(f, w);
    if (f->config.consistency == TL_SYNC) {
        effect->advanced = contribute(f, r, w);
    } else {
        tl_update_apply(f, r, effect->staleness);
        effect->advanced = true;
    }
    return 0;
}

/* ---- other records ------------------------------------------------------------ */

static int apply_join(struct tl_fold *f, const struct tl_record *r,
                      struct tl_fold_effect *effect) {
    int rc = tl_table_join(f, r, &effect->lost);
    if (rc == 0) {
        tl_history_may_read(f, r->worker);
        effect->advanced = commit_if_ready(f, NULL, f->contributions);
    }
    return rc;
}

static int apply_leave(struct tl_fold *f, const struct tl_record *r,
                       struct tl_fold_effect *effect) {
    int rc = tl_table_leave(f, r);
    if (rc == 0) {
        effect->advanced = commit_if_ready(f, NULL, f->contributions);
    }
    return rc;
}

static int apply_rate(struct tl_fold *f, const struct tl_record *r) {
    if (!isfinite(r->rate) || r->rate <= 0.0) {
        return tl_fail(TL_E_PROTOCOL, "the new learning rate must be finite, above 0");
    }
    f->rate = r->rate;
    return 0;
}

/* ---- the log ------------------------------------------------------------------ */

/* Numbers that index or are added up. */
static int check_record(const struct tl_fold *f, const struct tl_record *r) {
    if (r->shard != f->config.shard) {
        return tl_fail(TL_E_MISMATCH,
                       "a record of shard %" PRIu32 " in the log of shard %" PRIu32,
                       r->shard, f->config.shard);
    }
    if (r->worker >= TL_WORKER_LIMIT) {
        return tl_fail(TL_E_PROTOCOL, "worker %" PRIu32 " is not below the limit of %u",
                       r->worker, TL_WORKER_LIMIT);
    }
    if (r->sequence > TL_SEQUENCE_LIMIT) {
        return tl_fail(TL_E_PROTOCOL, "worker %" PRIu32 ": sequence beyond 2^48",
                       r->worker);
    }
    return 0;
}

/* The newest writer's records count; an older one's are refused. */
static int check_epoch(struct tl_fold *f, const struct tl_record *r) {
    if (r->epoch < f->epoch) {
        return tl_fail(TL_E_FENCED,
                       "a record of epoch %" PRIu64 " after epoch %" PRIu64
                       " has taken over",
                       r->epoch, f->epoch);
    }
    f->epoch = r->epoch;
    return 0;
}

static int apply(struct tl_fold *f, const struct tl_record *r,
                 struct tl_fold_effect *effect) {
    int rc = check_record(f, r);
    if (rc == 0) {
        rc = check_epoch(f, r);
    }
    if (rc != 0) {
        return rc;
    }
    switch (r->kind) {
    case TL_RECORD_GRADIENT:
        return apply_gradient(f, r, effect);
    case TL_RECORD_JOIN:
        return apply_join(f, r, effect);
    case TL_RECORD_LEAVE:
        return apply_leave(f, r, effect);
    case TL_RECORD_RATE:
        return apply_rate(f, r);
    default:
        return tl_fail(TL_E_PROTOCOL, "record of unknown kind %d", (int)r->kind);
    }
}

int tl_fold_apply(struct tl_fold *f, const struct tl_record *r,
                  struct tl_fold_effect *ret_effect) {
    if (r->position != f->position + 1) {
        return tl_fail(TL_E_INVALID,
                       "shard %" PRIu32 ": record at position %" PRIu64
                       " offered, %" PRIu64 " is next",
                       f->config.shard, r->position, f->position + 1);
    }
    f->position = r->position;
    struct tl_fold_effect effect = {0};
    int rc = apply(f, r, &effect);
    if (rc != 0) {
        return rc;
    }
    effect.version = f->version;
    *ret_effect = effect;
    return 0;
}

void tl_fold_pass(struct tl_fold *f) {
    f->position++;
}

int tl_fold_take_over(struct tl_fold *f, uint64_t epoch) {
    if (epoch <= f->epoch) {
        return tl_fail(TL_E_FENCED,
                       "shard %" PRIu32 ": epoch %" PRIu64
                       " is not above the state's %" PRIu64,
                       f->config.shard, epoch, f->epoch);
    }
    f->epoch = epoch;
    return 0;
}

/* ---- what can be asked -------------------------------------------------------- */

const struct tl_fold_config *tl_fold_config(const struct tl_fold *f) {
    return &f->config;
}

uint64_t tl_fold_version(const struct tl_fold *f) {
    return f->version;
}

uint64_t tl_fold_position(const struct tl_fold *f) {
    return f->position;
}

uint64_t tl_fold_epoch(const struct tl_fold *f) {
    return f->epoch;
}

double tl_fold_rate(const struct tl_fold *f) {
    return tl_schedule_rate(&f->config.schedule, f->rate, f->version);
}

struct tl_fold_counters tl_fold_counters(const struct tl_fold *f) {
    return f->counters;
}

const uint64_t *tl_fold_staleness(const struct tl_fold *f) {
    return f->staleness;
}
