/* pool.c - max-pooling, also as the last step of a convolution.
 *
 * Windows do not overlap, so a value belongs to one window at most, and one byte per
 * output, the place of the maximum, is all that the way back needs. Bias and ReLU are
 * applied to the maximum, which is the maximum of what they would have given: the
 * convolution's full output is read once, while it is still in the cache. */
#include "nn_internal.h"

#include <math.h>
#include <string.h>

/* One output pixel, all channels; `line` floats lie between the window's lines. `size`
 * is a constant where this is inlined. The first of equal values wins, as in PyTorch;
 * NaN passes through ReLU. Marks are chosen by masks, not conditions: those are what
 * GCC makes vector code of. */
static inline __attribute__((always_inline)) void
pool_pixel(size_t size, size_t line, size_t channels, const float *restrict corner,
           const float *restrict bias, float floor, float *restrict out,
           uint8_t *restrict marks) {
    for (size_t c = 0; c < channels; c++) {
        float best = corner[c];
        int mark = 0;
        for (size_t k = 1; k < size * size; k++) {
            const float value = corner[(k / size) * line + (k % size) * channels + c];
            const int better = -(value > best);
            mark = (mark & ~better) | ((int)k & better);
            best = value > best ? value : best;
        }
        best += bias[c];
        mark |= -(best <= floor); /* its byte is TL_NN_MARK_NONE */
        out[c] = best <= floor ? floor : best;
        marks[c] = (uint8_t)mark;
    }
}

static inline __attribute__((always_inline)) void
pool_image(const struct tl_nn_pooling *p, size_t size, const float *grid, float *out,
           uint8_t *marks) {
    const size_t rows = p->height / size;
    const size_t columns = p->width / size;
    const size_t channels = p->channels;
    const size_t line = p->width * channels;
    const float floor = p->relu ? 0.0F : -INFINITY;
    const float *bias = p->bias;
    for (size_t y = 0; y < rows; y++, grid += size * line) {
        for (size_t x = 0; x < columns; x++) {
            pool_pixel(size, line, channels, grid + x * size * channels, bias, floor,
                       out, marks);
            out += channels;
            marks += channels;
        }
    }
}

TL_NN_CLONES
void tl_nn_pool(const struct tl_nn_pooling *p, const float *grid, float *out,
                uint8_t *marks) {
    switch (p->size) {
    case 1:
        pool_image(p, 1, grid, out, marks);
        break;
    case 2:
        pool_image(p, 2, grid, out, marks);
        break;
    default:
        pool_image(p, p->size, grid, out, marks);
    }
}

TL_NN_CLONES
void tl_nn_unpool(const struct tl_nn_pooling *p, const float *d_out,
                  const uint8_t *marks, float *d_grid) {
    const size_t size = p->size;
    if (p->height % size != 0 || p->width % size != 0) {
        memset(d_grid, 0, p->height * p->width * p->channels * sizeof(float));
    }
    for (size_t y = 0; y < p->height / size; y++) {
        for (size_t x = 0; x < p->width / size; x++) {
            float *corner = d_grid + (y * p->width + x) * size * p->channels;
            for (unsigned k = 0; k < size * size; k++) {
                float *restrict to =
                    corner + ((k / size) * p->width + k % size) * p->channels;
                for (size_t c = 0; c < p->channels; c++) {
                    to[c] = marks[c] == k ? d_out[c] : 0.0F;
                }
            }
            d_out += p->channels;
            marks += p->channels;
        }
    }
}

/* ---- the layer ---------------------------------------------------------------- */

static const struct tl_nn_field fields[] = {
    {.name = "size", .min = 1, .max = TL_NN_POOL_MAX, .fallback = NAN, .whole = true},
};

static const char *fit(struct tl_nn_layer *l) {
    l->pool = (size_t)l->option[0];
    if (l->in.flat) {
        return "needs an image, but the layer before gives a flat row";
    }
    if (l->in.height < l->pool || l->in.width < l->pool) {
        return "\"size\" is larger than the image that the layer before gives";
    }
    l->grid = l->in;
    l->out = l->in;
    l->out.height /= l->pool;
    l->out.width /= l->pool;
    return NULL;
}

static void reserve(struct tl_nn_layer *l, struct tl_nn_arena *a, size_t max_batch) {
    l->marks = tl_nn_take_bytes(a, max_batch * tl_nn_size(&l->out));
    l->kept = tl_nn_take_floats(a, l->grid.channels); /* a bias of zeros */
}

static struct tl_nn_pooling pooling(const struct tl_nn_layer *l) {
    return (struct tl_nn_pooling){l->grid.height, l->grid.width, l->grid.channels,
                                  l->pool,        l->kept,       false};
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const struct tl_nn_pooling p = pooling(l);
    for (size_t n = 0; n < pass->batch; n++) {
        const size_t out = n * tl_nn_size(&l->out);
        tl_nn_pool(&p, in + n * tl_nn_size(&l->in), l->values + out, l->marks + out);
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    (void)in;
    const struct tl_nn_pooling p = pooling(l);
    for (size_t n = 0; n < pass->batch && d_in != NULL; n++) {
        const size_t out = n * tl_nn_size(&l->out);
        tl_nn_unpool(&p, d_out + out, l->marks + out, d_in + n * tl_nn_size(&l->in));
    }
}

const struct tl_nn_kind tl_nn_max_pool = {
    .name = "max_pool",
    .fields = fields,
    .field_count = sizeof(fields) / sizeof(fields[0]),
    .fit = fit,
    .reserve = reserve,
    .forward = forward,
    .backward = backward,
};
