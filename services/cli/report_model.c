/* report_model.c - a run, or an experiment, as the page and the tables want it.
 *
 * An experiment's directory has experiment.json (its plan), results.json (how each run
 * ended) and a directory for each run. Runs that differ in their seed alone are one row
 * and one curve. */
#include "throughline/report.h"

#include "report.h"

#include <string.h>
#include <unistd.h>

#define CURVE_POINTS 240u

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- one run --------------------------------------------------------------------- */

static void add_origin(json_t *model, const json_t *run) {
    json_t *command = json_object_get(run, "command");
    json_t *machine = json_object_get(run, "machine");
    if (command != NULL) {
        (void)json_object_set(model, "reproduce", command);
    }
    if (machine != NULL) {
        (void)json_object_set(model, "machine", machine);
    }
}

static json_t *note_of(const json_t *run) {
    const char *strategy = text_of(run, "strategy");
    return strategy[0] == '\0'
               ? json_string("")
               : json_sprintf(
                     "strategy %s, %s, workers %lld, shards %lld, seed %lld: %s",
                     strategy, text_of(run, "consistency"),
                     (long long)json_integer_value(json_object_get(run, "workers")),
                     (long long)json_integer_value(json_object_get(run, "shards")),
                     (long long)json_integer_value(json_object_get(run, "seed")),
                     text_of(run, "state"));
}

static int model_of_run(const char *directory, const json_t *prices,
                        json_t **ret_model) {
    json_t *run = NULL;
    int rc = tl_report_read_run(directory, false, &run);
    if (rc != 0) {
        return rc;
    }
    json_t *figures = json_object_get(run, "figures");
    json_t *used = json_pack("[{s:O, s:O}]", "label", json_object_get(run, "name"),
                             "figures", figures);
    json_t *costs = tl_costs(used, prices);
    *ret_model =
        json_pack("{s:O, s:o, s:o, s:o, s:[O]}", "title", json_object_get(run, "name"),
                  "note", note_of(run), "tables", tl_tables_of_run(figures, costs),
                  "costs", costs, "runs", run);
    add_origin(*ret_model, run);
    json_decref(used);
    json_decref(run);
    return 0;
}

/* ---- an experiment: runs grouped by what they have in common
 * -------------------------- */

struct model {
    const char *directory;
    json_t *experiment, *results;
    json_t *groups; /* label -> {entry, figures: [], curves: [], bands} */
    json_t *runs, *failed;
};

static json_t *group_of(struct model *m, const json_t *entry) {
    const char *label = text_of(entry, "label");
    json_t *group = json_object_get(m->groups, label);
    if (group == NULL) {
        group = json_pack("{s:O, s:[], s:[], s:[]}", "entry", entry, "figures",
                          "curves", "bands");
        (void)json_object_set_new(m->groups, label, group);
    }
    return group;
}

static void add_failed(struct model *m, const json_t *entry, const char *state,
                       const char *reason) {
    (void)json_array_append_new(m->failed, json_pack("{s:s, s:s, s:s}", "label",
                                                     text_of(entry, "name"), "state",
                                                     state, "reason", reason));
}

static void add_completed(struct model *m, const json_t *entry) {
    char path[2 * TL_PATH_MAX];
    json_t *run = NULL;
    (void)snprintf(path, sizeof(path), "%s/%s", m->directory, text_of(entry, "name"));
    if (tl_report_read_run(path, true, &run) != 0) {
        add_failed(m, entry, "unreadable", tl_error_text());
        return;
    }
    json_t *group = group_of(m, entry);
    (void)json_array_append(json_object_get(group, "figures"),
                            json_object_get(run, "figures"));
    (void)json_array_append(json_object_get(group, "curves"),
                            json_object_get(run, "curve"));
    (void)json_object_set(group, "bands", json_object_get(run, "bands"));
    (void)json_array_append_new(m->runs, run);
}

static void add_entries(struct model *m) {
    size_t i = 0;
    const json_t *entry = NULL;
    json_array_foreach(json_object_get(m->experiment, "plan"), i, entry) {
        const json_t *result = json_object_get(m->results, text_of(entry, "name"));
        const char *state = text_of(result, "state");
        if (strcmp(state, "completed") == 0) {
            add_completed(m, entry);
        } else {
            add_failed(m, entry, state[0] != '\0' ? state : "not run yet",
                       text_of(result, "reason"));
        }
    }
}

/* ---- the paper beside it
 * ---------------------------------------------------------------- */

/* The paper's curve of an arm with so many kills, NULL where it has none. */
static json_t *paper_curve(const struct model *m, const json_t *entry) {
    char key[128];
    (void)snprintf(key, sizeof(key), "%.80s/%lld", text_of(entry, "paper"),
                   (long long)json_integer_value(json_object_get(entry, "kill_count")));
    return json_object_get(json_object_get(m->experiment, "paper_curves"), key);
}

/* As the paper counts: the mean of the last ten evaluations, the first one at 70 %. */
static void add_paper(const json_t *curve, json_t *row) {
    const json_t *y = json_object_get(curve, "y");
    const json_t *x = json_object_get(curve, "x");
    const size_t n = json_array_size(y);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double accuracy = json_number_value(json_array_get(y, i));
        sum += i + 10 >= n ? accuracy : 0.0;
        if (accuracy >= 0.7 && json_object_get(row, "paper_seconds_to_70") == NULL) {
            (void)json_object_set(row, "paper_seconds_to_70", json_array_get(x, i));
        }
    }
    if (n >= 10) {
        (void)json_object_set_new(row, "paper_accuracy", json_real(sum / 10));
    }
}

/* ---- its control beside it
 * ---------------------------------------------------------------- */

