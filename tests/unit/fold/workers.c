/* The table of workers: join, leave, fencing, deduplication, exact losses; and what
 * refuses a gradient whatever the consistency. */
#include "fold_rig.h"
#include "test.h"

#include <math.h>

enum { COUNT = 5 };
static const float ones[COUNT] = {1, 1, 1, 1, 1};

static struct tl_fold *new_async(void) {
    struct tl_fold_config config = rig_config(COUNT);
    return rig_new(&config, 7);
}

static struct tl_record gradient(uint32_t worker, uint64_t incarnation,
                                 uint64_t sequence) {
    return (struct tl_record){.kind = TL_RECORD_GRADIENT,
                              .worker = worker,
                              .incarnation = incarnation,
                              .sequence = sequence,
                              .norm = 1.0f,
                              .values = ones,
                              .value_count = COUNT};
}

/* Offer `r`, which must be refused with `status` and change no weight. */
static void assert_refused(struct tl_fold *f, struct tl_record r, int status) {
    float before[COUNT], after[COUNT];
    uint64_t version = tl_fold_version(f);
    uint64_t folded = tl_fold_counters(f).folded;
    rig_weights(f, before);
    assert_int_equal(rig_offer(f, r), status);
    rig_weights(f, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_int_equal(tl_fold_version(f), version);
    assert_int_equal(tl_fold_counters(f).folded, folded);
}

static void a_gradient_is_folded(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    float before[COUNT], after[COUNT];
    rig_weights(f, before);
    assert_int_equal(rig_join(f, 3, 1, 0, 0), 0);
    assert_false(rig_effect.advanced);
    assert_int_equal(rig_push(f, 3, 1, 0, ones), 0);
    assert_true(rig_effect.advanced);
    assert_int_equal(rig_effect.version, 1);
    rig_weights(f, after);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(after[i] == before[i] - 1.0f);
    }
    assert_int_equal(rig_worker(f, 3).folded, 1);
    assert_int_equal(rig_worker(f, 3).sequence, 1);
    assert_int_equal(tl_fold_counters(f).folded, 1);
    tl_fold_free(f);
}

static void only_the_next_position_counts(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    struct tl_record r = {.kind = TL_RECORD_JOIN, .incarnation = 1};
    for (uint64_t position = 0; position < 5; position++) {
        r.position = position;
        if (position != 1) {
            assert_int_equal(tl_fold_apply(f, &r, &rig_effect), TL_E_INVALID);
        }
    }
    assert_int_equal(tl_fold_position(f), 0);
    r.position = 1;
    assert_int_equal(tl_fold_apply(f, &r, &rig_effect), 0);
    assert_int_equal(tl_fold_apply(f, &r, &rig_effect), TL_E_INVALID);
    assert_int_equal(tl_fold_position(f), 1);
    tl_fold_free(f);
}

static void a_sequence_is_folded_once(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, ones), 0);
    assert_int_equal(rig_push(f, 0, 4, 0, ones), 0);
    for (uint64_t sequence = 0; sequence <= 4; sequence++) {
        assert_refused(f, gradient(0, 1, sequence), TL_E_DUPLICATE);
    }
    assert_int_equal(tl_fold_counters(f).duplicated, 5);
    assert_int_equal(rig_push(f, 0, 5, 0, ones), 0);
    tl_fold_free(f);
}

static void a_stranger_must_join(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    struct tl_fold_worker w;
    assert_int_equal(tl_fold_worker(f, 0, &w), TL_E_NOTFOUND);
    assert_int_equal(tl_fold_worker(f, UINT32_MAX, &w), TL_E_NOTFOUND);
    assert_refused(f, gradient(0, 1, 1), TL_E_NOTJOINED);
    assert_refused(f, gradient(0, 0, 1), TL_E_NOTJOINED);
    assert_int_equal(rig_leave(f, 0, 1, 0), TL_E_NOTJOINED);
    assert_int_equal(rig_join(f, 5, 1, 0, 0), 0);
    assert_int_equal(tl_fold_worker(f, 0, &w), TL_E_NOTFOUND);
    assert_int_equal(tl_fold_worker(f, 6, &w), TL_E_NOTFOUND);
    assert_int_equal(tl_fold_worker(f, 5, &w), 0);
    assert_int_equal(tl_fold_active_workers(f), 1);
    tl_fold_free(f);
}

