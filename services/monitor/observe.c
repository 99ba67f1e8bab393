/* observe.c - the newest weights, and what they score on the test set.
 *
 * Weights come over an observer's connections, which joins nothing and pushes nothing.
 * Calls are short: a dead server must not keep the monitor from seeing the rest. */
#include "monitor.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 1000u
#define REQUEST_MS  5000u
#define CHUNK       100u /* examples evaluated at once */

struct monitor_observer {
    const struct tl_job *job;
    struct tl_client *client;
    bool has_joined;
    struct tl_nn *nn;
    struct tl_dataset *set;
    uint32_t *index;
    float *inputs;
    uint8_t *labels;
    struct monitor_score score; /* of the weights scored last */
    uint64_t *versions;         /* of these weights, by shard */
    uint64_t reconnects;        /* of the client when they were pulled */
};

/* In the signal's handler: a call that waits for a server returns. */
static void interrupt_client(void *ctx) {
    tl_client_interrupt(ctx);
}

static int open_client(struct monitor_observer *o,
                       const struct tl_service_options *service, const char *servers) {
    uint64_t digest = 0;
    int rc = tl_job_digest(o->job, &digest);
    if (rc != 0) {
        return rc;
    }
    uint32_t request_ms =
        o->job->request_ms < REQUEST_MS ? o->job->request_ms : REQUEST_MS;
    struct tl_client_config config = {
        .servers = servers[0] != '\0' ? servers : NULL,
        .redis = strcmp(service->redis, "off") != 0 ? service->redis : NULL,
        .job = o->job->name,
        .run = service->run,
        .job_digest = digest,
        .secret_file = service->trust.secret,
        .tls_cert = service->trust.tls_cert,
        .tls_key = service->trust.tls_key,
        .tls_ca = service->trust.tls_ca,
        .observer = 1,
        .replicas =
            o->job->strategy == TL_STRATEGY_HYBRID ? tl_job_replicas(o->job) : 0,
        .patience_ms = PATIENCE_MS,
        .request_ms = request_ms,
        .no_unix_checksum = !o->job->unix_checksum,
    };
    rc = tl_client_open(&config, &o->client);
    if (rc == 0) {
        tl_stop_hook(interrupt_client, o->client);
    }
    return rc;
}

static int load(struct monitor_observer *o) {
    int rc = tl_nn_new(o->job->model, o->job->model_source, CHUNK, &o->nn);
    if (rc == 0) {
        rc = tl_dataset_load(o->job->test_images, o->job->test_labels,
                             tl_nn_classes(o->nn), &o->set);
    }
    if (rc == 0 && tl_dataset_inputs(o->set) != tl_nn_inputs(o->nn)) {
        rc = tl_fail(
            TL_E_CONFIG, "%s: images of %zu values, but the model's \"input\" has %zu",
            o->job->test_images, tl_dataset_inputs(o->set), tl_nn_inputs(o->nn));
    }
    return rc;
}

static int allocate(struct monitor_observer *o) {
    o->index = calloc(CHUNK, sizeof(*o->index));
    o->inputs = calloc(CHUNK * tl_nn_inputs(o->nn), sizeof(*o->inputs));
    o->labels = calloc(CHUNK, sizeof(*o->labels));
    o->versions = calloc(o->job->shards, sizeof(*o->versions));
    bool ok = o->index != NULL && o->inputs != NULL && o->labels != NULL &&
              o->versions != NULL;
    return ok ? 0 : tl_fail(TL_E_NOMEM, "no memory to evaluate with");
}

int monitor_observer_new(const struct tl_job *job,
                         const struct tl_service_options *service, const char *servers,
                         struct monitor_observer **ret_observer) {
    struct monitor_observer *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to observe with");
    }
    o->job = job;
    int rc = load(o);
    if (rc == 0) {
        rc = allocate(o);
    }
    if (rc == 0) {
        rc = open_client(o, service, servers);
    }
    if (rc != 0) {
        monitor_observer_free(o);
        return rc;
    }
    *ret_observer = o;
    return 0;
}

void monitor_observer_free(struct monitor_observer *o) {
    if (o == NULL) {
        return;
    }
    tl_stop_hook(NULL, NULL);
    tl_client_free(o->client);
    tl_nn_free(o->nn);
    tl_dataset_free(o->set);
    free(o->index);
    free(o->inputs);
    free(o->labels);
    free(o->versions);
    free(o);
}

