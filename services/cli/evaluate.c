/* evaluate.c - `throughline evaluate`: what a job's weights score on its test set.
 *
 * The weights are those that the servers have now, or those of the newest checkpoint.
 */
#include "evaluate.h"

#include "throughline/client.h"
#include "throughline/data.h"
#include "throughline/job.h"
#include "throughline/nn.h"
#include "throughline/service.h"
#include "throughline/snapshot.h"

#include "cli.h"
#include "flags.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK 100u /* examples evaluated at once */

struct options {
    char servers[TL_PATH_MAX];
    char redis[TL_PATH_MAX];
    char run[TL_NAME_MAX];
    char store[TL_PATH_MAX];
    struct tl_trust_files trust;
    uint32_t patience_ms;
    bool json;
};

static const struct tl_option rows[] = {
    {.name = "servers",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, servers),
     .size = sizeof(((struct options *)0)->servers),
     .fallback = "",
     .doc = "Ask these servers, one address for each shard, separated by commas."},
    {.name = "redis",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, redis),
     .size = sizeof(((struct options *)0)->redis),
     .fallback = "",
     .url = true,
     .doc = "Ask the servers that this Redis knows; with a password: --redis-file."},
    {.name = "run",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, run),
     .size = sizeof(((struct options *)0)->run),
     .fallback = "default",
     .doc = "Name of the run, with --redis."},
    {.name = "store",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, store),
     .size = sizeof(((struct options *)0)->store),
     .fallback = "",
     .doc =
         "Take the newest checkpoint of this store; the job's own store when neither "
         "--servers nor --redis is given."},
    {.name = "patience_ms",
     .type = TL_OPT_U32,
     .offset = offsetof(struct options, patience_ms),
     .fallback = "10000",
     .min = 100,
     .max = 3600000,
     .unit = "ms",
     .doc = "How long to wait for servers."},
    {.name = "json",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .fallback = "false",
     .doc = "Print a JSON object."},
};
const struct tl_option_table tl_evaluate_table = {rows, sizeof(rows) / sizeof(rows[0])};

/* A model, the weights to evaluate and the examples to evaluate them on. */
struct exam {
    struct options options;
    struct tl_job job;
    struct tl_nn *nn;
    struct tl_dataset *set;
    float *weights;
    uint64_t version;
    double accuracy, loss;
};

/* ---- arguments ---------------------------------------------------------------- */

/* One pass: fills `options` and `job`, and finds the job file's argument. */
static int read_arguments(int argc, char **argv, struct options *options,
                          struct tl_job *job, const char **ret_file) {
    const struct tl_flag_target targets[] = {{&tl_evaluate_table, options},
                                             {&tl_trust_table, &options->trust},
                                             {&tl_job_table, job}};
    int rc = tl_config_defaults(&tl_evaluate_table, options);
    rc = rc == 0 ? tl_config_defaults(&tl_trust_table, &options->trust) : rc;
    rc = rc == 0 ? tl_config_environment(&tl_trust_table, &options->trust) : rc;
    *ret_file = NULL;
    for (int i = 1; i < argc && rc == 0;) {
        int taken = tl_flags_take(targets, 3, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0 && *ret_file) {
            rc = tl_fail(TL_E_CONFIG, "two job files: %s and %s", *ret_file, argv[i]);
        } else if (taken == 0) {
            *ret_file = argv[i];
            taken = 1;
        }
        i += taken;
    }
    if (rc == 0 && !*ret_file) {
        rc = tl_fail(TL_E_CONFIG,
                     "which job? throughline evaluate JOB.json; see --help");
    }
    return rc;
}

/* As for `throughline run`: once to find the file, once to lay the flags on top. */
static int read_job(int argc, char **argv, struct options *options,
                    struct tl_job *ret_job) {
    const char *file;
    struct tl_job scratch;
    int rc = tl_config_defaults(&tl_job_table, &scratch);
    if (rc == 0) {
        rc = read_arguments(argc, argv, options, &scratch, &file);
        tl_job_done(&scratch);
    }
    rc = rc == 0 ? tl_job_load(file, ret_job) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = read_arguments(argc, argv, options, ret_job, &file);
    rc = rc == 0 ? tl_config_complete(&tl_job_table, ret_job) : rc;
    if (rc != 0) {
        tl_job_done(ret_job);
    }
    return rc;
}

/* ---- weights ------------------------------------------------------------------ */

static int weights_from_servers(struct exam *e) {
    const struct tl_client_config config = {
        .servers = e->options.servers[0] != '\0' ? e->options.servers : NULL,
        .redis = e->options.redis[0] != '\0' ? e->options.redis : NULL,
        .job = e->job.name,
        .run = e->options.run,
        .secret_file = e->options.trust.secret,
        .tls_cert = e->options.trust.tls_cert,
        .tls_key = e->options.trust.tls_key,
        .tls_ca = e->options.trust.tls_ca,
        .observer = 1,
        .patience_ms = e->options.patience_ms,
        .request_ms = e->job.request_ms,
    };
    struct tl_client *client;
    struct tl_client_join joined;
    int rc = tl_client_open(&config, &client);
    if (rc != 0) {
        return rc;
    }
    rc = tl_client_join(client, &joined);
    if (rc == 0 && joined.parameters != tl_nn_parameters(e->nn)) {
        rc = tl_fail(TL_E_MISMATCH,
                     "the servers have %" PRIu64 " parameters, the model %" PRIu64,
                     joined.parameters, tl_nn_parameters(e->nn));
    }
    if (rc == 0) {
        const float *weights = tl_client_weights(client);
        for (uint64_t i = 0; i < joined.parameters; i++) {
            e->weights[i] = weights[i];
        }
        e->version = tl_client_version(client);
    }
    tl_client_free(client);
    return rc;
}