static void a_newer_incarnation_fences(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 0, 0, 0), TL_E_FENCED);
    assert_int_equal(rig_join(f, 0, 2, 0, 0), 0);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), TL_E_FENCED);
    assert_refused(f, gradient(0, 1, 1), TL_E_FENCED);
    assert_refused(f, gradient(0, 3, 1), TL_E_NOTJOINED);
    assert_int_equal(rig_leave(f, 0, 1, 0), TL_E_FENCED);
    assert_int_equal(tl_fold_active_workers(f), 1);
    assert_int_equal(rig_offer(f, gradient(0, 2, 1)), 0);
    assert_int_equal(rig_join(f, 0, 2, 0, 0), 0); /* after a lost connection */
    assert_int_equal(rig_join(f, 0, 3, 0, 0), 0); /* a new process */
    assert_refused(f, gradient(0, 2, 2), TL_E_FENCED);
    assert_refused(f, gradient(0, 3, 1), TL_E_DUPLICATE); /* its life before did it */
    assert_int_equal(rig_offer(f, gradient(0, 3, 2)), 0);
    assert_int_equal(rig_worker(f, 0).folded, 2);
    tl_fold_free(f);
}

static void who_left_must_join_again(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, ones), 0);
    assert_int_equal(rig_leave(f, 0, 1, 0), 0);
    assert_int_equal(rig_leave(f, 0, 1, 0), 0);
    assert_int_equal(tl_fold_active_workers(f), 0);
    assert_false(rig_worker(f, 0).active);
    assert_refused(f, gradient(0, 1, 1), TL_E_DUPLICATE);
    assert_refused(f, gradient(0, 1, 2), TL_E_NOTJOINED);
    assert_int_equal(rig_join(f, 0, 1, 1, 0), 0);
    assert_int_equal(rig_effect.lost, 0);
    assert_int_equal(rig_push(f, 0, 2, 0, ones), 0);
    tl_fold_free(f);
}

/* A recovered state is behind what the workers saw acknowledged. */
static void losses_are_exact(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_join(f, 1, 1, 3, 0), 0);
    assert_int_equal(rig_effect.lost, 3);
    assert_int_equal(rig_push(f, 0, 2, 0, ones), 0);
    assert_int_equal(rig_join(f, 0, 1, 9, 0), 0);
    assert_int_equal(rig_effect.lost, 7);
    assert_int_equal(rig_join(f, 0, 2, 9, 0), 0); /* said once more: counted once */
    assert_int_equal(rig_effect.lost, 0);
    assert_int_equal(rig_join(f, 0, 2, 4, 0), 0); /* acknowledgements it did not see */
    assert_int_equal(rig_effect.lost, 0);
    assert_int_equal(rig_worker(f, 0).lost, 7);
    assert_int_equal(rig_worker(f, 0).sequence, 9);
    assert_int_equal(rig_worker(f, 1).lost, 3);
    assert_int_equal(tl_fold_counters(f).lost, 10);
    assert_refused(f, gradient(0, 2, 9), TL_E_DUPLICATE);
    assert_int_equal(rig_offer(f, gradient(0, 2, 10)), 0);
    tl_fold_free(f);
}

static void wrong_shapes_are_refused(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_record r = gradient(0, 1, 1);
    const uint64_t wrong[] = {0, COUNT - 1, COUNT + 1, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        r.value_count = wrong[i];
        assert_refused(f, r, TL_E_SHAPE);
    }
    r.value_count = COUNT;
    r.values = NULL;
    assert_refused(f, r, TL_E_SHAPE);
    r.values = ones;
    assert_int_equal(rig_offer(f, r), 0);
    tl_fold_free(f);
}

static void impossible_records_are_refused(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_record r = gradient(0, 1, 1);
    r.kind = (enum tl_record_kind)9;
    assert_refused(f, r, TL_E_PROTOCOL);
    assert_refused(f, gradient(TL_WORKER_LIMIT, 1, 1), TL_E_PROTOCOL);
    assert_refused(f, gradient(UINT32_MAX, 1, 1), TL_E_PROTOCOL);
    assert_refused(f, gradient(0, 1, UINT64_MAX), TL_E_PROTOCOL);
    assert_int_equal(rig_join(f, 0, 1, UINT64_MAX, 0), TL_E_PROTOCOL);
    assert_int_equal(tl_fold_counters(f).lost, 0);
    assert_int_equal(rig_join(f, TL_WORKER_LIMIT - 1, UINT64_MAX, 0, 0), 0);
    r = gradient(0, 1, 1);
    r.position = tl_fold_position(f) + 1;
    r.shard = 1;
    assert_int_equal(tl_fold_apply(f, &r, &rig_effect), TL_E_MISMATCH);
    tl_fold_free(f);
}

