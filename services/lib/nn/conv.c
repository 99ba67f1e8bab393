/* conv.c - conv2d: patches as rows of a matrix, a few images at a time.
 *
 * The batch is worked on in blocks whose patches stay in the processor's second-level
 * cache between being gathered and being multiplied. A ReLU and a max-pooling that
 * follow are taken over: a block's output is reduced while it is still in the cache,
 * and only what the pooling chose, one byte each, is kept for the way back. */
#include "nn_internal.h"

#include <math.h>
#include <string.h>

enum { FILTERS, KERNEL, PADDING, STRIDE };

#define KERNEL_MAX   31
/* Floats of patches in a block: half of a common 512 KiB cache. */
#define BLOCK_FLOATS ((size_t)64 * 1024)
/* From this run length on, listing the derivatives beats multiplying the zeros. */
#define SPARSE_RUN   16u

static const struct tl_nn_field fields[] = {
    {.name = "filters", .min = 1, .max = 65536, .fallback = NAN, .whole = true},
    {.name = "kernel", .min = 1, .max = KERNEL_MAX, .fallback = NAN, .whole = true},
    {.name = "padding", .min = 0, .max = KERNEL_MAX - 1, .fallback = 0, .whole = true},
    {.name = "stride", .min = 1, .max = KERNEL_MAX, .fallback = 1, .whole = true},
};

static const char *fit(struct tl_nn_layer *l) {
    const size_t filters = (size_t)l->option[FILTERS];
    const size_t kernel = (size_t)l->option[KERNEL];
    const size_t padding = (size_t)l->option[PADDING];
    const size_t stride = (size_t)l->option[STRIDE];
    if (l->in.flat) {
        return "needs an image, but the layer before gives a flat row";
    }
    if (padding >= kernel) {
        return "\"padding\" must be smaller than \"kernel\"";
    }
    if (l->in.height + 2 * padding < kernel || l->in.width + 2 * padding < kernel) {
        return "\"kernel\" is larger than the padded image";
    }
    l->grid.height = (l->in.height + 2 * padding - kernel) / stride + 1;
    l->grid.width = (l->in.width + 2 * padding - kernel) / stride + 1;
    l->grid.channels = filters;
    l->out = l->grid;
    tl_nn_declare(l, "weight", TL_NN_FILL_WEIGHT, 4,
                  (size_t[]){filters, l->in.channels, kernel, kernel});
    tl_nn_declare(l, "bias", TL_NN_FILL_BIAS, 1, &filters);
    return NULL;
}

/* ReLU and the maximum may come in either order: they give the same. */
static bool absorb(struct tl_nn_layer *l, const struct tl_nn_layer *next) {
    if (next->kind == &tl_nn_relu) {
        l->relu = true;
        return true;
    }
    if (next->kind == &tl_nn_max_pool && l->pool == 1) {
        l->pool = next->pool;
        l->out = next->out;
        return true;
    }
    return false;
}

static struct tl_nn_patches patches(const struct tl_nn_layer *l) {
    return (struct tl_nn_patches){
        .height = l->in.height,
        .width = l->in.width,
        .channels = l->in.channels,
        .kernel = (size_t)l->option[KERNEL],
        .stride = (size_t)l->option[STRIDE],
        .padding = (size_t)l->option[PADDING],
        .rows = l->grid.height,
        .columns = l->grid.width,
    };
}

static struct tl_nn_pooling pooling(const struct tl_nn_layer *l,
                                    const struct tl_nn_pass *pass) {
    const float *bias = pass->weights + l->first + l->slot[0].tensor.count;
    return (struct tl_nn_pooling){l->grid.height, l->grid.width, l->grid.channels,
                                  l->pool,        bias,          l->relu};
}

/* ---- memory ------------------------------------------------------------------- */

/* The layer's part of the scratch; the first two are one padded image each. */
struct work {
    float *padded, *d_padded;
    float *rows; /* patches of a block */
    float *grid; /* output of a block before pooling */
};

static size_t block_images(const struct tl_nn_patches *p) {
    const size_t image = p->rows * p->columns * tl_nn_patch_size(p);
    return image < BLOCK_FLOATS ? BLOCK_FLOATS / image : 1;
}

