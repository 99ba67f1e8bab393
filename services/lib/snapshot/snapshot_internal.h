/* snapshot_internal.h - what the files of this stage share. */
#ifndef SNAPSHOT_INTERNAL_H
#define SNAPSHOT_INTERNAL_H

#include "throughline/mutant.h"
#include "throughline/snapshot.h"

/* ---- store.c ------------------------------------------------------------------- */

/* Bytes as they pass: the shape of every sink of this stage. */
struct tl_sink {
    int (*feed)(void *ctx, const void *bytes, size_t size);
    void *ctx;
};
/* Takes everything: for reading that is only about the checks on the way. */
int tl_sink_discard(void *ctx, const void *bytes, size_t size);

/* Is `name` one that every kind of store can hold: segments of letters, digits, '-',
 * '_' and '.', none starting with a dot? TL_E_INVALID. */
TL_MUST_USE int tl_store_check_name(const char *name);

/* A whole small object; the caller frees ret_bytes. TL_E_CORRUPT: longer than `max`. */
TL_MUST_USE int tl_store_read_all(struct tl_store *s, const char *name, size_t max,
                                  char **ret_bytes, size_t *ret_size);

/* ---- dir.c --------------------------------------------------------------------- */

/* `root` is an absolute path; `make` it when it is missing, else TL_E_NOTFOUND. */
TL_MUST_USE int tl_dir_open(const char *root, bool make, struct tl_store **ret_store);

/* ---- s3.c ---------------------------------------------------------------------- */

/* `options` NULL: the defaults. */
TL_MUST_USE int tl_s3_open(const char *url, const struct tl_s3_options *options,
                           struct tl_store **ret_store);

/* ---- name.c -------------------------------------------------------------------- */

/* What a snapshot is called. Newer means a higher epoch, then a higher version. */
struct tl_snapshot_key {
    uint32_t shard;
    uint64_t version, epoch;
};
struct tl_snapshot_key tl_manifest_key(const struct tl_manifest *m);
/* > 0 when `a` is newer than `b`. */
int tl_snapshot_compare(const struct tl_snapshot_key *a,
                        const struct tl_snapshot_key *b);

/* Names in the store; `name` has room for TL_OBJECT_NAME_MAX. */
void tl_key_name(const struct tl_snapshot_key *key, char *name);
void tl_name_manifest(const struct tl_snapshot_key *key, char *name);
void tl_name_part(const struct tl_snapshot_key *key, const char *part, char *name);

#define TL_PART_NAME_MAX sizeof(((struct tl_part *)0)->name)
/* Name of part `index` by the writer `token`. */
void tl_part_format(uint32_t index, uint64_t token, char part[TL_PART_NAME_MAX]);
/* Is `part` such a name with this index? */
bool tl_part_is(const char *part, uint32_t index);

/* The snapshot that an object belongs to, and which part it is ("": the manifest).
 * False: not ours. */
bool tl_name_parse(const char *name, struct tl_snapshot_key *ret_key,
                   char ret_part[TL_PART_NAME_MAX]);

/* ---- manifest.c ------------------------------------------------------------------ */

/* As JSON text; the caller frees ret_text. TL_E_INVALID: a field is out of its range.
 */
TL_MUST_USE int tl_manifest_encode(const struct tl_manifest *m, char **ret_text);
/* `where` is for error texts. TL_E_CORRUPT; TL_E_UNSUPPORTED: intact, and of a format
 * that this program does not know. */
TL_MUST_USE int tl_manifest_decode(const char *bytes, size_t size, const char *where,
                                   struct tl_manifest *ret_manifest);
/* Read the manifest of `key` and check that it is that snapshot's. */
TL_MUST_USE int tl_manifest_read(struct tl_store *s, const struct tl_snapshot_key *key,
                                 struct tl_manifest *ret_manifest);

/* ---- catalog.c ---------------------------------------------------------------- */

/* Everything of ours under a shard's prefix (UINT32_MAX: of all), by shard, newest
 * snapshot first, the manifest before its parts. */
struct tl_catalog_entry {
    struct tl_snapshot_key key;
    char part[TL_PART_NAME_MAX]; /* "": the manifest */
};
struct tl_catalog {
    struct tl_catalog_entry *entries;
    size_t count, capacity;
};
TL_MUST_USE int tl_catalog_load(struct tl_store *s, uint32_t shard,
                                struct tl_catalog *ret_catalog);
void tl_catalog_done(struct tl_catalog *c);

/* ---- codec.c --------------------------------------------------------------------- */

/* State bytes to stored bytes, or back, piece by piece. */
enum tl_codec_kind { TL_CODEC_COPY, TL_CODEC_PACK, TL_CODEC_UNPACK };
struct tl_codec;
TL_MUST_USE int tl_codec_new(enum tl_codec_kind kind, uint32_t level,
                             struct tl_sink sink, struct tl_codec **ret_codec);
TL_MUST_USE int tl_codec_feed(struct tl_codec *c, const void *bytes, size_t size);
/* No more comes. UNPACK: TL_E_CORRUPT when the frame is not complete. */
TL_MUST_USE int tl_codec_end(struct tl_codec *c);
void tl_codec_free(struct tl_codec *c);

/* ---- digest.c ----------------------------------------------------------------- */

#define TL_SHA256_HEX 65u
struct tl_sha256;
TL_MUST_USE int tl_sha256_new(struct tl_sha256 **ret_sha);
TL_MUST_USE int tl_sha256_feed(struct tl_sha256 *s, const void *bytes, size_t size);
/* ... and begin anew. */
TL_MUST_USE int tl_sha256_end(struct tl_sha256 *s, char ret_hex[TL_SHA256_HEX]);
void tl_sha256_free(struct tl_sha256 *s);

/* Bytes until the open block is full: who feeds no more than these has each block's
 * SHA-256 in time. */
size_t tl_digest_room(const struct tl_digest *d);
/* No more bytes for the open block; the SHA-256 of the block that was closed last. */
TL_MUST_USE int tl_digest_close(struct tl_digest *d, char ret_hex[TL_SHA256_HEX]);

/* ---- reader.c ----------------------------------------------------------------- */

/* Stored bytes of one part, compared with what the manifest says of it, passed on to
 * `sink` as they come. */
TL_MUST_USE int tl_part_read(struct tl_store *s, const struct tl_snapshot_key *key,
                             const struct tl_part *part, struct tl_sink sink);

#endif
