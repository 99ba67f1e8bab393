/* gauges.c - what /metrics says of the monitor: the model's quality. */
#include "monitor.h"

struct monitor_gauges {
    struct tl_metric *accuracy, *loss, *version, *examples, *seconds, *evaluations;
};

int monitor_gauges_new(struct monitor_gauges **ret_gauges) {
    static struct monitor_gauges g; /* metrics live as long as the process */
    g.accuracy = tl_metric_new(TL_GAUGE, "throughline_test_accuracy", NULL,
                               "Share of test examples classified rightly.", NULL, 0);
    g.loss = tl_metric_new(TL_GAUGE, "throughline_test_loss", NULL,
                           "Mean cross-entropy on the test examples.", NULL, 0);
    g.version = tl_metric_new(TL_GAUGE, "throughline_evaluated_version", NULL,
                              "Version of the weights evaluated last.", NULL, 0);
    g.examples = tl_metric_new(TL_GAUGE, "throughline_test_examples", NULL,
                               "Test examples in the last evaluation.", NULL, 0);
    g.seconds = tl_metric_new(TL_COUNTER, "throughline_evaluate_seconds_total", NULL,
                              "Time spent evaluating.", NULL, 0);
    g.evaluations = tl_metric_new(TL_COUNTER, "throughline_evaluations_total", NULL,
                                  "Evaluations made.", NULL, 0);
    if (g.accuracy == NULL || g.loss == NULL || g.version == NULL ||
        g.examples == NULL || g.seconds == NULL || g.evaluations == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for metrics");
    }
    *ret_gauges = &g;
    return 0;
}

void monitor_gauges_scored(struct monitor_gauges *g,
                           const struct monitor_score *score) {
    if (!score->known) {
        return;
    }
    tl_metric_set(g->accuracy, score->accuracy);
    tl_metric_set(g->loss, score->loss);
    tl_metric_set(g->version, (double)score->version);
    tl_metric_set(g->examples, (double)score->examples);
    if (score->seconds > 0.0) {
        tl_metric_add(g->seconds, score->seconds);
        tl_metric_add(g->evaluations, 1.0);
    }
}