static struct work work(const struct tl_nn_patches *p, float *scratch) {
    struct work w;
    w.padded = scratch;
    w.d_padded = w.padded + tl_nn_padded_size(p);
    w.rows = w.d_padded + tl_nn_padded_size(p);
    w.grid = w.rows + block_images(p) * p->rows * p->columns * tl_nn_patch_size(p);
    return w;
}

static void reserve(struct tl_nn_layer *l, struct tl_nn_arena *a, size_t max_batch) {
    const struct tl_nn_patches p = patches(l);
    const size_t per_pixel = tl_nn_patch_size(&p) + l->grid.channels;
    const size_t block = block_images(&p) * tl_nn_pixels(&l->grid) * per_pixel;
    const size_t list = tl_nn_sparse_scratch(tl_nn_pixels(&l->out));
    l->marks = tl_nn_take_bytes(a, max_batch * tl_nn_size(&l->out));
    l->kept = tl_nn_take_floats(a, 2 * l->slot[0].tensor.count);
    l->scratch = 2 * tl_nn_padded_size(&p) + (block > list ? block : list);
}

/* ---- weights ------------------------------------------------------------------ */

/* kept: the weights with channels last, as patches have them, then their derivative. */
static float *packed(const struct tl_nn_layer *l) {
    return l->kept;
}
static float *d_packed(const struct tl_nn_layer *l) {
    return l->kept + l->slot[0].tensor.count;
}

/* [filters][channels][kernel^2] to [filters][kernel^2][channels]. */
static void pack(const struct tl_nn_layer *l, const float *weights) {
    const struct tl_nn_patches p = patches(l);
    const size_t patch = tl_nn_patch_size(&p);
    for (size_t f = 0; f < l->grid.channels; f++) {
        tl_nn_transpose(weights + f * patch, p.channels, p.kernel * p.kernel,
                        packed(l) + f * patch);
    }
}

static void unpack(const struct tl_nn_layer *l, float *d_weights) {
    const struct tl_nn_patches p = patches(l);
    const size_t patch = tl_nn_patch_size(&p);
    for (size_t f = 0; f < l->grid.channels; f++) {
        tl_nn_transpose(d_packed(l) + f * patch, p.kernel * p.kernel, p.channels,
                        d_weights + f * patch);
    }
}

/* ---- forward ------------------------------------------------------------------ */

static void gather_block(const struct tl_nn_layer *l, const struct tl_nn_patches *p,
                         const struct work *w, const float *in, size_t images) {
    const size_t rows = p->rows * p->columns * tl_nn_patch_size(p);
    for (size_t n = 0; n < images; n++) {
        tl_nn_pad(p, in + n * tl_nn_size(&l->in), w->padded);
        tl_nn_gather(p, w->padded, w->rows + n * rows);
    }
}

static size_t at_most(size_t a, size_t b) {
    return a < b ? a : b;
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const struct tl_nn_patches p = patches(l);
    const struct tl_nn_pooling pool = pooling(l, pass);
    const struct work w = work(&p, pass->scratch);
    const size_t filters = l->grid.channels;
    const size_t block = block_images(&p);
    pack(l, pass->weights + l->first);
    for (size_t n = 0; n < pass->batch; n += block) {
        const size_t images = at_most(block, pass->batch - n);
        gather_block(l, &p, &w, in + n * tl_nn_size(&l->in), images);
        tl_nn_multiply(
            tl_nn_plain(w.rows, images * tl_nn_pixels(&l->grid), tl_nn_patch_size(&p)),
            tl_nn_flipped(packed(l), filters, tl_nn_patch_size(&p)), false, w.grid);
        for (size_t i = 0; i < images; i++) {
            const size_t out = (n + i) * tl_nn_size(&l->out);
            tl_nn_pool(&pool, w.grid + i * tl_nn_size(&l->grid), l->values + out,
                       l->marks + out);
        }
    }
}

/* ---- backward ----------------------------------------------------------------- */

