/* sums.c - reductions, each in one fixed order: the same inputs give the same bits. */
#include "nn_internal.h"

#include <string.h>

#define LANES 8u

TL_NN_CLONES
void tl_nn_column_sums(const float *values, size_t rows, size_t columns, float *sums) {
    float *restrict to = sums;
    memset(to, 0, columns * sizeof(float));
    for (size_t r = 0; r < rows; r++, values += columns) {
        for (size_t c = 0; c < columns; c++) {
            to[c] += values[c];
        }
    }
}

/* In double: the square of a large gradient must not become infinity. */
TL_NN_CLONES
double tl_nn_squares(const float *values, uint64_t count) {
    double lane[LANES] = {0};
    uint64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            const double value = (double)values[i + k];
            lane[k] += value * value;
        }
    }
    double sum = 0.0;
    for (; i < count; i++) {
        sum += (double)values[i] * (double)values[i];
    }
    for (size_t k = 0; k < LANES; k++) {
        sum += lane[k];
    }
    return sum;
}
