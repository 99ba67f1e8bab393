/* snapshot.h - a shard's state at a position, as bytes in a store, and back.
 *
 * Path:   nn -> wire -> log -> fold -> [snapshot]
 * Thread: one thread per store handle; plain blocking I/O, bounded by deadlines.
 *
 * A snapshot of shard s at version v, epoch e is, under the store's root,
 *   shard-SSSS/VVVVVVVVVVVVVVVVVVVV-EEEEEEEEEE/part-0000-WRITER ... the bytes of a
 * tl_cut shard-SSSS/VVVVVVVVVVVVVVVVVVVV-EEEEEEEEEE.manifest.json        what they are
 * Parts are written and read back first, the manifest last and only if absent. WRITER
 * is a random number: two writers of one snapshot never touch each other's parts, and
 * one manifest wins. A reader lists manifests, newest (epoch, then version) first,
 * verifies every part against it, and falls back to the one before, saying why.
 * docs/snapshot.md has the layout. */
#ifndef THROUGHLINE_SNAPSHOT_H
#define THROUGHLINE_SNAPSHOT_H

#include "throughline/error.h"
#include "throughline/fold.h"
#include "throughline/s3.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the store: named objects ---------------------------------------------------- */

#define TL_OBJECT_NAME_MAX 256u

struct tl_store;

/* An object being written; invisible until committed. First member of what each kind of
 * store makes of it. */
struct tl_store_writer {
    struct tl_store *store;
    char sha256[65]; /* of all its bytes, hexadecimal, where whoever writes them knows
                        it by the time of the commit; else "" */
};

/* What a kind of store implements: dir.c, s3.c. */
struct tl_store_ops {
    int (*create)(struct tl_store *s, const char *name,
                  struct tl_store_writer **ret_writer);
    int (*write)(struct tl_store_writer *w, const void *bytes, size_t size);
    /* Make it visible and durable; if_absent: TL_E_EXISTS when the name is taken. Frees
     * the writer whatever comes back. Without if_absent a store may answer before it is
     * done, and go on while the next object is written: settle() tells. */
    int (*commit)(struct tl_store_writer *w, bool if_absent);
    void (*abandon)(struct tl_store_writer *w);
    /* Wait until what was committed is visible and durable: 0, or the first failure
     * since the last call. give_up: do not wait, what is under way counts as failed.
     * NULL: commit does all. */
    int (*settle)(struct tl_store *s, bool give_up);
    /* Has the store compared every object with a hash that came with its bytes? Reading
     * them back would then prove nothing more. NULL: no. */
    bool (*proves)(struct tl_store *s);
    /* Feed the object's bytes to `sink` in order, in bounded pieces; the sink leaves
     * the store alone. TL_E_NOTFOUND. */
    int (*read)(struct tl_store *s, const char *name,
                int (*sink)(void *ctx, const void *bytes, size_t size), void *ctx);
    /* Names that start with `prefix`, in byte order, through `each`; stops at its
     * nonzero return and returns that. */
    int (*list)(struct tl_store *s, const char *prefix,
                int (*each)(void *ctx, const char *name, uint64_t size), void *ctx);
    int (*remove)(struct tl_store *s, const char *name); /* absent is no error */
    /* Remove what interrupted writers left: those known to be dead, or not heard of for
     * an hour. */
    int (*sweep)(struct tl_store *s);
    void (*close)(struct tl_store *s);
};
struct tl_store {
    const struct tl_store_ops *ops;
    uint64_t object_bytes; /* size of object that suits it best; 0: any */
    void (*notice)(void *ctx, const char *text); /* tl_store_listen() */
    void *notice_ctx;
    atomic_bool is_cancelled;
};

/* Have told, as a line of text, what is no failure but worth knowing: a server that is
 * being tried again, or that lacks something. Until then nobody is told. */
void tl_store_listen(struct tl_store *s, void (*notice)(void *ctx, const char *text),
                     void *ctx);
/* What is under way, and all that comes later, fails with TL_E_INTERRUPTED within a
 * second, wherever it would wait for somebody else. From any thread and any signal
 * handler. */
void tl_store_cancel(struct tl_store *s);
/* Wait for what was committed: see tl_store_ops.settle. */
int tl_store_settle(struct tl_store *s, bool give_up);

/* "file:///dir" (made when missing), or "s3://bucket/prefix" with its settings, which
 * are copied; NULL: their defaults. TL_E_CONFIG, TL_E_UNSUPPORTED, TL_E_IO. */
TL_MUST_USE int tl_store_open(const char *url, const struct tl_s3_options *s3,
                              struct tl_store **ret_store);
/* The same for somebody who only reads: TL_E_NOTFOUND when it is missing. */
TL_MUST_USE int tl_store_open_existing(const char *url, const struct tl_s3_options *s3,
                                       struct tl_store **ret_store);
