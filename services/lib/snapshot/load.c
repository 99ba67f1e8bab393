/* load.c - the newest valid snapshot as a fold.
 *
 * What is damaged is skipped, aloud. What is intact but not ours is refused: starting
 * over from an older state, because somebody changed the job, is nobody's wish. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int differs(const struct tl_manifest *m, const char *field) {
    char name[TL_OBJECT_NAME_MAX];
    tl_snapshot_name(m, name);
    return tl_fail(TL_E_MISMATCH,
                   "snapshot %s is of another %s: use another checkpoint.store, or the "
                   "job that it is of (job %s, run %s, shard %" PRIu32 " of %" PRIu32
                   ")",
                   name, field, m->job, m->run, m->shard, m->shards);
}

static int compare(const struct tl_manifest *m, const struct tl_manifest *expected) {
    if (strcmp(m->job, expected->job) != 0) {
        return differs(m, "job");
    }
    if (strcmp(m->run, expected->run) != 0) {
        return differs(m, "run");
    }
    if (m->shards != expected->shards) {
        return differs(m, "number of shards");
    }
    if (m->parameters != expected->parameters || m->first != expected->first ||
        m->count != expected->count) {
        return differs(m, "model (its size differs)");
    }
    if (m->fold_digest != expected->fold_digest) {
        return differs(m, "model, optimizer or consistency");
    }
    return 0;
}

static int feed_restore(void *ctx, const void *bytes, size_t size) {
    return tl_restore_feed(ctx, bytes, size);
}

/* The state knows its place in the log too. */
static int compare_place(const struct tl_fold *f, const struct tl_manifest *m) {
    if (tl_fold_version(f) == m->version && tl_fold_position(f) == m->position &&
        tl_fold_epoch(f) == m->epoch) {
        return 0;
    }
    return tl_fail(TL_E_CORRUPT,
                   "the state is at version %" PRIu64 ", position %" PRIu64
                   ", epoch %" PRIu64 ", which is not what its manifest says",
                   tl_fold_version(f), tl_fold_position(f), tl_fold_epoch(f));
}

static int restore(struct tl_store *store, const struct tl_manifest *m,
                   const struct tl_fold_config *config, struct tl_fold **ret_fold) {
    struct tl_restore *r = NULL;
    struct tl_fold *f = NULL;
    int rc = tl_restore_new(config, &r);
    if (rc < 0) {
        return rc;
    }
    rc = tl_snapshot_read(store, m, feed_restore, r);
    if (rc == 0) {
        rc = tl_restore_done(r, &f);
    }
    if (rc < 0) {
        tl_restore_free(r);
        return rc;
    }
    rc = compare_place(f, m);
    if (rc < 0) {
        tl_fold_free(f);
        return rc;
    }
    *ret_fold = f;
    return 0;
}

static int try_one(struct tl_store *store, const struct tl_snapshot_key *key,
                   const struct tl_manifest *expected,
                   const struct tl_fold_config *config, struct tl_fold **ret_fold,
                   struct tl_manifest *ret_manifest) {
    struct tl_manifest m;
    int r = tl_manifest_read(store, key, &m);
    if (r < 0) {
        return r;
    }
    r = compare(&m, expected);
    if (r == 0) {
        r = restore(store, &m, config, ret_fold);
    }
    if (r < 0) {
        tl_manifest_done(&m);
        return r;
    }
    *ret_manifest = m;
    return 0;
}

static void report(tl_snapshot_skip_fn skip, void *ctx,
                   const struct tl_snapshot_key *key, int error) {
    char name[TL_OBJECT_NAME_MAX];
    if (skip != NULL) {
        tl_key_name(key, name);
        skip(ctx, name, error, tl_error_text());
    }
}

int tl_snapshot_load(struct tl_store *store, const struct tl_manifest *expected,
                     const struct tl_fold_config *config, tl_snapshot_skip_fn skip,
                     void *skip_ctx, struct tl_fold **ret_fold,
                     struct tl_manifest *ret_manifest) {
    struct tl_catalog c;
    size_t skipped = 0;
    int r = tl_catalog_load(store, expected->shard, &c);
    if (r < 0) {
        return r;
    }
    r = TL_E_NOTFOUND;
    for (size_t i = 0; i < c.count && (r == TL_E_NOTFOUND || r == TL_E_CORRUPT); i++) {
        if (c.entries[i].part[0] != '\0') {
            continue;
        }
        const struct tl_snapshot_key *key = &c.entries[i].key;
        r = try_one(store, key, expected, config, ret_fold, ret_manifest);
        if (r == TL_E_CORRUPT) { /* the damage may have been on the way */
            r = try_one(store, key, expected, config, ret_fold, ret_manifest);
        }
        if (r == TL_E_NOTFOUND || r == TL_E_CORRUPT) {
            report(skip, skip_ctx, key, r);
            skipped++;
        }
    }
    tl_catalog_done(&c);
    if (r == TL_E_NOTFOUND || r == TL_E_CORRUPT) {
        return tl_fail(TL_E_NOTFOUND,
                       "shard %" PRIu32
                       ": no valid snapshot (%zu damaged ones skipped)",
                       expected->shard, skipped);
    }
    return r;
}
