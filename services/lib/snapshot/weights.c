/* weights.c - the whole model's weights out of the snapshots of all shards.
 *
 * A state begins with a head that says how long it is, and the weights follow it
 * (docs/state.md); neither a job nor a fold is needed to take them out. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC        "TLSTATE1"
#define MAGIC_BYTES  (sizeof(MAGIC) - 1u)
#define PREFIX_BYTES 12u /* the magic, and the head's size as 32 bits */

struct slice {
    unsigned char prefix[PREFIX_BYTES];
    uint64_t at;    /* state bytes seen so far */
    uint64_t start; /* of the weights, once the prefix is complete */
    uint64_t end;
    unsigned char *weights;
};

static int read_prefix(struct slice *s) {
    uint32_t head_bytes = 0;
    if (memcmp(s->prefix, MAGIC, MAGIC_BYTES) != 0) {
        return tl_fail(TL_E_UNSUPPORTED, "the state is not of the kind " MAGIC);
    }
    for (size_t i = PREFIX_BYTES; i-- > MAGIC_BYTES;) {
        head_bytes = head_bytes << 8 | s->prefix[i];
    }
    if (head_bytes < PREFIX_BYTES) {
        return tl_fail(TL_E_CORRUPT, "the state's head is shorter than its prefix");
    }
    s->start = head_bytes;
    s->end += head_bytes;
    return 0;
}

/* Of a piece of the state that part which lies in the weights. */
static void copy_weights(struct slice *s, const unsigned char *bytes, size_t size) {
    const uint64_t from = s->at > s->start ? s->at : s->start;
    const uint64_t to = s->at + size < s->end ? s->at + size : s->end;
    if (from < to) {
        memcpy(s->weights + (from - s->start), bytes + (from - s->at),
               (size_t)(to - from));
    }
    s->at += size;
}

static int take_piece(void *ctx, const void *piece, size_t size) {
    struct slice *s = ctx;
    const unsigned char *bytes = piece;
    if (s->at < PREFIX_BYTES) {
        const size_t missing = PREFIX_BYTES - (size_t)s->at;
        const size_t n = size < missing ? size : missing;
        memcpy(s->prefix + s->at, bytes, n);
        s->at += n;
        bytes += n;
        size -= n;
        const int r = s->at == PREFIX_BYTES ? read_prefix(s) : 0;
        if (r < 0) {
            return r;
        }
    }
    copy_weights(s, bytes, size);
    return 0;
}

static int read_slice(struct tl_store *store, const struct tl_manifest *m,
                      float *weights) {
    struct slice s = {.end = m->count * sizeof(float),
                      .weights = (unsigned char *)(weights + m->first)};
    const int r = tl_snapshot_read(store, m, take_piece, &s);
    if (r == 0 && (s.at < PREFIX_BYTES || s.at < s.end)) {
        return tl_fail(TL_E_CORRUPT, "the state ends before its weights do");
    }
    return r;
}

/* What is asked for, and how far the shards before have filled it. */
struct gathering {
    struct tl_store *store;
    uint64_t max_version, parameters;
    float *weights;
    tl_snapshot_skip_fn skip;
    void *skip_ctx;
    uint32_t shards;  /* 0 before the first shard */
    uint64_t filled;  /* parameters 0 .. filled-1 are there */
    uint64_t version; /* lowest so far */
};

/* One model, cut in one way: the next slice starts where the last one ended. */
static int fits(const struct gathering *g, const struct tl_manifest *m) {
    if (m->parameters == g->parameters && m->first == g->filled &&
        (g->shards == 0 || m->shards == g->shards)) {
        return 0;
    }
    char name[TL_OBJECT_NAME_MAX];
    tl_snapshot_name(m, name);
    return tl_fail(TL_E_MISMATCH,
                   "snapshot %s has parameters %" PRIu64 " to %" PRIu64 " of %" PRIu64
                   ": not the slice that goes with the others",
                   name, m->first, m->first + m->count, m->parameters);
}

static int try_one(struct gathering *g, const struct tl_manifest *m) {
    if (m->part_count == 0) {
        return tl_snapshot_check(g->store, m);
    }
    int r = fits(g, m);
    if (r == 0) {
        r = read_slice(g->store, m, g->weights);
    }
    if (r == 0) {
        g->shards = m->shards;
        g->filled += m->count;
        g->version = m->version < g->version ? m->version : g->version;
    }
    return r;
}

static int gather_shard(struct gathering *g, uint32_t shard) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int r = tl_snapshot_list(g->store, shard, &list, &count);
    if (r < 0) {
        return r;
    }
    r = TL_E_NOTFOUND;
    for (size_t i = 0; i < count && (r == TL_E_NOTFOUND || r == TL_E_CORRUPT); i++) {
        if (list[i].version > g->max_version) {
            continue;
        }
        r = try_one(g, &list[i]);
        if (r == TL_E_CORRUPT) { /* the damage may have been on the way */
            r = try_one(g, &list[i]);
        }
        if (g->skip != NULL && (r == TL_E_NOTFOUND || r == TL_E_CORRUPT)) {
            char name[TL_OBJECT_NAME_MAX];
            tl_snapshot_name(&list[i], name);
            g->skip(g->skip_ctx, name, r, tl_error_text());
        }
    }
    tl_manifests_free(list, count);
    if (r != TL_E_NOTFOUND && r != TL_E_CORRUPT) {
        return r;
    }
    return g->max_version == UINT64_MAX
               ? tl_fail(TL_E_NOTFOUND, "shard %" PRIu32 ": no valid snapshot", shard)
               : tl_fail(TL_E_NOTFOUND,
                         "shard %" PRIu32
                         ": no valid snapshot of at most version %" PRIu64,
                         shard, g->max_version);
}

int tl_snapshot_weights_at(struct tl_store *store, uint64_t max_version,
                           uint64_t parameters, tl_snapshot_skip_fn skip,
                           void *skip_ctx, float *weights, uint64_t *ret_version) {
    struct gathering g = {.store = store,
                          .max_version = max_version,
                          .parameters = parameters,
                          .weights = weights,
                          .skip = skip,
                          .skip_ctx = skip_ctx,
                          .version = UINT64_MAX};
    uint32_t shard = 0;
    do {
        const int r = gather_shard(&g, shard++);
        if (r < 0) {
            return r;
        }
    } while (shard < g.shards);
    if (g.filled != parameters) {
        return tl_fail(TL_E_MISMATCH,
                       "the shards' snapshots have %" PRIu64 " of %" PRIu64
                       " parameters",
                       g.filled, parameters);
    }
    *ret_version = g.version;
    return 0;
}

int tl_snapshot_weights(struct tl_store *store, uint64_t parameters, float *weights,
                        uint64_t *ret_version) {
    return tl_snapshot_weights_at(store, UINT64_MAX, parameters, NULL, NULL, weights,
                                  ret_version);
}
