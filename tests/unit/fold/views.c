/* Views and cuts are immutable while the fold goes on, and memory is bounded. */
#include "fold_internal.h"
#include "fold_rig.h"
#include "test.h"

#include <math.h>

static struct tl_fold_config momentum_config(uint64_t count, uint32_t copies) {
    struct tl_fold_config config = rig_config(count);
    config.optimizer.momentum = 0.5;
    config.spare_copies = copies;
    return config;
}

static uint64_t push(struct tl_fold *f, uint64_t sequence) {
    uint64_t count = tl_fold_config(f)->count;
    float *g = rig_floats(count, 1000 + sequence);
    assert_int_equal(rig_push(f, 0, sequence, tl_fold_version(f), g), 0);
    free(g);
    return tl_fold_version(f);
}

static void assert_view_is(const struct tl_view *v, const float *expected,
                           uint64_t count) {
    float *got = rig_floats(count, 0);
    rig_copy_view(v, got);
    assert_memory_equal(got, expected, count * sizeof(*got));
    free(got);
}

static void blocks_cover_the_slice(void **state) {
    (void)state;
    const uint64_t counts[] = {1, 1000, TL_BLOCK_FLOATS, TL_BLOCK_FLOATS + 1,
                               3 * TL_BLOCK_FLOATS - 1};
    for (size_t k = 0; k < 5; k++) {
        struct tl_fold_config config = momentum_config(counts[k], 1);
        struct tl_fold *f = rig_new(&config, 3);
        float *expected = rig_floats(counts[k], 3);
        struct tl_view *v = NULL;
        assert_int_equal(tl_fold_view(f, &v), 0);
        uint64_t total = 0;
        for (size_t i = 0; i < tl_view_blocks(v); i++) {
            size_t n = 0;
            const float *block = tl_view_block(v, i, &n);
            assert_true(n <= TL_BLOCK_FLOATS);
            assert_memory_equal(block, expected + total, n * sizeof(float));
            assert_ptr_equal(tl_view_block(v, i, NULL), block);
            total += n;
        }
        assert_int_equal(total, counts[k]);
        tl_view_release(v);
        free(expected);
        tl_fold_free(f);
    }
}

static void a_held_view_never_changes(void **state) {
    (void)state;
    const uint64_t count = TL_BLOCK_FLOATS + 9;
    struct tl_fold_config config = momentum_config(count, 1);
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    float *before = rig_floats(count, 3), *after = rig_floats(count, 0);
    struct tl_view *v = NULL;
    assert_int_equal(tl_fold_view(f, &v), 0);
    for (uint64_t n = 1; n <= 5; n++) {
        push(f, n);
        assert_int_equal(tl_view_version(v), 0);
        assert_view_is(v, before, count);
    }
    tl_view_release(v);
    rig_weights(f, after);
    assert_memory_not_equal(after, before, count * sizeof(*after));
    free(before);
    free(after);
    tl_fold_free(f);
}

static void readers_of_a_version_share_it(void **state) {
    (void)state;
    struct tl_fold_config config = momentum_config(10, 1);
    struct tl_fold *f = rig_new(&config, 3);
    struct tl_view *a = NULL, *b = NULL;
    assert_int_equal(tl_fold_view(f, &a), 0);
    assert_int_equal(tl_fold_view(f, &b), 0);
    assert_ptr_equal(tl_view_block(a, 0, NULL), tl_view_block(b, 0, NULL));
    tl_view_release(a);
    assert_int_equal(tl_fold_view(f, &a), 0);
    tl_view_release(b);
    tl_view_release(a);
    tl_view_release(NULL);
    tl_fold_free(f);
}

/* Records that change no weight leave the version and its views alone. */
static void a_refused_record_makes_no_version(void **state) {
    (void)state;
    struct tl_fold_config config = momentum_config(10, 1);
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    push(f, 1);
    struct tl_view *a = NULL, *b = NULL;
    assert_int_equal(tl_fold_view(f, &a), 0);
    float g[10] = {0};
    assert_int_equal(rig_push(f, 0, 1, 0, g), TL_E_DUPLICATE);
    assert_int_equal(tl_fold_view(f, &b), 0);
    assert_ptr_equal(a, b);
    tl_view_release(a);
    tl_view_release(b);
    tl_fold_free(f);
}

static void too_many_versions_are_refused(void **state) {
    (void)state;
    enum { COPIES = 3 };
    struct tl_fold_config config = momentum_config(10, COPIES);
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_view *held[COPIES], *more = NULL;
    for (uint64_t i = 0; i < COPIES; i++) {
        assert_int_equal(tl_fold_view(f, &held[i]), 0);
        assert_int_equal(push(f, i + 1), i + 1);
    }
    assert_int_equal(tl_fold_view(f, &more), TL_E_BUSY);
    assert_null(more);
    push(f, COPIES + 1); /* the fold itself goes on */
    tl_view_release(held[1]);
    assert_int_equal(tl_fold_view(f, &held[1]), 0);
    assert_int_equal(tl_view_version(held[1]), COPIES + 1);
    for (size_t i = 0; i < COPIES; i++) {
        tl_view_release(held[i]);
    }
    tl_fold_free(f);
}

