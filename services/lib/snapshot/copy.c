/* copy.c - a snapshot from one store into another.
 *
 * The state's bytes are read as by anybody, compared with every hash on the way, and
 * written as by a checkpointer, in parts that suit the other store: what the copy's
 * manifest says has been seen. */
#include "snapshot_internal.h"

#include <stdio.h>
#include <string.h>

#define ZSTD_LEVEL 3u /* of a copy of a compressed snapshot */

static int write_state(void *ctx, const void *bytes, size_t size) {
    return tl_snapshot_write(ctx, bytes, size);
}

int tl_snapshot_copy(struct tl_store *from, const struct tl_manifest *m,
                     struct tl_store *to, struct tl_manifest *ret_copy) {
    const struct tl_snapshot_options options = {.zstd_level = m->zstd ? ZSTD_LEVEL : 0};
    struct tl_snapshot_writer *w = NULL;
    if (m->part_count == 0) {
        return tl_snapshot_check(from, m); /* listed, but not understood: says why */
    }
    int r = tl_snapshot_begin(to, m, &options, &w);
    if (r < 0) {
        return r;
    }
    r = tl_snapshot_read(from, m, write_state, w);
    if (r < 0) {
        tl_snapshot_abandon(w);
        return r;
    }
    return tl_snapshot_finish(w, ret_copy);
}
