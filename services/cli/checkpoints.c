/* checkpoints.c - `throughline checkpoints ls|verify|export|copy`: what is in a store.
 */
#include "checkpoints.h"

#include "throughline/service.h"

#include "cli.h"
#include "flags.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIELD(field)                                                                   \
    .offset = offsetof(struct tl_checkpoints_options, field),                          \
    .size = sizeof(((struct tl_checkpoints_options *)0)->field)

static const struct tl_option rows[] = {
    {.name = "store",
     .type = TL_OPT_STRING,
     FIELD(store),
     .fallback = "",
     .doc = "URL of the store, or a directory; by default the job's."},
    {.name = "job",
     .type = TL_OPT_STRING,
     FIELD(job),
     .fallback = "",
     .doc = "Job file: its store, and for export the names and shapes of its model."},
    {.name = "shard",
     .type = TL_OPT_STRING,
     FIELD(shard),
     .fallback = "all",
     .doc = "ls, verify, copy: only this shard."},
    {.name = "version",
     .type = TL_OPT_U64,
     FIELD(version),
     .fallback = "0",
     .min = 0,
     .max = 9.2e18,
     .doc = "export, copy: snapshots of at most this version; 0 is any."},
    {.name = "all",
     .type = TL_OPT_BOOL,
     FIELD(all),
     .fallback = "false",
     .doc = "copy: every snapshot, not only the newest of each shard."},
    {.name = "output",
     .type = TL_OPT_STRING,
     FIELD(output),
     .fallback = "",
     .doc = "export, also as -o: file to write; weights-VERSION.safetensors by "
            "default."},
    {.name = "json",
     .type = TL_OPT_BOOL,
     FIELD(json),
     .fallback = "false",
     .doc = "Print JSON."},
};
const struct tl_option_table tl_checkpoints_table = {rows,
                                                     sizeof(rows) / sizeof(rows[0])};

/* ---- arguments ---------------------------------------------------------------- */

/* What is no flag is a place: copy has two, the others none. */
static int read_place(const char *text, struct tl_checkpoints_options *o) {
    if (o->place_count == 2 || strlen(text) >= TL_PATH_MAX) {
        return tl_fail(TL_E_CONFIG, "what is \"%.100s\"? see --help", text);
    }
    (void)snprintf(o->places[o->place_count++], TL_PATH_MAX, "%s", text);
    return 0;
}

static int read_flags(int argc, char **argv, struct tl_checkpoints_options *o) {
    static char output_flag[] = "--output";
    const struct tl_flag_target targets[] = {{&tl_checkpoints_table, o},
                                             {&tl_s3_table, &o->s3}};
    int r = 0;
    o->place_count = 0;
    for (int i = 0; i < argc && r == 0;) {
        if (strcmp(argv[i], "-o") == 0) {
            argv[i] = output_flag;
        }
        const int taken = tl_flags_take(targets, 2, NULL, argc - i, argv + i);
        r = taken < 0 ? taken : 0;
        if (taken == 0) {
            r = read_place(argv[i], o);
        }
        i += taken == 0 ? 1 : taken;
    }
    return r;
}

/* The job's store and how to reach it; a job's settings include the environment's. */
static int take_job(struct tl_checkpoints_options *o) {
    struct tl_job job;
    const int r = tl_job_load(o->job, &job);
    if (r == 0) {
        (void)snprintf(o->store, sizeof(o->store), "%s", job.store);
        o->s3 = job.s3;
        tl_job_done(&job);
    }
    return r;
}

/* `argv` starts after the action. Flags lie on top of the job that one of them names,
 * and so are read twice. */
static int read_arguments(int argc, char **argv, struct tl_checkpoints_options *o) {
    int r = tl_config_defaults(&tl_checkpoints_table, o);
    r = r == 0 ? tl_config_defaults(&tl_s3_table, &o->s3) : r;
    r = r == 0 ? tl_config_environment(&tl_s3_table, &o->s3) : r;
    r = r == 0 ? read_flags(argc, argv, o) : r;
    if (r == 0 && o->job[0] != '\0') {
        r = take_job(o);
        r = r == 0 ? read_flags(argc, argv, o) : r;
    }
    return r == 0 ? tl_flags_shard(o->shard, &o->only_shard) : r;
}

