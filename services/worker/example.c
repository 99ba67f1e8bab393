/* example.c - batch number n of this worker becomes a gradient.
 *
 * Everything is loaded and allocated here once; a gradient then allocates nothing. What
 * batch n is depends on the job's seed, the worker's number and n alone. */
#include "worker.h"

#include <stdlib.h>
#include <string.h>

static int check_fit(const struct worker_example *e, const struct tl_job *job) {
    size_t has = tl_dataset_inputs(e->set);
    size_t wants = tl_nn_inputs(e->nn);
    if (has != wants) {
        return tl_fail(TL_E_CONFIG,
                       "%s: images of %zu values, but the model's \"input\" has %zu",
                       job->train_images, has, wants);
    }
    return 0;
}

static int allocate(struct worker_example *e) {
    e->index = calloc(e->batch, sizeof(*e->index));
    e->inputs = calloc(e->batch * tl_nn_inputs(e->nn), sizeof(*e->inputs));
    e->labels = calloc(e->batch, sizeof(*e->labels));
    e->gradient = calloc(tl_nn_parameters(e->nn), sizeof(*e->gradient));
    if (e->index == NULL || e->inputs == NULL || e->labels == NULL ||
        e->gradient == NULL) {
        return tl_fail(TL_E_NOMEM,
                       "no memory for batches of %zu and a gradient of %llu", e->batch,
                       (unsigned long long)tl_nn_parameters(e->nn));
    }
    return 0;
}

int worker_example_init(struct worker_example *e, const struct tl_job *job,
                        uint32_t worker) {
    *e = (struct worker_example){
        .batch = job->batch,
        .seed = tl_random_mix(job->seed, worker, 2),
    };
    int rc = tl_nn_new(job->model, job->model_source, e->batch, &e->nn);
    if (rc == 0) {
        rc = tl_dataset_load(job->train_images, job->train_labels, tl_nn_classes(e->nn),
                             &e->set);
    }
    if (rc == 0) {
        rc = check_fit(e, job);
    }
    if (rc == 0) {
        rc = tl_feed_new(tl_dataset_count(e->set), job->seed, worker, job->workers,
                         e->batch, &e->feed);
    }
    return rc == 0 ? allocate(e) : rc;
}

void worker_example_done(struct worker_example *e) {
    tl_nn_free(e->nn);
    tl_dataset_free(e->set);
    tl_feed_free(e->feed);
    free(e->index);
    free(e->inputs);
    free(e->labels);
    free(e->gradient);
    memset(e, 0, sizeof(*e));
}

int worker_example_gradient(struct worker_example *e, uint64_t sequence,
                            const float *weights, float *ret_loss) {
    tl_feed_batch(e->feed, sequence, e->index);
    tl_dataset_gather(e->set, e->index, e->batch, e->inputs, e->labels);
    return tl_nn_gradient(e->nn, weights, e->inputs, e->labels, e->batch,
                          tl_random_mix(e->seed, sequence, 0), e->gradient, ret_loss,
                          NULL);
}