void tl_store_close(struct tl_store *s); /* NULL is legal */

/* ---- manifests ------------------------------------------------------------------ */

#define TL_PARTS_MAX 4096u

struct tl_part {
    char name[32];
    uint64_t bytes; /* as stored */
    uint64_t xxh3;  /* of the stored bytes */
};

struct tl_manifest {
    char job[64], run[64];
    uint64_t fold_digest; /* what the state depends on: tl_job_fold_digest() */
    uint32_t shard, shards;
    uint64_t first, count, parameters;
    uint64_t version, position, epoch;
    uint64_t created_unix_ms;
    bool zstd;
    uint64_t state_bytes; /* before compression */
    char digest[65];      /* of the state's bytes: tl_digest_end() */
    uint32_t part_count;
    struct tl_part *parts; /* owned */
};
void tl_manifest_done(struct tl_manifest *m);

/* ---- a state's digest, PURE ----------------------------------------------------- */

/* SHA-256 over the SHA-256s (32 bytes each) of the state's blocks, the last of which
 * may be shorter. A store that takes blocks as objects, and wants to know the SHA-256
 * of each, is told what has been computed already: every byte is hashed once. */
#define TL_BLOCK_BYTES (5u << 20) /* another size would be another format */
struct tl_digest;
TL_MUST_USE int tl_digest_new(struct tl_digest **ret_digest); /* TL_E_NOMEM */
TL_MUST_USE int tl_digest_feed(struct tl_digest *d, const void *bytes, size_t size);
/* The digest of what was fed, in hexadecimal; and begin anew. */
TL_MUST_USE int tl_digest_end(struct tl_digest *d, char ret_hex[65]);
void tl_digest_free(struct tl_digest *d); /* NULL is legal */

/* ---- writing -------------------------------------------------------------------- */

struct tl_snapshot_options {
    uint32_t zstd_level; /* 0: not compressed */
    uint64_t part_bytes; /* 0: what suits the store, or 64 MiB */
    uint32_t keep;       /* complete snapshots to keep per shard, at least 2 */
};

/* Takes a state's bytes as they come and makes a snapshot of them. `meta` fills the
 * manifest's identity (job, run, digest, shard, range, version, position, epoch).
 * finish: parts are read back and compared, then the manifest is written; TL_E_EXISTS
 * when this snapshot exists already; TL_E_CORRUPT when what was read back differs. What
 * was written of a snapshot that fails, or is abandoned, is removed again. */
struct tl_snapshot_writer;
TL_MUST_USE int tl_snapshot_begin(struct tl_store *store,
                                  const struct tl_manifest *meta,
                                  const struct tl_snapshot_options *options,
                                  struct tl_snapshot_writer **ret_writer);
TL_MUST_USE int tl_snapshot_write(struct tl_snapshot_writer *w, const void *bytes,
                                  size_t size);
/* Frees the writer whatever comes back. ret_manifest may be NULL. */
TL_MUST_USE int tl_snapshot_finish(struct tl_snapshot_writer *w,
                                   struct tl_manifest *ret_manifest);
void tl_snapshot_abandon(struct tl_snapshot_writer *w); /* NULL is legal */

/* Remove snapshots of `shard` beyond the newest `keep` (at least 2) complete ones, and
 * parts that no manifest names and that are older than the newest kept. Manifest first,
 * then parts. Complete: the manifest is intact and every part is there in full length.
 * A store that cannot be read is an error, never a reason to remove. ret_removed, the
 * number of snapshots, may be NULL. */
TL_MUST_USE int tl_snapshot_prune(struct tl_store *store, uint32_t shard, uint32_t keep,
                                  uint32_t *ret_removed);

/* ---- reading -------------------------------------------------------------------- */

/* One line per snapshot that had to be skipped, and why. NULL: not reported. */
typedef void (*tl_snapshot_skip_fn)(void *ctx, const char *name, int error,
                                    const char *why);

/* The newest valid snapshot of `shard` as a fold. Damaged or torn ones are skipped.
 * `expected` names job, run, digest, shard and shape.
 *   TL_E_NOTFOUND     there is none (valid)
 *   TL_E_MISMATCH     the newest is of another job, run, shape or optimizer: refused,
 * not skipped TL_E_UNSUPPORTED  the newest is of a format that this program does not
 * know TL_E_IO, ...      the store cannot be read: nothing is known about what is in it
 */
TL_MUST_USE int tl_snapshot_load(struct tl_store *store,
                                 const struct tl_manifest *expected,
                                 const struct tl_fold_config *config,
                                 tl_snapshot_skip_fn skip, void *skip_ctx,
                                 struct tl_fold **ret_fold,
                                 struct tl_manifest *ret_manifest);

