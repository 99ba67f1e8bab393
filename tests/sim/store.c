/* store.c - snapshots in a store that fails: a writer, its fenced forerunner, a
 * clean-up, damage, and a server that recovers from what is left. */
#include "throughline/snapshot.h"

#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS 96u
#define TAKEN   64u
#define PART    300u
#define KEEP    2u
#define BYTES   4096u

/* ---- a store in memory, whose operations fail when they are told to -----------------
 */

struct object {
    char name[TL_OBJECT_NAME_MAX];
    uint8_t bytes[BYTES];
    size_t size;
    bool is_there;
};

struct memory {
    struct tl_store base;
    struct object objects[OBJECTS];
    unsigned count, due; /* operation `due` fails; 0: none */
    bool for_good;       /* and all after it */
};

struct memory_writer {
    struct tl_store_writer base;
    struct object object;
};

static bool fails(struct memory *m) {
    m->count++;
    bool is_due = m->for_good ? m->count >= m->due : m->count == m->due;
    return m->due != 0 && is_due;
}

static int broken(void) {
    return tl_fail(TL_E_IO, "the store has failed");
}

static struct object *find(struct memory *m, const char *name) {
    for (size_t i = 0; i < OBJECTS; i++) {
        if (m->objects[i].is_there && strcmp(m->objects[i].name, name) == 0) {
            return &m->objects[i];
        }
    }
    return NULL;
}

static int create(struct tl_store *s, const char *name, struct tl_store_writer **ret) {
    if (fails((struct memory *)s)) {
        return broken();
    }
    struct memory_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        abort();
    }
    w->base.store = s;
    (void)snprintf(w->object.name, sizeof(w->object.name), "%s", name);
    *ret = &w->base;
    return 0;
}

static int write_bytes(struct tl_store_writer *base, const void *bytes, size_t size) {
    struct memory_writer *w = (struct memory_writer *)base;
    if (fails((struct memory *)base->store) ||
        w->object.size + size > sizeof(w->object.bytes)) {
        return broken();
    }
    memcpy(w->object.bytes + w->object.size, bytes, size);
    w->object.size += size;
    return 0;
}

static int commit(struct tl_store_writer *base, bool if_absent) {
    struct memory_writer *w = (struct memory_writer *)base;
    struct memory *m = (struct memory *)base->store;
    struct object *o = find(m, w->object.name);
    int rc = fails(m) ? broken() : 0;
    if (rc == 0 && o != NULL && if_absent) {
        rc = tl_fail(TL_E_EXISTS, "%s exists", w->object.name);
    }
    for (size_t i = 0; i < OBJECTS && o == NULL; i++) {
        o = m->objects[i].is_there ? NULL : &m->objects[i];
    }
    if (rc == 0 && o != NULL) {
        *o = w->object;
        o->is_there = true;
    }
    free(w);
    return rc;
}

static void abandon(struct tl_store_writer *base) {
    free((struct memory_writer *)base);
}

static int read_object(struct tl_store *s, const char *name,
                       int (*sink)(void *ctx, const void *bytes, size_t size),
                       void *ctx) {
    struct memory *m = (struct memory *)s;
    struct object *o = find(m, name);
    if (fails(m)) {
        return broken();
    }
    return o != NULL ? sink(ctx, o->bytes, o->size)
                     : tl_fail(TL_E_NOTFOUND, "%s: not there", name);
}

