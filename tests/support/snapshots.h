/* snapshots.h - a directory store of one test, and snapshots of made-up states in it.
 */
#ifndef SNAPSHOTS_H
#define SNAPSHOTS_H

#include "throughline/snapshot.h"

#include "tempdir.h"

struct snapshots {
    struct tl_store *store; /* first: what tests of any store see */
    char directory[TEMPDIR_MAX];
};

static inline void snapshots_reopen(struct snapshots *t) {
    char url[TEMPDIR_MAX + 8];
    tl_store_close(t->store);
    (void)snprintf(url, sizeof(url), "file://%s", t->directory);
    assert_int_equal(tl_store_open(url, NULL, &t->store), 0);
}

static inline int snapshots_setup(void **state) {
    struct snapshots *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    tempdir_make(t->directory);
    snapshots_reopen(t);
    *state = t;
    return 0;
}

static inline int snapshots_teardown(void **state) {
    struct snapshots *t = *state;
    tl_store_close(t->store);
    tempdir_remove(t->directory);
    free(t);
    return 0;
}

/* The identity of shard 0 of 1 of a job of 1000 parameters. */
static inline struct tl_manifest snapshots_meta(uint64_t epoch, uint64_t version) {
    return (struct tl_manifest){.job = "job",
                                .run = "run-1",
                                .fold_digest = 0x0123456789abcdefu,
                                .shards = 1,
                                .count = 1000,
                                .parameters = 1000,
                                .version = version,
                                .position = version + 5,
                                .epoch = epoch,
                                .created_unix_ms = 1700000000000u};
}

/* `size` bytes that differ between versions; compressible when `is_smooth`. */
static inline char *snapshots_state(uint64_t version, size_t size, bool is_smooth) {
    char *bytes = malloc(size + 1u);
    assert_non_null(bytes);
    uint64_t x = version * 2862933555777941757u + 3037000493u;
    for (size_t i = 0; i < size; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (char)(is_smooth ? (version + i / 512u) : x >> 56);
    }
    return bytes;
}

/* Write a snapshot in pieces of `piece` bytes. */
static inline int snapshots_put(struct tl_store *store, const struct tl_manifest *meta,
                                const struct tl_snapshot_options *options,
                                const char *state, size_t size, size_t piece) {
    struct tl_snapshot_writer *w = NULL;
    int r = tl_snapshot_begin(store, meta, options, &w);
    if (r < 0) {
        return r;
    }
    for (size_t at = 0; at < size && r == 0; at += piece) {
        r = tl_snapshot_write(w, state + at, size - at < piece ? size - at : piece);
    }
    if (r < 0) {
        tl_snapshot_abandon(w);
        return r;
    }
    return tl_snapshot_finish(w, NULL);
}

#define SNAPSHOTS_STATE_BYTES 10000u

/* One of three parts: 4096, 4096 and 1808 bytes. */
static inline int snapshots_put_small(struct tl_store *store, uint64_t epoch,
                                      uint64_t version) {
    const struct tl_manifest meta = snapshots_meta(epoch, version);
    const struct tl_snapshot_options options = {.part_bytes = 4096};
    char *state = snapshots_state(version, SNAPSHOTS_STATE_BYTES, false);
    const int r =
        snapshots_put(store, &meta, &options, state, SNAPSHOTS_STATE_BYTES, 1000);
    free(state);
    return r;
}

struct snapshots_bytes {
    char *bytes;
    size_t size, capacity;
};

static inline int snapshots_collect(void *ctx, const void *bytes, size_t size) {
    struct snapshots_bytes *b = ctx;
    assert_true(size <= b->capacity - b->size);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
    return 0;
}

/* Does `m` give back the state that snapshots_put_small() wrote for its version? */
static inline void snapshots_expect_small(struct tl_store *store,
                                          const struct tl_manifest *m) {
    char *state = snapshots_state(m->version, SNAPSHOTS_STATE_BYTES, false);
    struct snapshots_bytes got = {.bytes = malloc(SNAPSHOTS_STATE_BYTES),
                                  .capacity = SNAPSHOTS_STATE_BYTES};
    assert_int_equal(tl_snapshot_read(store, m, snapshots_collect, &got), 0);
    assert_int_equal(got.size, SNAPSHOTS_STATE_BYTES);
    assert_memory_equal(got.bytes, state, got.size);
    free(got.bytes);
    free(state);
}

/* Name of the newest snapshot that verifies, as "EPOCH/VERSION"; "none". */
static inline const char *snapshots_newest_valid(struct tl_store *store) {
    static char text[64];
    struct tl_manifest *list = NULL;
    size_t count = 0;
    (void)snprintf(text, sizeof(text), "none");
    assert_int_equal(tl_snapshot_list(store, 0, &list, &count), 0);
    for (size_t i = 0; i < count; i++) {
        if (tl_snapshot_verify(store, &list[i]) == 0) {
            (void)snprintf(text, sizeof(text), "%llu/%llu",
                           (unsigned long long)list[i].epoch,
                           (unsigned long long)list[i].version);
            break;
        }
    }
    tl_manifests_free(list, count);
    return text;
}

static inline int snapshots_count_name(void *ctx, const char *name, uint64_t size) {
    (void)name;
    (void)size;
    ++*(unsigned *)ctx;
    return 0;
}

/* How many objects the store shows. */
static inline unsigned snapshots_objects(struct tl_store *store) {
    unsigned count = 0;
    assert_int_equal(store->ops->list(store, "", snapshots_count_name, &count), 0);
    return count;
}

/* Path of a file of the store. */
static inline const char *snapshots_path(const struct snapshots *t, const char *name) {
    static char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", t->directory, name);
    return path;
}

/* Path of the manifest of (epoch, version), or of its part number `part` (>= 0). */
static inline const char *snapshots_object(const struct snapshots *t, uint64_t epoch,
                                           uint64_t version, int part) {
    char name[TL_OBJECT_NAME_MAX];
    char object[2 * TL_OBJECT_NAME_MAX];
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(tl_snapshot_list(t->store, 0, &list, &count), 0);
    size_t i = 0;
    while (i < count && (list[i].epoch != epoch || list[i].version != version)) {
        i++;
    }
    assert_true(i < count);
    tl_snapshot_name(&list[i], name);
    if (part < 0) {
        (void)snprintf(object, sizeof(object), "%s.manifest.json", name);
    } else {
        assert_true((uint32_t)part < list[i].part_count);
        (void)snprintf(object, sizeof(object), "%s/%s", name, list[i].parts[part].name);
    }
    tl_manifests_free(list, count);
    return snapshots_path(t, object);
}

#endif
