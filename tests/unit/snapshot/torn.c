/* Torn and damaged snapshots: each is found, named, and the one before is used. */
#include "snapshots.h"

/* Two snapshots; the newer one is then damaged. */
static void begin(struct snapshots *t) {
    assert_int_equal(snapshots_put_small(t->store, 1, 10), 0);
    assert_int_equal(snapshots_put_small(t->store, 1, 20), 0);
    assert_string_equal(snapshots_newest_valid(t->store), "1/20");
}

/* The newer one does not verify, for this reason; the older one does. */
static void expect_damaged(struct snapshots *t, int error, const char *why) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(tl_snapshot_list(t->store, 0, &list, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].version, 20);
    assert_int_equal(tl_snapshot_verify(t->store, &list[0]), error);
    if (strstr(tl_error_text(), why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", tl_error_text(), why);
    }
    tl_manifests_free(list, count);
    assert_string_equal(snapshots_newest_valid(t->store), "1/10");
}

static void a_missing_part_is_found(void **state) {
    struct snapshots *t = *state;
    begin(t);
    assert_int_equal(unlink(snapshots_object(t, 1, 20, 1)), 0);
    expect_damaged(t, TL_E_NOTFOUND, "part-0001");
}

static void a_truncated_part_is_found(void **state) {
    struct snapshots *t = *state;
    begin(t);
    assert_int_equal(truncate(snapshots_object(t, 1, 20, 2), 1807), 0);
    expect_damaged(t, TL_E_CORRUPT, "1807 bytes instead of 1808");
}

static void an_empty_part_is_found(void **state) {
    struct snapshots *t = *state;
    begin(t);
    assert_int_equal(truncate(snapshots_object(t, 1, 20, 0), 0), 0);
    expect_damaged(t, TL_E_CORRUPT, "part-0000");
}

static void a_part_with_more_behind_it_is_found(void **state) {
    struct snapshots *t = *state;
    begin(t);
    assert_int_equal(truncate(snapshots_object(t, 1, 20, 0), 4097), 0);
    expect_damaged(t, TL_E_CORRUPT, "longer than 4096");
}

static void every_bent_bit_of_a_part_is_found(void **state) {
    struct snapshots *t = *state;
    size_t size = 0;
    char path[1024];
    begin(t);
    (void)snprintf(path, sizeof(path), "%s", snapshots_object(t, 1, 20, 2));
    char *bytes = file_read(path, &size);
    for (size_t i = 0; i < size; i += 37) {
        bytes[i] = (char)(bytes[i] ^ (1 << i % 8u));
        file_write(path, bytes, size);
        expect_damaged(t, TL_E_CORRUPT, "do not match");
        bytes[i] = (char)(bytes[i] ^ (1 << i % 8u));
    }
    file_write(path, bytes, size);
    assert_string_equal(snapshots_newest_valid(t->store), "1/20");
    free(bytes);
}

/* Two whole parts in each other's place: each is intact, the state is not. */
static void swapped_parts_are_found(void **state) {
    struct snapshots *t = *state;
    char first[1024];
    char second[1024];
    size_t size = 0;
    begin(t);
    (void)snprintf(first, sizeof(first), "%s", snapshots_object(t, 1, 20, 0));
    (void)snprintf(second, sizeof(second), "%s", snapshots_object(t, 1, 20, 1));
    char *a = file_read(first, &size);
    char *b = file_read(second, &size);
    file_write(first, b, size);
    file_write(second, a, size);
    free(a);
    free(b);
    expect_damaged(t, TL_E_CORRUPT, "part-0000");
}

static void a_half_written_manifest_is_found(void **state) {
    struct snapshots *t = *state;
    size_t size = 0;
    char path[1024];
    begin(t);
    (void)snprintf(path, sizeof(path), "%s", snapshots_object(t, 1, 20, -1));
    char *bytes = file_read(path, &size);
    for (size_t length = 1; length < size; length += 29) {
        file_write(path, bytes, length);
        expect_damaged(t, TL_E_CORRUPT, "manifest.json");
    }
    file_write(path, bytes, 0);
    expect_damaged(t, TL_E_CORRUPT, "is empty");
    free(bytes);
}

