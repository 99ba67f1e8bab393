/* dense.c - dense: every output from every input, one matrix product each way. */
#include "nn_internal.h"

#include <math.h>

static const struct tl_nn_field fields[] = {
    {.name = "units", .min = 1, .max = 1 << 20, .fallback = NAN, .whole = true},
};

static const char *fit(struct tl_nn_layer *l) {
    const size_t units = (size_t)l->option[0];
    if (!l->in.flat) {
        return "needs a flat row, but the layer before gives an image: put a "
               "\"flatten\" layer between";
    }
    l->out = (struct tl_nn_shape){true, 1, 1, units};
    tl_nn_declare(l, "weight", TL_NN_FILL_WEIGHT, 2, (size_t[]){units, l->in.channels});
    tl_nn_declare(l, "bias", TL_NN_FILL_BIAS, 1, &units);
    return NULL;
}

static bool absorb(struct tl_nn_layer *l, const struct tl_nn_layer *next) {
    if (next->kind == &tl_nn_relu) {
        l->relu = true;
        return true;
    }
    return false;
}

TL_NN_CLONES
static void add_bias(float *restrict row, const float *restrict bias, size_t units,
                     float floor) {
    for (size_t u = 0; u < units; u++) {
        const float value = row[u] + bias[u];
        row[u] = value <= floor ? floor : value;
    }
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const size_t inputs = l->in.channels;
    const size_t units = l->out.channels;
    const float *weight = pass->weights + l->first;
    tl_nn_multiply(tl_nn_plain(in, pass->batch, inputs),
                   tl_nn_flipped(weight, units, inputs), false, l->values);
    for (size_t n = 0; n < pass->batch; n++) {
        add_bias(l->values + n * units, weight + units * inputs, units,
                 l->relu ? 0.0F : -INFINITY);
    }
}

/* What is zero after ReLU (or after a dropout on top of it) has no derivative. */
TL_NN_CLONES
static void cut(float *restrict d_out, const float *restrict values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        d_out[i] = values[i] == 0.0F ? 0.0F : d_out[i];
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    const size_t inputs = l->in.channels;
    const size_t units = l->out.channels;
    float *d_weight = pass->gradient + l->first;
    if (l->relu) {
        cut(d_out, l->values, pass->batch * units);
    }
    tl_nn_column_sums(d_out, pass->batch, units, d_weight + units * inputs);
    tl_nn_multiply(tl_nn_flipped(d_out, pass->batch, units),
                   tl_nn_plain(in, pass->batch, inputs), false, d_weight);
    if (d_in != NULL) {
        tl_nn_multiply(tl_nn_plain(d_out, pass->batch, units),
                       tl_nn_plain(pass->weights + l->first, units, inputs), false,
                       d_in);
    }
}

const struct tl_nn_kind tl_nn_dense = {
    .name = "dense",
    .fields = fields,
    .field_count = sizeof(fields) / sizeof(fields[0]),
    .fit = fit,
    .absorb = absorb,
    .forward = forward,
    .backward = backward,
};
