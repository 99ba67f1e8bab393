/* shard.c - the cut of a flat parameter vector into shards. */
#include "throughline/fold.h"

#include <assert.h>

void tl_shard_slice(uint64_t total, uint32_t shards, uint32_t shard,
                    uint64_t *ret_first, uint64_t *ret_count) {
    assert(shard < shards && shards <= total);
    uint64_t size = total / shards;
    uint64_t larger = total % shards; /* so many slices have one more */
    *ret_first = shard * size + (shard < larger ? shard : larger);
    *ret_count = size + (shard < larger ? 1 : 0);
}
