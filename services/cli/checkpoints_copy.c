/* checkpoints_copy.c - snapshots from one store into another, of any kinds.
 *
 * Without --all the newest valid one of each shard, as a recovery would take it: a
 * damaged one is said and the one before is copied. With --all every snapshot, the
 * oldest first; damaged ones are left out, and make the copy a failure in the end. */
#include "checkpoints.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct copying {
    struct tl_store *from, *to;
    const struct tl_checkpoints_options *options;
    json_t *rows; /* with --json */
    size_t copied, present, damaged;
};

static void report(struct copying *c, const struct tl_manifest *m, const char *what,
                   uint64_t bytes) {
    char name[TL_OBJECT_NAME_MAX];
    tl_snapshot_name(m, name);
    if (c->rows != NULL) {
        (void)json_array_append_new(
            c->rows, json_pack("{s:s, s:I, s:I, s:s, s:I}", "name", name, "shard",
                               (json_int_t)m->shard, "version", (json_int_t)m->version,
                               "result", what, "bytes", (json_int_t)bytes));
    } else {
        (void)printf("%s: %s\n", name, what);
    }
}

/* 0 also when it is there already. A damaged one is its error, and counted. */
static int copy_one(struct copying *c, const struct tl_manifest *m) {
    struct tl_manifest copy;
    uint64_t bytes = 0;
    const int r = tl_snapshot_copy(c->from, m, c->to, &copy);
    if (r == 0) {
        for (uint32_t i = 0; i < copy.part_count; i++) {
            bytes += copy.parts[i].bytes;
        }
        tl_manifest_done(&copy);
        c->copied++;
        report(c, m, "copied", bytes);
        return 0;
    }
    if (r == TL_E_EXISTS) {
        c->present++;
        report(c, m, "is there already", 0);
        return 0;
    }
    if (r == TL_E_CORRUPT || r == TL_E_NOTFOUND) {
        c->damaged++;
        (void)fprintf(stderr, "throughline checkpoints: left out: %s\n",
                      tl_error_text());
    }
    return r;
}

static bool is_wanted(const struct copying *c, const struct tl_manifest *m) {
    return c->options->version == 0 || m->version <= c->options->version;
}

static bool is_damage(int error) {
    return error == TL_E_CORRUPT || error == TL_E_NOTFOUND;
}

static int copy_all(struct copying *c, const struct tl_manifest *list, size_t count) {
    for (size_t i = count; i-- > 0;) {
        const int r = is_wanted(c, &list[i]) ? copy_one(c, &list[i]) : 0;
        if (r < 0 && !is_damage(r)) {
            return r;
        }
    }
    return c->damaged == 0 ? 0
                           : tl_fail(TL_E_CORRUPT, "%zu of %zu snapshots are damaged",
                                     c->damaged, count);
}

/* The newest of one shard: entries from `first` on, until `end`. */
static int copy_newest(struct copying *c, const struct tl_manifest *list, size_t first,
                       size_t end) {
    for (size_t i = first; i < end; i++) {
        const int r = is_wanted(c, &list[i]) ? copy_one(c, &list[i]) : TL_E_NOTFOUND;
        if (!is_damage(r)) {
            return r;
        }
    }
    return tl_fail(TL_E_NOTFOUND, "shard %" PRIu32 ": no valid snapshot to copy",
                   list[first].shard);
}

static int copy_newest_of_all(struct copying *c, const struct tl_manifest *list,
                              size_t count) {
    size_t end = 0;
    for (size_t first = 0; first < count; first = end) {
        end = first + 1u;
        while (end < count && list[end].shard == list[first].shard) {
            end++;
        }
        const int r = copy_newest(c, list, first, end);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int copy_list(struct copying *c) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int r = tl_snapshot_list(c->from, c->options->only_shard, &list, &count);
    if (r < 0) {
        return r;
    }
    if (count == 0) {
        r = tl_fail(TL_E_NOTFOUND, "no snapshots in %s", c->options->places[0]);
    } else {
        r = c->options->all ? copy_all(c, list, count)
                            : copy_newest_of_all(c, list, count);
    }
    tl_manifests_free(list, count);
    return r;
}

int tl_checkpoints_copy(struct tl_store *from, struct tl_store *to,
                        const struct tl_checkpoints_options *o) {
    struct copying c = {.from = from, .to = to, .options = o};
    c.rows = o->json ? json_array() : NULL;
    int r = to->ops->sweep(to);
    r = r == 0 ? copy_list(&c) : r;
    if (c.rows != NULL && (r == 0 || c.copied > 0)) {
        (void)json_dumpf(c.rows, stdout, JSON_INDENT(2));
        (void)fputc('\n', stdout);
    }
    json_decref(c.rows);
    return r;
}
