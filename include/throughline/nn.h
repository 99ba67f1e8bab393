/* nn.h - a model from JSON, its loss and its gradient.
 *
 * Path:   [nn] -> wire -> log -> fold -> chain, snapshot, serve
 * Pure:   no I/O, no clock; random numbers from the seeds it is given.
 * Thread: one thread per model; matrix products by OpenBLAS. No allocation after
 *         tl_nn_new().
 *
 * Tensors are row-major float32: images [batch, channels, height, width], conv weights
 * [out, in, kh, kw], dense weights [out, in]. Parameters are one flat vector, layer by
 * layer, weight then bias (batch norm: scale, shift, running mean, running variance).
 * The weights are the caller's and may move between calls.
 *
 * Batch norm's running statistics are parameters like any other, so that a model's
 * whole state is one vector under one fold. Their "gradient" is statistics_rate *
 * (running - batch): any optimizer takes them towards the mean over batches, at its
 * learning rate. docs/models.md says what that means for each. */
#ifndef THROUGHLINE_NN_H
#define THROUGHLINE_NN_H

#include "throughline/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl_nn;

/* Build from JSON, checked to the last key (docs/models.md):
 *
 *   {"input": [C, H, W] or [N], "classes": 10, "init": "he" or "pytorch", "layers": [
 *      {"type": "conv2d", "filters": 16, "kernel": 3, "padding": 1, "stride": 1},
 *      {"type": "batch_norm", "epsilon": 1e-5, "statistics_rate": 1},
 *      {"type": "relu"}, {"type": "max_pool", "size": 2}, {"type": "flatten"},
 *      {"type": "dense", "units": 512}, {"type": "dropout", "rate": 0.25}, ...]}
 *
 * Padding defaults to 0, stride to 1, init to "he", batch norm's options to the values
 * above. Softmax cross-entropy is the loss. All memory, for batches of up to max_batch
 * (at most 65,536), is taken here. OpenBLAS is set to one thread, for the whole
 * process, unless OPENBLAS_NUM_THREADS is set.
 *
 *   where  file name for error texts
 *   TL_E_CONFIG  one line: file, layer number (from 0), field; the nearest right key
 *                when one is misspelt; layers whose shapes do not fit
 *   TL_E_NOMEM */
TL_MUST_USE int tl_nn_new(const json_t *model, const char *where, size_t max_batch,
                          struct tl_nn **ret_nn);
void tl_nn_free(struct tl_nn *nn);

uint64_t tl_nn_parameters(const struct tl_nn *nn);
size_t tl_nn_inputs(const struct tl_nn *nn); /* floats of one example */
size_t tl_nn_classes(const struct tl_nn *nn);

/* Initial weights (parameters float32) from a seed: the same bits on every machine.
 * "he": normal, std sqrt(2 / fan_in), biases 0; "pytorch": uniform, bound
 * 1 / sqrt(fan_in), biases too. */
void tl_nn_init(const struct tl_nn *nn, uint64_t seed, float *weights);

/* Mean loss of a batch and its gradient, in training mode.
 *   weights   parameters float32      inputs  [batch, inputs]    labels  [batch]
 *   seed      of this batch's dropout masks
 *   gradient  parameters float32, overwritten
 *   ret_norm  L2 norm of the gradient without running statistics; may be NULL
 * The same arguments give the same bits on the same machine.
 *   TL_E_INVALID  batch is 0 or above max_batch, or a label is not below classes */
TL_MUST_USE int tl_nn_gradient(struct tl_nn *nn, const float *weights,
                               const float *inputs, const uint8_t *labels, size_t batch,
                               uint64_t seed, float *gradient, float *ret_loss,
                               float *ret_norm);

/* Evaluation mode (no dropout, running statistics): adds the number of right answers to
 * *correct and the sum of the losses to *loss_sum. TL_E_INVALID as above. */
TL_MUST_USE int tl_nn_evaluate(struct tl_nn *nn, const float *weights,
                               const float *inputs, const uint8_t *labels, size_t batch,
                               uint64_t *correct, double *loss_sum);

/* Raw outputs of the last layer, [batch, classes], evaluation mode. TL_E_INVALID as
 * above. */
TL_MUST_USE int tl_nn_forward(struct tl_nn *nn, const float *weights,
                              const float *inputs, size_t batch, float *logits);

/* Name, shape and place of each parameter tensor, for exports: "0.conv2d.weight", the
 * number being the layer's in the model file. i < tl_nn_tensors(). */
struct tl_nn_tensor {
    char name[64];
    size_t rank;
    uint64_t shape[4];
    uint64_t first, count;
};
size_t tl_nn_tensors(const struct tl_nn *nn);
void tl_nn_tensor(const struct tl_nn *nn, size_t i, struct tl_nn_tensor *ret_tensor);

/* Time that this thread has spent in matrix products since the last call, seconds; 0
 * unless built with TL_NN_PROFILE. */
double tl_nn_gemm_seconds(struct tl_nn *nn);

#endif
