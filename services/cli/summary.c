/* summary.c - what a run came to: a table for people, a JSON object for programs. */
#include "report.h"
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tl_run_verdict_name(enum tl_run_verdict verdict) {
    static const char *const names[] = {"completed", "failed", "interrupted"};
    return names[verdict];
}

/* Gradients in the final state per second of training, from the first update that was
 * seen to the last; negative when it cannot be told. What was computed and lost does
 * not count. */
static double gradients_per_second(const struct tl_run *run) {
    double seconds = (double)(run->last_ms - run->first_ms) / 1000;
    return run->sample.has_gradients && seconds > 0
               ? (double)run->sample.folded / seconds
               : -1;
}

static uint64_t updates_of(const struct tl_run *run) {
    return run->evaluated.final ? run->evaluated.version : run->version;
}

/* ---- JSON --------------------------------------------------------------------- */

static json_t *number_or_null(bool known, double value) {
    return known ? json_real(value) : json_null();
}

static json_t *count_or_null(bool known, uint64_t value) {
    return known ? json_integer((json_int_t)value) : json_null();
}

static json_t *kill_json(const struct tl_run *run, size_t i) {
    const struct tl_drill_slot *slot = &run->options.drill.slots[i];
    bool happened = slot->state != TL_DRILL_WAITING;
    double down = tl_drill_down_seconds(slot);
    double recovery = tl_drill_recovery_seconds(slot);
    return json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "what",
                     tl_run_target_name(run, i), "when", slot->kill.text, "happened",
                     (int)happened, "seconds",
                     number_or_null(happened, (double)slot->killed_ms / 1000),
                     "version", count_or_null(slot->has_version, slot->version),
                     "down_seconds", number_or_null(down >= 0, down),
                     "recovery_seconds", number_or_null(recovery >= 0, recovery),
                     "resumed_from", count_or_null(slot->has_base, slot->base));
}

static json_t *kills_json(const struct tl_run *run) {
    json_t *kills = json_array();
    for (size_t i = 0; i < run->options.drill.count; i++) {
        if (json_array_append_new(kills, kill_json(run, i)) != 0) {
            json_decref(kills);
            return NULL;
        }
    }
    return kills;
}

/* What was trained, how: some of the job's settings, under their own names. */
static int add_settings(const struct tl_run *run, json_t *object) {
    static const char *const keys[] = {"strategy", "consistency", "workers",
                                       "shards",   "seed",        "batch"};
    json_t *job = tl_config_dump(&tl_job_table, &run->job);
    int rc = job ? 0 : -1;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && rc == 0; i++) {
        rc = json_object_set(object, keys[i], json_object_get(job, keys[i]));
    }
    json_decref(job);
    return rc;
}

static json_t *outcome_json(const struct tl_run *run) {
    const struct tl_sample *sample = &run->sample, *evaluated = &run->evaluated;
    double rate = gradients_per_second(run);
    bool counted = sample->has_gradients;
    return json_pack(
        "{s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "accuracy",
        number_or_null(evaluated->has_evaluation, evaluated->accuracy), "loss",
        number_or_null(evaluated->has_evaluation, evaluated->loss), "evaluated_version",
        count_or_null(evaluated->has_evaluation, evaluated->version), "final",
        (int)evaluated->final, "updates",
        count_or_null(run->has_version, updates_of(run)), "gradients_per_second",
        number_or_null(rate >= 0, rate), "folded",
        count_or_null(counted, sample->folded), "lost",
        count_or_null(counted, sample->lost), "duplicated",
        count_or_null(counted, sample->duplicated), "late",
        count_or_null(counted, sample->late), "stale",
        count_or_null(counted, sample->stale), "nonfinite",
        count_or_null(counted, sample->nonfinite));
}

json_t *tl_summary_json(const struct tl_run *run) {
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:f, s:i, s:o}", "job",
                  run->job.name, "run", run->options.run, "out", run->options.out,
                  "state", tl_run_verdict_name(run->verdict), "exit_code",
                  run->exit_code, "reason", run->reason, "end", run->end_reason,
                  "wall_seconds", (double)tl_run_now(run) / 1000, "crashes",
                  (int)run->crashes, "kills", kills_json(run));
    json_t *outcome = outcome_json(run);
    if (!object || !outcome || json_object_update(object, outcome) != 0 ||
        add_settings(run, object) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(outcome);
    if (object && run->verified != NULL) {
        json_t *log = json_loads(run->verified, 0, NULL);
        (void)json_object_set_new(object, "log", log != NULL ? log : json_null());
        (void)json_object_set_new(object, "log_verified",
                                  json_boolean(run->verified_good));
    }
    return object;
}

/* As a shell takes it. */
static json_t *command_json(const struct tl_run *run) {
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "0123456789-_=./,:@%+";
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return json_string("");
    }
    (void)fputs("throughline", out);
    for (int i = 0; i < run->argc; i++) {
        bool is_safe = strspn(run->argv[i], safe) == strlen(run->argv[i]);
        (void)fprintf(out, is_safe ? " %s" : " '%s'", run->argv[i]);
    }
    (void)fclose(out);
    json_t *command = json_string(text);
    free(text);
    return command;
}

