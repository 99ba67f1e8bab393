/* gauges.c - what /metrics says of a worker. */
#include "worker.h"

/* X(field, type, name, help) */
#define GAUGES(X)                                                                      \
    X(computed, TL_COUNTER, "throughline_gradients_computed_total",                    \
      "Gradients computed.")                                                           \
    X(compute, TL_COUNTER, "throughline_worker_compute_seconds_total",                 \
      "Time spent on gradients.")                                                      \
    X(loss, TL_GAUGE, "throughline_batch_loss", "Mean loss of the last batch.")        \
    X(acknowledged, TL_COUNTER, "throughline_gradients_acknowledged_total",            \
      "Gradients that every shard has acknowledged.")                                  \
    X(resent, TL_COUNTER, "throughline_gradients_resent_total",                        \
      "Gradient slices sent more than once.")                                          \
    X(refused, TL_COUNTER, "throughline_gradients_refused_total",                      \
      "Gradients that a shard refused: stale, late, not finite, after the end.")       \
    X(reconnects, TL_COUNTER, "throughline_reconnects_total",                          \
      "Connections made to a server again.")                                           \
    X(wait, TL_COUNTER, "throughline_worker_wait_seconds_total",                       \
      "Time spent waiting for servers and the network.")                               \
    X(sent, TL_COUNTER, "throughline_sent_bytes_total", "Bytes sent.")                 \
    X(received, TL_COUNTER, "throughline_received_bytes_total", "Bytes received.")

struct worker_gauges {
#define FIELD(field, type, name, help) struct tl_metric *field;
    GAUGES(FIELD)
#undef FIELD
};

int worker_gauges_new(struct worker_gauges **ret_gauges) {
    static struct worker_gauges g; /* metrics live as long as the process */
    bool ok = true;
#define REGISTER(field, type, name, help)                                              \
    g.field = tl_metric_new(type, name, NULL, help, NULL, 0);                          \
    ok = ok && g.field != NULL;
    GAUGES(REGISTER)
#undef REGISTER
    if (!ok) {
        return tl_fail(TL_E_NOMEM, "no memory for metrics");
    }
    *ret_gauges = &g;
    return 0;
}

void worker_gauges_computed(struct worker_gauges *g, double seconds, float loss) {
    tl_metric_add(g->computed, 1.0);
    tl_metric_add(g->compute, seconds);
    tl_metric_set(g->loss, (double)loss);
}

void worker_gauges_exchanged(struct worker_gauges *g, const struct tl_client *client) {
    struct tl_client_stats s;
    tl_client_stats(client, &s);
    tl_metric_set(g->acknowledged, (double)s.acknowledged);
    tl_metric_set(g->resent, (double)s.resent);
    tl_metric_set(g->refused, (double)s.refused);
    tl_metric_set(g->reconnects, (double)s.reconnects);
    tl_metric_set(g->wait, s.waited_seconds);
    tl_metric_set(g->sent, (double)s.bytes_sent);
    tl_metric_set(g->received, (double)s.bytes_received);
}
