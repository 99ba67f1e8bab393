/* writer.c - a state's bytes into a store: parts first, read back, the manifest last.
 *
 * Parts carry this writer's random number in their names. A part is therefore nobody
 * else's, whatever another writer of the same snapshot does, and the manifest, which is
 * created only if absent, decides which of them it was. */
#include "throughline/service.h"

#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define PART_BYTES (64u << 20)

struct tl_snapshot_writer {
    struct tl_store *store;
    struct tl_snapshot_key key;
    struct tl_manifest m; /* grows as parts are written; room for TL_PARTS_MAX */
    uint64_t part_bytes;
    uint64_t token;
    struct tl_codec *codec;
    struct tl_digest *digest;
    XXH3_state_t *sum;           /* of the open part */
    struct tl_store_writer *out; /* the open part: the last one in `m`; or NULL */
    int failure;                 /* of an earlier call: a gap can't be written over */
};

/* ---- parts -------------------------------------------------------------------- */

static struct tl_part *last_part(struct tl_snapshot_writer *w) {
    return &w->m.parts[w->m.part_count - 1u];
}

static int open_part(struct tl_snapshot_writer *w) {
    if (w->m.part_count == TL_PARTS_MAX) {
        return tl_fail(TL_E_TOOBIG,
                       "snapshot of version %" PRIu64 ": more than %u parts of %" PRIu64
                       " bytes; use larger parts",
                       w->key.version, TL_PARTS_MAX, w->part_bytes);
    }
    char name[TL_OBJECT_NAME_MAX];
    struct tl_part *part = &w->m.parts[w->m.part_count];
    tl_part_format(w->m.part_count, w->token, part->name);
    tl_name_part(&w->key, part->name, name);
    const int r = w->store->ops->create(w->store, name, &w->out);
    if (r < 0) {
        return r;
    }
    w->m.part_count++;
    (void)XXH3_64bits_reset(w->sum);
    return 0;
}

static int close_part(struct tl_snapshot_writer *w) {
    struct tl_store_writer *out = w->out;
    w->out = NULL;
    last_part(w)->xxh3 = XXH3_64bits_digest(w->sum);
    if (!w->m.zstd && w->part_bytes == TL_BLOCK_BYTES) { /* then it is a block */
        const int r = tl_digest_close(w->digest, out->sha256);
        if (r < 0) {
            w->store->ops->abandon(out);
            return r;
        }
    }
    return w->store->ops->commit(out, false);
}