static void an_older_writer_is_fenced(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(tl_fold_take_over(f, 0), TL_E_FENCED);
    assert_int_equal(tl_fold_take_over(f, 4), 0);
    assert_int_equal(tl_fold_take_over(f, 4), TL_E_FENCED);
    assert_int_equal(tl_fold_take_over(f, 3), TL_E_FENCED);
    assert_int_equal(tl_fold_epoch(f), 4);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_record r = gradient(0, 1, 1);
    r.position = tl_fold_position(f) + 1;
    r.epoch = 3;
    assert_int_equal(tl_fold_apply(f, &r, &rig_effect), TL_E_FENCED);
    r.position++;
    r.epoch = 6; /* a successor that this fold has not been told of */
    assert_int_equal(tl_fold_apply(f, &r, &rig_effect), 0);
    assert_int_equal(tl_fold_epoch(f), 6);
    assert_int_equal(tl_fold_counters(f).folded, 1);
    tl_fold_free(f);
}

static void staleness_is_bounded_and_counted(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(COUNT);
    config.max_staleness = 3;
    struct tl_fold *f = rig_new(&config, 7);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    for (uint64_t n = 1; n <= 4; n++) {
        assert_int_equal(rig_push(f, 0, n, 0, ones), 0); /* 0, 1, 2, 3 old */
        assert_int_equal(rig_effect.staleness, n - 1);
    }
    assert_refused(f, gradient(0, 1, 5), TL_E_STALE);
    assert_int_equal(tl_fold_counters(f).stale, 1);
    assert_refused(f, gradient(0, 1, 5), TL_E_DUPLICATE); /* decided for good */
    assert_int_equal(rig_push(f, 0, 6, 99, ones), 0);     /* read before a recovery */
    assert_int_equal(rig_effect.staleness, 0);
    const uint64_t expected[] = {2, 1, 2, 0};
    assert_memory_equal(tl_fold_staleness(f), expected, sizeof(expected));
    tl_fold_free(f);
}

static void staleness_counts_by_powers_of_two(void **state) {
    (void)state;
    struct tl_fold *f = new_async();
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    const uint64_t versions = 40000;
    for (uint64_t n = 1; n <= versions; n++) {
        assert_int_equal(rig_push(f, 0, n, 0, ones), 0);
    }
    const uint64_t *counts = tl_fold_staleness(f);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 1);
    for (uint32_t i = 2; i < 15; i++) {
        assert_int_equal(counts[i], UINT64_C(1) << (i - 1));
    }
    assert_int_equal(counts[15], versions - (1u << 14));
    tl_fold_free(f);
}

static void values_that_are_no_numbers(void **state) {
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t count = 1; count < 40; count += 13) {
        struct tl_fold_config config = rig_config(count);
        config.refuse_nonfinite = true;
        struct tl_fold *f = rig_new(&config, 7);
        assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
        float *g = calloc(count, sizeof(*g));
        assert_non_null(g);
        uint64_t sequence = 0, refused = 0;
        for (size_t at = 0; at < count; at++) {
            float good = g[at];
            for (size_t k = 0; k < 4; k++, refused++) {
                g[at] = bad[k];
                assert_int_equal(rig_push(f, 0, ++sequence, 0, g), TL_E_NONFINITE);
                assert_int_equal(rig_push(f, 0, sequence, 0, g), TL_E_DUPLICATE);
            }
            g[at] = good;
        }
        assert_int_equal(tl_fold_counters(f).nonfinite, refused);
        assert_int_equal(tl_fold_version(f), 0);
        g[0] = 0x1.fffffep127f; /* the largest number is one */
        assert_int_equal(rig_push(f, 0, ++sequence, 0, g), 0);
        free(g);
        tl_fold_free(f);
    }
}