static int list(struct tl_store *s, const char *prefix,
                int (*each)(void *ctx, const char *name, uint64_t size), void *ctx) {
    struct memory *m = (struct memory *)s;
    if (fails(m)) {
        return broken();
    }
    for (size_t i = 0; i < OBJECTS; i++) {
        const struct object *o = &m->objects[i];
        bool is_it = o->is_there && strncmp(o->name, prefix, strlen(prefix)) == 0;
        int rc = is_it ? each(ctx, o->name, o->size) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int remove_object(struct tl_store *s, const char *name) {
    struct memory *m = (struct memory *)s;
    struct object *o = find(m, name);
    if (fails(m)) {
        return broken();
    }
    if (o != NULL) {
        o->is_there = false;
    }
    return 0;
}

static int sweep(struct tl_store *s) {
    (void)s;
    return 0;
}

static void close_store(struct tl_store *s) {
    (void)s;
}

static const struct tl_store_ops memory_ops = {
    .create = create,
    .write = write_bytes,
    .commit = commit,
    .abandon = abandon,
    .read = read_object,
    .list = list,
    .remove = remove_object,
    .sweep = sweep,
    .close = close_store,
};

/* ---- the run ------------------------------------------------------------------------
 */

/* A snapshot that was begun. Done: finish() said so, and it is there for good. */
struct taken {
    uint64_t version, epoch, digest;
    bool is_done, is_damaged;
};

struct run {
    struct memory store;
    uint64_t random;
    struct tl_fold_config config;
    struct tl_fold *fold, *zombie; /* of the epoch before */
    struct taken taken[TAKEN];
    size_t count;
    char *verdict;
    size_t size;
    bool is_broken;
};

static uint64_t below(struct run *r, uint64_t n) {
    return sim_random(&r->random) % n;
}

static void fail(struct run *r, const char *what) {
    if (!r->is_broken) {
        (void)snprintf(r->verdict, r->size, "%s", what);
        r->is_broken = true;
    }
}

static struct tl_fold *new_fold(const struct run *r) {
    const float weights[SIM_FLOATS] = {1, 2, 3};
    struct tl_fold *f = NULL;
    if (tl_fold_new(&r->config, weights, &f) != 0) {
        abort();
    }
    return f;
}

static void fold_some(struct run *r, struct tl_fold *f) {
    const float values[SIM_FLOATS] = {0.5f, (float)below(r, 8), -0.25f};
    struct tl_fold_effect effect;
    struct tl_fold_worker w;
    for (uint64_t n = 1 + below(r, 4); n > 0; n--) {
        bool is_known = tl_fold_worker(f, 0, &w) == 0;
        struct tl_record record = {
            .kind = is_known ? TL_RECORD_GRADIENT : TL_RECORD_JOIN,
            .position = tl_fold_position(f) + 1,
            .epoch = tl_fold_epoch(f),
            .incarnation = 1,
            .sequence = is_known ? w.sequence + 1 : 0,
            .values = values,
            .value_count = SIM_FLOATS,
        };
        if (tl_fold_apply(f, &record, &effect) != 0) {
            fail(r, "a record of the only worker is folded");
        }
    }
}

static struct tl_manifest manifest_of(const struct run *r, const struct tl_cut *cut) {
    return (struct tl_manifest){
        .job = "sim",
        .run = "sim",
        .shards = 1,
        .count = SIM_FLOATS,
        .parameters = SIM_FLOATS,
        .created_unix_ms = 1,
        .version = cut != NULL ? tl_cut_version(cut) : 0,
        .position = cut != NULL ? tl_cut_position(cut) : 0,
        .epoch = cut != NULL ? tl_cut_epoch(cut) : r->config.shard,
    };
}

static int write_cut(struct run *r, const struct tl_cut *cut) {
    const struct tl_snapshot_options options = {.part_bytes = PART, .keep = KEEP};
    const struct tl_manifest meta = manifest_of(r, cut);
    struct tl_snapshot_writer *w = NULL;
    const void *bytes;
    size_t size;
    int rc = tl_snapshot_begin(&r->store.base, &meta, &options, &w);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && tl_cut_segment(cut, i, &bytes, &size); i++) {
        rc = tl_snapshot_write(w, bytes, size);
    }
    if (rc != 0) {
        tl_snapshot_abandon(w);
        return rc;
    }
    return tl_snapshot_finish(w, NULL);
}

static struct taken *find_taken(struct run *r, uint64_t epoch, uint64_t version) {
    for (size_t i = 0; i < r->count; i++) {
        if (r->taken[i].epoch == epoch && r->taken[i].version == version) {
            return &r->taken[i];
        }
    }
    return NULL;
}

static void take(struct run *r, struct tl_fold *f) {
    struct tl_cut *cut = NULL;
    uint64_t digest = sim_fold_digest(f);
    if (r->count == TAKEN || tl_fold_cut(f, &cut) != 0) {
        return;
    }
    struct taken *t = find_taken(r, tl_cut_epoch(cut), tl_cut_version(cut));
    if (t == NULL) {
        t = &r->taken[r->count++];
        *t = (struct taken){tl_cut_version(cut), tl_cut_epoch(cut), digest, false,
                            false};
    }
    r->store.due = below(r, 3) == 0 ? r->store.count + 1 + (unsigned)below(r, 14) : 0;
    r->store.for_good = below(r, 2) == 0;
    t->is_done = write_cut(r, cut) == 0 || t->is_done;
    r->store.due = 0;
    tl_cut_release(cut);
}

static void damage(struct run *r) {
    struct object *o = &r->store.objects[below(r, OBJECTS)];
    unsigned long long version, epoch;
    if (!o->is_there || o->size == 0 || strstr(o->name, "manifest") != NULL ||
        sscanf(o->name, "shard-0000/%llu-%llu", &version, &epoch) != 2) {
        return;
    }
    o->bytes[below(r, o->size)] ^= (uint8_t)(1u << below(r, 8));
    struct taken *t = find_taken(r, epoch, version);
    if (t != NULL) {
        t->is_damaged = true;
    }
}

static bool is_newer(const struct taken *a, const struct taken *b) {
    return a->epoch != b->epoch ? a->epoch > b->epoch : a->version > b->version;
}

/* The newest that is done and whole, among those that no clean-up may have removed. */
static const struct taken *expected(const struct run *r) {
    const struct taken *best = NULL;
    for (size_t i = 0; i < r->count; i++) {
        const struct taken *t = &r->taken[i];
        size_t newer = 0;
        for (size_t k = 0; k < r->count; k++) {
            newer += r->taken[k].is_done && is_newer(&r->taken[k], t);
        }
        bool is_kept = t->is_done && !t->is_damaged && newer < KEEP;
        best = is_kept && (best == NULL || is_newer(t, best)) ? t : best;
    }
    return best;
}

static void check_loaded(struct run *r, struct tl_fold *f) {
    struct taken *t = find_taken(r, tl_fold_epoch(f), tl_fold_version(f));
    const struct taken *best = expected(r);
    if (t == NULL || t->digest != sim_fold_digest(f)) {
        fail(r, "what is loaded is what was written");
    } else if (best != NULL && is_newer(best, t)) {
        fail(r, "the newest snapshot of the newest epoch is loaded");
    }
}

/* A server dies and is replaced: newest snapshot, next epoch. The old one may be a
 * zombie and take one more. */
static void recover(struct run *r, uint64_t *epoch) {
    const struct tl_manifest meta = manifest_of(r, NULL);
    struct tl_manifest found = {.parts = NULL};
    struct tl_fold *f = NULL;
    int rc =
        tl_snapshot_load(&r->store.base, &meta, &r->config, NULL, NULL, &f, &found);
    if (rc == 0) {
        check_loaded(r, f);
        tl_manifest_done(&found);
    } else if (expected(r) != NULL) {
        fail(r, "a snapshot that is complete can be loaded");
    }
    tl_fold_free(r->zombie);
    r->zombie = r->fold;
    r->fold = rc == 0 ? f : new_fold(r);
    if (tl_fold_take_over(r->fold, ++*epoch) != 0) {
        fail(r, "epochs rise");
    }
}

static void step(struct run *r, uint64_t *epoch) {
    switch (below(r, 8)) {
    case 0:
        recover(r, epoch);
        break;
    case 1:
        damage(r);
        break;
    case 2:
        r->store.due =
            below(r, 4) == 0 ? r->store.count + 1 + (unsigned)below(r, 8) : 0;
        if (tl_snapshot_prune(&r->store.base, 0, KEEP, NULL) != 0 &&
            r->store.due == 0) {
            fail(r, "a clean-up of a store that works succeeds");
        }
        r->store.due = 0;
        break;
    case 3:
        if (r->zombie != NULL) {
            fold_some(r, r->zombie);
            take(r, r->zombie);
        }
        break;
    default:
        fold_some(r, r->fold);
        take(r, r->fold);
        break;
    }
}

bool sim_store_run(uint64_t seed, char *ret_verdict, size_t size) {
    static struct run r;
    uint64_t epoch = 1;
    memset(&r, 0, sizeof(r));
    r.store.base.ops = &memory_ops;
    r.random = seed;
    r.verdict = ret_verdict;
    r.size = size;
    r.config =
        (struct tl_fold_config){.shards = 1,
                                .count = SIM_FLOATS,
                                .spare_copies = 1,
                                .optimizer = {.learning_rate = 0.5, .momentum = 0.5}};
    r.fold = new_fold(&r);
    if (tl_fold_take_over(r.fold, epoch) != 0) {
        abort();
    }
    for (uint64_t n = 8 + below(&r, 24); n > 0 && !r.is_broken; n--) {
        step(&r, &epoch);
    }
    tl_fold_free(r.fold);
    tl_fold_free(r.zombie);
    return !r.is_broken;
}