static void a_bent_manifest_is_found(void **state) {
    struct snapshots *t = *state;
    size_t size = 0;
    char path[1024];
    begin(t);
    (void)snprintf(path, sizeof(path), "%s", snapshots_object(t, 1, 20, -1));
    char *bytes = file_read(path, &size);
    char *digit = strstr(bytes, "\"position\": 25");
    assert_non_null(digit);
    digit[sizeof("\"position\": 25") - 2u] = '4';
    file_write(path, bytes, size);
    expect_damaged(t, TL_E_CORRUPT, "check");
    free(bytes);
}

static void a_manifest_under_another_name_is_found(void **state) {
    struct snapshots *t = *state;
    size_t size = 0;
    char path[1024];
    begin(t);
    char *bytes = file_read(snapshots_object(t, 1, 10, -1), &size);
    (void)snprintf(path, sizeof(path), "%s", snapshots_object(t, 1, 20, -1));
    file_write(path, bytes, size);
    expect_damaged(t, TL_E_CORRUPT, "another snapshot");
    free(bytes);
}

static void a_boundless_manifest_is_not_read(void **state) {
    struct snapshots *t = *state;
    begin(t);
    assert_int_equal(truncate(snapshots_object(t, 1, 20, -1), 1L << 40), 0);
    expect_damaged(t, TL_E_CORRUPT, "longer than");
}

/* A frame that says less than the state it is part of, and one that says more. */
static void damaged_compression_is_found(void **state) {
    struct snapshots *t = *state;
    const struct tl_manifest meta = snapshots_meta(1, 20);
    const struct tl_snapshot_options options = {.zstd_level = 3};
    char *bytes = snapshots_state(20, 100000, true);
    assert_int_equal(snapshots_put_small(t->store, 1, 10), 0);
    assert_int_equal(snapshots_put(t->store, &meta, &options, bytes, 100000, 4096), 0);
    assert_string_equal(snapshots_newest_valid(t->store), "1/20");
    size_t size = 0;
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s", snapshots_object(t, 1, 20, 0));
    char *part = file_read(path, &size);
    for (size_t i = 0; i < size; i += 3) {
        part[i] = (char)(part[i] ^ 0x10);
        file_write(path, part, size);
        assert_string_equal(snapshots_newest_valid(t->store), "1/10");
        part[i] = (char)(part[i] ^ 0x10);
    }
    free(part);
    free(bytes);
}

static void foreign_files_are_let_alone(void **state) {
    struct snapshots *t = *state;
    uint32_t removed = 0;
    begin(t);
    file_write(snapshots_path(t, "README"), "hello", 5);
    file_write(snapshots_path(t, "shard-0000/notes.manifest.json"), "{}", 2);
    file_write(snapshots_path(t, "shard-0000/.DS_Store"), "x", 1);
    assert_string_equal(snapshots_newest_valid(t->store), "1/20");
    assert_int_equal(snapshots_put_small(t->store, 1, 30), 0);
    assert_int_equal(tl_snapshot_prune(t->store, 0, 2, &removed), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(access(snapshots_path(t, "README"), F_OK), 0);
    assert_int_equal(access(snapshots_path(t, "shard-0000/notes.manifest.json"), F_OK),
                     0);
    assert_int_equal(access(snapshots_path(t, "shard-0000/.DS_Store"), F_OK), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_missing_part_is_found),
        TEST(a_truncated_part_is_found),
        TEST(an_empty_part_is_found),
        TEST(a_part_with_more_behind_it_is_found),
        TEST(every_bent_bit_of_a_part_is_found),
        TEST(swapped_parts_are_found),
        TEST(a_half_written_manifest_is_found),
        TEST(a_bent_manifest_is_found),
        TEST(a_manifest_under_another_name_is_found),
        TEST(a_boundless_manifest_is_not_read),
        TEST(damaged_compression_is_found),
        TEST(foreign_files_are_let_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
