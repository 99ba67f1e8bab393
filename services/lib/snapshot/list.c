/* list.c - the snapshots of a store: which there are, and which are complete. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void tl_snapshot_name(const struct tl_manifest *m, char ret_name[TL_OBJECT_NAME_MAX]) {
    const struct tl_snapshot_key key = tl_manifest_key(m);
    tl_key_name(&key, ret_name);
}

/* A manifest that went away since it was listed is TL_E_NOTFOUND; one that cannot be
 * understood stands in the list with what its name says. */
static int describe(struct tl_store *s, const struct tl_snapshot_key *key,
                    struct tl_manifest *ret_manifest) {
    const int r = tl_manifest_read(s, key, ret_manifest);
    if (r == TL_E_CORRUPT || r == TL_E_UNSUPPORTED) {
        *ret_manifest = (struct tl_manifest){
            .shard = key->shard, .version = key->version, .epoch = key->epoch};
        return 0;
    }
    return r;
}

static size_t count_manifests(const struct tl_catalog *c) {
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        count += c->entries[i].part[0] == '\0';
    }
    return count;
}

static int describe_all(struct tl_store *s, const struct tl_catalog *c,
                        struct tl_manifest *list, size_t *ret_count) {
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (c->entries[i].part[0] != '\0') {
            continue;
        }
        const int r = describe(s, &c->entries[i].key, &list[count]);
        if (r < 0 && r != TL_E_NOTFOUND) {
            tl_manifests_free(list, count);
            return r;
        }
        count += r == 0;
    }
    *ret_count = count;
    return 0;
}

int tl_snapshot_list(struct tl_store *store, uint32_t shard,
                     struct tl_manifest **ret_list, size_t *ret_count) {
    struct tl_catalog c;
    int r = tl_catalog_load(store, shard, &c);
    if (r < 0) {
        return r;
    }
    struct tl_manifest *list = calloc(count_manifests(&c) + 1u, sizeof(*list));
    r = list == NULL ? tl_fail(TL_E_NOMEM, "no memory to list snapshots")
                     : describe_all(store, &c, list, ret_count);
    tl_catalog_done(&c);
    if (r == 0) {
        *ret_list = list;
    }
    return r;
}

/* ---- completeness ------------------------------------------------------------- */

struct presence {
    const struct tl_manifest *m;
    uint32_t found;      /* parts 0 .. found-1 are there, whole */
    uint64_t wrong_size; /* of the part after them, when it is there */
};

/* Names come in byte order, and so do a manifest's parts. */
static int tick_off(void *ctx, const char *name, uint64_t size) {
    struct presence *p = ctx;
    const char *slash = strrchr(name, '/');
    if (p->found == p->m->part_count || slash == NULL ||
        strcmp(slash + 1, p->m->parts[p->found].name) != 0) {
        return 0;
    }
    if (size == p->m->parts[p->found].bytes) {
        p->found++;
    } else {
        p->wrong_size = size;
    }
    return 0;
}

int tl_snapshot_check(struct tl_store *store, const struct tl_manifest *m) {
    const struct tl_snapshot_key key = tl_manifest_key(m);
    char name[TL_OBJECT_NAME_MAX];
    if (m->part_count == 0) {
        tl_name_manifest(&key, name);
        return tl_fail(TL_E_CORRUPT, "%s: cannot be understood", name);
    }
    struct presence p = {.m = m, .wrong_size = UINT64_MAX};
    tl_name_part(&key, "", name);
    const int r = store->ops->list(store, name, tick_off, &p);
    if (r < 0 || p.found == m->part_count) {
        return r;
    }
    const struct tl_part *part = &m->parts[p.found];
    tl_name_part(&key, part->name, name);
    return p.wrong_size == UINT64_MAX
               ? tl_fail(TL_E_NOTFOUND, "%s: is missing", name)
               : tl_fail(TL_E_CORRUPT, "%s: %" PRIu64 " bytes instead of %" PRIu64,
                         name, p.wrong_size, part->bytes);
}
