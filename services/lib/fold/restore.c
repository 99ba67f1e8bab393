/* restore.c - a fold from a cut's bytes, fed in pieces of any size.
 *
 * The head is collected and checked first; the arrays then go straight to their blocks.
 * Damage inside the arrays has no structure that would show it: whoever stores the
 * bytes keeps a checksum over them (snapshot.h). */
#include "fold_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct tl_restore {
    struct tl_fold *fold;
    size_t head_size; /* the prefix's until that is in, then the whole head's */
    size_t head_fed;
    size_t array;       /* being filled; tl_state_arrays(): complete */
    uint64_t array_fed; /* bytes of it */
    int error;          /* the first failure stands */
    uint8_t head[TL_STATE_HEAD_MAX];
};

int tl_restore_new(const struct tl_fold_config *config,
                   struct tl_restore **ret_restore) {
    struct tl_restore *r = calloc(1, sizeof(*r));
    if (!r) {
        return tl_fail(TL_E_NOMEM, "fold: out of memory for a restore");
    }
    int rc = tl_fold_create(config, &r->fold);
    if (rc != 0) {
        tl_restore_free(r);
        return rc;
    }
    r->head_size = TL_STATE_PREFIX_BYTES;
    *ret_restore = r;
    return 0;
}

void tl_restore_free(struct tl_restore *r) {
    if (!r) {
        return;
    }
    tl_fold_free(r->fold);
    free(r);
}

/* What is complete when `head_size` bytes of the head are in. */
static int head_progress(struct tl_restore *r) {
    if (r->head_size == TL_STATE_PREFIX_BYTES) {
        return tl_state_head_size(r->head, &r->head_size);
    }
    return tl_state_decode(r->fold, r->head);
}

static int feed_head(struct tl_restore *r, const uint8_t *bytes, size_t size,
                     size_t *ret_used) {
    size_t missing = r->head_size - r->head_fed;
    size_t n = size < missing ? size : missing;
    memcpy(r->head + r->head_fed, bytes, n);
    r->head_fed += n;
    *ret_used = n;
    return r->head_fed == r->head_size ? head_progress(r) : 0;
}

static bool head_is_complete(const struct tl_restore *r) {
    return r->head_size > TL_STATE_PREFIX_BYTES && r->head_fed == r->head_size;
}

static bool is_complete(const struct tl_restore *r) {
    return r->array == tl_state_arrays(r->fold);
}

/* Leave arrays behind that are complete or not in this state. */
static void find_array(struct tl_restore *r) {
    uint64_t bytes = r->fold->config.count * sizeof(float);
    while (!is_complete(r) &&
           (r->array_fed == bytes || !tl_state_array(r->fold, r->array))) {
        r->array++;
        r->array_fed = 0;
    }
}

static int feed_array(struct tl_restore *r, const uint8_t *bytes, size_t size,
                      size_t *ret_used) {
    if (is_complete(r)) {
        return tl_fail(TL_E_CORRUPT, "state: bytes after its end");
    }
    const size_t block_bytes = TL_BLOCK_FLOATS * sizeof(float);
    size_t block = (size_t)(r->array_fed / block_bytes);
    size_t at = (size_t)(r->array_fed % block_bytes);
    size_t room = tl_fold_block_size(r->fold, block) * sizeof(float) - at;
    size_t n = size < room ? size : room;
    uint32_t index = tl_state_array(r->fold, r->array)[block];
    memcpy((uint8_t *)tl_blocks_at(&r->fold->pool, index) + at, bytes, n);
    r->array_fed += n;
    *ret_used = n;
    return 0;
}

int tl_restore_feed(struct tl_restore *r, const void *bytes, size_t size) {
    const uint8_t *next = bytes;
    while (size > 0 && r->error == 0) {
        size_t used = 0;
        r->error = head_is_complete(r) ? feed_array(r, next, size, &used)
                                       : feed_head(r, next, size, &used);
        if (head_is_complete(r)) {
            find_array(r);
        }
        next += used;
        size -= used;
    }
    return r->error;
}

int tl_restore_done(struct tl_restore *r, struct tl_fold **ret_fold) {
    if (r->error != 0) {
        return r->error;
    }
    if (!head_is_complete(r) || !is_complete(r)) {
        return tl_fail(TL_E_CORRUPT,
                       "state: ends early, after %zu bytes of the head and %" PRIu64
                       " of array %zu",
                       r->head_fed, r->array_fed, r->array);
    }
    *ret_fold = r->fold;
    free(r);
    return 0;
}
