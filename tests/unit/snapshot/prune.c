/* Clean-up: the newest complete snapshots stay, whatever else is in the store. */
#include "faulty_store.h"
#include "snapshot_internal.h"
#include "snapshots.h"

/* The manifests of shard 0, newest first, as "EPOCH/VERSION ...". */
static const char *manifests(struct tl_store *store) {
    static char text[256];
    struct tl_manifest *list = NULL;
    size_t count = 0;
    text[0] = '\0';
    assert_int_equal(tl_snapshot_list(store, 0, &list, &count), 0);
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(text);
        (void)snprintf(text + length, sizeof(text) - length, "%llu/%llu ",
                       (unsigned long long)list[i].epoch,
                       (unsigned long long)list[i].version);
    }
    tl_manifests_free(list, count);
    return text;
}

static uint32_t prune(struct tl_store *store, uint32_t keep) {
    uint32_t removed = 0;
    assert_int_equal(tl_snapshot_prune(store, 0, keep, &removed), 0);
    return removed;
}

static void the_newest_stay(void **state) {
    struct snapshots *t = *state;
    for (uint64_t version = 10; version <= 60; version += 10) {
        assert_int_equal(snapshots_put_small(t->store, 1, version), 0);
    }
    assert_int_equal(prune(t->store, 4), 2);
    assert_string_equal(manifests(t->store), "1/60 1/50 1/40 1/30 ");
    assert_int_equal(snapshots_objects(t->store), 16);
    assert_int_equal(prune(t->store, 4), 0);
}

static void an_epoch_outweighs_versions(void **state) {
    struct snapshots *t = *state;
    assert_int_equal(snapshots_put_small(t->store, 1, 900), 0);
    assert_int_equal(snapshots_put_small(t->store, 2, 800), 0);
    assert_int_equal(snapshots_put_small(t->store, 3, 700), 0);
    assert_int_equal(prune(t->store, 2), 1);
    assert_string_equal(manifests(t->store), "3/700 2/800 ");
}

static void never_fewer_than_two(void **state) {
    struct snapshots *t = *state;
    for (uint64_t version = 10; version <= 30; version += 10) {
        assert_int_equal(snapshots_put_small(t->store, 1, version), 0);
    }
    assert_int_equal(prune(t->store, 0), 1);
    assert_int_equal(prune(t->store, 1), 0);
    assert_string_equal(manifests(t->store), "1/30 1/20 ");
}

/* Damaged ones do not count, and go when they are older than what is kept. */
static void only_complete_ones_count(void **state) {
    struct snapshots *t = *state;
    for (uint64_t version = 10; version <= 60; version += 10) {
        assert_int_equal(snapshots_put_small(t->store, 1, version), 0);
    }
    assert_int_equal(unlink(snapshots_object(t, 1, 60, 1)), 0);
    assert_int_equal(truncate(snapshots_object(t, 1, 50, 0), 100), 0);
    assert_int_equal(truncate(snapshots_object(t, 1, 30, -1), 100), 0);
    assert_int_equal(prune(t->store, 2), 1);
    assert_string_equal(manifests(t->store), "1/60 1/50 1/40 1/30 1/20 ");
    assert_string_equal(snapshots_newest_valid(t->store), "1/40");
    assert_int_equal(snapshots_put_small(t->store, 1, 70), 0);
    assert_int_equal(prune(t->store, 2), 2);
    assert_string_equal(manifests(t->store), "1/70 1/60 1/50 1/40 ");
}

static void other_shards_are_not_touched(void **state) {
    struct snapshots *t = *state;
    for (uint64_t version = 10; version <= 30; version += 10) {
        struct tl_manifest meta = snapshots_meta(1, version);
        const struct tl_snapshot_options options = {.part_bytes = 0};
        meta.shard = 1;
        meta.shards = 2;
        assert_int_equal(snapshots_put(t->store, &meta, &options, "state", 5, 5), 0);
        assert_int_equal(snapshots_put_small(t->store, 1, version), 0);
    }
    assert_int_equal(prune(t->store, 2), 1);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(tl_snapshot_list(t->store, UINT32_MAX, &list, &count), 0);
    assert_int_equal(count, 5);
    assert_int_equal(list[0].shard, 0);
    assert_int_equal(list[0].version, 30);
    assert_int_equal(list[2].shard, 1);
    assert_int_equal(list[2].version, 30);
    tl_manifests_free(list, count);
}

static void put_orphan(struct tl_store *store, uint64_t version) {
    const struct tl_snapshot_key key = {0, version, 1};
    char part[TL_PART_NAME_MAX];
    char name[TL_OBJECT_NAME_MAX];
    struct tl_store_writer *w = NULL;
    tl_part_format(0, 0xabcdef, part);
    tl_name_part(&key, part, name);
    assert_int_equal(store->ops->create(store, name, &w), 0);
    assert_int_equal(store->ops->write(w, "orphan", 6), 0);
    assert_int_equal(store->ops->commit(w, false), 0);
}

/* Orphans older than the newest complete snapshot go; newer ones may be in the making,
 * and so may those of its own name. */
static void old_orphans_go(void **state) {
    struct snapshots *t = *state;
    put_orphan(t->store, 5);
    put_orphan(t->store, 40);
    assert_int_equal(prune(t->store, 2), 0);
    assert_int_equal(snapshots_objects(t->store), 2);
    assert_int_equal(snapshots_put_small(t->store, 1, 20), 0);
    assert_int_equal(snapshots_put_small(t->store, 1, 30), 0);
    put_orphan(t->store, 20);
    put_orphan(t->store, 25);
    put_orphan(t->store, 30);
    assert_int_equal(snapshots_objects(t->store), 8 + 5);
    assert_int_equal(prune(t->store, 2), 0);
    assert_int_equal(snapshots_objects(t->store), 8 + 2);
    assert_string_equal(snapshots_newest_valid(t->store), "1/30");
    assert_int_equal(prune(t->store, 5), 0);
    assert_int_equal(snapshots_objects(t->store), 8 + 2);
}

/* Whether it can be read or not decides nothing. */
static void a_store_that_fails_loses_nothing(void **state) {
    struct snapshots *t = *state;
    struct faulty_store f;
    for (uint64_t version = 10; version <= 40; version += 10) {
        assert_int_equal(snapshots_put_small(t->store, 1, version), 0);
    }
    for (unsigned n = 1; n <= 5; n++) {
        faulty_init(&f, t->store);
        f.due = n;
        f.before = true;
        assert_int_equal(tl_snapshot_prune(&f.base, 0, 2, NULL), TL_E_IO);
        assert_true(f.fired);
        assert_int_equal(snapshots_objects(t->store), 16);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_newest_stay),
        TEST(an_epoch_outweighs_versions),
        TEST(never_fewer_than_two),
        TEST(only_complete_ones_count),
        TEST(other_shards_are_not_touched),
        TEST(old_orphans_go),
        TEST(a_store_that_fails_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
