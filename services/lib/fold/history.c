/* history.c - the weights that a worker's next gradient will have been computed on.
 *
 * Some policies for stale gradients compare the weights with those that the gradient
 * was computed on. All versions since then can't be kept; two for each worker are: the
 * one of its last gradient, for as long as it computes on the same (its server may be
 * away), and the one right after that gradient, which it most likely has read since.
 * The nearer one to what a gradient says it was computed on is taken for it. So what is
 * kept follows from the log alone, and is at most twice as many versions as there are
 * workers. A version that several keep is one list of held blocks. */
#include "fold_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool tl_history_is_kept(const struct tl_fold_config *c) {
    return c->stale.policy == TL_STALE_GAP || c->stale.policy == TL_STALE_DELAY ||
           c->stale.policy == TL_STALE_ELASTIC;
}

size_t tl_history_most(const struct tl_fold_config *c) {
    return tl_history_is_kept(c) ? 2 * (size_t)c->workers : 0;
}

int tl_history_init(struct tl_fold *f, uint32_t *indices) {
    struct tl_history *h = &f->history;
    size_t most = tl_history_most(&f->config);
    if (most == 0) {
        return 0;
    }
    h->kept = calloc(most, sizeof(*h->kept));
    h->workers = calloc(f->config.workers, sizeof(*h->workers));
    if (!h->kept || !h->workers) {
        return tl_fail(TL_E_NOMEM, "fold: out of memory for kept versions");
    }
    for (size_t i = 0; i < most; i++) {
        h->kept[i].blocks = indices + i * f->block_count;
    }
    for (uint32_t w = 0; w < f->config.workers; w++) {
        h->workers[w] = (struct tl_memory){TL_KEPT_NONE, TL_KEPT_NONE};
    }
    return 0;
}

void tl_history_done(struct tl_fold *f) {
    free(f->history.kept);
    free(f->history.workers);
}

struct tl_kept *tl_history_find(const struct tl_fold *f, uint64_t version) {
    for (uint32_t i = 0; i < f->history.count; i++) {
        if (f->history.kept[i].version == version) {
            return &f->history.kept[i];
        }
    }
    return NULL;
}

/* ---- keeping ------------------------------------------------------------------ */

/* The present version is above all that are kept: the list stays in order. */
static uint64_t keep_present(struct tl_fold *f) {
    struct tl_kept *k = tl_history_find(f, f->version);
    if (!k) {
        assert(f->history.count < tl_history_most(&f->config));
        k = &f->history.kept[f->history.count++];
        k->version = f->version;
        k->holders = 0;
        for (size_t i = 0; i < f->block_count; i++) {
            k->blocks[i] = f->arrays[TL_ARRAY_WEIGHTS][i];
            tl_blocks_hold(&f->pool, k->blocks[i]);
        }
    }
    k->holders++;
    return f->version;
}

static void forget(struct tl_fold *f, struct tl_kept *k) {
    struct tl_history *h = &f->history;
    uint32_t *blocks = k->blocks;
    for (size_t i = 0; i < f->block_count; i++) {
        tl_blocks_drop(&f->pool, blocks[i]);
    }
    size_t after = (size_t)(h->kept + h->count - (k + 1));
    memmove(k, k + 1, after * sizeof(*k));
    h->kept[--h->count].blocks = blocks;
}

static void drop(struct tl_fold *f, uint64_t version) {
    if (version == TL_KEPT_NONE) {
        return;
    }
    struct tl_kept *k = tl_history_find(f, version);
    if (--k->holders == 0) {
        forget(f, k);
    }
}

/* ---- what happens to a worker ------------------------------------------------- */

static struct tl_memory *memory_of(struct tl_fold *f, uint32_t worker) {
    bool has_one = tl_history_is_kept(&f->config) && worker < f->config.workers;
    return has_one ? &f->history.workers[worker] : NULL;
}

void tl_history_may_read(struct tl_fold *f, uint32_t worker) {
    struct tl_memory *m = memory_of(f, worker);
    if (m) {
        drop(f, m->seen);
        m->seen = keep_present(f);
    }
}

static uint64_t distance(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

static bool is_nearer(const struct tl_memory *m, uint64_t version) {
    return m->seen != TL_KEPT_NONE &&
           (m->used == TL_KEPT_NONE ||
            distance(version, m->seen) <= distance(version, m->used));
}

const uint32_t *tl_history_used(struct tl_fold *f, uint32_t worker,
                                uint64_t read_version) {
    struct tl_memory *m = memory_of(f, worker);
    if (!m) {
        return NULL;
    }
    if (is_nearer(m, read_version)) {
        drop(f, m->used);
        m->used = m->seen;
        m->seen = TL_KEPT_NONE;
    }
    return m->used == TL_KEPT_NONE ? NULL : tl_history_find(f, m->used)->blocks;
}
