/* log.c - `throughline log ls|tail|stats|verify|rm`: what is in a run's durable log. */
#include "log.h"

#include "throughline/nn.h"
#include "throughline/service.h"

#include "cli.h"
#include "flags.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define REACH_MS 10000

#define FIELD(field)                                                                   \
    .offset = offsetof(struct tl_log_options, field),                                  \
    .size = sizeof(((struct tl_log_options *)0)->field)

static const struct tl_option rows[] = {
    {.name = "job",
     .type = TL_OPT_STRING,
     FIELD(job),
     .fallback = "",
     .doc = "The job file; a run leaves its own as OUT/job.json."},
    {.name = "run",
     .type = TL_OPT_STRING,
     FIELD(run),
     .fallback = "default",
     .doc = "Name of the run."},
    {.name = "redis",
     .type = TL_OPT_STRING,
     FIELD(redis),
     .fallback = "redis://127.0.0.1:6379",
     .doc = "The run's Redis, for a log in it."},
    {.name = "log",
     .type = TL_OPT_STRING,
     FIELD(log),
     .fallback = "",
     .doc = "URL of the log; by default the job's log.url."},
    {.name = "store",
     .type = TL_OPT_STRING,
     FIELD(store),
     .fallback = "",
     .doc = "verify: URL of the checkpoints; by default the job's."},
    {.name = "ledgers",
     .type = TL_OPT_STRING,
     FIELD(ledgers),
     .fallback = "",
     .doc = "verify: directory of the workers' ledgers (OUT of a run): what they saw "
            "acknowledged must be in the log."},
    {.name = "shard",
     .type = TL_OPT_STRING,
     FIELD(shard),
     .fallback = "all",
     .doc = "Only this shard."},
    {.name = "count",
     .type = TL_OPT_U64,
     FIELD(count),
     .fallback = "10",
     .min = 0,
     .max = 9.0e15,
     .doc = "tail: how many entries of each shard; 0: all."},
    {.name = "json",
     .type = TL_OPT_BOOL,
     FIELD(json),
     .fallback = "false",
     .doc = "Print JSON; tail: an object a line."},
};
const struct tl_option_table tl_log_table = {rows, sizeof(rows) / sizeof(rows[0])};

/* ---- opening ----------------------------------------------------------------------
 */

int tl_log_view_open(const struct tl_job *job, const char *run, const char *redis,
                     struct tl_log_view *ret_view) {
    struct tl_nn *nn = NULL;
    if (!tl_job_is_logged(job)) {
        return tl_fail(TL_E_CONFIG,
                       "the job's gradients go to its servers: there is no "
                       "log to look at");
    }
    int rc = tl_nn_new(job->model, job->model_source, 1, &nn);
    if (rc != 0) {
        return rc;
    }
    struct tl_log_view v = {
        .job = job, .run = run, .ledgers = "", .parameters = tl_nn_parameters(nn)};
    tl_nn_free(nn);
    rc = tl_log_open_job(job, run, redis, v.parameters, &v.log);
    if (rc == 0) {
        *ret_view = v;
    }
    return rc;
}

void tl_log_view_close(struct tl_log_view *v) {
    tl_log_close(v->log);
}

/* ---- ls, rm ---------------------------------------------------------------------- */

static int list_shard(const struct tl_log_view *v, uint32_t shard, json_t *rows_json) {
    uint64_t first = 0;
    uint64_t next = 0;
    uint64_t bytes = 0;
    int64_t deadline_ms = tl_now_ms() + REACH_MS;
    int rc = tl_log_range(v->log, shard, deadline_ms, &first, &next);
    rc = rc == 0 ? tl_log_bytes(v->log, shard, deadline_ms, &bytes) : rc;
    if (rc != 0) {
        return rc;
    }
    if (rows_json != NULL) {
        (void)json_array_append_new(
            rows_json, json_pack("{s:I, s:I, s:I, s:I}", "shard", (json_int_t)shard,
                                 "first", (json_int_t)first, "last",
                                 (json_int_t)(next - 1), "bytes", (json_int_t)bytes));
        return 0;
    }
    (void)printf("%5" PRIu32 "  %12" PRIu64 "  %12" PRIu64 "  %12" PRIu64, shard, first,
                 next - 1, next - first);
    if (bytes > 0) {
        (void)printf("  %14" PRIu64, bytes);
    }
    (void)putchar('\n');
    return 0;
}