/* Manifests of `shard` (UINT32_MAX: all, by shard), newest first. One that cannot be
 * understood is listed with what its name says (shard, version, epoch) and without
 * parts. The array and its entries are the caller's: tl_manifests_free(). */
TL_MUST_USE int tl_snapshot_list(struct tl_store *store, uint32_t shard,
                                 struct tl_manifest **ret_list, size_t *ret_count);
void tl_manifests_free(struct tl_manifest *list, size_t count);

/* The name of a snapshot, as in tl_snapshot_skip_fn and in error texts. */
void tl_snapshot_name(const struct tl_manifest *m, char ret_name[TL_OBJECT_NAME_MAX]);

/* Is every part there in full length? Reads no part. TL_E_CORRUPT, TL_E_NOTFOUND; the
 * text names the part. */
TL_MUST_USE int tl_snapshot_check(struct tl_store *store, const struct tl_manifest *m);

/* Read every part and compare with the manifest and the state with its own checks.
 * TL_E_CORRUPT, TL_E_NOTFOUND; the text names the part. */
TL_MUST_USE int tl_snapshot_verify(struct tl_store *store, const struct tl_manifest *m);

/* Feed the state's bytes (decompressed, verified as they go) to `sink`. Whoever takes
 * them believes them only after a return of 0. */
TL_MUST_USE int tl_snapshot_read(struct tl_store *store, const struct tl_manifest *m,
                                 int (*sink)(void *ctx, const void *bytes, size_t size),
                                 void *ctx);

/* Copy a snapshot into another store, verified on the way, its manifest last.
 * ret_manifest: the copy's. TL_E_EXISTS: it is there already. */
TL_MUST_USE int tl_snapshot_copy(struct tl_store *from, const struct tl_manifest *m,
                                 struct tl_store *to, struct tl_manifest *ret_manifest);

/* Whole model's weights (parameters float32, the caller's buffer) from the newest valid
 * snapshot of every shard; ret_version is the lowest among them. */
TL_MUST_USE int tl_snapshot_weights(struct tl_store *store, uint64_t parameters,
                                    float *weights, uint64_t *ret_version);

/* The same from snapshots of at most max_version; those skipped are reported. */
TL_MUST_USE int tl_snapshot_weights_at(struct tl_store *store, uint64_t max_version,
                                       uint64_t parameters, tl_snapshot_skip_fn skip,
                                       void *skip_ctx, float *weights,
                                       uint64_t *ret_version);

/* ---- pace: when a shard is due, PURE ------------------------------------------ */

/* Times are of the monotonic clock. Set the first two, and taken_ms to the start. */
struct tl_pace {
    uint64_t every_updates; /* 0: not by updates */
    int64_t every_ms;       /* 0: not by time */
    uint64_t
        taken_version; /* of the newest snapshot, or where a recovery went back to */
    int64_t taken_ms;
    uint64_t epoch; /* that `version` was seen in */
    uint64_t version;
    int64_t seen_ms;
    double updates_per_ms;           /* estimate */
    uint64_t cut_version, cut_epoch; /* of the newest that was cut */
    int64_t cut_ms;
};
/* A snapshot of `version` is in the store. */
void tl_pace_taken(struct tl_pace *p, int64_t now_ms, uint64_t version, uint64_t epoch);
/* The shard was at `version` in `epoch`. */
void tl_pace_seen(struct tl_pace *p, int64_t now_ms, uint64_t version, uint64_t epoch);
bool tl_pace_is_due(const struct tl_pace *p, int64_t now_ms);
/* When to ask for the version again, so as not to miss the next snapshot's. */
int64_t tl_pace_next_ms(const struct tl_pace *p, int64_t now_ms);
/* A state of `version` has been cut. How long is it from one that is due to the next?
 * 0: not known, as with the first of an epoch. */
int64_t tl_pace_cut(struct tl_pace *p, int64_t now_ms, uint64_t version,
                    uint64_t epoch);

/* ---- tempo: how fast a state goes to the store, PURE -------------------------- */

/* What storing takes of memory and caches, training does not have, whatever the
 * priorities: a large state goes at a walk, no faster than it needs to. A small one is
 * there in a moment either way. */
struct tl_tempo {
    double bytes_per_s; /* INFINITY: as fast as it can */
    double due_s;       /* of what has gone so far, as of tl_now_seconds() */
};
/* `bytes` of each of so many shards are to take at most a quarter of the time that it
 * is to the next ones, `interval_ms` (0: not known). */
struct tl_tempo tl_tempo_of(double now_s, uint64_t bytes, uint32_t shards,
                            int64_t interval_ms);
/* `bytes` more have gone. The seconds that the next ones are to wait, 0 at the least;
 * what the store held up may be made up for, but only a little of it. */
double tl_tempo_rest_s(struct tl_tempo *t, double now_s, uint64_t bytes);

#endif
