/* tables.c - figures in columns. What is a column is listed here, once for the page,
 * CSV and Markdown. */
#include "throughline/report.h"

#include <stdbool.h>
#include <stddef.h>

struct column {
    const char *key, *label;
    int digits; /* TEXT: words */
};
#define TEXT (-1)

static json_t *columns_json(const struct column *columns, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct column *c = &columns[i];
        json_t *column = json_pack("{s:s, s:s}", "key", c->key, "label", c->label);
        (void)json_object_set_new(column, c->digits == TEXT ? "text" : "digits",
                                  c->digits == TEXT ? json_true()
                                                    : json_integer(c->digits));
        (void)json_array_append_new(list, column);
    }
    return list;
}

#define TABLE(title, note, columns, rows)                                              \
    make_table(title, note, columns, sizeof(columns) / sizeof((columns)[0]), rows)
static json_t *make_table(const char *title, const char *note,
                          const struct column *columns, size_t count, json_t *rows) {
    return json_pack("{s:s, s:s, s:o, s:O}", "title", title, "note", note, "columns",
                     columns_json(columns, count), "rows", rows);
}

/* ---- one run: a figure a row ------------------------------------------------------
 */

static const struct column run_figures[] = {
    {"accuracy", "final accuracy", 4},
    {"loss", "final loss", 4},
    {"seconds_to_70", "seconds to 70 %", 2},
    {"seconds_to_80", "seconds to 80 %", 2},
    {"seconds_to_85", "seconds to 85 %", 2},
    {"seconds_to_90", "seconds to 90 %", 2},
    {"seconds", "seconds, start to last evaluation", 1},
    {"updates", "updates", 0},
    {"gradients_per_second", "gradients acknowledged per second", 1},
    {"computed", "gradients computed", 0},
    {"acknowledged", "gradients acknowledged", 0},
    {"folded", "gradients in the final state", 0},
    {"lost", "acknowledged gradients lost", 0},
    {"duplicated", "gradients that arrived again", 0},
    {"stale", "gradients refused as stale", 0},
    {"late", "gradients too late for their step", 0},
    {"missing", "contributions given up with dead workers", 0},
    {"idle_share", "share of workers' time spent waiting", 3},
    {"recovery_seconds", "seconds to recover, mean over kills", 2},
    {"accuracy_lost", "accuracy lost at a kill, at most", 4},
    {"regain_seconds", "seconds to regain it, mean over kills", 2},
    {"snapshots", "snapshots seen", 0},
    {"cpu_seconds", "CPU seconds of all services", 1},
    {"evaluate_share", "monitor, which evaluates: share of one core", 3},
    {"gigabyte_seconds", "memory: GB x seconds", 2},
    {"sent_bytes", "bytes sent", 0},
    {"received_bytes", "bytes received", 0},
    {"redis_commands", "commands to Redis", 0},
    {"stored_bytes", "bytes of snapshots stored", 0},
};
static const struct column pair[] = {{"figure", "figure", TEXT}, {"value", "value", 4}};

static json_t *figures_table(const json_t *figures) {
    json_t *rows = json_array();
    for (size_t i = 0; i < sizeof(run_figures) / sizeof(run_figures[0]); i++) {
        (void)json_array_append_new(
            rows, json_pack("{s:s, s:O?, s:i}", "figure", run_figures[i].label, "value",
                            json_object_get(figures, run_figures[i].key), "digits",
                            run_figures[i].digits));
    }
    json_t *table =
        TABLE("Figures", "A dash is what is not known, or never happened.", pair, rows);
    json_decref(rows);
    return table;
}

static const struct column kill_columns[] = {
    {"service", "killed", TEXT},
    {"seconds", "at s", 2},
    {"version", "version", 0},
    {"down_seconds", "down s", 2},
    {"restore_seconds", "until serving s", 2},
    {"resume_seconds", "until first update s", 2},
    {"recovery_seconds", "recovery s", 2},
    {"resumed_from", "resumed from", 0},
    {"accuracy_before", "accuracy before", 4},
    {"accuracy_lost", "accuracy lost", 4},
    {"regain_seconds", "regained after s", 2},
};
static const struct column service_columns[] = {
    {"service", "service", TEXT},           {"cpu_seconds", "CPU s", 2},
    {"resident_bytes", "most memory B", 0}, {"sent_bytes", "sent B", 0},
    {"received_bytes", "received B", 0},    {"compute_seconds", "computing s", 2},
    {"wait_seconds", "waiting s", 2},
};

json_t *tl_tables_of_run(const json_t *figures) {
    json_t *tables = json_array();
    json_t *kills = json_object_get(figures, "kills");
    (void)json_array_append_new(tables, figures_table(figures));
    if (json_array_size(kills) > 0) {
        (void)json_array_append_new(
            tables, TABLE("Kills",
                          "Recovery is from the kill to the first new update: down, "
                          "until the new process serves, until its first update.",
                          kill_columns, kills));
    }
    (void)json_array_append_new(tables, TABLE("Services", "Over all their lives.",
                                              service_columns,
                                              json_object_get(figures, "services")));
    return tables;
}

/* ---- many runs: an arm a row -------------------------------------------------------
 */

static const struct column arm_columns[] = {
    {"label", "arm", TEXT},
    {"seeds", "seeds", 0},
    {"accuracy", "accuracy", 4},
    {"accuracy_interval", "± 95 %", 4},
    {"paper_accuracy", "paper's", 3},
    {"seconds_to_70", "s to 70 %", 2},
    {"seconds_to_70_interval", "± 95 %", 2},
    {"paper_seconds_to_70", "paper's", 0},
    {"seconds_to_80", "s to 80 %", 2},
    {"seconds_to_85", "s to 85 %", 2},
    {"seconds_to_90", "s to 90 %", 2},
    {"accuracy_lost", "lost at a kill", 4},
    {"regain_seconds", "regained s", 2},
    {"recovery_seconds", "recovery s", 2},
    {"recovery_seconds_interval", "± 95 %", 2},
    {"updates", "updates", 0},
    {"gradients_per_second", "gradients/s", 1},
    {"gradients_per_second_interval", "± 95 %", 1},
    {"lost", "lost", 1},
    {"duplicated", "again", 1},
    {"stale", "stale", 1},
    {"idle_share", "idle", 3},
    {"cpu_seconds", "CPU s", 1},
    {"received_bytes", "received B", 0},
};
static const struct column failed_columns[] = {
    {"label", "run", TEXT}, {"state", "state", TEXT}, {"reason", "why", TEXT}};

json_t *tl_tables_of_runs(const json_t *means, const json_t *failed) {
    json_t *tables = json_array();
    (void)json_array_append_new(
        tables,
        TABLE("Comparison",
              "Means over seeds with the half-width of their 95 % confidence interval. "
              "A dash: not known, or not reached by every seed.",
              arm_columns, (json_t *)means));
    if (json_array_size(failed) > 0) {
        (void)json_array_append_new(tables, TABLE("Runs without a result", "",
                                                  failed_columns, (json_t *)failed));
    }
    return tables;
}
