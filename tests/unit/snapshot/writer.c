/* Writing: what goes in comes out, in parts of the size asked for; one of two writers
 * wins; a store that fails at any operation leaves the one before and no litter. */
#include "faulty_store.h"
#include "snapshots.h"

static void round_trip(struct tl_store *store, uint64_t version, size_t size,
                       size_t piece, uint64_t part_bytes, uint32_t zstd_level,
                       uint32_t expected_parts) {
    const struct tl_manifest meta = snapshots_meta(1, version);
    const struct tl_snapshot_options options = {.part_bytes = part_bytes,
                                                .zstd_level = zstd_level};
    char *state = snapshots_state(version, size, zstd_level > 0);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    struct snapshots_bytes got = {.bytes = malloc(size), .capacity = size};
    assert_int_equal(snapshots_put(store, &meta, &options, state, size, piece), 0);
    assert_int_equal(tl_snapshot_list(store, 0, &list, &count), 0);
    assert_int_equal(list[0].version, version);
    assert_int_equal(list[0].state_bytes, size);
    assert_int_equal(list[0].zstd, zstd_level > 0);
    if (expected_parts > 0) {
        assert_int_equal(list[0].part_count, expected_parts);
    }
    assert_int_equal(tl_snapshot_check(store, &list[0]), 0);
    assert_int_equal(tl_snapshot_verify(store, &list[0]), 0);
    assert_int_equal(tl_snapshot_read(store, &list[0], snapshots_collect, &got), 0);
    assert_int_equal(got.size, size);
    assert_memory_equal(got.bytes, state, size);
    tl_manifests_free(list, count);
    free(got.bytes);
    free(state);
}

static void states_come_back(void **state) {
    struct snapshots *t = *state;
    round_trip(t->store, 1, 1, 1, 0, 0, 1);
    round_trip(t->store, 2, 4096, 4096, 4096, 0, 1);
    round_trip(t->store, 3, 4097, 100, 4096, 0, 2);
    round_trip(t->store, 4, 12288, 5000, 4096, 0, 3);
    round_trip(t->store, 5, 700000, 65536, 0, 0, 1);
    round_trip(t->store, 6, 700000, 999, 10000, 0, 70);
}

static void compressed_states_come_back_smaller(void **state) {
    struct snapshots *t = *state;
    round_trip(t->store, 1, 1, 1, 0, 1, 1);
    round_trip(t->store, 2, 3000000, 65536, 0, 3, 1);
    round_trip(t->store, 3, 3000000, 65536, 100, 12, 0);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    uint64_t stored = 0;
    assert_int_equal(tl_snapshot_list(t->store, 0, &list, &count), 0);
    for (uint32_t i = 0; i < list[0].part_count; i++) {
        stored += list[0].parts[i].bytes;
    }
    assert_true(list[0].part_count > 1);
    assert_true(stored < list[0].state_bytes / 10u);
    tl_manifests_free(list, count);
}

static void nothing_is_no_snapshot(void **state) {
    struct snapshots *t = *state;
    const struct tl_manifest meta = snapshots_meta(1, 1);
    const struct tl_snapshot_options options = {.part_bytes = 0};
    assert_int_equal(snapshots_put(t->store, &meta, &options, "", 0, 1), TL_E_INVALID);
    assert_int_equal(snapshots_objects(t->store), 0);
}

/* A store that takes everything and keeps nothing: thousands of parts cost nothing. */
static int sink_create(struct tl_store *s, const char *name,
                       struct tl_store_writer **ret_writer) {
    static struct tl_store_writer writer;
    (void)name;
    writer.store = s;
    *ret_writer = &writer;
    return 0;
}

static int sink_write(struct tl_store_writer *w, const void *bytes, size_t size) {
    (void)w;
    (void)bytes;
    (void)size;
    return 0;
}

static int sink_commit(struct tl_store_writer *w, bool if_absent) {
    (void)w;
    (void)if_absent;
    return 0;
}

static int sink_remove(struct tl_store *s, const char *name) {
    (void)s;
    (void)name;
    return 0;
}