/* Clear the derivatives that ReLU cut off. */
TL_NN_CLONES
static void cut(float *restrict d_out, const uint8_t *restrict marks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        d_out[i] = marks[i] == TL_NN_MARK_NONE ? 0.0F : d_out[i];
    }
}

/* d_in of one block from d_grid, by way of d_rows. */
static void scatter_block(const struct tl_nn_layer *l, const struct tl_nn_patches *p,
                          const struct work *w, size_t images, float *d_in) {
    const size_t pixels = tl_nn_pixels(&l->grid);
    const size_t patch = tl_nn_patch_size(p);
    tl_nn_multiply(tl_nn_plain(w->grid, images * pixels, l->grid.channels),
                   tl_nn_plain(packed(l), l->grid.channels, patch), false, w->rows);
    for (size_t i = 0; i < images; i++) {
        memset(w->d_padded, 0, tl_nn_padded_size(p) * sizeof(float));
        tl_nn_scatter(p, w->rows + i * pixels * patch, w->d_padded);
        tl_nn_crop(p, w->d_padded, d_in + i * tl_nn_size(&l->in));
    }
}

static void backward_dense(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                           const float *in, const float *d_out, float *d_in) {
    const struct tl_nn_patches p = patches(l);
    const struct tl_nn_pooling pool = pooling(l, pass);
    const struct work w = work(&p, pass->scratch);
    const size_t patch = tl_nn_patch_size(&p);
    const size_t block = block_images(&p);
    for (size_t n = 0; n < pass->batch; n += block) {
        const size_t images = at_most(block, pass->batch - n);
        const size_t rows = images * tl_nn_pixels(&l->grid);
        for (size_t i = 0; i < images; i++) {
            const size_t out = (n + i) * tl_nn_size(&l->out);
            tl_nn_unpool(&pool, d_out + out, l->marks + out,
                         w.grid + i * tl_nn_size(&l->grid));
        }
        gather_block(l, &p, &w, in + n * tl_nn_size(&l->in), images);
        tl_nn_multiply(tl_nn_flipped(w.grid, rows, l->grid.channels),
                       tl_nn_plain(w.rows, rows, patch), n > 0, d_packed(l));
        if (d_in != NULL) {
            scatter_block(l, &p, &w, images, d_in + n * tl_nn_size(&l->in));
        }
    }
}

static void backward_sparse(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                            const float *in, const float *d_out, float *d_in) {
    const struct tl_nn_patches p = patches(l);
    const struct work w = work(&p, pass->scratch);
    memset(d_packed(l), 0, l->slot[0].tensor.count * sizeof(float));
    for (size_t n = 0; n < pass->batch; n++) {
        const size_t out = n * tl_nn_size(&l->out);
        float *d_padded = d_in == NULL ? NULL : w.d_padded;
        tl_nn_pad(&p, in + n * tl_nn_size(&l->in), w.padded);
        memset(w.d_padded, 0, tl_nn_padded_size(&p) * sizeof(float));
        tl_nn_sparse_backward(&p, l->pool, l->grid.channels, d_out + out,
                              l->marks + out, packed(l), w.padded, d_packed(l),
                              d_padded, w.rows);
        if (d_in != NULL) {
            tl_nn_crop(&p, d_padded, d_in + n * tl_nn_size(&l->in));
        }
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    const size_t filters = l->grid.channels;
    const size_t run = (size_t)l->option[KERNEL] * l->in.channels;
    float *d_weights = pass->gradient + l->first;
    cut(d_out, l->marks, pass->batch * tl_nn_size(&l->out));
    tl_nn_column_sums(d_out, pass->batch * tl_nn_pixels(&l->out), filters,
                      d_weights + l->slot[0].tensor.count);
    if (l->pool > 1 && run >= SPARSE_RUN) {
        backward_sparse(l, pass, in, d_out, d_in);
    } else {
        backward_dense(l, pass, in, d_out, d_in);
    }
    unpack(l, d_weights);
}

const struct tl_nn_kind tl_nn_conv2d = {
    .name = "conv2d",
    .fields = fields,
    .field_count = sizeof(fields) / sizeof(fields[0]),
    .fit = fit,
    .absorb = absorb,
    .reserve = reserve,
    .forward = forward,
    .backward = backward,
};