/* The codec's sink: stored bytes, cut into parts. */
static int store_bytes(void *ctx, const void *bytes, size_t size) {
    struct tl_snapshot_writer *w = ctx;
    const char *next = bytes;
    while (size > 0) {
        int r = w->out == NULL ? open_part(w) : 0;
        if (r < 0) {
            return r;
        }
        struct tl_part *part = last_part(w);
        const uint64_t room = w->part_bytes - part->bytes;
        const size_t n = size < room ? size : (size_t)room;
        (void)XXH3_64bits_update(w->sum, next, n);
        r = w->store->ops->write(w->out, next, n);
        if (r < 0) {
            return r;
        }
        part->bytes += n;
        next += n;
        size -= n;
        r = part->bytes == w->part_bytes ? close_part(w) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* ---- begin, write ------------------------------------------------------------- */

static int start_tools(struct tl_snapshot_writer *w, uint32_t level) {
    w->m.parts = calloc(TL_PARTS_MAX, sizeof(w->m.parts[0]));
    w->sum = XXH3_createState();
    if (w->m.parts == NULL || w->sum == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to write a snapshot");
    }
    const int r = tl_digest_new(&w->digest);
    return r < 0 ? r
                 : tl_codec_new(level > 0 ? TL_CODEC_PACK : TL_CODEC_COPY, level,
                                (struct tl_sink){store_bytes, w}, &w->codec);
}

static void free_writer(struct tl_snapshot_writer *w) {
    tl_codec_free(w->codec);
    tl_digest_free(w->digest);
    (void)XXH3_freeState(w->sum);
    tl_manifest_done(&w->m);
    free(w);
}

int tl_snapshot_begin(struct tl_store *store, const struct tl_manifest *meta,
                      const struct tl_snapshot_options *options,
                      struct tl_snapshot_writer **ret_writer) {
    struct tl_snapshot_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to write a snapshot");
    }
    w->store = store;
    w->key = tl_manifest_key(meta);
    w->token = tl_random_u64();
    w->part_bytes = options->part_bytes > 0   ? options->part_bytes
                    : store->object_bytes > 0 ? store->object_bytes
                                              : PART_BYTES;
    w->m = *meta;
    w->m.part_count = 0;
    w->m.state_bytes = 0;
    w->m.zstd = options->zstd_level > 0;
    if (w->m.created_unix_ms == 0) {
        w->m.created_unix_ms = tl_unix_ms();
    }
    const int r = start_tools(w, options->zstd_level);
    if (r < 0) {
        free_writer(w);
        return r;
    }
    *ret_writer = w;
    return 0;
}

int tl_snapshot_write(struct tl_snapshot_writer *w, const void *bytes, size_t size) {
    if (w->failure < 0) {
        return w->failure;
    }
    const char *next = bytes;
    int r = 0;
    while (size > 0 && r == 0) {
        const size_t room = tl_digest_room(w->digest);
        const size_t n = size < room ? size : room;
        r = tl_digest_feed(w->digest, next, n);
        if (r == 0) {
            r = tl_codec_feed(w->codec, next, n);
        }
        w->m.state_bytes += n;
        next += n;
        size -= n;
    }
    w->failure = r;
    return r;
}

/* ---- finish ------------------------------------------------------------------- */

static int read_back(const struct tl_snapshot_writer *w) {
    int r = 0;
    if (w->store->ops->proves != NULL && w->store->ops->proves(w->store)) {
        return tl_snapshot_check(w->store, &w->m);
    }
    for (uint32_t i = 0; i < w->m.part_count && r == 0; i++) {
        r = tl_part_read(w->store, &w->key, &w->m.parts[i],
                         (struct tl_sink){tl_sink_discard, NULL});
    }
    return r;
}

static int write_manifest(const struct tl_snapshot_writer *w) {
    const struct tl_store_ops *ops = w->store->ops;
    struct tl_store_writer *out = NULL;
    char name[TL_OBJECT_NAME_MAX];
    char *text = NULL;
    int r = tl_manifest_encode(&w->m, &text);
    if (r < 0) {
        return r;
    }
    tl_name_manifest(&w->key, name);
    r = ops->create(w->store, name, &out);
    if (r == 0) {
        r = ops->write(out, text, strlen(text));
        if (r < 0) {
            ops->abandon(out);
        } else {
            r = ops->commit(out, true);
        }
    }
    free(text);
    return r;
}

static int complete(struct tl_snapshot_writer *w) {
    int r = w->failure < 0 ? w->failure : tl_codec_end(w->codec);
    if (r == 0 && w->out != NULL) {
        r = close_part(w);
        r = TL_MUTATE(manifest_first) ? 0 : r;
    }
    if (r == 0) {
        r = tl_digest_end(w->digest, w->m.digest);
    }
    if (r == 0) {
        r = tl_store_settle(w->store, false);
    }
    if (r == 0 && !TL_MUTATE(manifest_first)) {
        r = read_back(w);
    }
    return r < 0 ? r : write_manifest(w);
}

int tl_snapshot_finish(struct tl_snapshot_writer *w, struct tl_manifest *ret_manifest) {
    const int r = complete(w);
    if (r < 0) {
        tl_snapshot_abandon(w);
        return r;
    }
    if (ret_manifest != NULL) {
        *ret_manifest = w->m;
        w->m.parts = NULL;
    }
    free_writer(w);
    return 0;
}

/* Best effort: what stays is an orphan, and pruned later. The error's text is that of
 * what went wrong before. */
void tl_snapshot_abandon(struct tl_snapshot_writer *w) {
    if (w == NULL) {
        return;
    }
    char why[512];
    char name[TL_OBJECT_NAME_MAX];
    (void)snprintf(why, sizeof(why), "%s", tl_error_text());
    if (w->out != NULL) {
        w->store->ops->abandon(w->out);
    }
    (void)tl_store_settle(w->store, true);
    int r = 0;
    for (uint32_t i = 0; i < w->m.part_count && r == 0; i++) {
        tl_name_part(&w->key, w->m.parts[i].name, name);
        r = w->store->ops->remove(w->store, name);
    }
    free_writer(w);
    (void)tl_fail(0, "%s", why);
}
