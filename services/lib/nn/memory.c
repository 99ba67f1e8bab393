/* memory.c - all of a model's buffers in one block, laid out once.
 *
 * The same function runs twice: over an arena without memory, to learn the size, and
 * over the block, to hand out its parts. */
#include "nn_internal.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t)64)

struct tl_nn_arena {
    unsigned char *base; /* NULL: only measuring */
    size_t used;
    bool too_large;
};

static void *take(struct tl_nn_arena *a, size_t count, size_t size) {
    if (count > TL_NN_BUFFER_MAX) {
        a->too_large = true;
        return NULL;
    }
    void *at = a->base == NULL ? NULL : a->base + a->used;
    a->used += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

float *tl_nn_take_floats(struct tl_nn_arena *a, size_t count) {
    return take(a, count, sizeof(float));
}

uint8_t *tl_nn_take_bytes(struct tl_nn_arena *a, size_t count) {
    return take(a, count, 1);
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* A layer that works in place has its predecessor's buffer; the first one has none to
 * use, since the inputs are the caller's. */
static void carve_layer(struct tl_nn *nn, size_t i, struct tl_nn_arena *a) {
    struct tl_nn_layer *l = &nn->layer[i];
    if (l->kind->in_place && i > 0) {
        l->values = nn->layer[i - 1].values;
    } else {
        l->values = tl_nn_take_floats(a, nn->max_batch * tl_nn_size(&l->out));
    }
    if (l->kind->reserve != NULL) {
        l->kind->reserve(l, a, nn->max_batch);
    }
}

static void carve(struct tl_nn *nn, struct tl_nn_arena *a) {
    size_t widest = 0;
    size_t scratch = 0;
    if (nn->in.channels > 1 && tl_nn_pixels(&nn->in) > 1) {
        nn->inputs = tl_nn_take_floats(a, nn->max_batch * tl_nn_size(&nn->in));
    }
    for (size_t i = 0; i < nn->layers; i++) {
        carve_layer(nn, i, a);
        widest = larger(widest, tl_nn_size(&nn->layer[i].out));
        scratch = larger(scratch, nn->layer[i].scratch);
    }
    nn->delta[0] = tl_nn_take_floats(a, nn->max_batch * widest);
    nn->delta[1] = tl_nn_take_floats(a, nn->max_batch * widest);
    nn->scratch = tl_nn_take_floats(a, scratch);
}

int tl_nn_reserve(struct tl_nn *nn, const char *where) {
    struct tl_nn_arena arena = {NULL, 0, false};
    carve(nn, &arena);
    if (arena.too_large) {
        return tl_fail(TL_E_CONFIG,
                       "%s: a layer needs a buffer of more than %zu values for batches "
                       "of %zu: use smaller layers or batches",
                       where, TL_NN_BUFFER_MAX, nn->max_batch);
    }
    const size_t size = arena.used;
    nn->block = aligned_alloc(ALIGNMENT, size);
    if (nn->block == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for the model's %zu bytes of buffers",
                       where, size);
    }
    memset(nn->block, 0, size);
    arena = (struct tl_nn_arena){nn->block, 0, false};
    carve(nn, &arena);
    return 0;
}
