/* update.c - from a gradient to new weights, in one pass over memory.
 *
 * What happens to a gradient before the optimizer sees it (decoding, clipping, the sum
 * with the barrier, the mean) is done in a tile that stays in the first-level cache;
 * without any of it the optimizer reads the record's own values. */
#include "fold_internal.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define TILE_FLOATS 2048u

/* Where an update's gradient comes from. */
struct source {
    struct tl_encoded gradient; /* a record's; bytes NULL: none */
    bool clips;
    float scale, limit;
    struct tl_correction correction;
    bool adds_sum; /* the open step's earlier contributions */
    float divisor; /* 1: the sum itself */
};

struct tl_encoded tl_record_encoded(const struct tl_record *r) {
    bool is_plain = r->encoding == TL_ENCODING_F32;
    return (struct tl_encoded){
        .encoding = r->encoding,
        .bytes = r->values,
        .size = is_plain ? r->value_count * sizeof(float) : r->value_bytes,
        .count = r->value_count,
    };
}

static bool is_adam(const struct tl_fold *f) {
    return f->config.optimizer.kind != TL_SGD;
}

static double clip_scale(const struct tl_fold_config *c, const struct tl_record *r) {
    bool clips = c->clip_norm > 0.0 && (double)r->norm > c->clip_norm;
    return clips ? c->clip_norm / (double)r->norm : 1.0;
}

static const struct tl_correction no_correction = {.scale = 1.0};

static struct source source_of(const struct tl_fold *f, const struct tl_record *r,
                               struct tl_correction correction) {
    struct source s = {
        .scale = 1.0f, .limit = INFINITY, .divisor = 1.0f, .correction = no_correction};
    if (!r) {
        return s;
    }
    const struct tl_fold_config *c = &f->config;
    s.gradient = tl_record_encoded(r);
    s.correction = correction;
    s.scale = (float)(clip_scale(c, r) * (is_adam(f) ? 1.0 : correction.scale));
    if (c->clip_value > 0.0) {
        s.limit = (float)c->clip_value;
    }
    s.clips = s.scale < 1.0f || s.limit <= FLT_MAX;
    return s;
}

static bool is_encoded(const struct source *s) {
    return s->gradient.encoding != TL_ENCODING_F32;
}

static bool needs_tile(const struct source *s) {
    return is_encoded(s) || s->clips || tl_stale_changes(&s->correction) ||
           s->adds_sum || s->divisor != 1.0f;
}

/* `n` elements of a record's gradient from `at` on, NULL if there is none: the record's
 * own memory, or decoded into `tile`. */
static const float *values_at(const struct source *s, uint64_t at, size_t n,
                              float *tile) {
    const float *values = s->gradient.bytes;
    if (values && is_encoded(s)) {
        tl_codec_decode(&s->gradient, at, n, tile);
        return tile;
    }
    return values ? values + at : NULL;
}

/* `n` elements of the update's gradient from `at` on; `sum` has them of the open step.
 */
static const float *gather(const struct source *s, uint64_t at, const float *sum,
                           size_t n, float *tile) {
    const float *values = values_at(s, at, n, tile);
    const float *g = values;
    if (values && s->clips) {
        tl_kernel_clip(tile, g, n, s->scale, s->limit);
        g = tile;
    }
    if (s->adds_sum && !values) {
        g = sum;
    }
    if (s->adds_sum && values) {
        tl_kernel_add(tile, sum, g, n);
        g = tile;
    }
    if (s->divisor != 1.0f) {
        tl_kernel_divide(tile, g, n, s->divisor);
        g = tile;
    }
    return g;
}

static const float *offset(const float *p, size_t n) {
    return p ? p + n : NULL;
}

/* Block i of array `array`: what it holds, and where its successor goes. */
static const float *begin_block(struct tl_fold *f, enum tl_fold_array array, size_t i,
                                float **ret_out) {
    const float *in = tl_blocks_at(&f->pool, f->arrays[array][i]);
    *ret_out = tl_blocks_successor(&f->pool, &f->arrays[array][i]);
    return in;
}

static bool notes_steps(const struct tl_fold *f) {
    return f->config.stale.policy == TL_STALE_GAP;
}

static bool writes_stale(const struct tl_fold *f, const struct source *s) {
    return notes_steps(f) || s->correction.policy == TL_STALE_BACKLOG;
}

static struct tl_lanes begin_lanes(struct tl_fold *f, const struct source *s,
                                   size_t i) {
    struct tl_lanes l = {.count = tl_fold_block_size(f, i)};
    l.weights = begin_block(f, TL_ARRAY_WEIGHTS, i, &l.weights_out);
    uint32_t slots = tl_optimizer_slots(&f->config.optimizer);
    for (uint32_t k = 0; k < slots; k++) {
        l.slot[k] = begin_block(f, TL_ARRAY_SLOT0 + k, i, &l.slot_out[k]);
    }
    if (s->correction.base) {
        l.base = tl_blocks_at(&f->pool, s->correction.base[i]);
    }
    if (writes_stale(f, s)) {
        l.stale = begin_block(f, TL_ARRAY_STALE, i, &l.stale_out);
    }
    return l;
}