/* The most that can be held at once: a version in each view, another in a cut, and one
 * more is made. */
static void the_most_that_can_be_held(void **state) {
    (void)state;
    enum { COPIES = 3 };
    struct tl_fold_config config = momentum_config(10, COPIES);
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct tl_view *held[COPIES];
    struct tl_cut *c = NULL;
    for (uint64_t i = 0; i < COPIES; i++) {
        assert_int_equal(tl_fold_view(f, &held[i]), 0);
        push(f, i + 1);
    }
    assert_int_equal(tl_fold_cut(f, &c), 0);
    assert_int_equal(push(f, COPIES + 1), COPIES + 1);
    assert_int_equal(push(f, COPIES + 2), COPIES + 2);
    assert_int_equal(f->pool.unused_count, 0);
    tl_cut_release(c);
    for (size_t i = 0; i < COPIES; i++) {
        tl_view_release(held[i]);
    }
    tl_fold_free(f);
}

static void nobody_holds_nothing_is_copied(void **state) {
    (void)state;
    struct tl_fold_config config = momentum_config(TL_BLOCK_FLOATS, 1);
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    uint32_t before = f->arrays[TL_ARRAY_WEIGHTS][0];
    push(f, 1);
    assert_int_equal(f->arrays[TL_ARRAY_WEIGHTS][0], before);
    struct tl_view *v = NULL;
    assert_int_equal(tl_fold_view(f, &v), 0);
    push(f, 2);
    assert_int_not_equal(f->arrays[TL_ARRAY_WEIGHTS][0], before);
    tl_view_release(v);
    tl_fold_free(f);
}

static void a_held_cut_never_changes(void **state) {
    (void)state;
    const uint64_t count = TL_BLOCK_FLOATS + 9;
    struct tl_fold_config config = momentum_config(count, 1);
    config.consistency = TL_SYNC;
    struct tl_fold *f = rig_new(&config, 3);
    float *g = rig_floats(count, 1);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_join(f, 1, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, g), 0);
    assert_int_equal(tl_fold_take_over(f, 7), 0);
    struct tl_cut *c = NULL, *second = NULL;
    assert_int_equal(tl_fold_cut(f, &c), 0);
    assert_int_equal(tl_cut_version(c), 0);
    assert_int_equal(tl_cut_position(c), 3);
    assert_int_equal(tl_cut_epoch(c), 7);
    struct rig_bytes before = rig_cut_bytes(c);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal(rig_push(f, 1, n, n - 1, g), 0);
        assert_int_equal(rig_push(f, 0, n + 1, n, g), 0);
        assert_int_equal(tl_fold_cut(f, &second), TL_E_BUSY);
    }
    struct rig_bytes after = rig_cut_bytes(c);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.bytes, after.bytes, before.size);
    tl_cut_release(c);
    tl_cut_release(NULL);
    assert_int_equal(tl_fold_cut(f, &second), 0);
    assert_int_equal(tl_cut_version(second), 3);
    tl_cut_release(second);
    free(before.bytes);
    free(after.bytes);
    free(g);
    tl_fold_free(f);
}

/* ---- the bounded pool ------------------------------------------------------------ */

enum { HELD_MAX = 12 };

struct held {
    struct tl_view *view;
    float *copy;
};

/* Every block is free or held, and no list counts one twice. */
static void assert_pool_is_whole(const struct tl_blocks *pool) {
    uint32_t free_blocks = 0;
    for (uint32_t i = 0; i < pool->total; i++) {
        free_blocks += pool->holders[i] == 0;
    }
    assert_int_equal(free_blocks, pool->unused_count);
}

static void try_view(struct tl_fold *f, struct held *slot, uint64_t *busy) {
    uint64_t count = tl_fold_config(f)->count;
    if (slot->view) {
        assert_view_is(slot->view, slot->copy, count);
        tl_view_release(slot->view);
        free(slot->copy);
        *slot = (struct held){0};
        return;
    }
    int rc = tl_fold_view(f, &slot->view);
    assert_true(rc == 0 || rc == TL_E_BUSY);
    if (rc != 0) {
        (*busy)++;
        return;
    }
    slot->copy = rig_floats(count, 0);
    rig_copy_view(slot->view, slot->copy);
}

static void try_cut(struct tl_fold *f, struct tl_cut **c, struct rig_bytes *bytes) {
    if (!*c) {
        assert_int_equal(tl_fold_cut(f, c), 0);
        *bytes = rig_cut_bytes(*c);
        return;
    }
    struct rig_bytes now = rig_cut_bytes(*c);
    assert_memory_equal(now.bytes, bytes->bytes, now.size);
    free(now.bytes);
    free(bytes->bytes);
    tl_cut_release(*c);
    *c = NULL;
}

/* Random holding, releasing and folding: the fold never runs out (it asserts so), what
 * is held stays as it was, and at the end every block but the live ones is free. */
