/* job_run.h - `throughline run` as a test sees it: arguments in, one JSON object out.
 */
#ifndef THROUGHLINE_TESTS_JOB_RUN_H
#define THROUGHLINE_TESTS_JOB_RUN_H

#include "program.h"

#include <stdarg.h>

#define JOB_MLP TL_SOURCE_DIR "/examples/fashion-mlp.json"

/* Run the small model to its end, with further arguments ended by NULL. The result,
 * which must be a success, is a new reference. */
static inline json_t *job_run(const char *out, int deadline_s, ...) {
    const char *argv[PROGRAM_ARGS_MAX] = {"throughline", "run",   JOB_MLP,
                                          "--json",      "--out", out};
    size_t n = 6;
    va_list args;
    va_start(args, deadline_s);
    const char *arg = NULL;
    while ((arg = va_arg(args, const char *)) != NULL) {
        assert_true(n < PROGRAM_ARGS_MAX - 1);
        argv[n++] = arg;
    }
    va_end(args);
    return program_json(deadline_s, argv);
}

/* A job with these two settings ends at once, with exit code 2 and `why`. */
static inline void job_assert_refused(const char *setting, const char *another,
                                      const char *why) {
    static unsigned n;
    char name[24];
    (void)snprintf(name, sizeof(name), "refused-%u", n++);
    const char *argv[] = {"throughline",      "run",   JOB_MLP, "--json", "--out",
                          scratch_path(name), setting, another, NULL};
    struct outcome o = program_run(60, argv);
    if (o.exit_code != 2 || strstr(o.err, why) == NULL) {
        fail_msg("exit %d, and not \"%s\":\n%s", o.exit_code, why, o.err);
    }
    outcome_done(&o);
}

/* What worker 0 logged; to be freed. */
static inline char *job_worker_log(const json_t *result) {
    char path[PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/logs/worker-0.log",
                   json_string_value(json_object_get(result, "out")));
    return program_read(path);
}

/* The last sequence that worker `w` wrote into its ledger: its fourth number. */
static inline uint64_t job_acknowledged(const json_t *result, unsigned w) {
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/ledger-%u",
                   json_string_value(json_object_get(result, "out")), w);
    uint64_t record[8] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(record, sizeof(record), 1, f), 1);
    (void)fclose(f);
    return record[3];
}

static inline uint64_t job_acknowledged_in_all(const json_t *result, unsigned workers) {
    uint64_t sum = 0;
    for (unsigned w = 0; w < workers; w++) {
        sum += job_acknowledged(result, w);
    }
    return sum;
}

