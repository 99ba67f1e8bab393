/* gauges.c - what /metrics says of a shard. */
#include "server.h"

#include <stdlib.h>

/* X(field, type, name, help). Tallies that are part of the state follow a recovery:
 * they go back with it, as a counter that was reset does. */
#define GAUGES(X)                                                                      \
    X(version, TL_GAUGE, "throughline_version", "Updates made to this shard.")         \
    X(epoch, TL_GAUGE, "throughline_epoch", "Epoch of this shard's writer.")           \
    X(position, TL_GAUGE, "throughline_log_position", "Records folded or refused.")    \
    X(rate, TL_GAUGE, "throughline_learning_rate", "Rate of the next update.")         \
    X(recovered, TL_GAUGE, "throughline_recovered_version",                            \
      "Version that this process started from.")                                       \
    X(load, TL_GAUGE, "throughline_load_seconds",                                      \
      "Time to load the state that this process started from.")                        \
    X(replay, TL_GAUGE, "throughline_replay_seconds",                                  \
      "Time to fold what the log held beyond that state.")                             \
    X(folded, TL_COUNTER, "throughline_gradients_folded_total",                        \
      "Gradients in the state.")                                                       \
    X(lost, TL_COUNTER, "throughline_gradients_lost_total",                            \
      "Acknowledged gradients that are in no state.")                                  \
    X(duplicated, TL_COUNTER, "throughline_gradients_duplicated_total",                \
      "Gradients refused because they had been folded before.")                        \
    X(stale, TL_COUNTER, "throughline_gradients_stale_total",                          \
      "Gradients refused as too old, or of a version that was lost.")                  \
    X(late, TL_COUNTER, "throughline_gradients_late_total",                            \
      "Gradients whose step had been committed without them.")                         \
    X(nonfinite, TL_COUNTER, "throughline_gradients_nonfinite_total",                  \
      "Gradients refused for a NaN or an infinity.")                                   \
    X(missing, TL_COUNTER, "throughline_contributions_missing_total",                  \
      "Contributions to sync steps given up because their worker died.")               \
    X(active, TL_GAUGE, "throughline_active_workers", "Workers in the set.")           \
    X(connections, TL_GAUGE, "throughline_open_connections", "Open connections.")      \
    X(accepted, TL_COUNTER, "throughline_connections_total", "Connections accepted.")  \
    X(rejected, TL_COUNTER, "throughline_connections_refused_total",                   \
      "Connections refused.")                                                          \
    X(strangers, TL_GAUGE, "throughline_strangers",                                    \
      "Connections that were not welcomed yet.")                                       \
    X(dropped, TL_COUNTER, "throughline_strangers_dropped_total",                      \
      "Connections closed before WELCOME, as too slow or for newer ones.")             \
    X(auth_failures, TL_COUNTER, "throughline_auth_failures_total",                    \
      "Callers that did not prove to know the job's secret.")                          \
    X(frames, TL_COUNTER, "throughline_frames_total", "Requests received.")            \
    X(bad_frames, TL_COUNTER, "throughline_bad_frames_total",                          \
      "Frames that closed their connection.")                                          \
    X(pushes, TL_COUNTER, "throughline_pushes_total", "Gradients offered.")            \
    X(pulls, TL_COUNTER, "throughline_pulls_total", "Pulls asked for.")                \
    X(snapshots, TL_COUNTER, "throughline_states_sent_total", "States sent.")          \
    X(received, TL_COUNTER, "throughline_received_bytes_total", "Bytes received.")     \
    X(sent, TL_COUNTER, "throughline_sent_bytes_total", "Bytes sent.")                 \
    X(stall, TL_GAUGE, "throughline_snapshot_stall_seconds_max",                       \
      "Longest time that taking a snapshot held the fold.")                            \
    X(redis, TL_GAUGE, "throughline_redis_connected", "1 while Redis answers.")        \
    X(redis_failures, TL_COUNTER, "throughline_redis_failures_total",                  \
      "Commands to Redis that failed.")

struct server_gauges {
#define FIELD(field, type, name, help) struct tl_metric *field;
    GAUGES(FIELD)
#undef FIELD
    struct tl_metric *staleness;
    struct tl_metric *fold_seconds;
    double fold_seconds_seen;
};

static const double staleness_bounds[] = {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};
static const double fold_bounds[] = {1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3,
                                     5e-3, 1e-2, 2.5e-2, 1e-1, 1.0};

