/* baseline.c - --compute-only: what this machine computes when it talks to nobody.
 *
 * The same batches and the same code as in training, on the weights that the job starts
 * from; the reference for what a whole job's servers and network cost. */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>

/* Not counted: caches, page faults and OpenBLAS's buffers come into being in them. */
#define WARM_UP 10u

static int compute(struct worker *w, const float *weights, uint64_t first,
                   uint64_t count) {
    int rc = 0;
    for (uint64_t n = first; n < first + count && rc == 0; n++) {
        float loss = 0.0F;
        rc = tl_stop_requested()
                 ? tl_fail(TL_E_INTERRUPTED, "stopped")
                 : worker_example_gradient(&w->example, n, weights, &loss);
    }
    return rc;
}

static int measure(struct worker *w, const float *weights) {
    uint64_t count = w->options.compute_only;
    int rc = compute(w, weights, 1, WARM_UP);
    double begin = tl_now_seconds();
    if (rc == 0) {
        rc = compute(w, weights, 1 + WARM_UP, count);
    }
    if (rc == 0) {
        double seconds = tl_now_seconds() - begin;
        (void)printf("{\"gradients\": %llu, \"seconds\": %.3f, "
                     "\"gradients_per_second\": %.1f}\n",
                     (unsigned long long)count, seconds, (double)count / seconds);
    }
    return rc;
}

int worker_baseline(struct worker *w) {
    float *weights = calloc(tl_nn_parameters(w->example.nn), sizeof(*weights));
    if (weights == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the weights");
    }
    tl_nn_init(w->example.nn, w->job.seed, weights);
    int rc = measure(w, weights);
    free(weights);
    return rc;
}
