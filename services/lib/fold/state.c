/* state.c - every scalar and table of the state as bytes, both ways.
 *
 * One description of the layout (head_body, worker_entry) is walked to write and to
 * read, so the two can't drift apart. What is read is then checked against the
 * configuration (is it this shard's?) and against itself (can it be a state?).
 * docs/state.md has the layout. */
#include "fold_internal.h"
#include "walk.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char magic[8] = {'T', 'L', 'S', 'T', 'A', 'T', 'E', '1'};

/* ---- the walk ------------------------------------------------------------------- */

/* What a state is of; must be the same in a fold that takes it. */
struct identity {
    uint32_t shard, shards;
    uint64_t first, count;
    uint32_t consistency, optimizer;
    double momentum, beta1, beta2;
};

/* The head's fixed part. */
struct head {
    char magic[8];
    uint32_t head_bytes, workers;
    struct identity identity;
    uint32_t arrays; /* bit per enum tl_fold_array */
    uint32_t contributions;
    uint64_t version, position, epoch;
    double rate, beta1_power, beta2_power;
    struct tl_fold_counters counters;
    uint64_t staleness[TL_STALENESS_BUCKETS];
};

static void walk_identity(struct walk *k, struct identity *id) {
    walk_u32(k, &id->shard);
    walk_u32(k, &id->shards);
    walk_u64(k, &id->first);
    walk_u64(k, &id->count);
    walk_u32(k, &id->consistency);
    walk_u32(k, &id->optimizer);
    walk_f64(k, &id->momentum);
    walk_f64(k, &id->beta1);
    walk_f64(k, &id->beta2);
}

static void walk_counters(struct walk *k, struct tl_fold_counters *c) {
    walk_u64(k, &c->folded);
    walk_u64(k, &c->lost);
    walk_u64(k, &c->duplicated);
    walk_u64(k, &c->stale);
    walk_u64(k, &c->late);
    walk_u64(k, &c->nonfinite);
    walk_u64(k, &c->missing);
}

static void walk_prefix(struct walk *k, struct head *h) {
    walk_bytes(k, h->magic, sizeof(h->magic));
    walk_u32(k, &h->head_bytes);
    walk_u32(k, &h->workers);
}

static void walk_head(struct walk *k, struct head *h) {
    walk_prefix(k, h);
    walk_identity(k, &h->identity);
    walk_u32(k, &h->arrays);
    walk_u32(k, &h->contributions);
    walk_u64(k, &h->version);
    walk_u64(k, &h->position);
    walk_u64(k, &h->epoch);
    walk_f64(k, &h->rate);
    walk_f64(k, &h->beta1_power);
    walk_f64(k, &h->beta2_power);
    walk_counters(k, &h->counters);
    for (uint32_t i = 0; i < TL_STALENESS_BUCKETS; i++) {
        walk_u64(k, &h->staleness[i]);
    }
}

#define FLAG_ACTIVE      1u
#define FLAG_CONTRIBUTED 2u

static void walk_worker(struct walk *k, struct tl_fold_worker *w, uint32_t *flags) {
    walk_u32(k, &w->worker);
    walk_u32(k, flags);
    walk_u64(k, &w->incarnation);
    walk_u64(k, &w->sequence);
    walk_u64(k, &w->from_step);
    walk_u64(k, &w->until_step);
    walk_u64(k, &w->folded);
    walk_u64(k, &w->lost);
    walk_u64(k, &w->clock);
}

/* ---- writing -------------------------------------------------------------------- */

static struct identity identity_of(const struct tl_fold *f) {
    const struct tl_fold_config *c = &f->config;
    const struct tl_optimizer *o = &c->optimizer;
    bool is_adam = o->kind != TL_SGD;
    return (struct identity){
        .shard = c->shard,
        .shards = c->shards,
        .first = c->first,
        .count = c->count,
        .consistency = c->consistency,
        .optimizer = o->kind,
        .momentum = is_adam ? 0.0 : o->momentum,
        .beta1 = is_adam ? o->beta1 : 0.0,
        .beta2 = is_adam ? o->beta2 : 0.0,
    };
}

bool tl_state_has_array(const struct tl_fold *f, enum tl_fold_array array) {
    return f->arrays[array] && (array != TL_ARRAY_SUM || f->contributions > 0);
}

size_t tl_state_arrays(const struct tl_fold *f) {
    return TL_ARRAYS + (size_t)f->history.count;
}

const uint32_t *tl_state_array(const struct tl_fold *f, size_t i) {
    if (i >= TL_ARRAYS) {
        return f->history.kept[i - TL_ARRAYS].blocks;
    }
    return tl_state_has_array(f, (enum tl_fold_array)i) ? f->arrays[i] : NULL;
}