int tl_summary_save(const struct tl_run *run, const json_t *summary) {
    char path[TL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/summary.json", run->options.out);
    json_t *whole =
        json_pack("{s:o, s:o}", "command", command_json(run), "machine", tl_machine());
    int rc = whole && json_object_update(whole, (json_t *)summary) == 0 &&
                     json_dump_file(whole, path,
                                    JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0
                 ? 0
                 : tl_fail(TL_E_IO, "%s cannot be written: %s", path, strerror(errno));
    json_decref(whole);
    return rc;
}

/* ---- table -------------------------------------------------------------------- */

static void print_seconds(double seconds, FILE *out) {
    if (seconds >= 0) {
        (void)fprintf(out, "  %10.*f", seconds < 1 ? 3 : 2, seconds);
    } else {
        (void)fprintf(out, "  %10s", "-");
    }
}

static void print_kill(const struct tl_run *run, size_t i, FILE *out) {
    const struct tl_drill_slot *slot = &run->options.drill.slots[i];
    (void)fprintf(out, "  %-16s", tl_run_target_name(run, i));
    if (slot->state == TL_DRILL_WAITING) {
        (void)fprintf(out, "  %8s  %8s", "never", "-");
    } else {
        (void)fprintf(out, "  %8.1f  %8" PRIu64, (double)slot->killed_ms / 1000,
                      slot->version);
    }
    print_seconds(tl_drill_down_seconds(slot), out);
    print_seconds(tl_drill_recovery_seconds(slot), out);
    (void)fprintf(out, "  %s\n", slot->kill.text);
}

static void print_kills(const struct tl_run *run, FILE *out) {
    const struct tl_drill *drill = &run->options.drill;
    if (drill->count > 0) {
        (void)fprintf(out, "\n  %-16s  %8s  %8s  %10s  %10s  %s\n", "killed", "at s",
                      "version", "down s", "recovery s", "schedule");
    }
    for (size_t i = 0; i < drill->count; i++) {
        print_kill(run, i, out);
    }
    if (drill->count > 0 && run->sample.has_gradients) {
        (void)fprintf(out, "  %zu kill%s: %" PRIu64 " lost\n", drill->count,
                      drill->count == 1 ? "" : "s", run->sample.lost);
    }
}

static void print_outcome(const struct tl_run *run, FILE *out) {
    const struct tl_sample *sample = &run->sample, *evaluated = &run->evaluated;
    double rate = gradients_per_second(run);
    (void)fprintf(out, "  updates        %" PRIu64 "\n", updates_of(run));
    if (evaluated->has_evaluation) {
        (void)fprintf(out, "  accuracy       %.4f  (test set, version %" PRIu64 "%s)\n",
                      evaluated->accuracy, evaluated->version,
                      evaluated->final ? "" : ", not the last one");
        (void)fprintf(out, "  loss           %.4f\n", evaluated->loss);
    }
    if (rate >= 0) {
        (void)fprintf(out, "  gradients/s    %.1f\n", rate);
    }
    if (sample->has_gradients) {
        (void)fprintf(out, "  lost           %" PRIu64 " acknowledged gradients\n",
                      sample->lost);
        (void)fprintf(out, "  duplicated     %" PRIu64 " arrived again, folded once\n",
                      sample->duplicated);
    }
    if (sample->late + sample->stale + sample->nonfinite > 0) {
        (void)fprintf(out,
                      "  refused        %" PRIu64 " late, %" PRIu64 " stale, %" PRIu64
                      " not finite\n",
                      sample->late, sample->stale, sample->nonfinite);
    }
    if (run->crashes > 0) {
        (void)fprintf(out, "  crashes        %" PRIu32 ", each started again\n",
                      run->crashes);
    }
    (void)fprintf(out, "  wall time      %.1f s\n", (double)tl_run_now(run) / 1000);
}

void tl_summary_print(const struct tl_run *run, FILE *out) {
    json_t *settings = json_object();
    if (settings && add_settings(run, settings) == 0) {
        (void)fprintf(out,
                      "%s %s: strategy %s, %s, %" PRIu32 " worker%s, %" PRIu32
                      " shard%s, seed %" PRIu64 ": %s\n",
                      run->job.name, run->options.run,
                      json_string_value(json_object_get(settings, "strategy")),
                      json_string_value(json_object_get(settings, "consistency")),
                      run->job.workers, run->job.workers == 1 ? "" : "s",
                      run->job.shards, run->job.shards == 1 ? "" : "s", run->job.seed,
                      tl_run_verdict_name(run->verdict));
    }
    json_decref(settings);
    print_outcome(run, out);
    print_kills(run, out);
    if (run->verified != NULL) {
        (void)fprintf(out, "\nThe log, folded again alone:\n%s", run->verified);
    }
    (void)fprintf(out, "\nEverything it left is in %s\nReport: %s/report.html\n",
                  run->options.out, run->options.out);
}
