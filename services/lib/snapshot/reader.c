/* reader.c - a snapshot's bytes out of a store, every one of them checked.
 *
 * Stored bytes are compared with each part's hash and size, the state's bytes with the
 * manifest's digest and size. Nothing is held but one piece at a time. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- one part ----------------------------------------------------------------- */

struct part_reading {
    const char *name;
    const struct tl_part *part;
    struct tl_sink sink;
    XXH3_state_t *sum;
    uint64_t bytes;
};

static int take_stored(void *ctx, const void *bytes, size_t size) {
    struct part_reading *p = ctx;
    if (size > p->part->bytes - p->bytes) {
        return tl_fail(TL_E_CORRUPT, "%s: longer than %" PRIu64 " bytes", p->name,
                       p->part->bytes);
    }
    p->bytes += size;
    (void)XXH3_64bits_update(p->sum, bytes, size);
    return p->sink.feed(p->sink.ctx, bytes, size);
}

static int judge_part(const struct part_reading *p) {
    if (TL_MUTATE(parts_not_checked)) {
        return 0;
    }
    if (p->bytes != p->part->bytes) {
        return tl_fail(TL_E_CORRUPT, "%s: %" PRIu64 " bytes instead of %" PRIu64,
                       p->name, p->bytes, p->part->bytes);
    }
    if (XXH3_64bits_digest(p->sum) != p->part->xxh3) {
        return tl_fail(TL_E_CORRUPT, "%s: its bytes do not match its hash", p->name);
    }
    return 0;
}

int tl_part_read(struct tl_store *s, const struct tl_snapshot_key *key,
                 const struct tl_part *part, struct tl_sink sink) {
    char name[TL_OBJECT_NAME_MAX];
    struct part_reading p = {.name = name, .part = part, .sink = sink};
    tl_name_part(key, part->name, name);
    p.sum = XXH3_createState();
    if (p.sum == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to read %s", name);
    }
    (void)XXH3_64bits_reset(p.sum);
    int r = s->ops->read(s, name, take_stored, &p);
    if (r == 0) {
        r = judge_part(&p);
    }
    (void)XXH3_freeState(p.sum);
    return r;
}

/* ---- the state ---------------------------------------------------------------- */

struct reading {
    const struct tl_manifest *m;
    struct tl_sink sink;
    struct tl_codec *codec;
    struct tl_digest *digest;
    uint64_t bytes;
};

/* Nothing past the declared size reaches the sink, however well it compressed. */
static int take_state(void *ctx, const void *bytes, size_t size) {
    struct reading *g = ctx;
    if (size > g->m->state_bytes - g->bytes) {
        return tl_fail(TL_E_CORRUPT, "the state is longer than %" PRIu64 " bytes",
                       g->m->state_bytes);
    }
    g->bytes += size;
    const int r = tl_digest_feed(g->digest, bytes, size);
    return r < 0 ? r : g->sink.feed(g->sink.ctx, bytes, size);
}

static int unpack_stored(void *ctx, const void *bytes, size_t size) {
    struct reading *g = ctx;
    return tl_codec_feed(g->codec, bytes, size);
}

static int judge_state(struct reading *g) {
    char hex[TL_SHA256_HEX];
    int r = tl_codec_end(g->codec);
    if (r == 0) {
        r = tl_digest_end(g->digest, hex);
    }
    if (r < 0) {
        return r;
    }
    if (g->bytes != g->m->state_bytes) {
        return tl_fail(TL_E_CORRUPT,
                       "the state has %" PRIu64 " bytes instead of %" PRIu64, g->bytes,
                       g->m->state_bytes);
    }
    return strcmp(hex, g->m->digest) == 0 || TL_MUTATE(parts_not_checked)
               ? 0
               : tl_fail(TL_E_CORRUPT, "the state does not match its digest");
}

static int read_state(struct tl_store *store, struct reading *g) {
    const struct tl_snapshot_key key = tl_manifest_key(g->m);
    int r = 0;
    for (uint32_t i = 0; i < g->m->part_count && r == 0; i++) {
        r = tl_part_read(store, &key, &g->m->parts[i],
                         (struct tl_sink){unpack_stored, g});
    }
    return r < 0 ? r : judge_state(g);
}

int tl_snapshot_read(struct tl_store *store, const struct tl_manifest *m,
                     int (*sink)(void *ctx, const void *bytes, size_t size),
                     void *ctx) {
    if (m->part_count == 0) {
        /* Listed, but not understood: say what is wrong with it. */
        const struct tl_snapshot_key key = tl_manifest_key(m);
        struct tl_manifest again;
        int r = tl_manifest_read(store, &key, &again);
        if (r == 0) {
            r = tl_snapshot_read(store, &again, sink, ctx);
            tl_manifest_done(&again);
        }
        return r;
    }
    struct reading g = {.m = m, .sink = {sink, ctx}};
    int r = tl_digest_new(&g.digest);
    if (r == 0) {
        r = tl_codec_new(m->zstd ? TL_CODEC_UNPACK : TL_CODEC_COPY, 0,
                         (struct tl_sink){take_state, &g}, &g.codec);
    }
    if (r == 0) {
        r = read_state(store, &g);
    }
    tl_codec_free(g.codec);
    tl_digest_free(g.digest);
    return r;
}

/* ---- verifying ---------------------------------------------------------------- */

int tl_snapshot_verify(struct tl_store *store, const struct tl_manifest *m) {
    return tl_snapshot_read(store, m, tl_sink_discard, NULL);
}
