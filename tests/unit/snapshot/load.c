/* Real folds: cut, written, loaded again bit for bit; the newest valid one is loaded,
 * one of another job refused; the whole model's weights from all shards. */
#include "snapshots.h"

#define COUNT 1000u

static struct tl_fold_config config_of(uint32_t shard, uint32_t shards) {
    struct tl_fold_config c = {
        .shard = shard,
        .shards = shards,
        .consistency = TL_ASYNC,
        .spare_copies = 2,
        .optimizer = {.kind = TL_ADAM,
                      .learning_rate = 0.01,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-8},
        .schedule = {.kind = TL_CONSTANT, .factor = 1},
    };
    tl_shard_slice(COUNT, shards, shard, &c.first, &c.count);
    return c;
}

static void apply(struct tl_fold *f, struct tl_record r) {
    struct tl_fold_effect effect;
    r.position = tl_fold_position(f) + 1u;
    r.shard = tl_fold_config(f)->shard;
    r.epoch = tl_fold_epoch(f);
    r.incarnation = 1;
    assert_int_equal(tl_fold_apply(f, &r, &effect), 0);
}

static void train(struct tl_fold *f, uint64_t updates) {
    float g[COUNT];
    for (uint64_t i = 0; i < updates; i++) {
        const uint64_t version = tl_fold_version(f);
        for (size_t k = 0; k < COUNT; k++) {
            g[k] = (float)((double)((k * 7919u + version * 104729u) % 2003u) / 1000.0);
        }
        apply(f, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                    .sequence = version + 1u,
                                    .read_version = version,
                                    .norm = 1,
                                    .values = g,
                                    .value_count = tl_fold_config(f)->count});
    }
}

static struct tl_fold *new_fold(uint32_t shard, uint32_t shards) {
    const struct tl_fold_config c = config_of(shard, shards);
    float weights[COUNT];
    struct tl_fold *f = NULL;
    for (size_t i = 0; i < COUNT; i++) {
        weights[i] = (float)(c.first + i);
    }
    assert_int_equal(tl_fold_new(&c, weights, &f), 0);
    assert_int_equal(tl_fold_take_over(f, 3), 0);
    apply(f, (struct tl_record){.kind = TL_RECORD_JOIN});
    return f;
}

static struct tl_manifest meta_of(const struct tl_fold *f) {
    const struct tl_fold_config *c = tl_fold_config(f);
    struct tl_manifest m = snapshots_meta(tl_fold_epoch(f), tl_fold_version(f));
    m.position = tl_fold_position(f);
    m.shard = c->shard;
    m.shards = c->shards;
    m.first = c->first;
    m.count = c->count;
    return m;
}

static void save_as(struct tl_store *store, struct tl_fold *f,
                    const struct tl_manifest *meta) {
    const struct tl_snapshot_options options = {.part_bytes = 3000, .zstd_level = 1};
    struct tl_snapshot_writer *w = NULL;
    struct tl_cut *cut = NULL;
    const void *bytes = NULL;
    size_t size = 0;
    assert_int_equal(tl_fold_cut(f, &cut), 0);
    assert_int_equal(tl_snapshot_begin(store, meta, &options, &w), 0);
    for (size_t i = 0; tl_cut_segment(cut, i, &bytes, &size); i++) {
        assert_int_equal(tl_snapshot_write(w, bytes, size), 0);
    }
    assert_int_equal(tl_snapshot_finish(w, NULL), 0);
    tl_cut_release(cut);
}

static void save(struct tl_store *store, struct tl_fold *f) {
    const struct tl_manifest meta = meta_of(f);
    save_as(store, f, &meta);
}

static void expect_same_bits(struct tl_fold *a, struct tl_fold *b) {
    struct tl_cut *cut_a = NULL;
    struct tl_cut *cut_b = NULL;
    const void *x = NULL;
    const void *y = NULL;
    size_t n = 0;
    size_t m = 0;
    assert_int_equal(tl_fold_cut(a, &cut_a), 0);
    assert_int_equal(tl_fold_cut(b, &cut_b), 0);
    for (size_t i = 0; tl_cut_segment(cut_a, i, &x, &n); i++) {
        assert_true(tl_cut_segment(cut_b, i, &y, &m));
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
    }
    tl_cut_release(cut_a);
    tl_cut_release(cut_b);
}

static void note_skipped(void *ctx, const char *name, int error, const char *why) {
    char *text = ctx;
    assert_true(error == TL_E_CORRUPT || error == TL_E_NOTFOUND);
    (void)snprintf(text, 1024, "%s: %s", name, why);
}

static int load(struct tl_store *store, const struct tl_manifest *expected,
                char *skipped, struct tl_fold **ret_fold) {
    const struct tl_fold_config c = config_of(expected->shard, expected->shards);
    struct tl_manifest m;
    skipped[0] = '\0';
    const int r =
        tl_snapshot_load(store, expected, &c, note_skipped, skipped, ret_fold, &m);
    if (r == 0) {
        assert_int_equal(m.version, tl_fold_version(*ret_fold));
        assert_int_equal(m.position, tl_fold_position(*ret_fold));
        tl_manifest_done(&m);
    }
    return r;
}