static bool is_wanted(const struct tl_log_options *o, uint32_t shard) {
    return o->only_shard == UINT32_MAX || o->only_shard == shard;
}

static int list(const struct tl_log_view *v, const struct tl_log_options *o) {
    json_t *rows_json = o->json ? json_array() : NULL;
    int rc = 0;
    if (!o->json) {
        (void)printf("%5s  %12s  %12s  %12s  %14s\n", "shard", "first", "last",
                     "entries", "bytes");
    }
    for (uint32_t s = 0; s < v->job->shards && rc == 0; s++) {
        rc = is_wanted(o, s) ? list_shard(v, s, rows_json) : 0;
    }
    if (o->json && rc == 0) {
        (void)json_dumpf(rows_json, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    }
    json_decref(rows_json);
    return rc;
}

static int erase(const struct tl_log_view *v, const struct tl_log_options *o) {
    (void)o;
    int rc = tl_log_erase(v->log, tl_now_ms() + REACH_MS);
    if (rc == 0) {
        (void)printf("the log of %s, run %s, is gone\n", v->job->name, v->run);
    }
    return rc;
}

static int verify(const struct tl_log_view *v, const struct tl_log_options *o) {
    return tl_log_verify(v, o->only_shard, o->json, stdout);
}

/* ---- arguments ------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*act)(const struct tl_log_view *v, const struct tl_log_options *o);
} actions[] = {{"ls", list},
               {"tail", tl_log_tail},
               {"stats", tl_log_stats},
               {"verify", verify},
               {"rm", erase}};
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int read_flags(int argc, char **argv, struct tl_log_options *o) {
    const struct tl_flag_target target = {&tl_log_table, o};
    int rc = tl_config_defaults(&tl_log_table, o);
    for (int i = 0; i < argc && rc == 0;) {
        const int taken = tl_flags_take(&target, 1, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0) {
            rc = tl_fail(TL_E_CONFIG, "what is \"%s\"? see --help", argv[i]);
        }
        i += taken;
    }
    if (rc == 0 && o->job[0] == '\0') {
        rc = tl_fail(TL_E_CONFIG, "which job? --job FILE");
    }
    return rc == 0 ? tl_flags_shard(o->shard, &o->only_shard) : rc;
}

static int load_job(const struct tl_log_options *o, struct tl_job *ret_job) {
    int rc = tl_job_load(o->job, ret_job);
    if (rc != 0) {
        return rc;
    }
    if (o->log[0] != '\0') {
        (void)snprintf(ret_job->log, sizeof(ret_job->log), "%s", o->log);
    }
    if (o->store[0] != '\0') {
        (void)snprintf(ret_job->store, sizeof(ret_job->store), "%s", o->store);
    }
    return 0;
}

static int run_action(size_t action, int argc, char **argv) {
    struct tl_log_options o;
    struct tl_job job;
    struct tl_log_view v = {0};
    int rc = read_flags(argc, argv, &o);
    rc = rc == 0 ? load_job(&o, &job) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = tl_log_view_open(&job, o.run, o.redis, &v);
    if (rc == 0) {
        v.ledgers = o.ledgers;
        rc = actions[action].act(&v, &o);
        tl_log_view_close(&v);
    }
    tl_job_done(&job);
    return rc;
}

int tl_cli_log(int argc, char **argv) {
    if (tl_flags_want_help(argc, argv)) {
        (void)puts(
            "usage: throughline log ls|tail|stats|verify|rm --job FILE --run NAME\n"
            "\n"
            "  ls      positions that each shard's log holds\n"
            "  tail    its last entries\n"
            "  stats   read it all, and count\n"
            "  verify  fold it all again, alone, and compare with the newest\n"
            "          checkpoint bit for bit; exit 1 when something is wrong\n"
            "  rm      delete it\n");
        tl_config_help(&tl_log_table, stdout);
        return TL_EXIT_OK;
    }
    int rc = argc < 2
                 ? tl_fail(TL_E_CONFIG, "ls, tail, stats, verify or rm? see --help")
                 : tl_fail(TL_E_CONFIG, "what is \"%s\"? ls, tail, stats, verify or rm",
                           argv[1]);
    for (size_t i = 0; i < ACTIONS && argc >= 2; i++) {
        if (strcmp(argv[1], actions[i].name) == 0) {
            rc = run_action(i, argc - 2, argv + 2);
            break;
        }
    }
    return rc < 0 ? tl_flags_fail("log", rc) : TL_EXIT_OK;
}
