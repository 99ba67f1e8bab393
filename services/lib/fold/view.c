/* view.c - held versions of the weights.
 *
 * Readers of one version share one view. There are spare_copies of them, which bounds
 * how many versions are in memory: these, a cut's, and the one being made. So the fold
 * always has a free block for the next version, and refuses a view instead. */
#include "fold_internal.h"

#include <assert.h>
#include <inttypes.h>

void tl_views_init(struct tl_fold *f, uint32_t *indices) {
    for (uint32_t i = 0; i < f->config.spare_copies; i++) {
        struct tl_view *v = &f->views[i];
        v->fold = f;
        v->blocks = indices + i * f->block_count;
        v->next_free = f->free_views;
        f->free_views = v;
    }
}

bool tl_views_held(const struct tl_fold *f) {
    for (uint32_t i = 0; i < f->config.spare_copies; i++) {
        if (f->views[i].holders > 0) {
            return true;
        }
    }
    return false;
}

static void hold_present(struct tl_fold *f, struct tl_view *v) {
    for (size_t i = 0; i < f->block_count; i++) {
        v->blocks[i] = f->arrays[TL_ARRAY_WEIGHTS][i];
        tl_blocks_hold(&f->pool, v->blocks[i]);
    }
    v->version = f->version;
    f->present = v;
}

int tl_fold_view(struct tl_fold *f, struct tl_view **ret_view) {
    if (!f->present) {
        struct tl_view *v = f->free_views;
        if (!v) {
            return tl_fail(TL_E_BUSY,
                           "shard %" PRIu32 ": %" PRIu32
                           " versions of the weights are held; wait until one is "
                           "released",
                           f->config.shard, f->config.spare_copies);
        }
        f->free_views = v->next_free;
        hold_present(f, v);
    }
    f->present->holders++;
    *ret_view = f->present;
    return 0;
}

void tl_view_release(struct tl_view *v) {
    if (!v) {
        return;
    }
    assert(v->holders > 0);
    if (--v->holders > 0) {
        return;
    }
    struct tl_fold *f = v->fold;
    for (size_t i = 0; i < f->block_count; i++) {
        tl_blocks_drop(&f->pool, v->blocks[i]);
    }
    if (f->present == v) {
        f->present = NULL;
    }
    v->next_free = f->free_views;
    f->free_views = v;
}

uint64_t tl_view_version(const struct tl_view *v) {
    return v->version;
}

size_t tl_view_blocks(const struct tl_view *v) {
    return v->fold->block_count;
}

const float *tl_view_block(const struct tl_view *v, size_t i, size_t *ret_count) {
    assert(i < v->fold->block_count);
    if (ret_count) {
        *ret_count = tl_fold_block_size(v->fold, i);
    }
    return tl_blocks_at(&v->fold->pool, v->blocks[i]);
}
