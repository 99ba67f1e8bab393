/* batch_norm.c - batch normalisation, per channel, over the batch and its pixels.
 *
 * The running mean and variance that evaluation uses are parameters like all others:
 * the state of a job is one vector under one fold, and nothing else may be kept by a
 * worker. They "learn" by the gradient of rate / 2 * (running - batch)^2, whose least
 * expected value is at the mean over batches, under any optimizer (docs/models.md). */
#include "nn_internal.h"

#include <math.h>
#include <string.h>

enum { EPSILON, STATISTICS_RATE };

static const struct tl_nn_field fields[] = {
    {.name = "epsilon", .min = 1e-12, .max = 1, .fallback = 1e-5},
    {.name = "statistics_rate", .min = 0, .max = 1000, .fallback = 1},
};

static const char *fit(struct tl_nn_layer *l) {
    const size_t *channels = &l->in.channels;
    l->out = l->in;
    tl_nn_declare(l, "scale", TL_NN_FILL_ONE, 1, channels);
    tl_nn_declare(l, "shift", TL_NN_FILL_ZERO, 1, channels);
    l->learned = l->parameters;
    tl_nn_declare(l, "running_mean", TL_NN_FILL_ZERO, 1, channels);
    tl_nn_declare(l, "running_variance", TL_NN_FILL_ONE, 1, channels);
    return NULL;
}

/* kept: mean, variance, 1 / sqrt(variance + epsilon) of the last forward pass. */
static void reserve(struct tl_nn_layer *l, struct tl_nn_arena *a, size_t max_batch) {
    (void)max_batch;
    l->kept = tl_nn_take_floats(a, 3 * l->in.channels);
    l->scratch = 4 * l->in.channels; /* two rows of doubles */
}

/* What one pass over the layer works with. */
struct view {
    size_t rows, channels;
    const float *scale, *shift, *running_mean, *running_variance;
    float *mean, *variance, *inverse; /* in kept */
    double *sum, *product;            /* in scratch */
};

static struct view view(const struct tl_nn_layer *l, const struct tl_nn_pass *pass) {
    const size_t channels = l->in.channels;
    const float *parameters = pass->weights + l->first;
    return (struct view){
        .rows = pass->batch * tl_nn_pixels(&l->in),
        .channels = channels,
        .scale = parameters,
        .shift = parameters + channels,
        .running_mean = parameters + 2 * channels,
        .running_variance = parameters + 3 * channels,
        .mean = l->kept,
        .variance = l->kept + channels,
        .inverse = l->kept + 2 * channels,
        .sum = (double *)pass->scratch,
        .product = (double *)pass->scratch + channels,
    };
}

/* Mean first, then squares of differences: no cancellation. Both in double. */
TL_NN_CLONES
static void measure(const struct view *v, const float *in) {
    memset(v->sum, 0, 2 * v->channels * sizeof(double));
    for (size_t i = 0; i < v->rows; i++) {
        for (size_t c = 0; c < v->channels; c++) {
            v->sum[c] += (double)in[i * v->channels + c];
        }
    }
    for (size_t c = 0; c < v->channels; c++) {
        v->sum[c] /= (double)v->rows;
        v->mean[c] = (float)v->sum[c];
    }
    for (size_t i = 0; i < v->rows; i++) {
        for (size_t c = 0; c < v->channels; c++) {
            const double difference = (double)in[i * v->channels + c] - v->sum[c];
            v->product[c] += difference * difference;
        }
    }
    for (size_t c = 0; c < v->channels; c++) {
        v->variance[c] = (float)(v->product[c] / (double)v->rows);
    }
}

/* An optimizer with momentum may carry a running variance below zero for a while. */
static void recall(const struct view *v) {
    for (size_t c = 0; c < v->channels; c++) {
        v->mean[c] = v->running_mean[c];
        v->variance[c] = fmaxf(v->running_variance[c], 0.0F);
    }
}

TL_NN_CLONES
static void normalise(const struct view *v, const float *in, float *out) {
    for (size_t i = 0; i < v->rows; i++, in += v->channels, out += v->channels) {
        for (size_t c = 0; c < v->channels; c++) {
            const float unit = (in[c] - v->mean[c]) * v->inverse[c];
            out[c] = unit * v->scale[c] + v->shift[c];
        }
    }
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const struct view v = view(l, pass);
    if (pass->training) {
        measure(&v, in);
    } else {
        recall(&v);
    }
    for (size_t c = 0; c < v.channels; c++) {
        v.inverse[c] = 1.0F / sqrtf(v.variance[c] + (float)l->option[EPSILON]);
    }
    normalise(&v, in, l->values);
}

/* sum = derivative by shift, product = derivative by scale. */
TL_NN_CLONES
static void reduce(const struct view *v, const float *in, const float *d_out) {
    memset(v->sum, 0, 2 * v->channels * sizeof(double));
    for (size_t i = 0; i < v->rows; i++, in += v->channels, d_out += v->channels) {
        for (size_t c = 0; c < v->channels; c++) {
            const float unit = (in[c] - v->mean[c]) * v->inverse[c];
            v->sum[c] += (double)d_out[c];
            v->product[c] += (double)(d_out[c] * unit);
        }
    }
}

/* The running variance is the unbiased one. One row says nothing about a variance:
 * then both statistics stay. */
static void pull_statistics(const struct view *v, float rate, float *d_mean,
                            float *d_variance) {
    const float rows = (float)v->rows;
    for (size_t c = 0; c < v->channels; c++) {
        const float unbiased = v->variance[c] * rows / (rows - 1.0F);
        d_mean[c] = v->rows < 2 ? 0.0F : rate * (v->running_mean[c] - v->mean[c]);
        d_variance[c] = v->rows < 2 ? 0.0F : rate * (v->running_variance[c] - unbiased);
    }
}

TL_NN_CLONES
static void propagate(const struct view *v, const float *in, const float *d_out,
                      float *d_in) {
    const double rows = (double)v->rows;
    for (size_t i = 0; i < v->rows; i++) {
        const size_t at = i * v->channels;
        for (size_t c = 0; c < v->channels; c++) {
            const float unit = (in[at + c] - v->mean[c]) * v->inverse[c];
            const float common =
                (float)((v->sum[c] + (double)unit * v->product[c]) / rows);
            d_in[at + c] = v->scale[c] * v->inverse[c] * (d_out[at + c] - common);
        }
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    const struct view v = view(l, pass);
    float *gradient = pass->gradient + l->first;
    reduce(&v, in, d_out);
    for (size_t c = 0; c < v.channels; c++) {
        gradient[c] = (float)v.product[c];
        gradient[v.channels + c] = (float)v.sum[c];
    }
    pull_statistics(&v, (float)l->option[STATISTICS_RATE], gradient + 2 * v.channels,
                    gradient + 3 * v.channels);
    if (d_in != NULL) {
        propagate(&v, in, d_out, d_in);
    }
}

const struct tl_nn_kind tl_nn_batch_norm = {
    .name = "batch_norm",
    .fields = fields,
    .field_count = sizeof(fields) / sizeof(fields[0]),
    .fit = fit,
    .reserve = reserve,
    .forward = forward,
    .backward = backward,
};