int server_gauges_new(struct server *s) {
    struct server_gauges *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for metrics");
    }
    bool ok = true;
#define REGISTER(field, type, name, help)                                              \
    g->field = tl_metric_new(type, name, NULL, help, NULL, 0);                         \
    ok = ok && g->field != NULL;
    GAUGES(REGISTER)
#undef REGISTER
    g->staleness = tl_metric_new(
        TL_HISTOGRAM, "throughline_gradient_staleness", NULL,
        "Updates between a gradient's weights and its own update.", staleness_bounds,
        sizeof(staleness_bounds) / sizeof(staleness_bounds[0]));
    g->fold_seconds = tl_metric_new(TL_HISTOGRAM, "throughline_fold_duration_seconds",
                                    NULL, "Time to fold one gradient.", fold_bounds,
                                    sizeof(fold_bounds) / sizeof(fold_bounds[0]));
    if (!ok || g->staleness == NULL || g->fold_seconds == NULL) {
        free(g);
        return tl_fail(TL_E_NOMEM, "no memory for metrics");
    }
    s->gauges = g;
    return 0;
}

void server_gauges_record(struct server *s, int status, const struct tl_record *r,
                          const struct tl_fold_effect *effect) {
    if (r->kind != TL_RECORD_GRADIENT || status != 0) {
        return;
    }
    struct tl_serve_stats stats;
    tl_serve_stats(s->serve, &stats);
    tl_metric_observe(s->gauges->staleness, (double)effect->staleness);
    tl_metric_observe(s->gauges->fold_seconds,
                      stats.fold_seconds - s->gauges->fold_seconds_seen);
    s->gauges->fold_seconds_seen = stats.fold_seconds;
}

void server_gauges_refresh(struct server *s) {
    struct server_gauges *g = s->gauges;
    server_replica_gauges(s);
    struct tl_fold_counters c = tl_fold_counters(s->fold);
    struct tl_serve_stats stats;
    tl_serve_stats(s->serve, &stats);
    tl_metric_set(g->version, (double)tl_fold_version(s->fold));
    tl_metric_set(g->epoch, (double)s->epoch);
    tl_metric_set(g->position, (double)tl_fold_position(s->fold));
    tl_metric_set(g->rate, tl_fold_rate(s->fold));
    tl_metric_set(g->recovered, (double)s->origin.version);
    tl_metric_set(g->load, s->origin.load_seconds);
    tl_metric_set(g->replay, s->origin.replay_seconds);
    tl_metric_set(g->folded, (double)c.folded);
    tl_metric_set(g->lost, (double)c.lost);
    tl_metric_set(g->duplicated, (double)c.duplicated);
    tl_metric_set(g->stale, (double)c.stale);
    tl_metric_set(g->late, (double)c.late);
    tl_metric_set(g->nonfinite, (double)c.nonfinite);
    tl_metric_set(g->missing, (double)c.missing);
    tl_metric_set(g->active, (double)tl_fold_active_workers(s->fold));
    tl_metric_set(g->connections, (double)stats.connections_open);
    tl_metric_set(g->accepted, (double)stats.connections);
    tl_metric_set(g->rejected, (double)stats.connections_refused);
    tl_metric_set(g->strangers, (double)stats.strangers_open);
    tl_metric_set(g->dropped, (double)stats.strangers_dropped);
    tl_metric_set(g->auth_failures, (double)stats.auth_failures);
    tl_metric_set(g->frames, (double)stats.frames);
    tl_metric_set(g->bad_frames, (double)stats.bad_frames);
    tl_metric_set(g->pushes, (double)stats.pushes);
    tl_metric_set(g->pulls, (double)stats.pulls);
    tl_metric_set(g->snapshots, (double)stats.snapshots);
    tl_metric_set(g->received, (double)stats.bytes_received);
    tl_metric_set(g->sent, (double)stats.bytes_sent);
    tl_metric_set(g->stall, stats.fold_stall_seconds_max);
    if (s->member != NULL) {
        uint64_t commands = 0;
        uint64_t failures = 0;
        tl_member_stats(s->member, &commands, &failures);
        tl_metric_set(g->redis, tl_member_is_connected(s->member) ? 1.0 : 0.0);
        tl_metric_set(g->redis_failures, (double)failures);
    }
}
