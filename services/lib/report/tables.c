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
    {"wait_seconds", "seconds that workers waited, all together", 1},
    {"idle_share", "share of workers' time spent waiting", 3},
    {"recovery_seconds", "seconds to recover, mean over kills", 2},
    {"accuracy_lost", "accuracy lost at a kill, at most", 4},
    {"regain_seconds", "seconds to regain it, mean over kills", 2},
    {"snapshots", "snapshots seen", 0},
    {"cpu_seconds", "CPU seconds of all services", 1},
    {"evaluate_share", "evaluation: share of one core", 3},
    {"watch_share", "monitor besides: share of one core", 4},
    {"gigabyte_seconds", "memory: GB x seconds", 2},
    {"sent_bytes", "bytes sent", 0},
    {"received_bytes", "bytes received", 0},
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
    {"detection_seconds", "seen s", 2},
    {"down_seconds", "down s", 2},
    {"start_seconds", "start s", 2},
    {"load_seconds", "load s", 3},
    {"replay_seconds", "replay s", 3},
    {"resume_seconds", "first update s", 2},
    {"recovery_seconds", "recovery s", 2},
    {"resumed_from", "resumed from", 0},
    {"accuracy_before", "accuracy before", 4},
    {"accuracy_lost", "accuracy lost", 4},
    {"regain_seconds", "regained after s", 2},
};
static const char kill_note[] =
    "Recovery is from the kill to the first new update: down until the restart, the "
    "start of its process, loading the snapshot, folding the log behind it, then until "
    "the first update. Seen: when the membership knew of it, which goes on beside "
    "that.";
static const struct column service_columns[] = {
    {"service", "service", TEXT},           {"cpu_seconds", "CPU s", 2},
    {"resident_bytes", "most memory B", 0}, {"sent_bytes", "sent B", 0},
    {"received_bytes", "received B", 0},    {"compute_seconds", "computing s", 2},
    {"wait_seconds", "waiting s", 2},
};

/* ---- what was asked of the stores that the job lives on ----------------------------
 */

static const char backend_note[] =
    "Requests of all services together, and their bytes. Redis: commands, those of the "
    "membership and of a log there; Kafka: entries of the log; store: requests to S3, "
    "or a directory's files. The paper counts its ZooKeeper's reads and writes so.";
static const struct column backend_columns[] = {
    {"label", "", TEXT},           {"redis_reads", "Redis reads", 0},
    {"redis_read_bytes", "B", 0},  {"redis_writes", "Redis writes", 0},
    {"redis_write_bytes", "B", 0}, {"kafka_reads", "Kafka reads", 0},
    {"kafka_read_bytes", "B", 0},  {"kafka_writes", "Kafka writes", 0},
    {"kafka_write_bytes", "B", 0}, {"store_reads", "store reads", 0},
    {"store_read_bytes", "B", 0},  {"store_writes", "store writes", 0},
    {"store_write_bytes", "B", 0},
};

static void add_backends(json_t *tables, json_t *rows) {
    (void)json_array_append_new(
        tables, TABLE("Reads and writes", backend_note, backend_columns, rows));
}

static const struct column cost_columns[] = {
    {"label", "", TEXT},
    {"vcpu_hours", "vCPU-hours", 5},
    {"gb_hours", "GB-hours", 5},
    {"kilo_reads", "1000 reads", 3},
    {"kilo_writes", "1000 writes", 3},
    {"store_gb_months", "GB-months stored", 9},
    {"on_demand", "US$ on demand", 6},
    {"spot", "US$ spot", 6},
};

static void add_costs(json_t *tables, const json_t *costs) {
    json_t *rows = tl_costs_rows(costs);
    json_t *table = TABLE("Costs", "", cost_columns, rows);
    (void)json_object_set(table, "note", json_object_get(costs, "note"));
    /* The page has one whose prices can be changed. */
    (void)json_object_set_new(table, "printed", json_true());
    (void)json_array_append_new(tables, table);
    json_decref(rows);
}

