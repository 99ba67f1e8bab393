/* experiment_files.c - an experiment's directory.
 *
 *   experiment.json   the plan, and all that a report needs beside the runs
 *   results.json      how each run ended, as far as they have
 *   NAME/, NAME.log   a run, and what it said
 *
 * A run that is not in results.json has not ended: it is run again from its start. */
#include "throughline/report.h"

#include "experiment.h"
#include "files.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file that the experiment names, beside its own. */
static void beside(const char *file, const char *name, char *path, size_t size) {
    const char *slash = strrchr(file, '/');
    const int length = slash != NULL && name[0] != '/' ? (int)(slash - file) + 1 : 0;
    (void)snprintf(path, size, "%.*s%s", length, file, name);
}

/* ---- the paper's curves, a row for each evaluation
 * ------------------------------------ */

static void add_evaluation(json_t *curves, const char *key, double second,
                           double accuracy) {
    json_t *curve = json_object_get(curves, key);
    if (curve == NULL) {
        curve = json_pack("{s:[], s:[]}", "x", "y");
        (void)json_object_set_new(curves, key, curve);
    }
    (void)json_array_append_new(json_object_get(curve, "x"), json_real(second));
    (void)json_array_append_new(json_object_get(curve, "y"), json_real(accuracy));
}

/* experiment,kills,second,event,accuracy,loss,gradients -> "EXPERIMENT/KILLS". */
static int read_paper(const char *path, json_t *curves) {
    char line[256];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return tl_fail(TL_E_CONFIG, "\"paper\": %s: %s", path, strerror(errno));
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[64];
        char key[80];
        unsigned kills = 0;
        double second = 0;
        double accuracy = 0;
        if (sscanf(line, "%63[^,],%u,%lf,eval,%lf", name, &kills, &second, &accuracy) ==
            4) {
            (void)snprintf(key, sizeof(key), "%s/%u", name, kills);
            add_evaluation(curves, key, second, accuracy);
        }
    }
    (void)fclose(file);
    return 0;
}

static int load_paper(const struct tl_experiment *e, json_t *description) {
    const char *name = json_string_value(json_object_get(e->definition, "paper"));
    char path[2 * TL_PATH_MAX];
    if (name == NULL) {
        return 0;
    }
    json_t *curves = json_object();
    beside(e->file, name, path, sizeof(path));
    const int rc = read_paper(path, curves);
    (void)json_object_set_new(description, "paper_curves", curves);
    return rc;
}

/* ---- the plan
 * -------------------------------------------------------------------------- */

/* Of the seeds only the first so many. */
static void limit_seeds(struct tl_experiment *e) {
    json_t *seeds = json_object_get(e->definition, "seeds");
    while (e->options.seeds > 0 && json_array_size(seeds) > e->options.seeds) {
        (void)json_array_remove(seeds, json_array_size(seeds) - 1);
    }
}

static int read_definition(struct tl_experiment *e) {
    int rc = tl_report_read_json(e->file, &e->definition);
    if (rc != 0) {
        return rc;
    }
    limit_seeds(e);
    rc = tl_plan_read(e->definition, e->options.scale, &e->plan);
    if (rc != 0) {
        return tl_fail(rc, "%s: %s", e->file, tl_error_text());
    }
    beside(e->file, json_string_value(json_object_get(e->definition, "job")), e->job,
           sizeof(e->job));
    return access(e->job, R_OK) == 0 ? 0
                                     : tl_fail(TL_E_CONFIG, "%s: \"job\": %s: %s",
                                               e->file, e->job, strerror(errno));
}

static json_t *text_or(const json_t *object, const char *key, const char *other) {
    json_t *text = json_object_get(object, key);
    return json_is_string(text) ? json_incref(text) : json_string(other);
}

static json_t *command_of(const struct tl_experiment *e) {
    char *extra = strdup("");
    size_t i = 0;
    const json_t *flag = NULL;
    json_array_foreach(e->extra, i, flag) {
        char *longer = NULL;
        if (extra != NULL &&
            asprintf(&longer, "%s %s", extra, json_string_value(flag)) >= 0) {
            free(extra);
            extra = longer;
        }
    }
    json_t *command =
        json_sprintf("throughline experiment %s --scale %g --seeds %u%s", e->file,
                     e->options.scale, e->options.seeds, extra != NULL ? extra : "");
    free(extra);
    return command;
}

