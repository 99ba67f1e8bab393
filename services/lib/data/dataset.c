/* dataset.c - labelled images in memory, and batches of them as numbers.
 *
 * Images are kept as the bytes they are: a quarter of what float32 would take; the
 * conversion of one batch costs far less than its gradient. */
#include "throughline/data.h"

#include "idx.h"

#include <assert.h>
#include <stdlib.h>

struct tl_dataset {
    size_t count;
    size_t inputs;
    uint8_t *images; /* [count, inputs] */
    uint8_t *labels; /* [count] */
};

/* Bytes of one example above which a header is taken for damaged. */
#define INPUTS_MAX (UINT64_C(1) << 24)

static int check_labels(const struct tl_idx *labels, const char *path, size_t classes) {
    for (uint32_t i = 0; i < labels->dims[0]; i++) {
        if (labels->bytes[i] >= classes) {
            return tl_fail(TL_E_CONFIG,
                           "%s: label %u: is %u, but the model has %zu classes", path,
                           i, labels->bytes[i], classes);
        }
    }
    return 0;
}

static int check_images(const struct tl_idx *images, const char *path,
                        size_t *ret_inputs) {
    uint64_t inputs = 1;
    for (size_t i = 1; i < images->rank; i++) {
        inputs *= images->dims[i]; /* tl_idx_read() bounded the product */
    }
    if (inputs > INPUTS_MAX) {
        return tl_fail(TL_E_CONFIG, "%s: dimensions: %llu bytes an image, at most %llu",
                       path, (unsigned long long)inputs,
                       (unsigned long long)INPUTS_MAX);
    }
    *ret_inputs = (size_t)inputs;
    return 0;
}

static int read_set(const char *images_path, const char *labels_path, size_t classes,
                    struct tl_dataset *d) {
    struct tl_idx images, labels;
    int rc = tl_idx_read(images_path, 3, 4, &images);
    if (rc != 0) {
        return rc;
    }
    d->images = images.bytes;
    d->count = images.dims[0];
    rc = check_images(&images, images_path, &d->inputs);
    if (rc != 0) {
        return rc;
    }
    rc = tl_idx_read(labels_path, 1, 1, &labels);
    if (rc != 0) {
        return rc;
    }
    d->labels = labels.bytes;
    if (labels.dims[0] != d->count) {
        return tl_fail(TL_E_CONFIG, "%s: dimension 1 (examples): is %u, but %s has %zu",
                       labels_path, labels.dims[0], images_path, d->count);
    }
    return check_labels(&labels, labels_path, classes);
}

int tl_dataset_load(const char *images, const char *labels, size_t classes,
                    struct tl_dataset **ret_set) {
    struct tl_dataset *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for a data set", images);
    }
    int rc = read_set(images, labels, classes, d);
    if (rc != 0) {
        tl_dataset_free(d);
        return rc;
    }
    *ret_set = d;
    return 0;
}

void tl_dataset_free(struct tl_dataset *d) {
    if (d != NULL) {
        free(d->images);
        free(d->labels);
        free(d);
    }
}

size_t tl_dataset_count(const struct tl_dataset *d) {
    return d->count;
}

size_t tl_dataset_inputs(const struct tl_dataset *d) {
    return d->inputs;
}

void tl_dataset_gather(const struct tl_dataset *d, const uint32_t *index, size_t n,
                       float *inputs, uint8_t *labels) {
    for (size_t i = 0; i < n; i++) {
        assert(index[i] < d->count);
        const uint8_t *image = d->images + index[i] * d->inputs;
        float *values = inputs + i * d->inputs;
        for (size_t k = 0; k < d->inputs; k++) {
            values[k] = (float)image[k] / 127.5F - 1.0F;
        }
        labels[i] = d->labels[index[i]];
    }
}
