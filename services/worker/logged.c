/* logged.c - a durable log: opened, and weights to begin on while no server is there.
 */
#include "throughline/snapshot.h"

#include "worker.h"

static void log_skipped(void *ctx, const char *name, int error, const char *why) {
    (void)ctx;
    tl_log_line(TL_WARNING, "snapshot skipped", "snapshot", name, "error",
                tl_error_name(error), "why", why, NULL);
}

static int from_store(const struct worker *w, float *weights, uint64_t *ret_version) {
    struct tl_store *store = NULL;
    int rc = tl_store_open_existing(w->job.store, &w->job.s3, &store);
    if (rc == 0) {
        rc = tl_snapshot_weights_at(store, UINT64_MAX, tl_nn_parameters(w->example.nn),
                                    log_skipped, NULL, weights, ret_version);
        tl_store_close(store);
    }
    return rc;
}

/* The newest checkpoint, or what the job begins with. */
static int begin_weights(void *ctx, float *weights, uint64_t *ret_version) {
    const struct worker *w = ctx;
    int rc = from_store(w, weights, ret_version);
    if (rc == TL_E_NOTFOUND) {
        tl_nn_init(w->example.nn, w->job.seed, weights);
        *ret_version = 0;
        rc = 0;
    }
    if (rc == 0) {
        tl_log_line(TL_INFO, "no server: beginning on a checkpoint's weights",
                    "version", tl_text_u64(*ret_version), NULL);
    }
    return rc;
}

int worker_logged(struct worker *w, struct tl_client_config *config) {
    if (!tl_job_is_logged(&w->job)) {
        return 0;
    }
    config->parameters = tl_nn_parameters(w->example.nn);
    config->shards = w->job.shards;
    config->consistency = w->job.consistency;
    config->while_away =
        w->job.strategy == TL_STRATEGY_CHECKPOINT ? TL_AWAY_WAIT : w->job.while_away;
    config->local_rate = w->job.learning_rate;
    config->in_flight = w->job.log_in_flight;
    config->max_pending_updates = w->job.max_pending_updates;
    config->max_pending_bytes = w->job.max_pending_bytes;
    config->begin_weights = begin_weights;
    int rc = tl_log_open_job(&w->job, w->service.run, w->service.redis,
                             config->parameters, &w->log);
    config->log = w->log;
    return rc;
}
