/* dropout.c - dropout: while training, a share of the values is set to zero and the
 * others are scaled up, so that evaluation needs no scaling. */
#include "throughline/data.h"

#include "nn_internal.h"

#include <math.h>
#include <string.h>

static const struct tl_nn_field fields[] = {
    {.name = "rate", .min = 0, .max = 1, .fallback = NAN, .open = true},
};

static const char *fit(struct tl_nn_layer *l) {
    l->out = l->in;
    return NULL;
}

static void reserve(struct tl_nn_layer *l, struct tl_nn_arena *a, size_t max_batch) {
    l->marks = tl_nn_take_bytes(a, max_batch * tl_nn_size(&l->out));
}

/* marks[i] = 1 for what stays. Every layer draws from a stream of its own. */
static void choose(const struct tl_nn_layer *l, uint64_t seed, size_t count) {
    uint64_t random = tl_random_mix(seed, l->index, 0);
    const uint64_t limit = (uint64_t)(l->option[0] * 0x1p32);
    for (size_t i = 0; i < count; i += 2) {
        const uint64_t draw = tl_random_next(&random);
        l->marks[i] = (draw & UINT32_MAX) >= limit;
        if (i + 1 < count) {
            l->marks[i + 1] = (draw >> 32) >= limit;
        }
    }
}

static void apply(const struct tl_nn_layer *l, const float *from, float *to,
                  size_t count) {
    const float scale = (float)(1.0 / (1.0 - l->option[0]));
    for (size_t i = 0; i < count; i++) {
        to[i] = l->marks[i] != 0 ? from[i] * scale : 0.0F;
    }
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const size_t count = pass->batch * tl_nn_size(&l->out);
    if (pass->training) {
        choose(l, pass->seed, count);
        apply(l, in, l->values, count);
    } else if (in != l->values) {
        memcpy(l->values, in, count * sizeof(float));
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    (void)in;
    if (d_in != NULL) {
        apply(l, d_out, d_in, pass->batch * tl_nn_size(&l->out));
    }
}

const struct tl_nn_kind tl_nn_dropout = {
    .name = "dropout",
    .fields = fields,
    .field_count = sizeof(fields) / sizeof(fields[0]),
    .in_place = true,
    .fit = fit,
    .reserve = reserve,
    .forward = forward,
    .backward = backward,
};