static void too_many_parts_are_refused(void **state) {
    static const struct tl_store_ops ops = {.create = sink_create,
                                            .write = sink_write,
                                            .commit = sink_commit,
                                            .remove = sink_remove};
    struct tl_store store = {.ops = &ops};
    const struct tl_manifest meta = snapshots_meta(1, 1);
    const struct tl_snapshot_options options = {.part_bytes = 1};
    char *bytes = snapshots_state(1, TL_PARTS_MAX + 1u, false);
    struct tl_snapshot_writer *w = NULL;
    (void)state;
    assert_int_equal(tl_snapshot_begin(&store, &meta, &options, &w), 0);
    assert_int_equal(tl_snapshot_write(w, bytes, TL_PARTS_MAX), 0);
    assert_int_equal(tl_snapshot_write(w, bytes, 1), TL_E_TOOBIG);
    assert_int_equal(tl_snapshot_write(w, bytes, 1), TL_E_TOOBIG);
    assert_int_equal(tl_snapshot_finish(w, NULL), TL_E_TOOBIG);
    free(bytes);
}

static void one_of_two_writers_wins(void **state) {
    struct snapshots *t = *state;
    const struct tl_manifest meta = snapshots_meta(1, 7);
    const struct tl_snapshot_options options = {.part_bytes = 4096};
    char *bytes = snapshots_state(7, SNAPSHOTS_STATE_BYTES, false);
    struct tl_snapshot_writer *other = NULL;
    assert_int_equal(tl_snapshot_begin(t->store, &meta, &options, &other), 0);
    assert_int_equal(tl_snapshot_write(other, "something else", 14), 0);
    assert_int_equal(snapshots_put_small(t->store, 1, 7), 0);
    assert_int_equal(tl_snapshot_write(other, bytes, SNAPSHOTS_STATE_BYTES), 0);
    assert_int_equal(tl_snapshot_finish(other, NULL), TL_E_EXISTS);
    assert_int_equal(snapshots_objects(t->store), 4);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(tl_snapshot_list(t->store, 0, &list, &count), 0);
    assert_int_equal(count, 1);
    snapshots_expect_small(t->store, &list[0]);
    tl_manifests_free(list, count);
    free(bytes);
}

static void what_is_read_back_differently_is_not_published(void **state) {
    struct snapshots *t = *state;
    const struct tl_manifest meta = snapshots_meta(1, 8);
    const struct tl_snapshot_options options = {.part_bytes = 4096};
    char *bytes = snapshots_state(8, SNAPSHOTS_STATE_BYTES, false);
    struct tl_snapshot_writer *w = NULL;
    assert_int_equal(tl_snapshot_begin(t->store, &meta, &options, &w), 0);
    assert_int_equal(tl_snapshot_write(w, bytes, SNAPSHOTS_STATE_BYTES), 0);
    /* The disk bends a bit of the first part, which is complete by now. */
    char *const paths[] = {t->directory, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    unsigned bent = 0;
    for (FTSENT *e = fts_read(tree); e != NULL; e = fts_read(tree)) {
        if (e->fts_info == FTS_F && strncmp(e->fts_name, "part-0000", 9) == 0) {
            size_t size = 0;
            char *part = file_read(e->fts_accpath, &size);
            part[size / 2] = (char)(part[size / 2] ^ 4);
            file_write(e->fts_accpath, part, size);
            free(part);
            bent++;
        }
    }
    (void)fts_close(tree);
    assert_int_equal(bent, 1);
    assert_int_equal(tl_snapshot_finish(w, NULL), TL_E_CORRUPT);
    assert_non_null(strstr(tl_error_text(), "part-0000"));
    assert_int_equal(snapshots_objects(t->store), 0);
    free(bytes);
}

/* Whether the failed operation was done or not: the one before is still there. After
 * `before`, this one is not, and nothing of it is left over. */
static void a_failing_store_keeps_the_snapshot_before(void **state) {
    struct snapshots *t = *state;
    struct faulty_store f;
    unsigned operations = 0;
    assert_int_equal(snapshots_put_small(t->store, 1, 10), 0);
    faulty_init(&f, t->store);
    assert_int_equal(snapshots_put_small(&f.base, 1, 11), 0);
    operations = f.count;
    assert_true(operations > 10);
    assert_int_equal(snapshots_objects(t->store), 8);
    for (unsigned n = 1; n <= operations; n++) {
        faulty_init(&f, t->store);
        f.due = n;
        f.before = true;
        assert_int_equal(snapshots_put_small(&f.base, 1, 12), TL_E_IO);
        assert_true(f.fired);
        assert_non_null(strstr(tl_error_text(), "of the test's store"));
        assert_int_equal(snapshots_objects(t->store), 8);
        assert_string_equal(snapshots_newest_valid(t->store), "1/11");
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(states_come_back),
        TEST(compressed_states_come_back_smaller),
        TEST(nothing_is_no_snapshot),
        TEST(too_many_parts_are_refused),
        TEST(one_of_two_writers_wins),
        TEST(what_is_read_back_differently_is_not_published),
        TEST(a_failing_store_keeps_the_snapshot_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