static uint32_t arrays_of(const struct tl_fold *f) {
    uint32_t bits = 0;
    for (enum tl_fold_array a = TL_ARRAY_WEIGHTS; a < TL_ARRAYS; a++) {
        bits |= (uint32_t)tl_state_has_array(f, a) << a;
    }
    return bits;
}

static struct head head_of(const struct tl_fold *f) {
    uint32_t workers = tl_table_joined(f);
    struct head h = {
        .head_bytes = TL_STATE_FIXED_BYTES + workers * TL_STATE_WORKER_BYTES +
                      tl_stale_state_bytes(f),
        .workers = workers,
        .identity = identity_of(f),
        .arrays = arrays_of(f),
        .contributions = TL_MUTATE(barrier_left_out) ? 0 : f->contributions,
        .version = f->version,
        .position = f->position + TL_MUTATE(position_apart),
        .epoch = f->epoch,
        .rate = TL_MUTATE(rate_left_out) ? f->config.optimizer.learning_rate : f->rate,
        .beta1_power = f->beta1_power,
        .beta2_power = f->beta2_power,
        .counters = f->counters,
    };
    memcpy(h.magic, magic, sizeof(magic));
    memcpy(h.staleness, f->staleness, sizeof(h.staleness));
    return h;
}

size_t tl_state_encode(const struct tl_fold *f, uint8_t *bytes) {
    struct walk k = {.writes = true, .to = bytes};
    struct head h = head_of(f);
    walk_head(&k, &h);
    assert(k.to == bytes + TL_STATE_FIXED_BYTES);
    for (uint32_t i = 0; i < f->worker_end; i++) {
        struct tl_fold_worker w = f->workers[i];
        if (w.incarnation == 0) {
            continue;
        }
        w.sequence = TL_MUTATE(table_left_out) ? 0 : w.sequence;
        uint32_t flags =
            (w.active ? FLAG_ACTIVE : 0u) | (w.contributed ? FLAG_CONTRIBUTED : 0u);
        walk_worker(&k, &w, &flags);
    }
    tl_stale_encode(f, &k);
    assert(k.to == bytes + h.head_bytes);
    return h.head_bytes;
}

/* ---- reading -------------------------------------------------------------------- */

int tl_state_corrupt(const char *what) {
    return tl_fail(TL_E_CORRUPT, "state: %s", what);
}

int tl_state_head_size(const uint8_t *prefix, size_t *ret_size) {
    struct walk k = {.from = prefix};
    struct head h = {.workers = 0};
    walk_prefix(&k, &h);
    if (memcmp(h.magic, magic, sizeof(magic)) != 0) {
        return tl_state_corrupt("does not begin with TLSTATE1");
    }
    if (h.workers > TL_WORKER_LIMIT) {
        return tl_state_corrupt("more workers than the limit");
    }
    uint32_t least = TL_STATE_FIXED_BYTES + h.workers * TL_STATE_WORKER_BYTES;
    if (h.head_bytes != least && (h.head_bytes < least + TL_STATE_STALE_BYTES ||
                                  h.head_bytes > TL_STATE_HEAD_MAX)) {
        return tl_state_corrupt("the head's size is not that of its table of workers");
    }
    *ret_size = h.head_bytes;
    return 0;
}

/* Zero has two signs, and one state one encoding. */
static bool is_same(double a, double b) {
    uint64_t bits[2];
    memcpy(&bits[0], &a, sizeof(a));
    memcpy(&bits[1], &b, sizeof(b));
    return bits[0] == bits[1];
}

static int check_identity(const struct tl_fold *f, const struct identity *id) {
    struct identity own = identity_of(f);
    if (id->shard != own.shard || id->shards != own.shards || id->first != own.first ||
        id->count != own.count) {
        return tl_fail(TL_E_MISMATCH,
                       "state: of shard %" PRIu32 " of %" PRIu32 " with %" PRIu64
                       " parameters from %" PRIu64 "; this is shard %" PRIu32
                       " of %" PRIu32 " with %" PRIu64 " from %" PRIu64,
                       id->shard, id->shards, id->count, id->first, own.shard,
                       own.shards, own.count, own.first);
    }
    if (id->consistency != own.consistency) {
        return tl_fail(TL_E_MISMATCH, "state: of another consistency (%" PRIu32 ")",
                       id->consistency);
    }
    if (id->optimizer != own.optimizer || !is_same(id->momentum, own.momentum) ||
        !is_same(id->beta1, own.beta1) || !is_same(id->beta2, own.beta2)) {
        return tl_fail(TL_E_MISMATCH, "state: of another optimizer, momentum or betas");
    }
    return 0;
}

