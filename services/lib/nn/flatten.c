/* flatten.c - an image as a row of values, channel by channel: where the stage's own
 * order (channels last) becomes the public one. */
#include "nn_internal.h"

void tl_nn_transpose(const float *from, size_t rows, size_t columns, float *to) {
    for (size_t c = 0; c < columns; c++) {
        for (size_t r = 0; r < rows; r++) {
            to[c * rows + r] = from[r * columns + c];
        }
    }
}

static const char *fit(struct tl_nn_layer *l) {
    l->out = (struct tl_nn_shape){true, 1, 1, tl_nn_size(&l->in)};
    return NULL;
}

static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    for (size_t n = 0; n < pass->batch; n++) {
        const size_t at = n * tl_nn_size(&l->in);
        tl_nn_transpose(in + at, tl_nn_pixels(&l->in), l->in.channels, l->values + at);
    }
}

static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    (void)in;
    for (size_t n = 0; n < pass->batch && d_in != NULL; n++) {
        const size_t at = n * tl_nn_size(&l->in);
        tl_nn_transpose(d_out + at, l->in.channels, tl_nn_pixels(&l->in), d_in + at);
    }
}

const struct tl_nn_kind tl_nn_flatten = {
    .name = "flatten",
    .fit = fit,
    .forward = forward,
    .backward = backward,
};
