/* weights.c - two vectors: one that the caller reads, one that the next pull fills.
 *
 * A slice that arrives goes straight to its place in the back vector. When all shards
 * have answered the two change places; only the slice of a shard that had nothing newer
 * is copied. A pull that fails half-way leaves the caller's vector as it was. */
#include "client_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Whole pages, as the kernel's buffers are: where they and a vector lie a few bytes
 * apart modulo a page, as large blocks of malloc() do, some processors copy at a third
 * of their speed. */
#define PAGE 4096u

static float *allocate(uint64_t parameters) {
    uint64_t bytes = parameters * sizeof(float);
    return aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
}

int client_weights_reserve(struct client_weights *w, uint64_t parameters) {
    if (w->back != NULL) {
        return 0;
    }
    w->memory[0] = allocate(parameters);
    w->memory[1] = allocate(parameters);
    if (w->memory[0] == NULL || w->memory[1] == NULL) {
        client_weights_done(w);
        return tl_fail(TL_E_NOMEM,
                       "client: no memory for two times %" PRIu64 " parameters",
                       parameters);
    }
    w->back = w->memory[0];
    return 0;
}

void client_weights_done(struct client_weights *w) {
    free(w->memory[0]);
    free(w->memory[1]);
    *w = (struct client_weights){.front = NULL};
}

/* A head may be a step behind the tail that weights came from before, or one that was
 * frozen an epoch: nobody's weights go back. */
static bool has_arrived(const struct client_shard *shard) {
    const struct tl_direct_result *r = client_pulled(shard);
    const struct tl_direct_held *held = &shard->held;
    bool is_older = r->held.epoch < held->epoch ||
                    (r->held.epoch == held->epoch && r->held.version < held->version);
    return r->has_weights && (held->version == TL_VERSION_NONE || !is_older);
}

/* Is there something new, and a slice for every shard? */
static bool is_complete(const struct tl_client *c) {
    bool has_news = false;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        bool arrived = has_arrived(&c->shards[s]);
        if (!arrived && c->weights.front == NULL) {
            return false;
        }
        has_news = has_news || arrived;
    }
    return has_news;
}

static void swap(struct client_weights *w) {
    w->front = w->back;
    w->back = w->front == w->memory[0] ? w->memory[1] : w->memory[0];
}

void client_weights_take(struct tl_client *c) {
    if (!is_complete(c)) {
        return;
    }
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        if (has_arrived(shard)) {
            shard->held = client_pulled(shard)->held;
        } else {
            memcpy(c->weights.back + shard->first, c->weights.front + shard->first,
                   shard->count * sizeof(float));
        }
    }
    swap(&c->weights);
}

void client_weights_take_slice(struct tl_client *c, uint32_t s) {
    struct client_shard *shard = &c->shards[s];
    const struct tl_direct_result *result = tl_direct_result(shard->direct);
    if (result->has_weights) {
        shard->held = result->held;
        memcpy(c->weights.front + shard->first, c->weights.back + shard->first,
               shard->count * sizeof(float));
    }
}
