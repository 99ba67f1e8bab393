/* body.c - payloads and states: counted memory. */
#include "replica.h"

#include <stdlib.h>

#define SPARE_MAX 8u
#define PAGE      4096u
/* Small enough to stay in the cache between hashing and copying. */
#define PIECE     (256u << 10)

static void dispose(struct body *b) {
    free(b->bytes);
    free(b);
}

/* Gradients come one like the other: their memory is used again. A state is larger. */
static void done(struct tl_chain_body *base) {
    struct body *b = (struct body *)base;
    struct replica *r = b->replica;
    uint64_t gradient = tl_fold_config(r->server->fold)->count * sizeof(float);
    bool is_useful = b->bytes != NULL && b->room <= gradient;
    tl_cut_release(b->cut);
    b->cut = NULL;
    if (is_useful && r->spare_count < SPARE_MAX) {
        SLIST_INSERT_HEAD(&r->spare, b, link);
        r->spare_count++;
    } else {
        dispose(b);
    }
}

static struct body *take_spare(struct replica *r, size_t size) {
    struct body *b = SLIST_FIRST(&r->spare);
    if (b == NULL || b->room != size) {
        return NULL;
    }
    SLIST_REMOVE_HEAD(&r->spare, link);
    r->spare_count--;
    return b;
}

static struct body *allocate(size_t size) {
    struct body *b = calloc(1, sizeof(*b));
    if (b != NULL && size > 0) {
        b->bytes = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
        b->room = size;
    }
    if (b != NULL && size > 0 && b->bytes == NULL) {
        free(b);
        return NULL;
    }
    return b;
}

struct body *body_new(struct replica *r, size_t size) {
    struct body *b = take_spare(r, size);
    b = b != NULL ? b : allocate(size);
    if (b != NULL) {
        b->base = (struct tl_chain_body){.holders = 1, .done = done};
        b->replica = r;
        b->size = size;
    }
    return b;
}

struct body *body_of_cut(struct replica *r, struct tl_cut *cut) {
    struct body *b = body_new(r, 0);
    if (b != NULL) {
        b->cut = cut;
        b->size = tl_cut_bytes(cut);
    }
    return b;
}

uint64_t body_size(const struct body *b) {
    return b != NULL ? b->size : 0;
}

bool body_piece(const struct body *b, size_t i, const void **ret_bytes,
                size_t *ret_size) {
    if (b == NULL) {
        return false;
    }
    if (b->cut != NULL) {
        return tl_cut_segment(b->cut, i, ret_bytes, ret_size);
    }
    size_t from = i * PIECE;
    if (from >= b->size) {
        return false;
    }
    *ret_bytes = b->bytes + from;
    *ret_size = b->size - from < PIECE ? b->size - from : PIECE;
    return true;
}

void body_pool_done(struct replica *r) {
    struct body *b = NULL;
    while ((b = SLIST_FIRST(&r->spare)) != NULL) {
        SLIST_REMOVE_HEAD(&r->spare, link);
        dispose(b);
    }
}
