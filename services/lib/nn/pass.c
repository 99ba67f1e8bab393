/* pass.c - a batch through all layers and back. */
#include "nn_internal.h"

#include <math.h>

static const float *layer_input(const struct tl_nn *nn, size_t i, const float *inputs) {
    if (i > 0) {
        return nn->layer[i - 1].values;
    }
    return nn->inputs != NULL ? nn->inputs : inputs;
}

const float *tl_nn_run_forward(struct tl_nn *nn, const struct tl_nn_pass *pass,
                               const float *inputs) {
    for (size_t n = 0; n < pass->batch && nn->inputs != NULL; n++) {
        const size_t at = n * tl_nn_size(&nn->in);
        tl_nn_transpose(inputs + at, nn->in.channels, tl_nn_pixels(&nn->in),
                        nn->inputs + at);
    }
    for (size_t i = 0; i < nn->layers; i++) {
        struct tl_nn_layer *l = &nn->layer[i];
        l->kind->forward(l, pass, layer_input(nn, i, inputs));
    }
    return nn->layer[nn->layers - 1].values;
}

/* From the derivative by the logits, in delta[0], to pass->gradient. */
static void run_backward(struct tl_nn *nn, const struct tl_nn_pass *pass,
                         const float *inputs) {
    float *d_out = nn->delta[0];
    float *d_in = nn->delta[1];
    for (size_t i = nn->layers; i-- > nn->first_learned;) {
        struct tl_nn_layer *l = &nn->layer[i];
        l->kind->backward(l, pass, layer_input(nn, i, inputs), d_out,
                          i > nn->first_learned ? d_in : NULL);
        float *next = d_in;
        d_in = d_out;
        d_out = next;
    }
}

/* Over what is learned: statistics follow the data, not the loss. */
static float gradient_norm(const struct tl_nn *nn, const float *gradient) {
    double squares = 0.0;
    for (size_t i = 0; i < nn->layers; i++) {
        const struct tl_nn_layer *l = &nn->layer[i];
        squares += tl_nn_squares(gradient + l->first, l->learned);
    }
    return (float)sqrt(squares);
}

static int check_batch(const struct tl_nn *nn, const uint8_t *labels, size_t batch) {
    if (batch == 0 || batch > nn->max_batch) {
        return tl_fail(TL_E_INVALID,
                       "a batch of %zu examples; this model takes 1 to %zu", batch,
                       nn->max_batch);
    }
    for (size_t i = 0; i < batch && labels != NULL; i++) {
        if (labels[i] >= nn->classes) {
            return tl_fail(TL_E_INVALID,
                           "example %zu of the batch has label %u; the model has %zu "
                           "classes",
                           i, labels[i], nn->classes);
        }
    }
    return 0;
}

int tl_nn_gradient(struct tl_nn *nn, const float *weights, const float *inputs,
                   const uint8_t *labels, size_t batch, uint64_t seed, float *gradient,
                   float *ret_loss, float *ret_norm) {
    const int rc = check_batch(nn, labels, batch);
    if (rc != 0) {
        return rc;
    }
    const struct tl_nn_pass pass = {.weights = weights,
                                    .gradient = gradient,
                                    .batch = batch,
                                    .seed = seed,
                                    .training = true,
                                    .scratch = nn->scratch};
    const float *logits = tl_nn_run_forward(nn, &pass, inputs);
    const double loss = tl_nn_loss(logits, labels, batch, nn->classes, nn->delta[0]);
    run_backward(nn, &pass, inputs);
    *ret_loss = (float)(loss / (double)batch);
    if (ret_norm != NULL) {
        *ret_norm = gradient_norm(nn, gradient);
    }
    return 0;
}

/* Logits in evaluation mode, borrowed until the next pass. */
static int run_evaluation(struct tl_nn *nn, const float *weights, const float *inputs,
                          const uint8_t *labels, size_t batch,
                          const float **ret_logits) {
    const int rc = check_batch(nn, labels, batch);
    if (rc != 0) {
        return rc;
    }
    const struct tl_nn_pass pass = {
        .weights = weights, .batch = batch, .scratch = nn->scratch};
    *ret_logits = tl_nn_run_forward(nn, &pass, inputs);
    return 0;
}

int tl_nn_evaluate(struct tl_nn *nn, const float *weights, const float *inputs,
                   const uint8_t *labels, size_t batch, uint64_t *correct,
                   double *loss_sum) {
    const float *logits;
    const int rc = run_evaluation(nn, weights, inputs, labels, batch, &logits);
    if (rc != 0) {
        return rc;
    }
    *loss_sum += tl_nn_loss(logits, labels, batch, nn->classes, NULL);
    for (size_t n = 0; n < batch; n++, logits += nn->classes) {
        size_t best = 0;
        for (size_t c = 1; c < nn->classes; c++) {
            best = logits[c] > logits[best] ? c : best;
        }
        *correct += best == labels[n] ? 1u : 0u;
    }
    return 0;
}

int tl_nn_forward(struct tl_nn *nn, const float *weights, const float *inputs,
                  size_t batch, float *logits) {
    const float *values;
    const int rc = run_evaluation(nn, weights, inputs, NULL, batch, &values);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < batch * nn->classes; i++) {
        logits[i] = values[i];
    }
    return 0;
}