static void a_fold_comes_back_bit_for_bit(void **state) {
    struct snapshots *t = *state;
    struct tl_fold *f = new_fold(0, 1);
    struct tl_fold *again = NULL;
    char skipped[1024];
    train(f, 20);
    save(t->store, f);
    const struct tl_manifest expected = meta_of(f);
    assert_int_equal(load(t->store, &expected, skipped, &again), 0);
    assert_string_equal(skipped, "");
    expect_same_bits(f, again);
    /* And goes on as if nothing had happened. */
    train(f, 10);
    train(again, 10);
    expect_same_bits(f, again);
    tl_fold_free(again);
    tl_fold_free(f);
}

static void a_damaged_one_is_skipped_aloud(void **state) {
    struct snapshots *t = *state;
    struct tl_fold *f = new_fold(0, 1);
    struct tl_fold *again = NULL;
    char skipped[1024];
    train(f, 10);
    save(t->store, f);
    train(f, 10);
    save(t->store, f);
    assert_int_equal(unlink(snapshots_object(t, 3, 20, 0)), 0);
    const struct tl_manifest expected = meta_of(f);
    assert_int_equal(load(t->store, &expected, skipped, &again), 0);
    assert_int_equal(tl_fold_version(again), 10);
    assert_non_null(strstr(skipped, "shard-0000/00000000000000000020-0000000003: "));
    assert_non_null(strstr(skipped, "there is no"));
    tl_fold_free(again);
    assert_int_equal(truncate(snapshots_object(t, 3, 10, -1), 10), 0);
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_NOTFOUND);
    assert_non_null(strstr(tl_error_text(), "2 damaged ones"));
    tl_fold_free(f);
}

/* The state itself knows its place: a manifest that lies about it is damage. */
static void a_manifest_of_another_place_is_skipped(void **state) {
    struct snapshots *t = *state;
    struct tl_fold *f = new_fold(0, 1);
    struct tl_fold *again = NULL;
    char skipped[1024];
    train(f, 10);
    struct tl_manifest meta = meta_of(f);
    meta.version++;
    save_as(t->store, f, &meta);
    assert_int_equal(load(t->store, &meta, skipped, &again), TL_E_NOTFOUND);
    assert_non_null(strstr(skipped, "not what its manifest says"));
    tl_fold_free(f);
}

static void another_job_is_refused(void **state) {
    struct snapshots *t = *state;
    struct tl_fold *f = new_fold(0, 1);
    struct tl_fold *again = NULL;
    char skipped[1024];
    train(f, 10);
    save(t->store, f);
    struct tl_manifest expected = meta_of(f);
    (void)snprintf(expected.job, sizeof(expected.job), "other");
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "another job"));
    expected = meta_of(f);
    (void)snprintf(expected.run, sizeof(expected.run), "other");
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_MISMATCH);
    expected = meta_of(f);
    expected.fold_digest++;
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_MISMATCH);
    expected = meta_of(f);
    expected.shards = 2;
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_MISMATCH);
    expected = meta_of(f);
    expected.parameters++;
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_MISMATCH);
    assert_string_equal(skipped, "");
    tl_fold_free(f);
}

static void an_empty_store_has_none(void **state) {
    struct snapshots *t = *state;
    const struct tl_manifest expected = snapshots_meta(1, 1);
    struct tl_fold *again = NULL;
    char skipped[1024];
    assert_int_equal(load(t->store, &expected, skipped, &again), TL_E_NOTFOUND);
    assert_string_equal(skipped, "");
}

static void expect_weights(const struct tl_fold *f, struct tl_view *v,
                           const float *weights) {
    size_t at = (size_t)tl_fold_config(f)->first;
    for (size_t i = 0; i < tl_view_blocks(v); i++) {
        size_t n = 0;
        const float *block = tl_view_block(v, i, &n);
        assert_memory_equal(weights + at, block, n * sizeof(float));
        at += n;
    }
}

static void weights_come_from_all_shards(void **state) {
    struct snapshots *t = *state;
    struct tl_fold *f[3];
    float weights[COUNT];
    uint64_t version = 0;
    for (uint32_t s = 0; s < 3; s++) {
        f[s] = new_fold(s, 3);
        train(f[s], 5u + s);
        save(t->store, f[s]);
    }
    assert_int_equal(tl_snapshot_weights(t->store, COUNT, weights, &version), 0);
    assert_int_equal(version, 5);
    for (uint32_t s = 0; s < 3; s++) {
        struct tl_view *v = NULL;
        assert_int_equal(tl_fold_view(f[s], &v), 0);
        expect_weights(f[s], v, weights);
        tl_view_release(v);
        train(f[s], 5);
        save(t->store, f[s]);
    }
    float later[COUNT];
    assert_int_equal(tl_snapshot_weights(t->store, COUNT, later, &version), 0);
    assert_int_equal(version, 10);
    assert_memory_not_equal(later, weights, sizeof(weights));
    assert_int_equal(
        tl_snapshot_weights_at(t->store, 7, COUNT, NULL, NULL, later, &version), 0);
    assert_int_equal(version, 5);
    assert_memory_equal(later, weights, sizeof(weights));
    assert_int_equal(
        tl_snapshot_weights_at(t->store, 4, COUNT, NULL, NULL, later, &version),
        TL_E_NOTFOUND);
    assert_int_equal(tl_snapshot_weights(t->store, COUNT + 1u, later, &version),
                     TL_E_MISMATCH);
    for (uint32_t s = 0; s < 3; s++) {
        tl_fold_free(f[s]);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_fold_comes_back_bit_for_bit),
        TEST(a_damaged_one_is_skipped_aloud),
        TEST(a_manifest_of_another_place_is_skipped),
        TEST(another_job_is_refused),
        TEST(an_empty_store_has_none),
        TEST(weights_come_from_all_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
