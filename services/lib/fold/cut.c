/* cut.c - the whole state at one position, held while the fold goes on.
 *
 * Scalars and tables are encoded at once into the cut's own buffer; arrays are held by
 * their blocks. Taking a cut costs microseconds, whatever the size of the model. */
#include "fold_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

int tl_cut_init(struct tl_fold *f, uint32_t *indices) {
    f->cut.fold = f;
    f->cut.blocks = indices;
    f->cut.head = malloc(TL_STATE_HEAD_MAX);
    if (!f->cut.head) {
        return tl_fail(TL_E_NOMEM, "fold: out of memory for a cut's head");
    }
    return 0;
}

void tl_cut_done(struct tl_fold *f) {
    free(f->cut.head);
}

static void hold_array(struct tl_fold *f, struct tl_cut *c, const uint32_t *blocks) {
    for (size_t i = 0; i < f->block_count; i++) {
        if (!TL_MUTATE(live_buffer)) {
            tl_blocks_hold(&f->pool, blocks[i]);
        }
        c->blocks[c->block_count++] = blocks[i];
    }
    c->array_count++;
}

int tl_fold_cut(struct tl_fold *f, struct tl_cut **ret_cut) {
    struct tl_cut *c = &f->cut;
    if (c->held) {
        return tl_fail(TL_E_BUSY,
                       "shard %" PRIu32 ": a cut at version %" PRIu64
                       " is held; wait until it is released",
                       f->config.shard, c->version);
    }
    c->held = true;
    c->version = f->version;
    c->position = f->position;
    c->epoch = f->epoch;
    c->head_bytes = tl_state_encode(f, c->head);
    c->block_count = 0;
    c->array_count = 0;
    for (size_t i = 0; i < tl_state_arrays(f); i++) {
        const uint32_t *blocks = tl_state_array(f, i);
        if (blocks) {
            hold_array(f, c, blocks);
        }
    }
    *ret_cut = c;
    return 0;
}

void tl_cut_release(struct tl_cut *c) {
    if (!c) {
        return;
    }
    assert(c->held);
    for (size_t i = 0; i < c->block_count && !TL_MUTATE(live_buffer); i++) {
        tl_blocks_drop(&c->fold->pool, c->blocks[i]);
    }
    c->held = false;
}

uint64_t tl_cut_version(const struct tl_cut *c) {
    return c->version;
}

uint64_t tl_cut_position(const struct tl_cut *c) {
    return c->position;
}

uint64_t tl_cut_epoch(const struct tl_cut *c) {
    return c->epoch;
}

uint64_t tl_cut_bytes(const struct tl_cut *c) {
    return c->head_bytes +
           c->array_count * c->fold->config.count * (uint64_t)sizeof(float);
}

bool tl_cut_segment(const struct tl_cut *c, size_t i, const void **ret_bytes,
                    size_t *ret_size) {
    if (i > c->block_count) {
        return false;
    }
    if (i == 0) {
        *ret_bytes = c->head;
        *ret_size = c->head_bytes;
        return true;
    }
    *ret_bytes = tl_blocks_at(&c->fold->pool, c->blocks[i - 1]);
    *ret_size =
        tl_fold_block_size(c->fold, (i - 1) % c->fold->block_count) * sizeof(float);
    return true;
}
