/* feed.c - which examples each batch of each worker has.
 *
 * A worker's batches are a pure function of (seed, worker, workers, sequence), so a
 * worker that was killed goes on at any sequence, and whoever computes a batch computes
 * the same one. An epoch's permutation is made when a batch first needs it; two are
 * kept, since a batch may begin in one epoch and end in the next. */
#include "throughline/data.h"

#include <assert.h>
#include <stdlib.h>

#define NO_EPOCH UINT64_MAX

struct order {
    uint64_t epoch;
    uint32_t *index; /* [examples] */
};

struct tl_feed {
    uint64_t seed;
    uint32_t examples;
    uint32_t first;  /* of this worker's places in a permutation */
    uint32_t stride; /* between them: the number of workers */
    uint32_t share;  /* this worker's examples in an epoch */
    size_t batch;
    struct order orders[2]; /* of even and odd epochs */
};

/* Below `n`; uneven by less than n in 2^32, which no training notices. */
static uint32_t random_below(uint64_t *state, uint32_t n) {
    return (uint32_t)((tl_random_next(state) >> 32) * n >> 32);
}

/* Fisher and Yates's shuffle of all examples, the same for every worker. */
static void shuffle(const struct tl_feed *f, struct order *o, uint64_t epoch) {
    uint64_t random = tl_random_mix(f->seed, epoch, 0);
    for (uint32_t i = 0; i < f->examples; i++) {
        uint32_t k = random_below(&random, i + 1);
        o->index[i] = o->index[k];
        o->index[k] = i;
    }
    o->epoch = epoch;
}

static const uint32_t *order_of(struct tl_feed *f, uint64_t epoch) {
    struct order *o = &f->orders[epoch % 2];
    if (o->epoch != epoch) {
        shuffle(f, o, epoch);
    }
    return o->index;
}

static int check(size_t examples, uint32_t workers, size_t batch) {
    if (workers == 0 || batch == 0 || examples > INT32_MAX) {
        return tl_fail(TL_E_INVALID,
                       "feed: %zu examples, %u workers, batches of %zu: each must be "
                       "at least 1, examples at most 2^31 - 1",
                       examples, workers, batch);
    }
    if (examples < workers) {
        return tl_fail(TL_E_CONFIG,
                       "workers: %u share %zu examples: use at most one worker each",
                       workers, examples);
    }
    return 0;
}

int tl_feed_new(size_t examples, uint64_t seed, uint32_t worker, uint32_t workers,
                size_t batch, struct tl_feed **ret_feed) {
    int rc = check(examples, workers, batch);
    if (rc != 0) {
        return rc;
    }
    struct tl_feed *f = calloc(1, sizeof(*f));
    uint32_t *index = calloc(2 * examples, sizeof(*index));
    if (f == NULL || index == NULL) {
        free(f);
        free(index);
        return tl_fail(TL_E_NOMEM, "feed: no memory to order %zu examples", examples);
    }
    /* The first `workers` numbers divide an epoch among them; each later one walks
     * through one of these shares again, in an order of its own. */
    uint32_t round = worker / workers;
    f->seed = round == 0 ? seed : tl_random_mix(seed, round, 1);
    f->examples = (uint32_t)examples;
    f->first = worker % workers;
    f->stride = workers;
    f->share = (f->examples - f->first + workers - 1) / workers;
    f->batch = batch;
    f->orders[0] = (struct order){NO_EPOCH, index};
    f->orders[1] = (struct order){NO_EPOCH, index + examples};
    *ret_feed = f;
    return 0;
}

void tl_feed_free(struct tl_feed *f) {
    if (f != NULL) {
        free(f->orders[0].index);
        free(f);
    }
}

void tl_feed_batch(struct tl_feed *f, uint64_t sequence, uint32_t *ret_index) {
    assert(sequence >= 1);
    uint64_t at = (sequence - 1) * f->batch;
    for (size_t i = 0; i < f->batch; i++, at++) {
        const uint32_t *order = order_of(f, at / f->share);
        ret_index[i] = order[f->first + at % f->share * f->stride];
    }
}

uint64_t tl_feed_epoch(const struct tl_feed *f, uint64_t sequence) {
    assert(sequence >= 1);
    return (sequence - 1) * f->batch / f->share;
}