json_t *tl_tables_of_run(const json_t *figures, const json_t *costs) {
    json_t *tables = json_array();
    json_t *kills = json_object_get(figures, "kills");
    json_t *alone = json_pack("[O]", figures);
    (void)json_array_append_new(tables, figures_table(figures));
    if (json_array_size(kills) > 0) {
        (void)json_array_append_new(tables,
                                    TABLE("Kills", kill_note, kill_columns, kills));
    }
    (void)json_array_append_new(tables, TABLE("Services", "Over all their lives.",
                                              service_columns,
                                              json_object_get(figures, "services")));
    add_backends(tables, alone);
    add_costs(tables, costs);
    json_decref(alone);
    return tables;
}

/* ---- many runs: an arm a row -------------------------------------------------------
 */

static const struct column arm_columns[] = {
    {"label", "arm", TEXT},
    {"seeds", "seeds", 0},
    {"accuracy", "accuracy", 4},
    {"accuracy_interval", "± 95 %", 4},
    {"seconds_to_70", "s to 70 %", 2},
    {"seconds_to_70_interval", "± 95 %", 2},
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
static const struct column target_columns[] = {
    {"label", "arm", TEXT},
    {"accuracy", "accuracy", 4},
    {"paper_accuracy", "paper's", 3},
    {"accuracy_gain", "points above", 1},
    {"is_above", "above?", TEXT},
    {"seconds_to_70", "s to 70 %", 2},
    {"paper_seconds_to_70", "paper's", 0},
    {"times_sooner", "times sooner", 1},
    {"is_sooner", "10 times?", TEXT},
    {"control_accuracy", "no kill: accuracy", 4},
    {"control_seconds_to_70", "s to 70 %", 2},
    {"gap", "curve above no kill's", 4},
    {"gap_interval", "± 95 %", 4},
    {"is_undisturbed", "as without?", TEXT},
    {"lost", "lost", 1},
};
static const char target_note[] =
    "The paper's accuracy is the mean of its last ten evaluations; its seconds are "
    "since "
    "its first one, ours since the run's start, services included. \"No kill\" is the "
    "same arm without a failure; the curve's distance from it is the mean over time "
    "and "
    "seeds, and as without when zero lies within its interval, which takes two seeds.";
static const struct column recovery_columns[] = {
    {"label", "arm", TEXT},
    {"detection_seconds", "seen s", 2},
    {"down_seconds", "down s", 2},
    {"start_seconds", "start s", 2},
    {"load_seconds", "load s", 3},
    {"replay_seconds", "replay s", 3},
    {"resume_seconds", "first update s", 2},
    {"recovery_seconds", "recovery s", 2},
};
static const struct column failed_columns[] = {
    {"label", "run", TEXT}, {"state", "state", TEXT}, {"reason", "why", TEXT}};

/* The rows that have `key`; a new reference. */
static json_t *rows_with(const json_t *rows, const char *key) {
    json_t *some = json_array();
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        if (json_is_number(json_object_get(row, key))) {
            (void)json_array_append(some, row);
        }
    }
    return some;
}

static void add_unless_empty(json_t *tables, json_t *table) {
    if (json_array_size(json_object_get(table, "rows")) > 0) {
        (void)json_array_append(tables, table);
    }
    json_decref(table);
}

json_t *tl_tables_of_runs(const json_t *means, const json_t *failed,
                          const json_t *costs) {
    json_t *tables = json_array();
    json_t *failures = rows_with(means, "recovery_seconds");
    json_t *judged = rows_with(means, "control_accuracy");
    add_unless_empty(tables, TABLE("Beside the paper, and beside no failure",
                                   target_note, target_columns, judged));
    (void)json_array_append_new(
        tables,
        TABLE("Comparison",
              "Means over seeds with the half-width of their 95 % confidence interval. "
              "A dash: not known, or not reached by every seed.",
              arm_columns, (json_t *)means));
    add_unless_empty(
        tables, TABLE("Recovery in its parts", kill_note, recovery_columns, failures));
    add_backends(tables, (json_t *)means);
    add_costs(tables, costs);
    add_unless_empty(
        tables, TABLE("Runs without a result", "", failed_columns, (json_t *)failed));
    json_decref(failures);
    json_decref(judged);
    return tables;
}
