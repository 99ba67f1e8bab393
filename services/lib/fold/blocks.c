/* blocks.c - reference-counted memory for a shard's arrays.
 *
 * A view or a cut holds blocks instead of copying them; the fold writes a held block's
 * successor elsewhere. Everything is reserved at start, so that folding can't fail for
 * want of memory, but the kernel gives pages only to what has been written: spare
 * blocks cost nothing until a version is held while the next one is made. */
#include "fold_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

static int reserve(struct tl_blocks *pool) {
    void *memory = mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return tl_fail(TL_E_NOMEM,
                       "fold: cannot reserve %zu bytes for the shard's state; use more "
                       "shards or a smaller model",
                       pool->bytes);
    }
    /* Only a hint: fewer TLB misses and page faults. */
    (void)madvise(memory, pool->bytes, MADV_HUGEPAGE);
    pool->memory = memory;
    return 0;
}

int tl_blocks_init(struct tl_blocks *pool, uint32_t total, size_t block_floats) {
    *pool = (struct tl_blocks){.block_floats = block_floats, .total = total};
    pool->bytes = total * block_floats * sizeof(float);
    pool->holders = calloc(total, sizeof(*pool->holders));
    pool->unused = calloc(total, sizeof(*pool->unused));
    if (!pool->holders || !pool->unused) {
        tl_blocks_done(pool);
        return tl_fail(TL_E_NOMEM, "fold: out of memory for %u blocks", total);
    }
    int rc = reserve(pool);
    if (rc != 0) {
        tl_blocks_done(pool);
        return rc;
    }
    for (uint32_t i = 0; i < total; i++) {
        pool->unused[i] = total - 1 - i;
    }
    pool->unused_count = total;
    return 0;
}

void tl_blocks_done(struct tl_blocks *pool) {
    if (pool->memory) {
        (void)munmap(pool->memory, pool->bytes);
    }
    free(pool->holders);
    free(pool->unused);
    *pool = (struct tl_blocks){0};
}

uint32_t tl_blocks_take(struct tl_blocks *pool) {
    assert(pool->unused_count > 0);
    uint32_t block = pool->unused[--pool->unused_count];
    pool->holders[block] = 1;
    return block;
}

void tl_blocks_hold(struct tl_blocks *pool, uint32_t block) {
    assert(pool->holders[block] > 0);
    pool->holders[block]++;
}

void tl_blocks_drop(struct tl_blocks *pool, uint32_t block) {
    assert(pool->holders[block] > 0);
    if (--pool->holders[block] == 0) {
        pool->unused[pool->unused_count++] = block;
    }
}

float *tl_blocks_at(const struct tl_blocks *pool, uint32_t block) {
    return pool->memory + block * pool->block_floats;
}

float *tl_blocks_successor(struct tl_blocks *pool, uint32_t *block) {
    if (pool->holders[*block] > 1) {
        uint32_t spare = tl_blocks_take(pool);
        tl_blocks_drop(pool, *block);
        *block = spare;
    }
    return tl_blocks_at(pool, *block);
}