/* A directory's path is as good as its URL. */
static int url_of(const char *place, char url[TL_PATH_MAX + 8]) {
    char here[TL_PATH_MAX] = "";
    if (strstr(place, "://") != NULL) {
        (void)snprintf(url, TL_PATH_MAX + 8, "%s", place);
        return 0;
    }
    if (place[0] != '/' && getcwd(here, sizeof(here)) == NULL) {
        return tl_fail(TL_E_IO, "the working directory is not known: %s",
                       strerror(errno));
    }
    const int n = snprintf(url, TL_PATH_MAX + 8, "file://%s%s%s", here,
                           place[0] == '/' ? "" : "/", place);
    return n < (int)(TL_PATH_MAX + 8)
               ? 0
               : tl_fail(TL_E_CONFIG, "%.80s...: too long a path", place);
}

/* `make`: a directory that is missing is made. */
static int open_place(const struct tl_checkpoints_options *o, const char *place,
                      bool make, struct tl_store **ret_store) {
    char url[TL_PATH_MAX + 8];
    int r = url_of(place, url);
    if (r == 0) {
        r = make ? tl_store_open(url, &o->s3, ret_store)
                 : tl_store_open_existing(url, &o->s3, ret_store);
    }
    if (r == 0) {
        tl_store_listen(*ret_store, tl_flags_tell, NULL);
    }
    return r;
}

static int open_store(const struct tl_checkpoints_options *o,
                      struct tl_store **ret_store) {
    if (o->place_count > 0) {
        return tl_fail(TL_E_CONFIG, "what is \"%.100s\"? see --help", o->places[0]);
    }
    if (o->store[0] == '\0') {
        return o->job[0] == '\0'
                   ? tl_fail(TL_E_CONFIG, "which store? --store URL, or --job FILE")
                   : tl_fail(TL_E_CONFIG, "%s has no checkpoint.store: --store URL",
                             o->job);
    }
    return open_place(o, o->store, false, ret_store);
}

/* ---- one snapshot, judged ----------------------------------------------------- */

struct verdict {
    const struct tl_manifest *m;
    char name[TL_OBJECT_NAME_MAX];
    uint64_t stored;
    int error;
    char why[512];
};

static struct verdict judge(struct tl_store *store, const struct tl_manifest *m,
                            int (*check)(struct tl_store *,
                                         const struct tl_manifest *)) {
    struct verdict v = {.m = m};
    tl_snapshot_name(m, v.name);
    for (uint32_t i = 0; i < m->part_count; i++) {
        v.stored += m->parts[i].bytes;
    }
    v.error = check(store, m);
    (void)snprintf(v.why, sizeof(v.why), "%s", v.error < 0 ? tl_error_text() : "");
    return v;
}

static json_t *verdict_json(const struct verdict *v) {
    const struct tl_manifest *m = v->m;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:b, s:s}", "name",
                     v->name, "shard", (json_int_t)m->shard, "version",
                     (json_int_t)m->version, "epoch", (json_int_t)m->epoch, "position",
                     (json_int_t)m->position, "bytes", (json_int_t)v->stored,
                     "created_unix_ms", (json_int_t)m->created_unix_ms, "job", m->job,
                     "run", m->run, "complete", v->error == 0, "why", v->why);
}

/* "17 s", "5 min", "3 h", "12 d". */
static const char *age_text(uint64_t created_unix_ms, char text[24]) {
    static const struct {
        uint64_t seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    const uint64_t now = tl_unix_ms();
    const uint64_t age = now > created_unix_ms ? (now - created_unix_ms) / 1000u : 0;
    size_t i = 0;
    while (i < 3 && age < 2u * units[i].seconds) {
        i++;
    }
    (void)snprintf(text, 24, "%" PRIu64 " %s", age / units[i].seconds, units[i].unit);
    return text;
}

static void print_head(void) {
    (void)printf("%5s  %10s  %5s  %10s  %12s  %8s  %s\n", "shard", "version", "epoch",
                 "position", "bytes", "age", "state");
}

static void print_row(const struct verdict *v, const char *good) {
    const struct tl_manifest *m = v->m;
    char age[24] = "?";
    if (m->part_count > 0) {
        (void)age_text(m->created_unix_ms, age);
    }
    (void)printf("%5" PRIu32 "  %10" PRIu64 "  %5" PRIu64 "  %10" PRIu64 "  %12" PRIu64
                 "  %8s  %s%s\n",
                 m->shard, m->version, m->epoch, m->position, v->stored, age,
                 v->error == 0 ? good : "damaged: ", v->why);
}

/* ---- ls, verify --------------------------------------------------------------- */

/* A store that cannot be read says nothing of its snapshots: that error is returned. */
static int show_all(struct tl_store *store, const struct tl_manifest *list,
                    size_t count, bool verify, bool json, size_t *ret_damaged) {
    json_t *rows_json = json ? json_array() : NULL;
    int r = 0;
    if (!json && count > 0) {
        print_head();
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct verdict v =
            judge(store, &list[i], verify ? tl_snapshot_verify : tl_snapshot_check);
        const bool is_damaged = v.error == TL_E_CORRUPT || v.error == TL_E_NOTFOUND ||
                                v.error == TL_E_UNSUPPORTED;
        r = v.error < 0 && !is_damaged ? tl_fail(v.error, "%s", v.why) : 0;
        *ret_damaged += is_damaged;
        if (json) {
            (void)json_array_append_new(rows_json, verdict_json(&v));
        } else if (r == 0) {
            print_row(&v, verify ? "verified" : "complete");
        }
    }
    if (json && r == 0) {
        (void)json_dumpf(rows_json, stdout, JSON_INDENT(2));
        (void)fputc('\n', stdout);
    }
    json_decref(rows_json);
    return r;
}

static int show(struct tl_store *store, const struct tl_checkpoints_options *o,
                bool verify) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    size_t damaged = 0;
    int r = tl_snapshot_list(store, o->only_shard, &list, &count);
    if (r < 0) {
        return r;
    }
    r = show_all(store, list, count, verify, o->json, &damaged);
    tl_manifests_free(list, count);
    if (r == 0 && count == 0 && !o->json) {
        (void)printf("no snapshots in %s\n", o->store);
    }
    if (r == 0 && verify && damaged > 0) {
        return tl_fail(TL_E_CORRUPT, "%zu of %zu snapshots are damaged", damaged,
                       count);
    }
    return r;
}

