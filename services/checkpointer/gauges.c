/* gauges.c - what /metrics says of a checkpointer. */
#include "checkpointer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const double seconds_bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                        1,     2.5,  5,     10,   30,  60,   300};

/* X(field, type, name, help) */
#define GAUGES(X)                                                                      \
    X(snapshots, TL_COUNTER, "throughline_snapshots_total", "Snapshots taken.")        \
    X(failures, TL_COUNTER, "throughline_snapshot_failures_total",                     \
      "Snapshots that were begun and not completed.")                                  \
    X(bytes, TL_COUNTER, "throughline_snapshot_bytes_total",                           \
      "Bytes of snapshots stored.")                                                    \
    X(held, TL_GAUGE, "throughline_snapshot_held_bytes",                               \
      "Bytes of the snapshots taken and not removed since this process started.")      \
    X(pruned, TL_COUNTER, "throughline_snapshots_pruned_total",                        \
      "Old snapshots removed.")

static struct tl_metric *of_shard(uint32_t shard, const char *name, const char *help) {
    char labels[32];
    (void)snprintf(labels, sizeof(labels), "shard=\"%" PRIu32 "\"", shard);
    return tl_metric_new(TL_GAUGE, name, labels, help, NULL, 0);
}

int gauges_new(struct gauges *g, uint32_t shards) {
    bool is_complete = true;
    g->version = calloc(shards, sizeof(struct tl_metric *));
    g->age = calloc(shards, sizeof(struct tl_metric *));
    for (uint32_t i = 0; i < shards && g->version != NULL && g->age != NULL; i++) {
        g->version[i] = of_shard(i, "throughline_snapshot_version",
                                 "Version of the newest snapshot.");
        g->age[i] = of_shard(i, "throughline_snapshot_age_seconds",
                             "Time since the newest snapshot, or since the start.");
        is_complete = is_complete && g->version[i] != NULL && g->age[i] != NULL;
    }
#define NEW(field, type, name, help)                                                   \
    g->field = tl_metric_new(type, name, NULL, help, NULL, 0);                         \
    is_complete = is_complete && g->field != NULL;
    GAUGES(NEW)
#undef NEW
    g->seconds =
        tl_metric_new(TL_HISTOGRAM, "throughline_snapshot_duration_seconds", NULL,
                      "From asking for a state to its clean store.", seconds_bounds,
                      sizeof(seconds_bounds) / sizeof(seconds_bounds[0]));
    return is_complete && g->version != NULL && g->age != NULL && g->seconds != NULL
               ? 0
               : tl_fail(TL_E_NOMEM, "no memory for metrics");
}

/* The metrics themselves live for the process. */
void gauges_done(struct gauges *g) {
    free(g->version);
    free(g->age);
}