static void nonfinite_values_pass_unless_refused(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(1);
    struct tl_fold *f = rig_new(&config, 7);
    const float bad = NAN;
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, &bad), 0);
    assert_true(isnan(rig_weight(f)));
    tl_fold_free(f);
}

/* What a gradient of `g` with `norm` takes from the weight. */
static float change(struct tl_fold_config config, float g, float norm) {
    const float zero = 0.0f;
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, &zero, &f), 0);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_record r = gradient(0, 1, 1);
    r.values = &g;
    r.value_count = 1;
    r.norm = norm;
    assert_int_equal(rig_offer(f, r), 0);
    float weight = rig_weight(f);
    tl_fold_free(f);
    return -weight;
}

static void clipping(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(1);
    config.clip_norm = 2.0;
    assert_true(change(config, 3.0f, 8.0f) == 0.75f);
    assert_true(change(config, 3.0f, 2.0f) == 3.0f);
    assert_true(change(config, 3.0f, 0.0f) == 3.0f);
    config.clip_value = 0.5;
    assert_true(change(config, 3.0f, 8.0f) == 0.5f); /* the norm first */
    assert_true(change(config, 1.0f, 8.0f) == 0.25f);
    config.clip_norm = 0.0;
    assert_true(change(config, 3.0f, 8.0f) == 0.5f);
    assert_true(change(config, -3.0f, 8.0f) == -0.5f);
    assert_true(change(config, 0.25f, NAN) == 0.25f); /* nobody asks for the norm */
}

static void clipping_needs_a_norm(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(COUNT);
    config.clip_norm = 2.0;
    struct tl_fold *f = rig_new(&config, 7);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    const float bad[] = {NAN, INFINITY, -1.0f};
    for (uint64_t i = 0; i < 3; i++) {
        struct tl_record r = gradient(0, 1, i + 1);
        r.norm = bad[i];
        assert_refused(f, r, TL_E_NONFINITE);
    }
    assert_int_equal(tl_fold_counters(f).nonfinite, 3);
    tl_fold_free(f);
}

/* Clipping works on tiles: every element of several blocks must be reached. */
static void clipping_reaches_every_element(void **state) {
    (void)state;
    const size_t count = TL_BLOCK_FLOATS + 2048 + 5;
    struct tl_fold_config config = rig_config(count);
    config.clip_value = 0.25;
    struct tl_fold *f = rig_new(&config, 7);
    float *g = rig_floats(count, 8), *before = rig_floats(count, 7);
    float *after = rig_floats(count, 0);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, g), 0);
    rig_weights(f, after);
    for (size_t i = 0; i < count; i++) {
        float clipped = g[i] > 0.25f ? 0.25f : g[i] < -0.25f ? -0.25f : g[i];
        assert_true(after[i] == before[i] - clipped);
    }
    free(g);
    free(before);
    free(after);
    tl_fold_free(f);
}

static void the_end(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(COUNT);
    config.until_version = 2;
    struct tl_fold *f = rig_new(&config, 7);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, ones), 0);
    assert_int_equal(rig_push(f, 0, 2, 1, ones), 0);
    assert_refused(f, gradient(0, 1, 3), TL_E_ENDED);
    assert_refused(f, gradient(0, 1, 2),
                   TL_E_DUPLICATE); /* acknowledged all the same */
    assert_int_equal(rig_leave(f, 0, 1, 2), 0);
    assert_int_equal(tl_fold_version(f), 2);
    tl_fold_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gradient_is_folded),
        cmocka_unit_test(only_the_next_position_counts),
        cmocka_unit_test(a_sequence_is_folded_once),
        cmocka_unit_test(a_stranger_must_join),
        cmocka_unit_test(a_newer_incarnation_fences),
        cmocka_unit_test(who_left_must_join_again),
        cmocka_unit_test(losses_are_exact),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(impossible_records_are_refused),
        cmocka_unit_test(an_older_writer_is_fenced),
        cmocka_unit_test(staleness_is_bounded_and_counted),
        cmocka_unit_test(staleness_counts_by_powers_of_two),
        cmocka_unit_test(values_that_are_no_numbers),
        cmocka_unit_test(nonfinite_values_pass_unless_refused),
        cmocka_unit_test(clipping),
        cmocka_unit_test(clipping_needs_a_norm),
        cmocka_unit_test(clipping_reaches_every_element),
        cmocka_unit_test(the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