static int list_action(struct tl_store *store, const struct tl_checkpoints_options *o) {
    return show(store, o, false);
}

static int verify_action(struct tl_store *store,
                         const struct tl_checkpoints_options *o) {
    return show(store, o, true);
}

static int copy(const struct tl_checkpoints_options *o) {
    struct tl_store *from = NULL;
    struct tl_store *to = NULL;
    if (o->place_count != 2) {
        return tl_fail(TL_E_CONFIG, "copy what, where to? checkpoints copy FROM TO");
    }
    int r = open_place(o, o->places[0], false, &from);
    if (r == 0) {
        r = open_place(o, o->places[1], true, &to);
    }
    if (r == 0) {
        r = tl_checkpoints_copy(from, to, o);
    }
    tl_store_close(to);
    tl_store_close(from);
    return r;
}

/* ---- dispatch ----------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*act)(struct tl_store *store, const struct tl_checkpoints_options *o);
} actions[] = {{"ls", list_action},
               {"verify", verify_action},
               {"export", tl_checkpoints_export},
               {"copy", NULL}}; /* two stores, which it opens itself */
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static void print_help(void) {
    (void)puts("usage: throughline checkpoints ls|verify|export --store URL\n"
               "       throughline checkpoints copy FROM TO\n\n"
               "  ls      what is there, and whether every part is\n"
               "  verify  read every part and compare it; exit 1 when one is damaged\n"
               "  export  the weights of all shards as a safetensors file\n"
               "  copy    the newest of each shard, or --all, into another store; a "
               "store is\n          file:///directory, a directory, or "
               "s3://bucket/prefix\n");
    tl_config_help(&tl_checkpoints_table, stdout);
    (void)puts("\nFor a store s3://bucket/prefix:");
    tl_config_help(&tl_s3_table, stdout);
}

static int run_action(size_t action, int argc, char **argv) {
    struct tl_checkpoints_options o;
    struct tl_store *store = NULL;
    int r = read_arguments(argc, argv, &o);
    if (r == 0 && actions[action].act == NULL) {
        return copy(&o);
    }
    if (r == 0) {
        r = open_store(&o, &store);
    }
    if (r == 0) {
        r = actions[action].act(store, &o);
    }
    tl_store_close(store);
    return r;
}

int tl_cli_checkpoints(int argc, char **argv) {
    if (tl_flags_want_help(argc, argv)) {
        print_help();
        return TL_EXIT_OK;
    }
    int r = argc < 2 ? tl_fail(TL_E_CONFIG, "ls, verify, export or copy? see --help")
                     : tl_fail(TL_E_CONFIG,
                               "what is \"%s\"? ls, verify, export or copy", argv[1]);
    for (size_t i = 0; i < ACTIONS && argc >= 2; i++) {
        if (strcmp(argv[1], actions[i].name) == 0) {
            r = run_action(i, argc - 2, argv + 2);
            break;
        }
    }
    return r < 0 ? tl_flags_fail("checkpoints", r) : TL_EXIT_OK;
}