static int weights_from_store(struct exam *e) {
    const char *url = e->options.store[0] != '\0' ? e->options.store : e->job.store;
    struct tl_store *store;
    if (url[0] == '\0') {
        return tl_fail(TL_E_CONFIG,
                       "whose weights? give --servers, --redis or --store");
    }
    int rc = tl_store_open(url, &e->job.s3, &store);
    if (rc == 0) {
        tl_store_listen(store, tl_flags_tell, NULL);
        rc = tl_snapshot_weights(store, tl_nn_parameters(e->nn), e->weights,
                                 &e->version);
        tl_store_close(store);
    }
    return rc;
}

static int load_weights(struct exam *e) {
    e->weights = calloc(tl_nn_parameters(e->nn), sizeof(*e->weights));
    if (!e->weights) {
        return tl_fail(TL_E_NOMEM, "no memory for %" PRIu64 " parameters",
                       tl_nn_parameters(e->nn));
    }
    bool live = e->options.servers[0] != '\0' || e->options.redis[0] != '\0';
    return live ? weights_from_servers(e) : weights_from_store(e);
}

/* ---- evaluation --------------------------------------------------------------- */

static int load_model(struct exam *e) {
    int rc = tl_nn_new(e->job.model, e->job.model_source, CHUNK, &e->nn);
    rc = rc == 0 ? tl_dataset_load(e->job.test_images, e->job.test_labels,
                                   tl_nn_classes(e->nn), &e->set)
                 : rc;
    if (rc == 0 && tl_dataset_inputs(e->set) != tl_nn_inputs(e->nn)) {
        rc = tl_fail(
            TL_E_CONFIG, "%s: images of %zu values, but the model's \"input\" has %zu",
            e->job.test_images, tl_dataset_inputs(e->set), tl_nn_inputs(e->nn));
    }
    return rc;
}

static int evaluate_all(struct exam *e, float *inputs) {
    uint32_t index[CHUNK];
    uint8_t labels[CHUNK];
    uint64_t correct = 0;
    double loss = 0;
    size_t count = tl_dataset_count(e->set);
    int rc = 0;
    for (size_t first = 0; first < count && rc == 0; first += CHUNK) {
        size_t n = count - first < CHUNK ? count - first : CHUNK;
        for (size_t i = 0; i < n; i++) {
            index[i] = (uint32_t)(first + i);
        }
        tl_dataset_gather(e->set, index, n, inputs, labels);
        rc = tl_nn_evaluate(e->nn, e->weights, inputs, labels, n, &correct, &loss);
    }
    e->accuracy = (double)correct / (double)count;
    e->loss = loss / (double)count;
    return rc;
}

static int evaluate(struct exam *e) {
    int rc = load_model(e);
    rc = rc == 0 ? load_weights(e) : rc;
    if (rc != 0) {
        return rc;
    }
    float *inputs = calloc(CHUNK * tl_nn_inputs(e->nn), sizeof(*inputs));
    rc = inputs ? evaluate_all(e, inputs) : tl_fail(TL_E_NOMEM, "no memory for images");
    free(inputs);
    return rc;
}

static void print_result(const struct exam *e) {
    if (e->options.json) {
        (void)printf("{\"accuracy\": %.6f, \"loss\": %.6f, \"version\": %" PRIu64
                     ", \"examples\": %zu}\n",
                     e->accuracy, e->loss, e->version, tl_dataset_count(e->set));
    } else {
        (void)printf("accuracy %.4f  loss %.4f  version %" PRIu64 "  on %zu examples\n",
                     e->accuracy, e->loss, e->version, tl_dataset_count(e->set));
    }
}

int tl_cli_evaluate(int argc, char **argv) {
    static struct exam exam;
    if (tl_flags_want_help(argc, argv)) {
        (void)puts(
            "usage: throughline evaluate JOB.json [flags]\n\n"
            "Evaluates the servers' present weights, or the newest checkpoint, on "
            "the job's test\nset.\n");
        tl_config_help(&tl_evaluate_table, stdout);
        tl_config_help(&tl_trust_table, stdout);
        return TL_EXIT_OK;
    }
    int rc = read_job(argc, argv, &exam.options, &exam.job);
    if (rc != 0) {
        return tl_flags_fail("evaluate", rc);
    }
    rc = evaluate(&exam);
    if (rc == 0) {
        print_result(&exam);
    }
    free(exam.weights);
    tl_dataset_free(exam.set);
    tl_nn_free(exam.nn);
    tl_job_done(&exam.job);
    return rc == 0 ? TL_EXIT_OK : tl_flags_fail("evaluate", rc);
}
