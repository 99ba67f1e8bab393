/* trainer.c - somebody else's trainer as a Throughline worker: logistic regression.
 *
 *   cc trainer.c $(pkg-config --cflags --libs throughline) -lm -o trainer
 *   ./trainer tcp://127.0.0.1:7000 0        (the servers' addresses, worker number)
 *   ./trainer tcp://10.0.0.1:7000 0 worker.key my-job default
 *                                           (a job with a secret: file, job, run)
 *
 * The model is as large as the servers say: n weights of a linear classifier. Kill a
 * server, or this program, and start it again: training goes on where it was. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <throughline/client.h>

#define BATCH 32

/* A uniform number in [-1, 1), the same for the same seed on every machine. */
static float uniform(uint64_t *seed) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) / (float)(1 << 23) - 1.0f;
}

/* Gradient `g` and mean loss of batch `number`. Its examples follow from the number;
 * one is positive when its first half outweighs its second. `x` has room for an
 * example. */
static float gradient_of(uint64_t number, const float *w, float *g, float *x,
                         size_t n) {
    float loss = 0;
    for (size_t i = 0; i < n; i++) {
        g[i] = 0;
    }
    for (int example = 0; example < BATCH; example++) {
        float balance = 0;
        float score = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = uniform(&number);
            balance += i < n / 2 ? x[i] : -x[i];
            score += w[i] * x[i];
        }
        float label = balance > 0 ? 1.0f : 0.0f;
        float error = 1.0f / (1.0f + expf(-score)) - label;
        loss += logf(1.0f + expf(label > 0 ? -score : score)) / BATCH;
        for (size_t i = 0; i < n; i++) {
            g[i] += error * x[i] / BATCH;
        }
    }
    return loss;
}

static int train(struct tl_client *client) {
    struct tl_client_join joined;
    int rc = tl_client_join(client, &joined);
    if (rc != 0) {
        return rc;
    }
    size_t n = joined.parameters;
    float *g = malloc(2 * n * sizeof(*g));
    for (uint64_t batch = joined.next_sequence; g != NULL && rc == 0; batch++) {
        float loss = gradient_of(batch, tl_client_weights(client), g, g + n, n);
        if (batch % 100 == 1) {
            printf("batch %llu: loss %.4f\n", (unsigned long long)batch, (double)loss);
        }
        rc = tl_client_push_pull(client, batch, g, NULL);
    }
    free(g);
    return rc;
}

int main(int argc, char **argv) {
    struct tl_client *client = NULL;
    const struct tl_client_config config = {
        .servers = argc > 1 ? argv[1] : NULL,
        .worker = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0,
        .secret_file = argc > 3 ? argv[3] : NULL,
        .job = argc > 4 ? argv[4] : NULL,
        .run = argc > 5 ? argv[5] : NULL,
    };
    int rc = tl_client_open(&config, &client);
    if (rc == 0) {
        rc = train(client);
    }
    if (rc != TL_E_ENDED) {
        fprintf(stderr, "trainer: %s\n", tl_error_text());
    } else {
        rc = tl_client_leave(client);
    }
    tl_client_free(client);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
