/* status.c - `throughline status`: who is there in a run, as Redis shows it.
 *
 * An entry in Redis says nothing about whether its service still lives; its heartbeat
 * does. So the table is watched until every entry has beaten again, or for as long as a
 * lease, and what has not beaten by then is shown as silent. */
#include "status.h"

#include "throughline/member.h"
#include "throughline/service.h"

#include "cli.h"
#include "flags.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    char redis[TL_PATH_MAX];
    char job[TL_NAME_MAX];
    char run[TL_NAME_MAX];
    uint32_t wait_ms;
    bool json;
};

static const struct tl_option rows[] = {
    {.name = "redis",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, redis),
     .size = sizeof(((struct options *)0)->redis),
     .fallback = "redis://127.0.0.1:6379",
     .url = true,
     .doc = "URL of the run's Redis; with a password: --redis-file."},
    {.name = "job_name",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, job),
     .size = sizeof(((struct options *)0)->job),
     .doc = "Name of the job, as in the job file."},
    {.name = "run",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, run),
     .size = sizeof(((struct options *)0)->run),
     .fallback = "default",
     .doc = "Name of the run."},
    {.name = "wait_ms",
     .type = TL_OPT_U32,
     .offset = offsetof(struct options, wait_ms),
     .fallback = "3500",
     .min = 100,
     .max = 600000,
     .unit = "ms",
     .doc = "How long to wait for heartbeats before a service is shown as silent."},
    {.name = "json",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .fallback = "false",
     .doc = "Print a JSON array instead of a table."},
};
const struct tl_option_table tl_status_table = {rows, sizeof(rows) / sizeof(rows[0])};

/* One service, and whether its heart beats. */
struct sight {
    struct tl_member_entry entry;
    uint64_t first_beat;
    bool beats;
};

struct view {
    struct sight *sights;
    size_t count;
    struct tl_member_entry *entries; /* room for one look */
};

static int view_init(struct view *v) {
    v->count = 0;
    v->sights = calloc(TL_MEMBERS_MAX, sizeof(*v->sights));
    v->entries = calloc(TL_MEMBERS_MAX, sizeof(*v->entries));
    return v->sights && v->entries ? 0 : tl_fail(TL_E_NOMEM, "no memory for the table");
}

static void view_done(struct view *v) {
    free(v->sights);
    free(v->entries);
}

static struct sight *sight_of(struct view *v, const struct tl_member_entry *e) {
    for (size_t i = 0; i < v->count; i++) {
        if (v->sights[i].entry.role == e->role &&
            v->sights[i].entry.index == e->index) {
            return &v->sights[i];
        }
    }
    if (v->count == TL_MEMBERS_MAX) {
        return NULL;
    }
    v->sights[v->count].first_beat = e->beat;
    return &v->sights[v->count++];
}

/* Take one look. Do all hearts beat? */
static bool look(struct view *v, const struct tl_member *member) {
    size_t n = tl_member_list(member, v->entries, TL_MEMBERS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct sight *s = sight_of(v, &v->entries[i]);
        if (s) {
            s->entry = v->entries[i];
            s->beats = s->beats || s->entry.beat != s->first_beat;
        }
    }
    bool all = v->count > 0;
    for (size_t i = 0; i < v->count; i++) {
        all = all && v->sights[i].beats;
    }
    return all;
}

static int watch(struct view *v, const struct tl_member *member, uint32_t wait_ms) {
    int64_t deadline_ms = tl_now_ms() + wait_ms;
    while (!look(v, member) && tl_now_ms() < deadline_ms && !tl_stop_requested()) {
        (void)tl_stop_wait(50);
    }
    if (!tl_member_is_connected(member)) {
        char why[256];
        tl_member_trouble(member, why, sizeof(why));
        return tl_fail(TL_E_UNAVAILABLE, "%s",
                       why[0] != '\0' ? why : "Redis did not answer in time");
    }
    return 0;
}

static const char *state_of(const struct sight *s) {
    static const char *const names[] = {"starting", "serving", "leaving"};
    if (!s->beats) {
        return "silent";
    }
    return (size_t)s->entry.state < 3 ? names[s->entry.state] : "?";
}

static void print_table(const struct view *v) {
    (void)printf("%-14s  %5s  %-8s  %6s  %10s  %8s  %-21s  %s\n", "role", "index",
                 "state", "epoch", "version", "pid", "http", "address");
    for (size_t i = 0; i < v->count; i++) {
        const struct tl_member_entry *e = &v->sights[i].entry;
        (void)printf("%-14s  %5" PRIu32 "  %-8s  %6" PRIu64 "  %10" PRIu64 "  %8" PRId32
                     "  %-21s  %s\n",
                     tl_role_name(e->role), e->index, state_of(&v->sights[i]), e->epoch,
                     e->version, e->pid, e->http, e->address);
    }
}

static void print_json(const struct view *v) {
    json_t *list = json_array();
    for (size_t i = 0; i < v->count; i++) {
        const struct tl_member_entry *e = &v->sights[i].entry;
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:s, s:I, s:I, s:i, s:s, s:s}", "role",
                      tl_role_name(e->role), "index", (json_int_t)e->index, "state",
                      state_of(&v->sights[i]), "epoch", (json_int_t)e->epoch, "version",
                      (json_int_t)e->version, "pid", (int)e->pid, "http", e->http,
                      "address", e->address));
    }
    (void)json_dumpf(list, stdout, JSON_INDENT(2));
    (void)fputc('\n', stdout);
    json_decref(list);
}

static int read_options(int argc, char **argv, struct options *ret_options) {
    const struct tl_flag_target target = {&tl_status_table, ret_options};
    int rc = tl_config_defaults(&tl_status_table, ret_options);
    for (int i = 1; i < argc && rc == 0;) {
        int taken = tl_flags_take(&target, 1, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0) {
            rc = tl_fail(TL_E_CONFIG, "what is \"%s\"? see --help", argv[i]);
        }
        i += taken;
    }
    return rc == 0 ? tl_config_complete(&tl_status_table, ret_options) : rc;
}

static int show(const struct options *options) {
    const struct tl_member_config config = {.redis = options->redis,
                                            .job = options->job,
                                            .run = options->run,
                                            .lease_ms = options->wait_ms};
    struct view view;
    struct tl_member *member = NULL;
    int rc = view_init(&view);
    rc = rc == 0 ? tl_stop_setup() : rc;
    rc = rc == 0 ? tl_member_open(&config, &member) : rc;
    rc = rc == 0 ? watch(&view, member, options->wait_ms) : rc;
    if (rc == 0 && view.count == 0) {
        char redis[TL_PATH_MAX];
        tl_url_show(options->redis, redis, sizeof(redis));
        rc = tl_fail(TL_E_NOTFOUND, "nobody is in run %s of job %s at %s", options->run,
                     options->job, redis);
    }
    if (rc == 0) {
        (options->json ? print_json : print_table)(&view);
    }
    tl_member_close(member);
    view_done(&view);
    return rc;
}

int tl_cli_status(int argc, char **argv) {
    struct options options;
    if (tl_flags_want_help(argc, argv)) {
        (void)puts("usage: throughline status --job-name NAME [flags]\n\n"
                   "Shows every service of a run.\n");
        tl_config_help(&tl_status_table, stdout);
        return TL_EXIT_OK;
    }
    int rc = read_options(argc, argv, &options);
    rc = rc == 0 ? show(&options) : rc;
    return rc == 0 ? TL_EXIT_OK : tl_flags_fail("status", rc);
}
