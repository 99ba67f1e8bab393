/* prune.c - old snapshots and orphaned parts out of a store.
 *
 * The newest `keep` complete snapshots decide what is old: everything before the last
 * of them. A snapshot loses its manifest first, so that none is ever visible without
 * its parts. Whatever is newer than the newest complete one is left alone: somebody may
 * be writing it. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <string.h>

#define KEEP_MIN 2u

struct pruning {
    struct tl_store *store;
    const struct tl_catalog *catalog;
    uint32_t keep;
    uint32_t complete;             /* found so far, at most keep */
    struct tl_snapshot_key newest; /* complete one; when complete > 0 */
    struct tl_snapshot_key oldest; /* one to keep; when complete == keep */
    uint32_t removed;
};

/* TL_E_CORRUPT and TL_E_NOTFOUND say: not complete. Other errors say nothing. */
static int judge(struct tl_store *store, const struct tl_snapshot_key *key,
                 bool *ret_complete) {
    struct tl_manifest m;
    int r = tl_manifest_read(store, key, &m);
    if (r == 0) {
        r = tl_snapshot_check(store, &m);
        tl_manifest_done(&m);
    }
    *ret_complete = r == 0;
    return r == TL_E_CORRUPT || r == TL_E_NOTFOUND ? 0 : r;
}

static int find_bounds(struct pruning *p) {
    for (size_t i = 0; i < p->catalog->count && p->complete < p->keep; i++) {
        const struct tl_catalog_entry *e = &p->catalog->entries[i];
        bool is_complete = TL_MUTATE(clean_up_first);
        const int r = e->part[0] == '\0' ? judge(p->store, &e->key, &is_complete) : 0;
        if (r < 0) {
            return r;
        }
        if (is_complete) {
            p->oldest = e->key;
            if (p->complete++ == 0) {
                p->newest = e->key;
            }
        }
    }
    return 0;
}

static bool is_older(const struct tl_snapshot_key *key,
                     const struct tl_snapshot_key *than) {
    return tl_snapshot_compare(key, than) < 0;
}

static int remove_entry(struct pruning *p, const struct tl_catalog_entry *e) {
    char name[TL_OBJECT_NAME_MAX];
    if (e->part[0] == '\0') {
        tl_name_manifest(&e->key, name);
    } else {
        tl_name_part(&e->key, e->part, name);
    }
    const int r = p->store->ops->remove(p->store, name);
    p->removed += r == 0 && e->part[0] == '\0';
    return r;
}

/* All manifests, the oldest first, then the parts: killed anywhere in between, this
 * leaves the newest snapshots without a gap, and orphans for the next time. */
static int remove_old(struct pruning *p) {
    const struct tl_catalog *c = p->catalog;
    int r = 0;
    for (size_t i = c->count; i-- > 0 && r == 0;) {
        const struct tl_catalog_entry *e = &c->entries[i];
        if (e->part[0] == '\0' && is_older(&e->key, &p->oldest)) {
            r = remove_entry(p, e);
        }
    }
    for (size_t i = 0; i < c->count && r == 0; i++) {
        const struct tl_catalog_entry *e = &c->entries[i];
        if (e->part[0] != '\0' && is_older(&e->key, &p->oldest)) {
            r = remove_entry(p, e);
        }
    }
    return r;
}

static bool names_part(const struct tl_manifest *m, const char *part) {
    for (uint32_t i = 0; i < m->part_count; i++) {
        if (strcmp(m->parts[i].name, part) == 0) {
            return true;
        }
    }
    return false;
}

/* Parts of one snapshot, catalog entries [begin, end), that its manifest does not name:
 * a writer died, or lost against another. A manifest that cannot be understood may name
 * any of them. */
static int remove_orphans_of(struct pruning *p, size_t begin, size_t end) {
    const struct tl_catalog_entry *entries = p->catalog->entries;
    struct tl_manifest m = {.part_count = 0};
    int r = 0;
    if (entries[begin].part[0] == '\0') {
        r = tl_manifest_read(p->store, &entries[begin].key, &m);
        if (r < 0) {
            return r == TL_E_CORRUPT || r == TL_E_NOTFOUND ? 0 : r;
        }
    }
    for (size_t i = begin; i < end && r == 0; i++) {
        if (entries[i].part[0] != '\0' && !names_part(&m, entries[i].part)) {
            r = remove_entry(p, &entries[i]);
        }
    }
    tl_manifest_done(&m);
    return r;
}

static int remove_orphans(struct pruning *p) {
    const struct tl_catalog *c = p->catalog;
    int r = 0;
    for (size_t begin = 0, end = 0; begin < c->count && r == 0; begin = end) {
        const struct tl_snapshot_key *key = &c->entries[begin].key;
        for (end = begin + 1u; end < c->count; end++) {
            if (tl_snapshot_compare(&c->entries[end].key, key) != 0) {
                break;
            }
        }
        const bool is_kept = p->complete < p->keep || !is_older(key, &p->oldest);
        if (is_kept && is_older(key, &p->newest)) {
            r = remove_orphans_of(p, begin, end);
        }
    }
    return r;
}

int tl_snapshot_prune(struct tl_store *store, uint32_t shard, uint32_t keep,
                      uint32_t *ret_removed) {
    struct tl_catalog c;
    int r = tl_catalog_load(store, shard, &c);
    if (r < 0) {
        return r;
    }
    struct pruning p = {
        .store = store, .catalog = &c, .keep = keep < KEEP_MIN ? KEEP_MIN : keep};
    r = find_bounds(&p);
    if (r == 0 && p.complete == p.keep) {
        r = remove_old(&p);
    }
    if (r == 0 && p.complete > 0) {
        r = remove_orphans(&p);
    }
    tl_catalog_done(&c);
    if (r == 0 && ret_removed != NULL) {
        *ret_removed = p.removed;
    }
    return r;
}
