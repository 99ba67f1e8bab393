/* nn.c - a model from its JSON to its end, and what can be asked about it. */
#include "nn_internal.h"

#include <stdlib.h>

int tl_nn_new(const json_t *model, const char *where, size_t max_batch,
              struct tl_nn **ret_nn) {
    if (max_batch == 0 || max_batch > TL_NN_BATCH_MAX) {
        return tl_fail(TL_E_CONFIG, "%s: batch must be from 1 to %u, is %zu", where,
                       TL_NN_BATCH_MAX, max_batch);
    }
    struct tl_nn *nn = calloc(1, sizeof(*nn));
    if (nn == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for a model", where);
    }
    nn->max_batch = max_batch;
    int rc = tl_nn_parse(nn, model, where);
    if (rc == 0) {
        rc = tl_nn_reserve(nn, where);
    }
    if (rc != 0) {
        tl_nn_free(nn);
        return rc;
    }
    tl_nn_limit_threads();
    *ret_nn = nn;
    return 0;
}

void tl_nn_free(struct tl_nn *nn) {
    if (nn == NULL) {
        return;
    }
    free(nn->block);
    free(nn->layer);
    free(nn);
}

uint64_t tl_nn_parameters(const struct tl_nn *nn) {
    return nn->parameters;
}

size_t tl_nn_inputs(const struct tl_nn *nn) {
    return tl_nn_size(&nn->in);
}

size_t tl_nn_classes(const struct tl_nn *nn) {
    return nn->classes;
}

size_t tl_nn_tensors(const struct tl_nn *nn) {
    size_t count = 0;
    for (size_t i = 0; i < nn->layers; i++) {
        count += nn->layer[i].slots;
    }
    return count;
}

void tl_nn_tensor(const struct tl_nn *nn, size_t i, struct tl_nn_tensor *ret_tensor) {
    const struct tl_nn_layer *l = nn->layer;
    while (i >= l->slots) {
        i -= l->slots;
        l++;
    }
    *ret_tensor = l->slot[i].tensor;
}
