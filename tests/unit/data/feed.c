/* Each worker's order of examples: complete, disjoint, shuffled, and the same whenever
 * and wherever it is asked for. */
#include "throughline/data.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 7 };

static struct tl_feed *new_feed(size_t examples, uint64_t seed, uint32_t worker,
                                uint32_t workers, size_t batch) {
    struct tl_feed *f = NULL;
    assert_int_equal(tl_feed_new(examples, seed, worker, workers, batch, &f), 0);
    return f;
}

/* Count into seen[] the examples that `worker` has in epoch `epoch`. */
static size_t count_epoch(size_t examples, uint32_t worker, uint32_t workers,
                          uint64_t epoch, unsigned *seen) {
    struct tl_feed *f = new_feed(examples, 42, worker, workers, 1);
    uint64_t n = 1;
    while (tl_feed_epoch(f, n) < epoch) {
        n++;
    }
    size_t count = 0;
    for (; tl_feed_epoch(f, n) == epoch; n++, count++) {
        uint32_t index = UINT32_MAX;
        tl_feed_batch(f, n, &index);
        assert_true(index < examples);
        seen[index]++;
    }
    tl_feed_free(f);
    return count;
}

/* Also where the number of workers does not divide that of the examples. */
static void shares_are_disjoint_and_complete(void **state) {
    (void)state;
    static const struct {
        size_t examples;
        uint32_t workers;
    } cases[] = {{100, 1}, {100, 2}, {100, 3}, {100, 7}, {101, 2}, {5, 5}, {1, 1}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        size_t examples = cases[c].examples;
        uint32_t workers = cases[c].workers;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            unsigned seen[128] = {0};
            for (uint32_t w = 0; w < workers; w++) {
                size_t share = count_epoch(examples, w, workers, epoch, seen);
                assert_in_range(share, examples / workers,
                                (examples + workers - 1) / workers);
            }
            for (size_t i = 0; i < examples; i++) {
                assert_int_equal(seen[i], 1);
            }
        }
    }
}

static void epochs_and_seeds_have_their_own_orders(void **state) {
    (void)state;
    enum { N = 64 };
    uint32_t first[N], again[N], second[N], other[N];
    struct tl_feed *f = new_feed(N, 1, 0, 1, N);
    struct tl_feed *g = new_feed(N, 2, 0, 1, N);
    tl_feed_batch(f, 1, first);
    tl_feed_batch(f, 2, second);
    tl_feed_batch(f, 1, again);
    tl_feed_batch(g, 1, other);
    assert_memory_equal(first, again, sizeof(first));
    assert_memory_not_equal(first, second, sizeof(first));
    assert_memory_not_equal(first, other, sizeof(first));
    tl_feed_free(f);
    tl_feed_free(g);
}

/* Any sequence asked for alone gives what a walk from the start gave, in any order. */
static void any_position_can_be_asked_for(void **state) {
    (void)state;
    enum { BATCHES = 60 };
    uint32_t walked[BATCHES][BATCH];
    struct tl_feed *walk = new_feed(45, 9, 1, 3, BATCH);
    for (uint64_t n = 1; n <= BATCHES; n++) {
        tl_feed_batch(walk, n, walked[n - 1]);
    }
    tl_feed_free(walk);
    struct tl_feed *jump = new_feed(45, 9, 1, 3, BATCH);
    for (uint64_t i = 0; i < BATCHES; i++) {
        uint64_t n = 1 + i * 37 % BATCHES;
        uint32_t index[BATCH];
        tl_feed_batch(jump, n, index);
        assert_memory_equal(index, walked[n - 1], sizeof(index));
    }
    tl_feed_free(jump);
}

/* A share of 15 in batches of 7: the third batch ends in the next epoch. */
static void batches_may_span_epochs(void **state) {
    (void)state;
    struct tl_feed *by_batch = new_feed(45, 9, 1, 3, BATCH);
    struct tl_feed *one_by_one = new_feed(45, 9, 1, 3, 1);
    assert_int_equal(tl_feed_epoch(by_batch, 1), 0);
    assert_int_equal(tl_feed_epoch(by_batch, 3), 0);
    assert_int_equal(tl_feed_epoch(by_batch, 4), 1);
    for (uint64_t n = 1; n < 20; n++) {
        uint32_t index[BATCH];
        tl_feed_batch(by_batch, n, index);
        for (uint64_t i = 0; i < BATCH; i++) {
            uint32_t expected = 0;
            tl_feed_batch(one_by_one, (n - 1) * BATCH + i + 1, &expected);
            assert_int_equal(index[i], expected);
        }
    }
    tl_feed_free(by_batch);
    tl_feed_free(one_by_one);
}