uint64_t monitor_observer_parameters(const struct monitor_observer *o) {
    return tl_nn_parameters(o->nn);
}

static int join(struct monitor_observer *o) {
    struct tl_client_join joined;
    int rc = tl_client_join(o->client, &joined);
    if (rc != 0) {
        return rc;
    }
    if (joined.parameters != tl_nn_parameters(o->nn)) {
        return tl_fail(TL_E_MISMATCH,
                       "the servers hold %llu parameters, this job's model has %llu: "
                       "give both the same job file",
                       (unsigned long long)joined.parameters,
                       (unsigned long long)tl_nn_parameters(o->nn));
    }
    o->has_joined = true;
    return 0;
}

/* Weights of the same versions are the same, unless a server was replaced meanwhile:
 * a new one may count to the same version by another way. */
static bool is_scored(const struct monitor_observer *o, uint64_t examples) {
    struct tl_client_stats stats;
    tl_client_stats(o->client, &stats);
    if (!o->score.known || o->score.examples != examples ||
        stats.reconnects != o->reconnects) {
        return false;
    }
    for (uint32_t s = 0; s < o->job->shards; s++) {
        if (o->versions[s] != tl_client_shard_version(o->client, s)) {
            return false;
        }
    }
    return true;
}

static void remember(struct monitor_observer *o, const struct monitor_score *score) {
    struct tl_client_stats stats;
    tl_client_stats(o->client, &stats);
    o->reconnects = stats.reconnects;
    for (uint32_t s = 0; s < o->job->shards; s++) {
        o->versions[s] = tl_client_shard_version(o->client, s);
    }
    o->score = *score;
}

static int evaluate_chunk(struct monitor_observer *o, uint64_t first, size_t n,
                          uint64_t *correct, double *loss_sum) {
    for (size_t i = 0; i < n; i++) {
        o->index[i] = (uint32_t)(first + i);
    }
    tl_dataset_gather(o->set, o->index, n, o->inputs, o->labels);
    return tl_nn_evaluate(o->nn, tl_client_weights(o->client), o->inputs, o->labels, n,
                          correct, loss_sum);
}

static int evaluate(struct monitor_observer *o, uint64_t examples,
                    const struct monitor_pause *pause, struct monitor_score *score) {
    double begin = tl_now_seconds();
    uint64_t correct = 0;
    double loss_sum = 0.0;
    for (uint64_t first = 0; first < examples; first += CHUNK) {
        uint64_t left = examples - first;
        if (!pause->proceed(pause->ctx)) {
            return tl_fail(TL_E_INTERRUPTED, "the evaluation was given up");
        }
        int rc = evaluate_chunk(o, first, left < CHUNK ? (size_t)left : CHUNK, &correct,
                                &loss_sum);
        if (rc != 0) {
            return rc;
        }
    }
    score->accuracy = (double)correct / (double)examples;
    score->loss = loss_sum / (double)examples;
    score->examples = examples;
    score->seconds = tl_now_seconds() - begin;
    score->version = tl_client_version(o->client);
    score->known = true;
    return 0;
}

/* Score what the client holds, unless that has been done. */
static int score_held(struct monitor_observer *o, uint64_t examples,
                      const struct monitor_pause *pause,
                      struct monitor_score *ret_score) {
    struct monitor_score score = o->score;
    if (is_scored(o, examples)) {
        score.seconds = 0.0;
    } else {
        int rc = evaluate(o, examples, pause, &score);
        if (rc != 0) {
            return rc;
        }
        remember(o, &score);
    }
    *ret_score = score;
    return 0;
}

int monitor_observe(struct monitor_observer *o, bool whole,
                    const struct monitor_pause *pause,
                    struct monitor_score *ret_score) {
    *ret_score = (struct monitor_score){0};
    uint64_t examples = tl_dataset_count(o->set);
    if (!whole && o->job->evaluate_examples > 0 &&
        o->job->evaluate_examples < examples) {
        examples = o->job->evaluate_examples;
    }
    int pulled = o->has_joined ? tl_client_pull(o->client, false) : join(o);
    double pulled_at = tl_now_seconds();
    bool has_weights = o->has_joined && (pulled == 0 || pulled == TL_E_ENDED);
    int rc = has_weights ? score_held(o, examples, pause, ret_score) : 0;
    ret_score->pulled_at = pulled_at;
    return rc != 0 ? rc : pulled;
}
