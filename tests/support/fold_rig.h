/* fold_rig.h - what the fold's tests share: a small fold, records in one line, the
 * bytes of a state, and random numbers that a seed repeats. */
#ifndef TL_TESTS_FOLD_RIG_H
#define TL_TESTS_FOLD_RIG_H

#include "throughline/fold.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

/* What tl_fold_apply() did with the last record offered through the rig. */
static struct tl_fold_effect rig_effect;

static inline uint64_t rig_random(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t rig_below(uint64_t *seed, uint64_t n) {
    return n > 0 ? rig_random(seed) % n : 0;
}

/* In [-1, 1), all values exact. */
static inline float rig_float(uint64_t *seed) {
    return (float)(int32_t)(rig_random(seed) >> 40) / 8388608.0f - 1.0f;
}

static inline void rig_fill(float *values, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        values[i] = rig_float(&seed);
    }
}

static inline float *rig_floats(size_t n, uint64_t seed) {
    float *values = malloc(n * sizeof(*values));
    assert_non_null(values);
    rig_fill(values, n, seed);
    return values;
}

/* Plain SGD with rate 1, one shard, async. */
static inline struct tl_fold_config rig_config(uint64_t count) {
    return (struct tl_fold_config){
        .shards = 1,
        .count = count,
        .spare_copies = 2,
        .optimizer = {.learning_rate = 1.0,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-8},
    };
}

static inline struct tl_fold *rig_new(const struct tl_fold_config *config,
                                      uint64_t seed) {
    float *weights = rig_floats(config->count, seed);
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(config, weights, &f), 0);
    free(weights);
    return f;
}

/* Offer `r` as the next record of f's log. */
static inline int rig_offer(struct tl_fold *f, struct tl_record r) {
    r.position = tl_fold_position(f) + 1;
    r.epoch = tl_fold_epoch(f);
    r.shard = tl_fold_config(f)->shard;
    int rc = tl_fold_apply(f, &r, &rig_effect);
    assert_int_equal(tl_fold_position(f), r.position);
    return rc;
}

static inline int rig_join(struct tl_fold *f, uint32_t worker, uint64_t incarnation,
                           uint64_t sequence, uint64_t step) {
    return rig_offer(f, (struct tl_record){.kind = TL_RECORD_JOIN,
                                           .worker = worker,
                                           .incarnation = incarnation,
                                           .sequence = sequence,
                                           .step = step});
}

static inline int rig_leave(struct tl_fold *f, uint32_t worker, uint64_t incarnation,
                            uint64_t step) {
    return rig_offer(f, (struct tl_record){.kind = TL_RECORD_LEAVE,
                                           .worker = worker,
                                           .incarnation = incarnation,
                                           .step = step});
}

static inline int rig_push(struct tl_fold *f, uint32_t worker, uint64_t sequence,
                           uint64_t read_version, const float *values) {
    return rig_offer(f, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                           .worker = worker,
                                           .incarnation = 1,
                                           .sequence = sequence,
                                           .read_version = read_version,
                                           .norm = 1.0f,
                                           .values = values,
                                           .value_count = tl_fold_config(f)->count});
}

static inline struct tl_fold_worker rig_worker(const struct tl_fold *f,
                                               uint32_t worker) {
    struct tl_fold_worker w;
    assert_int_equal(tl_fold_worker(f, worker, &w), 0);
    return w;
}

static inline void rig_copy_view(const struct tl_view *v, float *out) {
    for (size_t i = 0; i < tl_view_blocks(v); i++) {
        size_t n = 0;
        const float *block = tl_view_block(v, i, &n);
        memcpy(out, block, n * sizeof(*out));
        out += n;
    }
}

static inline void rig_weights(struct tl_fold *f, float *out) {
    struct tl_view *v = NULL;
    assert_int_equal(tl_fold_view(f, &v), 0);
    rig_copy_view(v, out);
    tl_view_release(v);
}

/* The first weight: enough where all elements are treated alike. */
static inline float rig_weight(struct tl_fold *f) {
    struct tl_view *v = NULL;
    assert_int_equal(tl_fold_view(f, &v), 0);
    float weight = tl_view_block(v, 0, NULL)[0];
    tl_view_release(v);
    return weight;
}

struct rig_bytes {
    uint8_t *bytes;
    size_t size;
};

static inline struct rig_bytes rig_cut_bytes(const struct tl_cut *c) {
    struct rig_bytes b = {.bytes = malloc(tl_cut_bytes(c))};
    assert_non_null(b.bytes);
    const void *segment = NULL;
    size_t size = 0;
    for (size_t i = 0; tl_cut_segment(c, i, &segment, &size); i++) {
        assert_true(b.size + size <= tl_cut_bytes(c));
        memcpy(b.bytes + b.size, segment, size);
        b.size += size;
    }
    assert_int_equal(b.size, tl_cut_bytes(c));
    return b;
}

/* The bytes of f's present state; free(.bytes). */
static inline struct rig_bytes rig_state(struct tl_fold *f) {
    struct tl_cut *c = NULL;
    assert_int_equal(tl_fold_cut(f, &c), 0);
    struct rig_bytes b = rig_cut_bytes(c);
    tl_cut_release(c);
    return b;
}

/* Restore in pieces of random sizes up to `largest`. */
static inline int rig_restore(const struct tl_fold_config *config, struct rig_bytes b,
                              size_t largest, uint64_t *seed,
                              struct tl_fold **ret_fold) {
    struct tl_restore *r = NULL;
    int rc = tl_restore_new(config, &r);
    if (rc != 0) {
        return rc;
    }
    for (size_t at = 0; at < b.size && rc == 0;) {
        size_t piece = 1 + (size_t)rig_below(seed, largest);
        size_t n = piece < b.size - at ? piece : b.size - at;
        rc = tl_restore_feed(r, b.bytes + at, n);
        at += n;
    }
    if (rc == 0) {
        rc = tl_restore_done(r, ret_fold);
    }
    if (rc != 0) {
        tl_restore_free(r);
    }
    return rc;
}

static inline void rig_assert_same_state(struct tl_fold *a, struct tl_fold *b) {
    struct rig_bytes x = rig_state(a), y = rig_state(b);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.bytes, y.bytes, x.size);
    free(x.bytes);
    free(y.bytes);
}

#endif
