/* training.h - training without processes, for benchmarks: nn computes what workers
 * would, the fold applies it, in the order that the benchmark says.
 *
 * All of Fashion-MNIST and a model of examples/models; one seed gives one run. */
#ifndef THROUGHLINE_TESTS_TRAINING_H
#define THROUGHLINE_TESTS_TRAINING_H

#include "throughline/data.h"
#include "throughline/fold.h"
#include "throughline/nn.h"

#include "bench.h"

#include <jansson.h>
#include <math.h>

#define TRAINING_BATCH       32
#define TRAINING_EVALUATED   100 /* examples at once */
#define TRAINING_WORKERS_MAX 2

static inline void training_must(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

/* ---- data ------------------------------------------------------------------------ */

/* In $THROUGHLINE_FASHION_MNIST, datasets/fashion-mnist (datasets/fetch) or
 * ../shared/data/fashion-mnist. */
static inline bool training_find_data(char *ret_dir, size_t size) {
    const char *named = getenv("THROUGHLINE_FASHION_MNIST");
    const char *const places[] = {named, TL_SOURCE_DIR "/datasets/fashion-mnist",
                                  TL_SOURCE_DIR "/../shared/data/fashion-mnist"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[4096];
        if (places[i] == NULL) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/train-images-idx3-ubyte.gz", places[i]);
        if (access(path, R_OK) == 0) {
            (void)snprintf(ret_dir, size, "%s", places[i]);
            return true;
        }
    }
    return false;
}

static inline struct tl_dataset *training_load(const char *dir, const char *part) {
    char images[4200];
    char labels[4200];
    struct tl_dataset *set = NULL;
    (void)snprintf(images, sizeof(images), "%s/%s-images-idx3-ubyte.gz", dir, part);
    (void)snprintf(labels, sizeof(labels), "%s/%s-labels-idx1-ubyte.gz", dir, part);
    training_must(tl_dataset_load(images, labels, 10, &set));
    return set;
}

/* ---- a training ------------------------------------------------------------------ */

/* What a worker holds. */
struct training_worker {
    struct tl_feed *feed;
    float *weights;
    uint64_t read_version, sequence;
};

struct training {
    struct tl_nn *nn;
    const struct tl_dataset *train, *test;
    struct tl_fold *fold;
    struct training_worker workers[TRAINING_WORKERS_MAX];
    uint32_t worker_count;
    uint64_t seed;
    float *gradient, *inputs;
    uint32_t index[TRAINING_EVALUATED];
    uint8_t labels[TRAINING_EVALUATED];
};

static inline float *training_floats(size_t count) {
    float *values = calloc(count, sizeof(*values));
    if (values == NULL) {
        bench_die("out of memory");
    }
    return values;
}

/* Data and model; lives as long as the process. */
static inline void training_init(struct training *t, const char *dir,
                                 const char *model_name) {
    char file[4200];
    (void)snprintf(file, sizeof(file), TL_SOURCE_DIR "/examples/models/%s.json",
                   model_name);
    json_t *model = json_load_file(file, 0, NULL);
    *t = (struct training){.train = training_load(dir, "train"),
                           .test = training_load(dir, "t10k")};
    training_must(tl_nn_new(model, file, TRAINING_EVALUATED, &t->nn));
    t->gradient = training_floats(tl_nn_parameters(t->nn));
    t->inputs = training_floats(TRAINING_EVALUATED * tl_nn_inputs(t->nn));
    for (size_t w = 0; w < TRAINING_WORKERS_MAX; w++) {
        t->workers[w].weights = training_floats(tl_nn_parameters(t->nn));
    }
}

/* The worker pulls the present weights. */
static inline void training_read(struct training *t, uint32_t worker) {
    struct training_worker *w = &t->workers[worker];
    struct tl_view *view = NULL;
    float *to = w->weights;
    training_must(tl_fold_view(t->fold, &view));
    for (size_t i = 0; i < tl_view_blocks(view); i++) {
        size_t count = 0;
        const float *from = tl_view_block(view, i, &count);
        memcpy(to, from, count * sizeof(float));
        to += count;
    }
    w->read_version = tl_view_version(view);
    tl_view_release(view);
}

static inline void training_offer(struct training *t, struct tl_record r) {
    struct tl_fold_effect effect;
    r.position = tl_fold_position(t->fold) + 1;
    r.incarnation = 1;
    int rc = tl_fold_apply(t->fold, &r, &effect);
    if (rc != TL_E_STALE) { /* dropping is a policy too */
        training_must(rc);
    }
}

/* `config` says how to fold; the slice is the whole model. */
static inline void training_begin(struct training *t, struct tl_fold_config config,
                                  uint64_t seed, uint32_t workers) {
    config.shards = 1;
    config.count = tl_nn_parameters(t->nn);
    config.spare_copies = 1;
    t->seed = seed;
    t->worker_count = workers;
    tl_nn_init(t->nn, seed, t->workers[0].weights);
    training_must(tl_fold_new(&config, t->workers[0].weights, &t->fold));
    for (uint32_t w = 0; w < workers; w++) {
        struct training_worker *worker = &t->workers[w];
        training_offer(t, (struct tl_record){.kind = TL_RECORD_JOIN, .worker = w});
        training_must(tl_feed_new(tl_dataset_count(t->train), seed, w, workers,
                                  TRAINING_BATCH, &worker->feed));
        worker->sequence = 0;
        training_read(t, w);
    }
}

static inline void training_end(struct training *t) {
    for (uint32_t w = 0; w < t->worker_count; w++) {
        tl_feed_free(t->workers[w].feed);
    }
    tl_fold_free(t->fold);
}

static inline float training_norm(const struct training *t) {
    double sum = 0.0;
    for (size_t i = 0; i < tl_nn_parameters(t->nn); i++) {
        sum += (double)t->gradient[i] * (double)t->gradient[i];
    }
    return (float)sqrt(sum);
}

/* The worker computes its next gradient on what it holds, and it is folded. */
static inline void training_push(struct training *t, uint32_t worker) {
    struct training_worker *w = &t->workers[worker];
    uint64_t number = ++w->sequence;
    float loss = 0.0F;
    tl_feed_batch(w->feed, number, t->index);
    tl_dataset_gather(t->train, t->index, TRAINING_BATCH, t->inputs, t->labels);
    training_must(tl_nn_gradient(
        t->nn, w->weights, t->inputs, t->labels, TRAINING_BATCH,
        tl_random_mix(t->seed, number, 1 + worker), t->gradient, &loss, NULL));
    training_offer(t, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                         .worker = worker,
                                         .sequence = number,
                                         .read_version = w->read_version,
                                         .norm = training_norm(t),
                                         .values = t->gradient,
                                         .value_count = tl_nn_parameters(t->nn)});
}

/* Of what worker 0 holds, on the test set. */
static inline double training_accuracy(struct training *t) {
    uint64_t correct = 0;
    double loss = 0.0;
    size_t count = tl_dataset_count(t->test);
    for (size_t at = 0; at < count; at += TRAINING_EVALUATED) {
        size_t n = count - at < TRAINING_EVALUATED ? count - at : TRAINING_EVALUATED;
        for (size_t i = 0; i < n; i++) {
            t->index[i] = (uint32_t)(at + i);
        }
        tl_dataset_gather(t->test, t->index, n, t->inputs, t->labels);
        training_must(tl_nn_evaluate(t->nn, t->workers[0].weights, t->inputs, t->labels,
                                     n, &correct, &loss));
    }
    return (double)correct / (double)count;
}

#endif
