/* run.c - `throughline run`: a whole job on this machine, failures included. */
#include "run.h"

#include "throughline/data.h"
#include "throughline/log.h"
#include "throughline/nn.h"

#include "cli.h"
#include "files.h"
#include "flags.h"
#include "redis.h"
#include "report.h"
#include "secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t redis_within_ms = 10000;

/* ---- preparation: nothing runs yet -------------------------------------------- */

/* Where the run's Redis keeps its log: gigabytes, which are no business of a directory
 * for sockets. */
static void redis_data(const struct tl_run *run, char ret_path[TL_PATH_MAX + 16]) {
    (void)snprintf(ret_path, TL_PATH_MAX + 16, "%s/redis", run->options.out);
}

/* The output directory, with the job as it was resolved. A second run in one directory
 * would take up the first one's ledgers and checkpoints. */
static int prepare_out(struct tl_run *run) {
    char path[TL_PATH_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s/job.json", run->options.out);
    if (access(path, F_OK) == 0) {
        return tl_fail(TL_E_CONFIG,
                       "--out %s holds a run already; remove it or name another",
                       run->options.out);
    }
    char logs[TL_PATH_MAX + 16];
    (void)snprintf(logs, sizeof(logs), "%s/logs", run->options.out);
    int rc = tl_make_directories(logs);
    if (rc == 0 && tl_job_is_logged(&run->job)) {
        char redis[TL_PATH_MAX + 16];
        redis_data(run, redis);
        rc = tl_make_directories(redis);
        run->has_log = rc == 0;
    }
    return rc == 0 ? tl_job_save(&run->job, path) : rc;
}

/* What the services inherit: when the run began, and none of the settings that the job
 * file has taken in by now; secrets, which it does not hold, go this way. */
static int prepare_environment(const struct tl_job *job) {
    char started[32];
    (void)snprintf(started, sizeof(started), "%" PRIu64, tl_unix_ms());
    if (setenv("THROUGHLINE_RUN_STARTED_MS", started, 1) != 0) {
        return tl_fail(TL_E_NOMEM, "no memory for the environment");
    }
    return tl_config_environment_replace(&tl_job_table, job);
}

/* Who is of this run is known by a secret that is made for it, and never leaves the
 * run's private directory; the services are told where it is. */
static int prepare_secret(struct tl_run *run) {
    struct tl_trust_files files = {.secret = ""};
    (void)snprintf(files.secret, sizeof(files.secret), "%s/secret", run->scratch.path);
    int rc = tl_secret_make(files.secret);
    rc = rc == 0 ? tl_trust_new(&files, &run->trust) : rc;
    if (rc == 0 && setenv("THROUGHLINE_SECRET_FILE", files.secret, 1) != 0) {
        rc = tl_fail(TL_E_NOMEM, "no memory for the environment");
    }
    return rc;
}

/* One pair of files holds examples of the model's shape. */
static int check_examples(const struct tl_nn *nn, const char *images,
                          const char *labels) {
    struct tl_dataset *set;
    int rc = tl_dataset_load(images, labels, tl_nn_classes(nn), &set);
    if (rc != 0) {
        return rc;
    }
    if (tl_dataset_inputs(set) != tl_nn_inputs(nn)) {
        rc = tl_fail(TL_E_CONFIG, "%s: images of %zu values, the model's input has %zu",
                     images, tl_dataset_inputs(set), tl_nn_inputs(nn));
    }
    tl_dataset_free(set);
    return rc;
}

/* A model that does not fit together, or data that cannot be read, is better found here
 * than by every service. */
static int check_model_and_data(const struct tl_job *job) {
    struct tl_nn *nn;
    int rc = tl_nn_new(job->model, job->model_source, 1, &nn);
    if (rc != 0) {
        return rc;
    }
    if (tl_nn_parameters(nn) < job->shards) {
        rc = tl_fail(TL_E_CONFIG, "%" PRIu32 " shards of %" PRIu64 " parameters",
                     job->shards, tl_nn_parameters(nn));
    }
    rc = rc == 0 ? tl_log_check_job(job, tl_nn_parameters(nn)) : rc;
    rc = rc == 0 ? check_examples(nn, job->train_images, job->train_labels) : rc;
    rc = rc == 0 ? check_examples(nn, job->test_images, job->test_labels) : rc;
    tl_nn_free(nn);
    return rc;
}

static int open_watchers(struct tl_run *run) {
    char timeline[TL_PATH_MAX + 32], redis[TL_PATH_MAX];
    (void)snprintf(timeline, sizeof(timeline), "%s/timeline.jsonl", run->options.out);
    tl_redis_url(run->scratch.path, redis, sizeof(redis));
    const struct tl_member_config member = {.redis = redis,
                                            .job = run->job.name,
                                            .run = run->options.run,
                                            .lease_ms = run->job.lease_ms};
    int rc = tl_timeline_open(timeline, &run->timeline);
    rc = rc == 0 ? tl_timeline_read(timeline, &run->samples) : rc;
    rc = rc == 0 ? tl_probe_new(run->scratch.path, run->job.shards, run->job.name,
                                run->options.run, run->trust, &run->probe)
                 : rc;
    return rc == 0 ? tl_member_open(&member, &run->member) : rc;
}

static int prepare(struct tl_run *run) {
    const struct tl_fleet_plan plan = {
        .job = &run->job,
        .out = run->options.out,
        .scratch = run->scratch.path,
        .run = run->options.run,
        .log_level = tl_log_level_names[run->options.log_level],
        .dashboard = run->options.dashboard,
    };
    int rc = check_model_and_data(&run->job);
    rc = rc == 0 ? tl_signals_open(&run->signals) : rc;
    rc = rc == 0 ? tl_scratch_make(&run->scratch) : rc;
    if (rc == 0 && run->options.allow_kill) {
        rc = tl_control_open(&run->scratch, &run->control);
    }
    rc = rc == 0 ? tl_fleet_new(&plan, &run->fleet) : rc;
    rc = rc == 0 ? prepare_out(run) : rc;
    rc = rc == 0 ? prepare_environment(&run->job) : rc;
    rc = rc == 0 ? prepare_secret(run) : rc;
    run->origin_ms = tl_now_ms();
    return rc == 0 ? open_watchers(run) : rc;
}

/* A log that was folded again, or that nobody waits for, is of no more use; one that is
 * not what it should be may be looked at. */
static void remove_log(const struct tl_run *run) {
    char redis[TL_PATH_MAX + 16];
    redis_data(run, redis);
    if (run->has_log && run->verdict != TL_RUN_FAILED) {
        tl_remove_files(redis);
    }
}

static void release(struct tl_run *run) {
    remove_log(run);
    free(run->verified);
    tl_member_close(run->member);
    tl_probe_free(run->probe);
    tl_timeline_reader_close(run->samples);
    tl_timeline_close(run->timeline);
    tl_fleet_done(&run->fleet);
    tl_trust_free(run->trust);
    tl_control_close(&run->control);
    tl_scratch_remove(&run->scratch);
    tl_signals_close(&run->signals);
    tl_job_done(&run->job);
}

/* ---- the run ------------------------------------------------------------------ */

static int launch(struct tl_run *run) {
    struct tl_process *redis = tl_fleet_find(&run->fleet, TL_DRILL_REDIS, 0);
    int rc = tl_process_start(redis);
    rc = rc == 0 ? tl_redis_wait(run->scratch.path, redis, redis_within_ms) : rc;
    for (size_t i = 0; i < run->fleet.count && rc == 0; i++) {
        if (run->fleet.items[i].state == TL_PROCESS_NEW) {
            rc = tl_process_start(&run->fleet.items[i]);
        }
    }
    return rc;
}

static void introduce(struct tl_run *run) {
    char redis[TL_PATH_MAX];
    tl_redis_url(run->scratch.path, redis, sizeof(redis));
    tl_live_news(run, "%s, output in %s", run->job.name, run->options.out);
    tl_live_news(run,
                 "look inside: throughline status --redis %s --job-name %s --run %s",
                 redis, run->job.name, run->options.run);
}

/* The files that outlive the run; without them it is complete all the same. */
static void leave_report(const struct tl_run *run, const json_t *summary) {
    int rc = tl_summary_save(run, summary);
    rc = rc == 0 ? tl_report_html(run->options.out) : rc;
    if (rc != 0) {
        (void)fprintf(stderr, "throughline run: no report: %s\n", tl_error_text());
    }
}

static void report(struct tl_run *run) {
    json_t *summary = tl_summary_json(run);
    leave_report(run, summary);
    if (run->verdict != TL_RUN_COMPLETED) {
        (void)fprintf(stderr, "throughline run: %s\n", run->reason);
    }
    if (run->options.json && summary != NULL) {
        (void)json_dumpf(summary, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        (void)fputc('\n', stdout);
    } else if (run->has_first || run->verdict == TL_RUN_COMPLETED) {
        tl_summary_print(run, stdout);
    }
    json_decref(summary);
}

static int conduct(struct tl_run *run) {
    introduce(run);
    int rc = launch(run);
    if (rc != 0) {
        tl_run_fail(run, tl_exit_code(rc), "%s", tl_error_text());
    }
    tl_run_conduct(run);
    tl_run_judge_drill(run);
    report(run);
    return run->exit_code;
}

int tl_cli_run(int argc, char **argv) {
    static struct tl_run run = {.signals = {.fd = -1}, .control = {.fd = -1}};
    if (tl_flags_want_help(argc, argv)) {
        tl_run_options_help(stdout);
        return TL_EXIT_OK;
    }
    int rc = tl_run_options_read(argc, argv, &run.options, &run.job);
    if (rc != 0) {
        return tl_flags_fail("run", rc);
    }
    run.argc = argc;
    run.argv = argv;
    run.live_is_tty = isatty(STDERR_FILENO) == 1;
    rc = prepare(&run);
    int code = rc == 0 ? conduct(&run) : tl_flags_fail("run", rc);
    release(&run);
    return code;
}
