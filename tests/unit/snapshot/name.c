/* Names of objects: one spelling each, and nothing else is taken for ours. */
#include "snapshot_internal.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static void names_go_both_ways(void **state) {
    static const struct tl_snapshot_key keys[] = {
        {0, 0, 0},
        {3, 1200, 7},
        {12345, UINT64_MAX, UINT64_MAX},
        {UINT32_MAX - 1u, 1, 99999999999u},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char name[TL_OBJECT_NAME_MAX];
        char part[TL_PART_NAME_MAX];
        char found[TL_PART_NAME_MAX];
        struct tl_snapshot_key key;
        tl_name_manifest(&keys[i], name);
        assert_int_equal(tl_store_check_name(name), 0);
        assert_true(tl_name_parse(name, &key, found));
        assert_memory_equal(&key.version, &keys[i].version, sizeof(key.version));
        assert_true(key.epoch == keys[i].epoch && key.shard == keys[i].shard);
        assert_string_equal(found, "");
        tl_part_format(TL_PARTS_MAX - 1u, UINT64_MAX, part);
        tl_name_part(&keys[i], part, name);
        assert_int_equal(tl_store_check_name(name), 0);
        assert_true(tl_name_parse(name, &key, found));
        assert_string_equal(found, part);
    }
}

static void the_layout_is_as_documented(void **state) {
    const struct tl_snapshot_key key = {2, 300, 4};
    char name[TL_OBJECT_NAME_MAX];
    (void)state;
    tl_name_manifest(&key, name);
    assert_string_equal(name,
                        "shard-0002/00000000000000000300-0000000004.manifest.json");
    tl_name_part(&key, "part-0000-00000000000000ff", name);
    assert_string_equal(
        name, "shard-0002/00000000000000000300-0000000004/part-0000-00000000000000ff");
}

static void foreign_names_are_not_ours(void **state) {
    static const char *const names[] = {
        "",
        "shard-",
        "README",
        "shard-0000",
        "shard-0000/",
        "shard-0/00000000000000000300-0000000004.manifest.json",
        "shard-00000/00000000000000000300-0000000004.manifest.json",
        "shard-0000/300-4.manifest.json",
        "shard-0000/00000000000000000300-0000000004.manifest.json.bak",
        "shard-0000/00000000000000000300-0000000004.json",
        "shard-0000/00000000000000000300-.manifest.json",
        "shard-0000/99999999999999999999-0000000004.manifest.json",
        "shard-0000/+0000000000000000300-0000000004.manifest.json",
        "shard-0000/ 0000000000000000300-0000000004.manifest.json",
        "shard-0000/00000000000000000300-0000000004/part-0000",
        "shard-0000/00000000000000000300-0000000004/part-0000-00000000000000FF",
        "shard-0000/00000000000000000300-0000000004/part-000-00000000000000ff",
        "shard-0000/00000000000000000300-0000000004/notes.txt",
        "shard-4294967295/00000000000000000300-0000000004.manifest.json",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct tl_snapshot_key key;
        char part[TL_PART_NAME_MAX];
        if (tl_name_parse(names[i], &key, part)) {
            fail_msg("taken for ours: \"%s\"", names[i]);
        }
    }
}

static void the_epoch_decides_before_the_version(void **state) {
    const struct tl_snapshot_key old = {0, 900, 1};
    const struct tl_snapshot_key resumed = {0, 850, 2};
    const struct tl_snapshot_key next = {0, 851, 2};
    (void)state;
    assert_true(tl_snapshot_compare(&resumed, &old) > 0);
    assert_true(tl_snapshot_compare(&next, &resumed) > 0);
    assert_true(tl_snapshot_compare(&old, &next) < 0);
    assert_int_equal(tl_snapshot_compare(&old, &old), 0);
}

static void a_store_refuses_names_that_lead_elsewhere(void **state) {
    static const char *const names[] = {"",       "/etc/passwd", "a//b",    "../a",
                                        "a/../b", "a/.b",        ".hidden", "a/",
                                        "a b",    "a\nb",        "a\\b"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(tl_store_check_name(names[i]), TL_E_INVALID);
    }
    char longest[TL_OBJECT_NAME_MAX + 1u];
    memset(longest, 'a', sizeof(longest));
    longest[TL_OBJECT_NAME_MAX] = '\0';
    assert_int_equal(tl_store_check_name(longest), TL_E_INVALID);
    longest[TL_OBJECT_NAME_MAX - 1u] = '\0';
    assert_int_equal(tl_store_check_name(longest), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(the_layout_is_as_documented),
        cmocka_unit_test(foreign_names_are_not_ours),
        cmocka_unit_test(the_epoch_decides_before_the_version),
        cmocka_unit_test(a_store_refuses_names_that_lead_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
