/* relu.c - ReLU where no convolution or dense layer has taken it over. */
#include "nn_internal.h"

static const char *fit(struct tl_nn_layer *l) {
    l->out = l->in;
    return NULL;
}

/* NaN passes through: a diverged model must not look like a dead one. */
TL_NN_CLONES
static void forward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in) {
    const size_t count = pass->batch * tl_nn_size(&l->out);
    float *out = l->values;
    for (size_t i = 0; i < count; i++) {
        out[i] = in[i] <= 0.0F ? 0.0F : in[i];
    }
}

TL_NN_CLONES
static void backward(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in) {
    (void)in;
    const size_t count = pass->batch * tl_nn_size(&l->out);
    const float *out = l->values;
    for (size_t i = 0; i < count && d_in != NULL; i++) {
        d_in[i] = out[i] == 0.0F ? 0.0F : d_out[i];
    }
}

const struct tl_nn_kind tl_nn_relu = {
    .name = "relu",
    .in_place = true,
    .fit = fit,
    .forward = forward,
    .backward = backward,
};