/* The same arm without a failure; NULL: it has not been run. */
static json_t *control_of(const struct model *m, const json_t *entry) {
    const char *label = NULL;
    json_t *group = NULL;
    json_object_foreach(m->groups, label, group) {
        const json_t *other = json_object_get(group, "entry");
        if (strcmp(text_of(other, "arm"), text_of(entry, "arm")) == 0 &&
            json_integer_value(json_object_get(other, "kill_count")) == 0) {
            return group;
        }
    }
    return NULL;
}

static void add_control(const struct model *m, const json_t *group, json_t *row) {
    static const char *const keys[] = {"accuracy", "seconds_to_70"};
    json_t *control = control_of(m, json_object_get(group, "entry"));
    if (control == NULL || control == group) {
        return;
    }
    json_t *means = tl_compare_means(json_object_get(control, "figures"));
    json_t *gap = tl_compare_gap(json_object_get(group, "curves"),
                                 json_object_get(control, "curves"));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "control_%s", keys[i]);
        (void)json_object_set(row, name, json_object_get(means, keys[i]));
    }
    (void)json_object_update(row, gap);
    json_decref(means);
    json_decref(gap);
}

/* ---- tables and charts
 * -------------------------------------------------------------------- */

static json_t *means_of(const struct model *m) {
    json_t *rows = json_array();
    const char *label = NULL;
    json_t *group = NULL;
    json_object_foreach(m->groups, label, group) {
        json_t *row = tl_compare_means(json_object_get(group, "figures"));
        (void)json_object_set_new(row, "label", json_string(label));
        add_paper(paper_curve(m, json_object_get(group, "entry")), row);
        add_control(m, group, row);
        tl_targets_judge(row);
        (void)json_array_append_new(rows, row);
    }
    return rows;
}

static void add_series(json_t *chart, const char *label, json_t *curve, bool dashed) {
    (void)json_object_set_new(curve, "label", json_string(label));
    (void)json_object_set_new(curve, "dashed", json_boolean(dashed));
    (void)json_array_append_new(json_object_get(chart, "series"), curve);
}

/* The chart of all arms that meet the same failures. */
static json_t *chart_of(json_t *charts, const json_t *entry) {
    const char *kills = text_of(entry, "kills");
    json_t *chart = json_object_get(charts, kills);
    if (chart == NULL) {
        chart = json_pack("{s:o, s:s, s:b, s:[i,i], s:[], s:[]}", "title",
                          json_sprintf("Test accuracy: %s", kills), "label", "accuracy",
                          "percent", 1, "range", 0, 1, "series", "bands");
        (void)json_object_set_new(charts, kills, chart);
    }
    return chart;
}

static json_t *comparisons_of(const struct model *m) {
    json_t *charts = json_object();
    json_t *list = json_array();
    const char *label = NULL;
    json_t *group = NULL;
    json_t *chart = NULL;
    json_object_foreach(m->groups, label, group) {
        json_t *entry = json_object_get(group, "entry");
        json_t *curve = paper_curve(m, entry);
        chart = chart_of(charts, entry);
        add_series(chart, text_of(entry, "arm"),
                   tl_compare_curves(json_object_get(group, "curves"), CURVE_POINTS),
                   false);
        if (curve != NULL) {
            char name[160];
            (void)snprintf(name, sizeof(name), "paper: %.120s", text_of(entry, "arm"));
            add_series(chart, name, json_copy(curve), true);
        }
        (void)json_object_set(chart, "bands", json_object_get(group, "bands"));
    }
    json_object_foreach(charts, label, chart) {
        (void)json_array_append(list, chart);
    }
    json_decref(charts);
    return list;
}

static json_t *costs_of(const json_t *means, const json_t *prices) {
    json_t *used = json_array();
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(means, i, row) {
        (void)json_array_append_new(used, json_pack("{s:O, s:O}", "label",
                                                    json_object_get(row, "label"),
                                                    "figures", row));
    }
    json_t *costs = tl_costs(used, prices);
    json_decref(used);
    return costs;
}

static json_t *model_json(const struct model *m, const json_t *prices) {
    json_t *means = means_of(m);
    json_t *costs = costs_of(means, prices);
    json_t *model = json_pack("{s:O, s:O, s:o, s:o, s:o, s:O}", "title",
                              json_object_get(m->experiment, "title"), "note",
                              json_object_get(m->experiment, "note"), "tables",
                              tl_tables_of_runs(means, m->failed, costs), "comparisons",
                              comparisons_of(m), "costs", costs, "runs", m->runs);
    add_origin(model, m->experiment);
    json_decref(means);
    return model;
}

static int model_of_experiment(const char *directory, const char *plan,
                               const json_t *prices, json_t **ret_model) {
    struct model m = {.directory = directory,
                      .groups = json_object(),
                      .runs = json_array(),
                      .failed = json_array()};
    char path[TL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/results.json", directory);
    int rc = tl_report_read_json(plan, &m.experiment);
    if (rc == 0 && tl_report_read_json(path, &m.results) != 0) {
        m.results = json_object();
    }
    if (rc == 0) {
        add_entries(&m);
        *ret_model = model_json(&m, prices);
    }
    json_decref(m.groups);
    json_decref(m.runs);
    json_decref(m.failed);
    json_decref(m.results);
    json_decref(m.experiment);
    return rc;
}

int tl_report_model(const char *directory, const json_t *prices, json_t **ret_model) {
    char plan[TL_PATH_MAX + 32];
    (void)snprintf(plan, sizeof(plan), "%s/experiment.json", directory);
    int rc = access(plan, F_OK) == 0
                 ? model_of_experiment(directory, plan, prices, ret_model)
                 : model_of_run(directory, prices, ret_model);
    return rc == 0 && *ret_model == NULL
               ? tl_fail(TL_E_NOMEM, "no memory for the report")
               : rc;
}