static void the_pool_is_never_exceeded(void **state) {
    (void)state;
    uint64_t seed = 2024, busy = 0, sequence = 0;
    struct tl_fold_config config = momentum_config(TL_BLOCK_FLOATS + 3, 4);
    config.consistency = TL_SYNC;
    struct tl_fold *f = rig_new(&config, 3);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    struct held held[HELD_MAX] = {0};
    struct tl_cut *cut = NULL;
    struct rig_bytes cut_bytes = {0};
    for (int i = 0; i < 1000; i++) {
        uint64_t what = rig_below(&seed, 10);
        if (what < 4) {
            try_view(f, &held[rig_below(&seed, HELD_MAX)], &busy);
        } else if (what == 4) {
            try_cut(f, &cut, &cut_bytes);
        } else {
            push(f, ++sequence);
        }
        assert_pool_is_whole(&f->pool);
    }
    assert_true(busy > 10);
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (held[i].view) {
            try_view(f, &held[i], &busy);
        }
    }
    if (cut) {
        try_cut(f, &cut, &cut_bytes);
    }
    assert_pool_is_whole(&f->pool);
    assert_int_equal(f->pool.total - f->pool.unused_count, 3 * f->block_count);
    tl_fold_free(f);
}

static void settings_out_of_range(void **state) {
    (void)state;
    const float weight = 0.0f;
    struct tl_fold *f = NULL;
    const struct tl_fold_config good = rig_config(1);
    struct tl_fold_config bad[24];
    size_t n = 0;
    for (size_t i = 0; i < 24; i++) {
        bad[i] = good;
    }
    bad[n++].count = 0;
    bad[n++].count = UINT64_MAX;
    bad[n++].first = UINT64_MAX;
    bad[n++].shards = 0;
    bad[n++].shard = 1;
    bad[n++].spare_copies = 0;
    bad[n++].spare_copies = UINT32_MAX;
    bad[n++].consistency = (enum tl_consistency)7;
    bad[n++].reduce = (enum tl_reduce)7;
    bad[n++].quorum = TL_WORKER_LIMIT + 1;
    bad[n++].start_workers = TL_WORKER_LIMIT + 1;
    bad[n++].clip_norm = -1.0;
    bad[n++].clip_value = -1.0;
    bad[n++].optimizer.learning_rate = 0.0;
    bad[n++].optimizer.learning_rate = NAN;
    bad[n++].optimizer.momentum = 1.0;
    bad[n++].optimizer.nesterov = true;
    bad[n++].optimizer.weight_decay = -0.1;
    bad[n++].optimizer.kind = (enum tl_optimizer_kind)9;
    bad[n++].schedule.kind = (enum tl_schedule_kind)9;
    bad[n++].schedule.kind = TL_STEP;
    bad[n].schedule.period = 1;
    bad[n].schedule.kind = TL_COSINE;
    bad[n++].schedule.factor = 1.5;
    bad[n].optimizer.kind = TL_ADAM;
    bad[n++].optimizer.beta1 = 1.0;
    bad[n].optimizer.kind = TL_ADAMW;
    bad[n++].optimizer.epsilon = 0.0;
    assert_int_equal(n, 24);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tl_fold_new(&bad[i], &weight, &f), TL_E_CONFIG);
        assert_string_not_equal(tl_error_text(), "");
        assert_null(f);
    }
    assert_int_equal(tl_fold_new(&good, &weight, &f), 0);
    tl_fold_free(f);
    tl_fold_free(NULL);
}

static void slices(void **state) {
    (void)state;
    const uint64_t totals[] = {1, 7, 813258, UINT64_C(1) << 40};
    for (size_t t = 0; t < 4; t++) {
        for (uint32_t shards = 1; shards <= 7 && shards <= totals[t]; shards++) {
            uint64_t next = 0, largest = 0, smallest = UINT64_MAX, before = UINT64_MAX;
            for (uint32_t s = 0; s < shards; s++) {
                uint64_t first = 0, count = 0;
                tl_shard_slice(totals[t], shards, s, &first, &count);
                assert_int_equal(first, next);
                assert_true(count <= before);
                before = count;
                next = first + count;
                largest = count > largest ? count : largest;
                smallest = count < smallest ? count : smallest;
            }
            assert_int_equal(next, totals[t]);
            assert_true(largest - smallest <= 1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_cover_the_slice),
        cmocka_unit_test(a_held_view_never_changes),
        cmocka_unit_test(readers_of_a_version_share_it),
        cmocka_unit_test(a_refused_record_makes_no_version),
        cmocka_unit_test(too_many_versions_are_refused),
        cmocka_unit_test(the_most_that_can_be_held),
        cmocka_unit_test(nobody_holds_nothing_is_copied),
        cmocka_unit_test(a_held_cut_never_changes),
        cmocka_unit_test(the_pool_is_never_exceeded),
        cmocka_unit_test(settings_out_of_range),
        cmocka_unit_test(slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
