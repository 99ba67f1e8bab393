/* catalog.c - which snapshots and parts a store holds, by their names alone. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A store with more objects of ours has not been pruned for a very long time. */
#define ENTRIES_MAX (1u << 20)

static int grow(struct tl_catalog *c) {
    if (c->count < c->capacity) {
        return 0;
    }
    if (c->capacity >= ENTRIES_MAX) {
        return tl_fail(TL_E_LIMIT,
                       "more than %u objects in the store: remove old snapshots",
                       ENTRIES_MAX);
    }
    const size_t capacity = c->capacity == 0 ? 256u : 2u * c->capacity;
    struct tl_catalog_entry *entries = realloc(c->entries, capacity * sizeof(*entries));
    if (entries == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to list snapshots");
    }
    c->entries = entries;
    c->capacity = capacity;
    return 0;
}

static int collect(void *ctx, const char *name, uint64_t size) {
    struct tl_catalog *c = ctx;
    struct tl_catalog_entry entry;
    (void)size;
    if (!tl_name_parse(name, &entry.key, entry.part)) {
        return 0;
    }
    const int r = grow(c);
    if (r == 0) {
        c->entries[c->count++] = entry;
    }
    return r;
}

static int by_age(const void *left, const void *right) {
    const struct tl_catalog_entry *a = left;
    const struct tl_catalog_entry *b = right;
    if (a->key.shard != b->key.shard) {
        return a->key.shard < b->key.shard ? -1 : 1;
    }
    const int newer = tl_snapshot_compare(&a->key, &b->key);
    return newer != 0 ? -newer : strcmp(a->part, b->part);
}

int tl_catalog_load(struct tl_store *s, uint32_t shard,
                    struct tl_catalog *ret_catalog) {
    struct tl_catalog c = {.count = 0};
    char prefix[32] = "shard-";
    if (shard != UINT32_MAX) {
        (void)snprintf(prefix, sizeof(prefix), "shard-%04" PRIu32 "/", shard);
    }
    const int r = s->ops->list(s, prefix, collect, &c);
    if (r < 0) {
        tl_catalog_done(&c);
        return r;
    }
    if (c.count > 1) {
        qsort(c.entries, c.count, sizeof(c.entries[0]), by_age);
    }
    *ret_catalog = c;
    return 0;
}

void tl_catalog_done(struct tl_catalog *c) {
    free(c->entries);
    *c = (struct tl_catalog){.count = 0};
}
