/* recover.c - the state to start from: the newest valid snapshot, else the job's seed.
 */
#include "throughline/nn.h"
#include "throughline/snapshot.h"

#include "server.h"

#include <stdio.h>
#include <stdlib.h>

static void log_skipped(void *ctx, const char *name, int error, const char *why) {
    (void)ctx;
    tl_log_line(TL_WARNING, "snapshot skipped", "snapshot", name, "error",
                tl_error_name(error), "why", why, NULL);
}

static int fold_from_seed(const struct server *s, const struct tl_nn *nn,
                          const struct tl_fold_config *config,
                          struct tl_fold **ret_fold) {
    float *weights = malloc(s->parameters * sizeof(float));
    if (weights == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for %llu parameters",
                       (unsigned long long)s->parameters);
    }
    tl_nn_init(nn, s->job.seed, weights);
    int rc = tl_fold_new(config, weights + config->first, ret_fold);
    free(weights);
    return rc;
}

int server_fresh_fold(const struct server *s, struct tl_fold **ret_fold) {
    struct tl_fold_config config;
    struct tl_nn *nn = NULL;
    int rc = tl_nn_new(s->job.model, s->job.model_source, 1, &nn);
    if (rc == 0) {
        tl_job_fold_config(&s->job, s->parameters, s->service.index, &config);
        rc = fold_from_seed(s, nn, &config, ret_fold);
        tl_nn_free(nn);
    }
    return rc;
}

/* The newest epoch that any manifest shows, valid or not: never to be given out again.
 */
static int newest_manifest_epoch(struct tl_store *store, uint32_t shard,
                                 uint64_t *ret) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int rc = tl_snapshot_list(store, shard, &list, &count);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        *ret = list[i].epoch > *ret ? list[i].epoch : *ret;
    }
    tl_manifests_free(list, count);
    return 0;
}

static void log_notice(void *ctx, const char *text) {
    (void)ctx;
    tl_log_line(TL_WARNING, "store", "why", text, NULL);
}

/* On a signal: loading from a store far away may take long. */
static void cancel(void *ctx) {
    tl_store_cancel(ctx);
}

static int load_snapshot(struct server *s, const struct tl_fold_config *config) {
    struct tl_store *store = NULL;
    uint64_t digest = 0;
    int rc = tl_job_fold_digest(&s->job, &digest);
    if (rc == 0) {
        rc = tl_store_open(s->job.store, &s->job.s3, &store);
    }
    if (rc != 0) {
        return rc;
    }
    tl_store_listen(store, log_notice, NULL);
    tl_stop_hook(cancel, store);
    struct tl_manifest expected = {
        .fold_digest = digest,
        .shard = config->shard,
        .shards = config->shards,
        .first = config->first,
        .count = config->count,
        .parameters = s->parameters,
    };
    (void)snprintf(expected.job, sizeof(expected.job), "%s", s->job.name);
    (void)snprintf(expected.run, sizeof(expected.run), "%s", s->service.run);
    struct tl_manifest found = {0};
    rc = newest_manifest_epoch(store, config->shard, &s->origin.epoch_floor);
    if (rc == 0) {
        rc = tl_snapshot_load(store, &expected, config, log_skipped, NULL, &s->fold,
                              &found);
    }
    if (rc == 0) {
        s->origin.from_snapshot = true;
        tl_manifest_done(&found);
    }
    tl_stop_hook(NULL, NULL);
    tl_store_close(store);
    return rc;
}

int server_recover(struct server *s) {
    const double began = tl_now_seconds();
    struct tl_nn *nn = NULL;
    int rc = tl_nn_new(s->job.model, s->job.model_source, 1, &nn);
    if (rc != 0) {
        return rc;
    }
    s->parameters = tl_nn_parameters(nn);
    if (s->service.index >= s->job.shards) {
        tl_nn_free(nn);
        return tl_fail(TL_E_CONFIG, "index %u: the job has %u shards", s->service.index,
                       s->job.shards);
    }
    if (s->job.shards > s->parameters) {
        tl_nn_free(nn);
        return tl_fail(TL_E_CONFIG, "shards %u: the model has only %llu parameters",
                       s->job.shards, (unsigned long long)s->parameters);
    }
    struct tl_fold_config config;
    tl_job_fold_config(&s->job, s->parameters, s->service.index, &config);
    rc = TL_E_NOTFOUND;
    if (tl_job_has_store(&s->job)) {
        rc = load_snapshot(s, &config);
    }
    if (rc == TL_E_NOTFOUND) {
        rc = fold_from_seed(s, nn, &config, &s->fold);
    }
    tl_nn_free(nn);
    if (rc == 0) {
        s->origin.load_seconds = tl_now_seconds() - began;
        s->origin.version = tl_fold_version(s->fold);
        s->origin.position = tl_fold_position(s->fold);
        if (tl_fold_epoch(s->fold) > s->origin.epoch_floor) {
            s->origin.epoch_floor = tl_fold_epoch(s->fold);
        }
    }
    return rc;
}