static inline FILE *job_timeline(const json_t *result) {
    char path[PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl",
                   json_string_value(json_object_get(result, "out")));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

/* Every gradient that a worker has settled is in the state, or counted as lost or as
 * refused for good (a STALE one of sync and ssp is computed again). The workers' side
 * is their ledgers', the other the server's: nobody counted both. */
static inline void job_assert_losses_exact(const json_t *result, unsigned workers) {
    uint64_t acknowledged = job_acknowledged_in_all(result, workers);
    const char *consistency = json_string_value(json_object_get(result, "consistency"));
    double accounted = number(result, "folded") + number(result, "lost") +
                       number(result, "late") + number(result, "nonfinite");
    accounted += strcmp(consistency, "async") == 0 ? number(result, "stale") : 0.0;
    if ((double)acknowledged != accounted) {
        char *text = json_dumps(result, JSON_INDENT(1));
        fail_msg("workers saw %llu settled, the state has, lost and refused %.0f:\n%s",
                 (unsigned long long)acknowledged, accounted, text);
        free(text);
    }
}

/* The last line of the timeline that holds gradients, or NULL. New reference. */
static inline json_t *job_last_gradients(const json_t *result) {
    FILE *f = job_timeline(result);
    static char line[1 << 16];
    json_t *last = NULL;
    while (fgets(line, sizeof(line), f) != NULL) {
        json_t *sample = json_loads(line, 0, NULL);
        json_t *gradients = json_object_get(sample, "gradients");
        if (gradients != NULL) {
            json_decref(last);
            last = json_incref(gradients);
        }
        json_decref(sample);
    }
    (void)fclose(f);
    return last;
}

/* Of each shard by itself. The job's end may take a worker's last gradient in one shard
 * and refuse it in another; it is not acknowledged then. */
static inline void job_assert_shards_exact(const json_t *result, unsigned workers) {
    uint64_t acknowledged = job_acknowledged_in_all(result, workers);
    json_t *gradients = job_last_gradients(result);
    json_t *shards = json_object_get(gradients, "shards");
    assert_true((double)json_array_size(shards) == number(result, "shards"));
    size_t i = 0;
    const json_t *s = NULL;
    json_array_foreach(shards, i, s) {
        double accounted = number(s, "folded") + number(s, "lost") + number(s, "late") +
                           number(s, "nonfinite") + number(s, "stale");
        if (accounted < (double)acknowledged ||
            accounted > (double)(acknowledged + workers)) {
            char *text = json_dumps(gradients, JSON_INDENT(1));
            fail_msg("workers saw %llu settled, shard %zu has, lost and refused %.0f:"
                     "\n%s",
                     (unsigned long long)acknowledged, i, accounted, text);
            free(text);
        }
    }
    json_decref(gradients);
}

/* (epoch, version) of each server in a sample of the timeline; false for other lines.
 */
static inline bool job_sampled(const json_t *line, const char *service,
                               double *ret_epoch, double *ret_version) {
    size_t i = 0;
    const json_t *process = NULL;
    json_array_foreach(json_object_get(line, "processes"), i, process) {
        const char *name = json_string_value(json_object_get(process, "service"));
        const json_t *epoch = json_object_get(process, "epoch");
        /* Epoch 0 is that of a server which has not taken one yet, and serves nobody.
         */
        if (name != NULL && strcmp(name, service) == 0 && json_is_number(epoch) &&
            json_number_value(epoch) > 0.0) {
            *ret_epoch = json_number_value(epoch);
            *ret_version = number(process, "version");
            return true;
        }
    }
    return false;
}

/* Within an epoch a shard's version never goes back, and epochs never do, as the
 * monitor saw them. Returns how many samples showed the server. */
static inline unsigned job_assert_versions_rise(const json_t *result,
                                                const char *service) {
    FILE *f = job_timeline(result);
    static char line[1 << 16];
    double epoch = 0.0;
    double version = 0.0;
    unsigned seen = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        double e = 0.0;
        double v = 0.0;
        if (job_sampled(json, service, &e, &v)) {
            if (e < epoch || (e == epoch && v < version)) {
                fail_msg("%s went from epoch %.0f version %.0f to %.0f, %.0f", service,
                         epoch, version, e, v);
            }
            epoch = e;
            version = v;
            seen++;
        }
        json_decref(json);
    }
    (void)fclose(f);
    return seen;
}

/* Kill number `i` happened, and what was killed went on. */
static inline const json_t *job_assert_recovered(const json_t *result, size_t i) {
    const json_t *kill = json_array_get(json_object_get(result, "kills"), i);
    assert_non_null(kill);
    assert_true(json_is_true(json_object_get(kill, "happened")));
    assert_true(number(kill, "down_seconds") > 0.0);
    assert_true(number(kill, "recovery_seconds") >= number(kill, "down_seconds"));
    return kill;
}

/* The snapshots that a run left are whole. */
static inline void job_assert_snapshots_valid(const json_t *result) {
    char store[PATH_MAX + 64];
    (void)snprintf(store, sizeof(store), "--store=file://%s/checkpoints",
                   json_string_value(json_object_get(result, "out")));
    const char *argv[] = {"throughline", "checkpoints", "verify", store, NULL};
    struct outcome o = program_run(60, argv);
    if (o.exit_code != 0) {
        fail_msg("checkpoints verify: exit %d\n%s%s", o.exit_code, o.out, o.err);
    }
    outcome_done(&o);
}

/* Nothing of this test's directory is still running. */
static inline void job_assert_nothing_runs(void) {
    assert_int_equal(processes_with(scratch), 0);
}

#endif