static void advance_lanes(struct tl_lanes *l, size_t n) {
    l->weights += n;
    l->weights_out += n;
    for (uint32_t k = 0; k < TL_SLOTS_MAX && l->slot[k]; k++) {
        l->slot[k] += n;
        l->slot_out[k] += n;
    }
    l->base = offset(l->base, n);
    l->stale = offset(l->stale, n);
    l->stale_out = l->stale_out ? l->stale_out + n : NULL;
}

/* Update l->count elements, at most a tile of them where something is noted. */
static void update_run(const struct tl_fold *f, const struct source *s,
                       struct tl_lanes *l, const struct tl_step *step, float *tile) {
    tl_update_kernel kernel = tl_kernel_for(&f->config.optimizer);
    float before[TILE_FLOATS];
    l->gradient = tl_stale_correct(&s->correction, l, tile);
    if (notes_steps(f)) {
        memcpy(before, l->weights, l->count * sizeof(*before));
    }
    kernel(l, step);
    if (notes_steps(f)) {
        tl_stale_note(l, before);
    }
}

static void update_block(struct tl_fold *f, const struct source *s,
                         const struct tl_step *step, size_t i) {
    uint64_t at = (uint64_t)i * TL_BLOCK_FLOATS;
    const float *sum =
        s->adds_sum ? tl_blocks_at(&f->pool, f->arrays[TL_ARRAY_SUM][i]) : NULL;
    float tile[TILE_FLOATS];
    struct tl_lanes l = begin_lanes(f, s, i);
    size_t left = l.count;
    size_t run = needs_tile(s) || notes_steps(f) ? TILE_FLOATS : left;
    while (left > 0) {
        l.count = left < run ? left : run;
        l.gradient = gather(s, at, sum, l.count, tile);
        update_run(f, s, &l, step, tile);
        left -= l.count;
        at += l.count;
        sum = offset(sum, l.count);
        advance_lanes(&l, l.count);
    }
}

static void update(struct tl_fold *f, const struct source *s) {
    struct tl_step step = tl_optimizer_step(f);
    if (is_adam(f)) {
        step.step_size = (float)((double)step.step_size * s->correction.scale);
    }
    if (notes_steps(f)) {
        tl_stale_note_step(f);
    }
    f->present = NULL; /* a view of it stays what it is: one version of the past */
    for (size_t i = 0; i < f->block_count; i++) {
        update_block(f, s, &step, i);
    }
    f->version++;
}

int tl_update_check(const struct tl_fold *f, const struct tl_record *r) {
    const struct tl_encoded gradient = tl_record_encoded(r);
    if (tl_fold_uses_norm(&f->config) && !(r->norm >= 0.0f && r->norm <= FLT_MAX)) {
        return tl_fail(TL_E_NONFINITE,
                       "worker %" PRIu32 " sequence %" PRIu64
                       ": the gradient's norm is not a finite number",
                       r->worker, r->sequence);
    }
    if (f->config.refuse_nonfinite && !tl_codec_is_finite(&gradient)) {
        return tl_fail(TL_E_NONFINITE,
                       "worker %" PRIu32 " sequence %" PRIu64
                       ": NaN or infinity in the gradient",
                       r->worker, r->sequence);
    }
    return 0;
}

void tl_update_apply(struct tl_fold *f, const struct tl_record *r, uint64_t staleness) {
    struct source s = source_of(f, r, tl_stale_judge(f, r, staleness));
    update(f, &s);
    tl_history_may_read(f, r->worker);
}

static void accumulate_block(struct tl_fold *f, const struct source *s, size_t i) {
    float tile[TILE_FLOATS];
    float *out = NULL;
    const float *sum = begin_block(f, TL_ARRAY_SUM, i, &out);
    const uint64_t first = (uint64_t)i * TL_BLOCK_FLOATS;
    size_t size = tl_fold_block_size(f, i);
    for (size_t at = 0; at < size; at += TILE_FLOATS) {
        size_t n = size - at < TILE_FLOATS ? size - at : TILE_FLOATS;
        const float *g = gather(s, first + at, sum + at, n, tile);
        memcpy(out + at, g, n * sizeof(*g));
    }
}

void tl_update_accumulate(struct tl_fold *f, const struct tl_record *r,
                          uint32_t earlier) {
    struct source s = source_of(f, r, no_correction);
    s.adds_sum = earlier > 0;
    for (size_t i = 0; i < f->block_count; i++) {
        accumulate_block(f, &s, i);
    }
}

void tl_update_commit(struct tl_fold *f, const struct tl_record *r, uint32_t earlier) {
    struct source s = source_of(f, r, no_correction);
    s.adds_sum = earlier > 0;
    s.divisor = tl_barrier_divisor(f);
    update(f, &s);
}
