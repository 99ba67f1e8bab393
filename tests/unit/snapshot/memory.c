/* Memory runs out while snapshots are written, listed, checked, loaded and pruned. A
 * snapshot that cannot be read for want of memory is not taken for a damaged one, and
 * none is removed. */
#include "scarce.h"
#include "snapshots.h"

#include <string.h>

#define COUNT 1000u

static struct tl_fold_config config_of(void) {
    return (struct tl_fold_config){.shards = 1,
                                   .count = COUNT,
                                   .spare_copies = 2,
                                   .optimizer = {.learning_rate = 0.1}};
}

/* A snapshot of version 0; what fails leaves nothing behind. */
static int save(struct tl_store *store, struct tl_fold *f) {
    const struct tl_snapshot_options options = {.part_bytes = 3000, .zstd_level = 1};
    struct tl_manifest meta = snapshots_meta(tl_fold_epoch(f), 0);
    meta.position = tl_fold_position(f);
    struct tl_snapshot_writer *w = NULL;
    struct tl_cut *cut = NULL;
    const void *bytes = NULL;
    size_t size = 0;
    int rc = tl_fold_cut(f, &cut);
    if (rc == 0) {
        rc = tl_snapshot_begin(store, &meta, &options, &w);
    }
    for (size_t i = 0; rc == 0 && tl_cut_segment(cut, i, &bytes, &size); i++) {
        rc = tl_snapshot_write(w, bytes, size);
    }
    if (rc == 0) {
        rc = tl_snapshot_finish(w, NULL);
    } else {
        tl_snapshot_abandon(w);
    }
    tl_cut_release(cut);
    return rc;
}

struct rig {
    char url[TEMPDIR_MAX + 8];
    struct tl_store *store;
    struct tl_fold *fold;
};

static void rig_start(struct rig *rig, struct snapshots *t) {
    static const float zeros[COUNT];
    const struct tl_fold_config config = config_of();
    *rig = (struct rig){.store = t->store};
    (void)snprintf(rig->url, sizeof(rig->url), "file://%s", t->directory);
    assert_int_equal(tl_fold_new(&config, zeros, &rig->fold), 0);
    assert_int_equal(tl_fold_take_over(rig->fold, 1), 0);
}

static void save_two(struct rig *rig) {
    assert_int_equal(save(rig->store, rig->fold), 0);
    assert_int_equal(tl_fold_take_over(rig->fold, 2), 0);
    assert_int_equal(save(rig->store, rig->fold), 0);
}

/* Over what is there: it exists, which is no failure of memory. */
static int write_one(void *ctx) {
    struct rig *rig = ctx;
    int rc = save(rig->store, rig->fold);
    return rc == TL_E_EXISTS ? 0 : rc;
}

static void written(void **state) {
    struct rig rig;
    rig_start(&rig, *state);
    scarce_torture(write_one, &rig);
    tl_fold_free(rig.fold);
}

static void forbid(void *ctx, const char *name, int error, const char *why) {
    (void)ctx;
    scarce_end();
    fail_msg("%s skipped: %s: %s", name, tl_error_name(error), why);
}

static int load(void *ctx) {
    struct rig *rig = ctx;
    const struct tl_fold_config config = config_of();
    const struct tl_manifest expected = snapshots_meta(0, 0);
    struct tl_manifest found = {0};
    struct tl_store *store = NULL;
    struct tl_fold *fold = NULL;
    int rc = tl_store_open(rig->url, NULL, &store);
    if (rc == 0) {
        rc = tl_snapshot_load(store, &expected, &config, forbid, NULL, &fold, &found);
    }
    if (rc == 0) {
        assert_true(found.epoch == 2);
        tl_fold_free(fold);
        tl_manifest_done(&found);
    }
    tl_store_close(store);
    return rc;
}

static void loaded(void **state) {
    struct rig rig;
    rig_start(&rig, *state);
    save_two(&rig);
    scarce_torture(load, &rig);
    tl_fold_free(rig.fold);
}

static int look(void *ctx) {
    struct rig *rig = ctx;
    struct tl_manifest *list = NULL;
    size_t count = 0;
    uint64_t version = 0;
    float weights[COUNT];
    int rc = tl_snapshot_list(rig->store, UINT32_MAX, &list, &count);
    if (rc == 0) {
        assert_int_equal(count, 2);
        assert_int_equal(list[0].part_count > 0 && list[1].part_count > 0, 1);
        rc = tl_snapshot_verify(rig->store, &list[0]);
        tl_manifests_free(list, count);
    }
    if (rc == 0) {
        rc = tl_snapshot_weights(rig->store, COUNT, weights, &version);
    }
    return rc;
}

static void listed_and_verified(void **state) {
    struct rig rig;
    rig_start(&rig, *state);
    save_two(&rig);
    scarce_torture(look, &rig);
    tl_fold_free(rig.fold);
}

static int prune(void *ctx) {
    struct rig *rig = ctx;
    uint32_t removed = 0;
    int rc = tl_snapshot_prune(rig->store, 0, 2, &removed);
    assert_int_equal(removed, 0);
    return rc;
}

static void nothing_is_pruned_that_could_not_be_read(void **state) {
    struct rig rig;
    rig_start(&rig, *state);
    save_two(&rig);
    scarce_torture(prune, &rig);
    assert_int_equal(look(&rig), 0);
    tl_fold_free(rig.fold);
}

#define TEST(name)                                                                     \
    cmocka_unit_test_setup_teardown(name, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(written),
        TEST(loaded),
        TEST(listed_and_verified),
        TEST(nothing_is_pruned_that_could_not_be_read),
    };
    return cmocka_run_group_tests_name("snapshot/memory", tests, NULL, NULL);
}