static int check_counters(const struct head *h) {
    uint64_t staleness = 0;
    for (uint32_t i = 0; i < TL_STALENESS_BUCKETS; i++) {
        if (h->staleness[i] > h->counters.folded) {
            return tl_state_corrupt(
                "more gradients in the staleness counts than folded");
        }
        staleness += h->staleness[i];
    }
    if (staleness != h->counters.folded) {
        return tl_state_corrupt(
            "the staleness counts do not add up to the gradients folded");
    }
    if (h->counters.folded > h->position || h->version > h->position) {
        return tl_state_corrupt("more gradients or versions than log positions");
    }
    return 0;
}

/* How many gradients a version stands for. */
static bool version_fits(const struct head *h) {
    if (h->identity.consistency != TL_SYNC) {
        return h->contributions == 0 && h->version == h->counters.folded;
    }
    return h->contributions <= h->counters.folded &&
           h->version <= h->counters.folded - h->contributions;
}

static bool is_power(double power) {
    return power >= 0.0 && power <= 1.0;
}

static int check_head(const struct tl_fold *f, const struct head *h) {
    int rc = check_identity(f, &h->identity);
    if (rc == 0) {
        rc = check_counters(h);
    }
    if (rc != 0) {
        return rc;
    }
    if (!version_fits(h)) {
        return tl_state_corrupt("the version is not that of the gradients folded");
    }
    if (!isfinite(h->rate) || h->rate <= 0.0) {
        return tl_state_corrupt("the learning rate is not above 0");
    }
    if (!is_power(h->beta1_power) || !is_power(h->beta2_power)) {
        return tl_state_corrupt("a power of beta is not in [0, 1]");
    }
    return 0;
}

static bool worker_is_possible(const struct tl_fold_worker *w, uint32_t flags) {
    return w->worker < TL_WORKER_LIMIT && flags <= (FLAG_ACTIVE | FLAG_CONTRIBUTED) &&
           w->incarnation > 0 && w->sequence <= TL_SEQUENCE_LIMIT &&
           w->folded <= w->sequence && w->lost <= w->sequence - w->folded &&
           w->clock <= TL_SEQUENCE_LIMIT * TL_WORKER_LIMIT &&
           w->active == (w->until_step == UINT64_MAX);
}

static int decode_worker(struct tl_fold *f, struct walk *k) {
    struct tl_fold_worker w = {0};
    uint32_t flags = 0;
    walk_worker(k, &w, &flags);
    w.active = (flags & FLAG_ACTIVE) != 0;
    w.contributed = (flags & FLAG_CONTRIBUTED) != 0;
    if (!worker_is_possible(&w, flags)) {
        return tl_state_corrupt("an entry of the table of workers is impossible");
    }
    if (w.worker < f->worker_end) {
        return tl_state_corrupt("the table of workers is not in ascending order");
    }
    f->workers[w.worker] = w;
    f->worker_end = w.worker + 1;
    return 0;
}

static int check_table(const struct tl_fold *f) {
    uint64_t folded = 0, lost = 0;
    uint32_t contributions = 0;
    for (uint32_t i = 0; i < f->worker_end; i++) {
        folded += f->workers[i].folded;
        lost += f->workers[i].lost;
        contributions += f->workers[i].contributed;
    }
    if (folded != f->counters.folded || lost != f->counters.lost) {
        return tl_state_corrupt("the workers' gradients do not add up to the totals");
    }
    if (contributions != f->contributions) {
        return tl_state_corrupt(
            "the open step has other contributions than the workers made");
    }
    return 0;
}

static void take_head(struct tl_fold *f, const struct head *h) {
    f->version = h->version;
    f->position = h->position;
    f->epoch = h->epoch;
    f->rate = h->rate;
    f->beta1_power = h->beta1_power;
    f->beta2_power = h->beta2_power;
    f->counters = h->counters;
    f->contributions = h->contributions;
    memcpy(f->staleness, h->staleness, sizeof(f->staleness));
}

static int check_arrays(const struct tl_fold *f, uint32_t arrays) {
    uint32_t difference = arrays ^ arrays_of(f);
    if (difference == 1u << TL_ARRAY_STALE) {
        return tl_fail(TL_E_MISMATCH, "state: of another policy for stale gradients");
    }
    return difference == 0 ? 0 : tl_state_corrupt("other arrays than such a state has");
}

int tl_state_decode(struct tl_fold *f, const uint8_t *bytes) {
    struct walk k = {.from = bytes};
    struct head h;
    walk_head(&k, &h);
    int rc = check_head(f, &h);
    if (rc != 0) {
        return rc;
    }
    take_head(f, &h);
    rc = check_arrays(f, h.arrays);
    for (uint32_t i = 0; i < h.workers && rc == 0; i++) {
        rc = decode_worker(f, &k);
    }
    if (rc == 0) {
        rc = check_table(f);
    }
    uint32_t table = TL_STATE_FIXED_BYTES + h.workers * TL_STATE_WORKER_BYTES;
    return rc == 0 ? tl_stale_decode(f, &k, h.head_bytes - table) : rc;
}
