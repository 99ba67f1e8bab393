/* patches.c - a convolution's view of an image: every patch as a row of a matrix.
 *
 * Images get a border of zeros first, so that no loop here asks where it is. With
 * channels last, a patch is `kernel` runs of kernel * channels adjacent floats. */
#include "nn_internal.h"

#include <string.h>

/* Below this a run is too short for memcpy to be worth its call. */
#define SHORT_RUN 8u

void tl_nn_pad(const struct tl_nn_patches *p, const float *image, float *padded) {
    const size_t line = tl_nn_padded_line(p);
    const size_t border = p->padding * p->channels;
    const size_t run = p->width * p->channels;
    memset(padded, 0, p->padding * line * sizeof(float));
    float *to = padded + p->padding * line;
    for (size_t y = 0; y < p->height; y++, to += line, image += run) {
        memset(to, 0, border * sizeof(float));
        memcpy(to + border, image, run * sizeof(float));
        memset(to + border + run, 0, border * sizeof(float));
    }
    memset(to, 0, p->padding * line * sizeof(float));
}

void tl_nn_crop(const struct tl_nn_patches *p, const float *padded, float *image) {
    const size_t line = tl_nn_padded_line(p);
    const size_t run = p->width * p->channels;
    const float *from = padded + p->padding * (line + p->channels);
    for (size_t y = 0; y < p->height; y++) {
        memcpy(image + y * run, from + y * line, run * sizeof(float));
    }
}

/* One line of short-run patches: value by value, each along the whole line. */
static void gather_short(const struct tl_nn_patches *p, const float *from, float *to) {
    const size_t run = p->kernel * p->channels;
    const size_t step = p->stride * p->channels;
    const size_t patch = tl_nn_patch_size(p);
    for (size_t i = 0; i < run; i++) {
        for (size_t x = 0; x < p->columns; x++) {
            to[x * patch + i] = from[x * step + i];
        }
    }
}

static void gather_long(const struct tl_nn_patches *p, const float *from, float *to) {
    const size_t run = p->kernel * p->channels;
    const size_t step = p->stride * p->channels;
    const size_t patch = tl_nn_patch_size(p);
    for (size_t x = 0; x < p->columns; x++) {
        memcpy(to + x * patch, from + x * step, run * sizeof(float));
    }
}

void tl_nn_gather(const struct tl_nn_patches *p, const float *padded, float *rows) {
    const size_t line = tl_nn_padded_line(p);
    const size_t run = p->kernel * p->channels;
    for (size_t y = 0; y < p->rows; y++) {
        float *to = rows + y * p->columns * tl_nn_patch_size(p);
        for (size_t k = 0; k < p->kernel; k++) {
            const float *from = padded + (y * p->stride + k) * line;
            if (run < SHORT_RUN) {
                gather_short(p, from, to + k * run);
            } else {
                gather_long(p, from, to + k * run);
            }
        }
    }
}

TL_NN_CLONES
void tl_nn_scatter(const struct tl_nn_patches *p, const float *rows, float *padded) {
    const size_t line = tl_nn_padded_line(p);
    const size_t run = p->kernel * p->channels;
    for (size_t y = 0; y < p->rows; y++) {
        for (size_t x = 0; x < p->columns; x++) {
            float *corner = padded + (y * line + x * p->channels) * p->stride;
            for (size_t k = 0; k < p->kernel; k++, rows += run) {
                float *restrict to = corner + k * line;
                for (size_t i = 0; i < run; i++) {
                    to[i] += rows[i];
                }
            }
        }
    }
}
