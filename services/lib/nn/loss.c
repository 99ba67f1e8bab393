/* loss.c - softmax and cross-entropy in one step, so that neither large logits nor
 * vanishing probabilities leave the range of a float. */
#include "nn_internal.h"

#include <math.h>

static float largest(const float *logits, size_t classes) {
    float best = logits[0];
    for (size_t c = 1; c < classes; c++) {
        best = logits[c] > best ? logits[c] : best;
    }
    return best;
}

double tl_nn_loss(const float *logits, const uint8_t *labels, size_t batch,
                  size_t classes, float *d_logits) {
    double loss = 0.0;
    for (size_t n = 0; n < batch; n++, logits += classes) {
        const float top = largest(logits, classes);
        double sum = 0.0;
        for (size_t c = 0; c < classes; c++) {
            sum += exp((double)(logits[c] - top));
        }
        loss += log(sum) - (double)(logits[labels[n]] - top);
        for (size_t c = 0; c < classes && d_logits != NULL; c++) {
            const double p = exp((double)(logits[c] - top)) / sum;
            *d_logits++ = (float)((p - (c == labels[n] ? 1.0 : 0.0)) / (double)batch);
        }
    }
    return loss;
}