static int describe(const struct tl_experiment *e, json_t **ret_description) {
    char note[192];
    (void)snprintf(note, sizeof(note),
                   "every time and count scaled by %g; what others measured is not, so "
                   "their final accuracy is that of longer runs",
                   e->options.scale);
    json_t *d =
        json_pack("{s:o, s:o, s:O, s:O, s:f, s:o, s:o}", "title",
                  text_or(e->definition, "title", e->file), "note",
                  text_or(e->definition, "note", e->options.scale == 1.0 ? "" : note),
                  "plan", e->plan, "extra", e->extra, "scale", e->options.scale,
                  "command", command_of(e), "machine", tl_machine());
    const int rc = load_paper(e, d);
    if (rc != 0) {
        json_decref(d);
        return rc;
    }
    *ret_description = d;
    return 0;
}

/* ---- files
 * ------------------------------------------------------------------------------ */

static void path_of(const struct tl_experiment *e, const char *name, char *path,
                    size_t size) {
    (void)snprintf(path, size, "%s/%s", e->options.out, name);
}

/* Whole or not at all. */
static int save(const struct tl_experiment *e, const char *name, const json_t *json) {
    char path[2 * TL_PATH_MAX];
    char temporary[2 * TL_PATH_MAX + 8];
    path_of(e, name, path, sizeof(path));
    (void)snprintf(temporary, sizeof(temporary), "%s.new", path);
    if (json_dump_file(json, temporary, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0 ||
        rename(temporary, path) != 0) {
        return tl_fail(TL_E_IO, "%s cannot be written: %s", path, strerror(errno));
    }
    return 0;
}

static int check_same(const struct tl_experiment *e, const json_t *found) {
    return json_equal(json_object_get(found, "plan"), e->plan) &&
                   json_equal(json_object_get(found, "extra"), e->extra)
               ? 0
               : tl_fail(TL_E_CONFIG,
                         "--out %s holds an experiment of other runs; name another",
                         e->options.out);
}

static int open_directory(struct tl_experiment *e) {
    char path[2 * TL_PATH_MAX];
    json_t *found = NULL;
    json_t *description = NULL;
    int rc = tl_make_directories(e->options.out);
    path_of(e, "experiment.json", path, sizeof(path));
    if (rc == 0 && access(path, F_OK) == 0) {
        rc = tl_report_read_json(path, &found);
        rc = rc == 0 ? check_same(e, found) : rc;
        path_of(e, "results.json", path, sizeof(path));
        if (rc == 0 && access(path, F_OK) == 0) {
            json_decref(e->results);
            e->results = NULL;
            rc = tl_report_read_json(path, &e->results);
        }
        json_decref(found);
        return rc;
    }
    rc = rc == 0 ? describe(e, &description) : rc;
    rc = rc == 0 ? save(e, "experiment.json", description) : rc;
    json_decref(description);
    return rc;
}

int tl_experiment_open(struct tl_experiment *e) {
    e->results = json_object();
    const int rc = read_definition(e);
    if (rc == 0 && e->options.out[0] == '\0') {
        const char *name = json_string_value(json_object_get(e->definition, "name"));
        (void)snprintf(e->options.out, sizeof(e->options.out), "experiments/%.100s",
                       name != NULL ? name : "unnamed");
    }
    return rc == 0 ? open_directory(e) : rc;
}

void tl_experiment_close(struct tl_experiment *e) {
    json_decref(e->definition);
    json_decref(e->plan);
    json_decref(e->extra);
    json_decref(e->results);
}

int tl_experiment_keep(struct tl_experiment *e, const char *name, json_t *result) {
    if (json_object_set_new(e->results, name, result) != 0) {
        return tl_fail(TL_E_NOMEM, "no memory for results");
    }
    return save(e, "results.json", e->results);
}