/* A batch larger than the share goes round more than once, and is still full. */
static void a_batch_may_exceed_the_share(void **state) {
    (void)state;
    enum { N = 4, LARGE = 3 * N };
    unsigned seen[N] = {0};
    uint32_t index[LARGE];
    struct tl_feed *f = new_feed(N, 3, 0, 1, LARGE);
    tl_feed_batch(f, 5, index);
    for (size_t i = 0; i < LARGE; i++) {
        assert_true(index[i] < N);
        seen[index[i]]++;
    }
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(seen[i], 3);
    }
    tl_feed_free(f);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Worker 4 of 3 has worker 1's examples, in another order. */
static void a_late_worker_repeats_a_share(void **state) {
    (void)state;
    enum { SHARE = 15 };
    uint32_t declared[SHARE], late[SHARE], later[SHARE];
    struct tl_feed *f = new_feed(45, 9, 1, 3, SHARE);
    struct tl_feed *g = new_feed(45, 9, 4, 3, SHARE);
    struct tl_feed *h = new_feed(45, 9, 7, 3, SHARE);
    tl_feed_batch(f, 1, declared);
    tl_feed_batch(g, 1, late);
    tl_feed_batch(h, 1, later);
    assert_memory_not_equal(declared, late, sizeof(late));
    assert_memory_not_equal(late, later, sizeof(late));
    qsort(late, SHARE, sizeof(*late), ascending);
    for (size_t i = 1; i < SHARE; i++) {
        assert_true(late[i] > late[i - 1]);
    }
    tl_feed_free(f);
    tl_feed_free(g);
    tl_feed_free(h);
}

/* No place of the permutation prefers an example: chi-square over many epochs. */
static void the_shuffle_is_even(void **state) {
    (void)state;
    enum { N = 10, EPOCHS = 10000 };
    double counts[N][N] = {{0}};
    struct tl_feed *f = new_feed(N, 5, 0, 1, N);
    for (uint64_t n = 1; n <= EPOCHS; n++) {
        uint32_t index[N];
        tl_feed_batch(f, n, index);
        for (size_t i = 0; i < N; i++) {
            counts[i][index[i]] += 1.0;
        }
    }
    tl_feed_free(f);
    const double expected = (double)EPOCHS / N;
    double chi2 = 0.0;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < N; k++) {
            chi2 += (counts[i][k] - expected) * (counts[i][k] - expected) / expected;
        }
    }
    /* 81 degrees of freedom: mean 81, standard deviation 13. */
    assert_true(chi2 > 40.0 && chi2 < 140.0);
}

static void impossible_feeds_are_refused(void **state) {
    (void)state;
    struct tl_feed *f = NULL;
    assert_int_equal(tl_feed_new(10, 1, 0, 0, 1, &f), TL_E_INVALID);
    assert_int_equal(tl_feed_new(10, 1, 0, 1, 0, &f), TL_E_INVALID);
    assert_int_equal(tl_feed_new((size_t)1 << 31, 1, 0, 1, 1, &f), TL_E_INVALID);
    assert_int_equal(tl_feed_new(10, 1, 0, 11, 1, &f), TL_E_CONFIG);
    assert_int_equal(tl_feed_new(0, 1, 0, 1, 1, &f), TL_E_CONFIG);
    assert_null(f);
    assert_non_null(strstr(tl_error_text(), "workers"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_disjoint_and_complete),
        cmocka_unit_test(epochs_and_seeds_have_their_own_orders),
        cmocka_unit_test(any_position_can_be_asked_for),
        cmocka_unit_test(batches_may_span_epochs),
        cmocka_unit_test(a_batch_may_exceed_the_share),
        cmocka_unit_test(a_late_worker_repeats_a_share),
        cmocka_unit_test(the_shuffle_is_even),
        cmocka_unit_test(impossible_feeds_are_refused),
    };
    return cmocka_run_group_tests_name("data/feed", tests, NULL, NULL);
}
