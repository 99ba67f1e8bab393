/* kernels.c - the loops over elements, in PyTorch's order of operations. */
#include "../codec/wide.h"
#include "fold_internal.h"
#include "root.h"

#include <string.h>

#define ROOT_RUN 256u /* elements; a multiple of four, for tl_roots() */

WIDE void tl_kernel_sgd(const struct tl_lanes *l, const struct tl_step *s) {
    const float rate = s->rate, decay = s->decay;
    const float *w = l->weights, *gradient = l->gradient;
    float *w_out = l->weights_out;
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        float g = gradient[i] + decay * w[i];
        w_out[i] = w[i] - rate * g;
    }
}

WIDE void tl_kernel_momentum(const struct tl_lanes *l, const struct tl_step *s) {
    const float rate = s->rate, decay = s->decay, momentum = s->momentum;
    const float *w = l->weights, *m = l->slot[0], *gradient = l->gradient;
    float *w_out = l->weights_out, *m_out = l->slot_out[0];
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        float g = gradient[i] + decay * w[i];
        float velocity = momentum * m[i] + g;
        m_out[i] = velocity;
        w_out[i] = w[i] - rate * velocity;
    }
}

WIDE void tl_kernel_nesterov(const struct tl_lanes *l, const struct tl_step *s) {
    const float rate = s->rate, decay = s->decay, momentum = s->momentum;
    const float *w = l->weights, *m = l->slot[0], *gradient = l->gradient;
    float *w_out = l->weights_out, *m_out = l->slot_out[0];
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        float g = gradient[i] + decay * w[i];
        float velocity = momentum * m[i] + g;
        m_out[i] = velocity;
        w_out[i] = w[i] - rate * (g + momentum * velocity);
    }
}

/* The moments of a run; `second` gets a copy that stays in the first-level cache. */
static inline void adam_moments(const struct tl_lanes *l, const struct tl_step *s,
                                size_t at, size_t n, float *second) {
    const float decay = s->decay, beta1_rest = s->beta1_rest;
    const float beta2 = s->beta2, beta2_rest = s->beta2_rest;
    const float *w = l->weights + at, *gradient = l->gradient + at;
    const float *m = l->slot[0] + at, *v = l->slot[1] + at;
    float *m_out = l->slot_out[0] + at, *v_out = l->slot_out[1] + at;
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] + decay * w[i];
        m_out[i] = m[i] + beta1_rest * (g - m[i]);
        second[i] = beta2 * v[i] + beta2_rest * g * g;
        v_out[i] = second[i];
    }
}

static inline void adam_weights(const struct tl_lanes *l, const struct tl_step *s,
                                size_t at, size_t n, const float *root) {
    const float shrink = s->shrink, step_size = s->step_size;
    const float correction = s->root, epsilon = s->epsilon;
    const float *w = l->weights + at, *m = l->slot_out[0] + at;
    float *w_out = l->weights_out + at;
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float divisor = root[i] / correction + epsilon;
        w_out[i] = shrink * w[i] - step_size * m[i] / divisor;
    }
}

WIDE void tl_kernel_adam(const struct tl_lanes *l, const struct tl_step *s) {
    float second[ROOT_RUN] = {0}, root[ROOT_RUN];
    for (size_t at = 0; at < l->count; at += ROOT_RUN) {
        size_t left = l->count - at;
        size_t n = left < ROOT_RUN ? left : ROOT_RUN;
        adam_moments(l, s, at, n, second);
        tl_roots(root, second, ROOT_RUN);
        adam_weights(l, s, at, n, root);
    }
}

tl_update_kernel tl_kernel_for(const struct tl_optimizer *optimizer) {
    if (optimizer->kind != TL_SGD) {
        return tl_kernel_adam;
    }
    if (optimizer->nesterov) {
        return tl_kernel_nesterov;
    }
    return optimizer->momentum > 0.0 ? tl_kernel_momentum : tl_kernel_sgd;
}

WIDE void tl_kernel_clip(float *out, const float *g, size_t n, float scale,
                         float limit) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * scale;
        x = x > limit ? limit : x;
        out[i] = x < -limit ? -limit : x;
    }
}

WIDE void tl_kernel_add(float *out, const float *a, const float *b, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        out[i] = a[i] + b[i];
    }
}

/* The run's mean moves by (g - mean) / run, and so does what the run has done: its
 * first `run` gradients count as one, their mean. */
WIDE void tl_kernel_backlog(float *out, const struct tl_lanes *l, float run) {
    const float *g = l->gradient, *mean = l->stale;
    float *mean_out = l->stale_out;
    const bool begins = run <= 1.0f; /* the mean there is another run's */
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        float before = begins ? 0.0f : mean[i];
        float change = (g[i] - before) / run;
        mean_out[i] = before + change;
        out[i] = change;
    }
}

WIDE void tl_kernel_delay(float *out, const struct tl_lanes *l, float lambda) {
    const float *g = l->gradient, *w = l->weights, *base = l->base;
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        out[i] = g[i] + lambda * g[i] * g[i] * (w[i] - base[i]);
    }
}

WIDE void tl_kernel_elastic(float *out, const struct tl_lanes *l, float alpha,
                            float spring) {
    const float *g = l->gradient, *w = l->weights, *base = l->base;
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        out[i] = alpha * (g[i] + spring * (w[i] - base[i]));
    }
}

#define STEP_TINY 1e-10f

static inline void gap_run(float *out, const struct tl_lanes *l, size_t at, size_t n,
                           const float *root, float correction) {
    const float *g = l->gradient + at, *w = l->weights + at, *base = l->base + at;
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float gap = w[i] < base[i] ? base[i] - w[i] : w[i] - base[i];
        out[i] = g[i] / (1.0f + gap / (root[i] / correction + STEP_TINY));
    }
}

WIDE void tl_kernel_gap(float *out, const struct tl_lanes *l, float correction) {
    float square[ROOT_RUN] = {0}, root[ROOT_RUN];
    for (size_t at = 0; at < l->count; at += ROOT_RUN) {
        size_t left = l->count - at;
        size_t n = left < ROOT_RUN ? left : ROOT_RUN;
        memcpy(square, l->stale + at, n * sizeof(*square));
        tl_roots(root, square, ROOT_RUN);
        gap_run(out + at, l, at, n, root, correction);
    }
}

WIDE void tl_kernel_square(const struct tl_lanes *l, const float *before, float decay,
                           float rest) {
    const float *square = l->stale, *w = l->weights_out;
    float *out = l->stale_out;
    INDEPENDENT
    for (size_t i = 0; i < l->count; i++) {
        float step = w[i] - before[i];
        out[i] = decay * square[i] + rest * step * step;
    }
}

WIDE void tl_kernel_divide(float *out, const float *g, size_t n, float divisor) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        out[i] = g[i] / divisor;
    }
}
