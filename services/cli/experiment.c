/* experiment.c - `throughline experiment FILE`: many runs, one after another, compared.
 */
#include "experiment.h"

#include "throughline/service.h"

#include "cli.h"
#include "flags.h"
#include "report.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FIELD(field)                                                                   \
    .offset = offsetof(struct tl_experiment_options, field),                           \
    .size = sizeof(((struct tl_experiment_options *)0)->field)

static const struct tl_option rows[] = {
    {.name = "out",
     .type = TL_OPT_STRING,
     FIELD(out),
     .fallback = "",
     .doc = "Directory for the runs and the report; experiments/NAME when it is not "
            "given. One that holds a part of this experiment is gone on with."},
    {.name = "scale",
     .type = TL_OPT_DOUBLE,
     FIELD(scale),
     .fallback = "1",
     .min = 1e-4,
     .max = 1e4,
     .doc = "Factor for the times and updates of kills and ends: a shorter schedule of "
            "the same shape."},
    {.name = "seeds",
     .type = TL_OPT_U32,
     FIELD(seeds),
     .fallback = "0",
     .min = 0,
     .max = 1000,
     .doc = "Use only so many of the file's seeds; 0: all."},
    {.name = "only",
     .type = TL_OPT_STRING,
     FIELD(only),
     .fallback = "",
     .doc = "Only runs whose name has this in it, for now."},
};
const struct tl_option_table tl_experiment_table = {rows,
                                                    sizeof(rows) / sizeof(rows[0])};

/* ---- arguments
 * ------------------------------------------------------------------------ */

/* A setting of the job: every run gets it. It is tried, so that a wrong one is found
 * here. */
static int take_job_flag(struct tl_experiment *e, struct tl_job *job, int argc,
                         char **argv) {
    const int taken = tl_config_flag(&tl_job_table, job, argc, argv);
    for (int i = 0; i < taken; i++) {
        (void)json_array_append_new(e->extra, json_string(argv[i]));
    }
    return taken;
}

static int take(struct tl_experiment *e, struct tl_job *job, int argc, char **argv) {
    const struct tl_flag_target target = {&tl_experiment_table, &e->options};
    int taken = take_job_flag(e, job, argc, argv);
    taken = taken == 0 ? tl_flags_take(&target, 1, NULL, argc, argv) : taken;
    if (taken != 0) {
        return taken;
    }
    if (e->file != NULL) {
        return tl_fail(TL_E_CONFIG, "two files: %s and %s", e->file, argv[0]);
    }
    e->file = argv[0];
    return 1;
}

static int read_arguments(int argc, char **argv, struct tl_experiment *e) {
    struct tl_job job;
    int rc = tl_config_defaults(&tl_experiment_table, &e->options);
    rc = rc == 0 ? tl_config_defaults(&tl_job_table, &job) : rc;
    if (rc != 0) {
        return rc;
    }
    for (int i = 1; i < argc && rc == 0;) {
        const int taken = take(e, &job, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        i += taken;
    }
    tl_job_done(&job);
    if (rc == 0 && e->file == NULL) {
        rc = tl_fail(TL_E_CONFIG, "which? throughline experiment FILE; see --help");
    }
    return rc == 0 ? tl_config_complete(&tl_experiment_table, &e->options) : rc;
}

/* ---- progress
 * --------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool is_done(const struct tl_experiment *e, const json_t *entry) {
    return strcmp(text_of(json_object_get(e->results, text_of(entry, "name")), "state"),
                  "completed") == 0;
}

static bool is_wanted(const struct tl_experiment *e, const json_t *entry) {
    return strstr(text_of(entry, "name"), e->options.only) != NULL;
}

/* Minutes, from what runs took so far; negative: none has ended yet. */
static double minutes_left(const struct tl_experiment *e, size_t from) {
    double seconds = 0;
    double done = 0;
    double left = 0;
    size_t i = 0;
    const json_t *entry = NULL;
    json_array_foreach(e->plan, i, entry) {
        const json_t *result = json_object_get(e->results, text_of(entry, "name"));
        if (result != NULL) {
            seconds += json_number_value(json_object_get(result, "seconds"));
            done++;
        }
        left += i >= from && is_wanted(e, entry) && !is_done(e, entry);
    }
    return done > 0 ? seconds / done * left / 60 : -1;
}

static void tell_start(const struct tl_experiment *e, const json_t *entry,
                       size_t number) {
    const double minutes = minutes_left(e, number);
    (void)fprintf(stderr, "%zu of %zu  %s", number + 1, json_array_size(e->plan),
                  text_of(entry, "name"));
    if (minutes >= 0) {
        (void)fprintf(stderr, "  (about %.1f min left)", minutes);
    }
    (void)fputc('\n', stderr);
}

static void tell_end(const json_t *result) {
    const char *reason = text_of(result, "reason");
    (void)fprintf(stderr, "        %s after %.1f s%s%s\n", text_of(result, "state"),
                  json_number_value(json_object_get(result, "seconds")),
                  reason[0] != '\0' ? ": " : "", reason);
}

/* ---- the runs
 * ------------------------------------------------------------------------------ */

static int run_one(struct tl_experiment *e, const json_t *entry) {
    json_t *result = NULL;
    const int rc = tl_experiment_run(e, entry, &result);
    if (rc != 0) {
        return rc;
    }
    tell_end(result);
    if (tl_stop_requested()) {
        json_decref(result); /* it has not ended: it is run again */
        return TL_E_INTERRUPTED;
    }
    return tl_experiment_keep(e, text_of(entry, "name"), result);
}

static int run_all(struct tl_experiment *e) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(e->plan); i++) {
        const json_t *entry = json_array_get(e->plan, i);
        if (is_wanted(e, entry) && !is_done(e, entry)) {
            tell_start(e, entry, i);
            rc = run_one(e, entry);
        }
    }
    return rc;
}

static int conduct(struct tl_experiment *e) {
    int rc = tl_stop_setup();
    rc = rc == 0 ? run_all(e) : rc;
    if (rc == TL_E_INTERRUPTED) {
        (void)fprintf(stderr, "stopped; the same command goes on from here\n");
        return TL_EXIT_FAILED;
    }
    rc = rc == 0 ? tl_report_html(e->options.out) : rc;
    if (rc != 0) {
        return tl_flags_fail("experiment", rc);
    }
    (void)printf("%s/report.html\n", e->options.out);
    return TL_EXIT_OK;
}

int tl_cli_experiment(int argc, char **argv) {
    static struct tl_experiment e;
    if (tl_flags_want_help(argc, argv)) {
        (void)puts(
            "usage: throughline experiment FILE [flags] [settings of the job]\n\n"
            "Runs every combination that FILE asks for, one after another, and "
            "writes a\nreport that compares them; goes on where it was "
            "stopped. See docs/experiments.md.\n");
        tl_config_help(&tl_experiment_table, stdout);
        return TL_EXIT_OK;
    }
    e.extra = json_array();
    int rc = read_arguments(argc, argv, &e);
    rc = rc == 0 ? tl_experiment_open(&e) : rc;
    const int code = rc == 0 ? conduct(&e) : tl_flags_fail("experiment", rc);
    tl_experiment_close(&e);
    return code;
}
