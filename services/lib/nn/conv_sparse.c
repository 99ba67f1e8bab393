/* conv_sparse.c - the way back through a convolution that ends in max-pooling.
 *
 * Of each window only the maximum has a derivative, and none where ReLU cut it off:
 * with 2 x 2 windows less than a quarter of the convolution's output. A matrix product
 * would spend the other three quarters on zeros, so what is not zero is listed, filter
 * by filter, and multiplied alone. */
#include "nn_internal.h"

/* A derivative that is not zero, and the corner of its patch. */
struct entry {
    uint32_t corner;
    float d;
};

size_t tl_nn_sparse_scratch(size_t windows) {
    return windows * (sizeof(struct entry) / sizeof(float));
}

/* The entries of one filter. Each is written, and kept by moving on when it counts:
 * about half do, in no order that a branch could guess. */
static size_t list_filter(const struct tl_nn_patches *p, size_t pool, size_t filters,
                          const float *d_out, const uint8_t *marks,
                          struct entry *list) {
    const size_t line = tl_nn_padded_line(p) * p->stride;
    const size_t step = p->channels * p->stride;
    size_t count = 0;
    for (size_t y = 0; y < p->rows / pool; y++) {
        for (size_t x = 0; x < p->columns / pool; x++) {
            const size_t row = y * pool + *marks / pool;
            const size_t column = x * pool + *marks % pool;
            list[count].corner = (uint32_t)(row * line + column * step);
            list[count].d = *d_out;
            count += *d_out != 0.0F ? 1u : 0u;
            d_out += filters;
            marks += filters;
        }
    }
    return count;
}

/* d_weights += d * patch. */
static inline __attribute__((always_inline)) void
add_patch(const struct tl_nn_patches *p, float d, const float *patch,
          float *restrict d_weights) {
    const size_t run = p->kernel * p->channels;
    for (size_t k = 0; k < p->kernel; k++) {
        for (size_t i = 0; i < run; i++) {
            d_weights[i] += d * patch[i];
        }
        d_weights += run;
        patch += tl_nn_padded_line(p);
    }
}

/* patch += d * weights. */
static inline __attribute__((always_inline)) void
add_weights(const struct tl_nn_patches *p, float d, const float *weights,
            float *restrict patch) {
    const size_t run = p->kernel * p->channels;
    for (size_t k = 0; k < p->kernel; k++) {
        for (size_t i = 0; i < run; i++) {
            patch[i] += d * weights[i];
        }
        weights += run;
        patch += tl_nn_padded_line(p);
    }
}

TL_NN_CLONES
void tl_nn_sparse_backward(const struct tl_nn_patches *p, size_t pool, size_t filters,
                           const float *d_out, const uint8_t *marks,
                           const float *weights, const float *padded, float *d_weights,
                           float *d_padded, float *scratch) {
    struct entry *list = (struct entry *)scratch;
    const size_t patch = tl_nn_patch_size(p);
    for (size_t f = 0; f < filters; f++) {
        const size_t count = list_filter(p, pool, filters, d_out + f, marks + f, list);
        for (size_t i = 0; i < count; i++) {
            add_patch(p, list[i].d, padded + list[i].corner, d_weights + f * patch);
        }
        for (size_t i = 0; i < count && d_padded != NULL; i++) {
            add_weights(p, list[i].d, weights + f * patch, d_padded + list[i].corner);
        }
    }
}
