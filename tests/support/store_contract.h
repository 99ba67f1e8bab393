/* store_contract.h - what every kind of store must do, as tests. The state of a test
 * begins with a pointer to an empty store: STORE_CONTRACT(setup, teardown) in its list
 * of tests. */
#ifndef STORE_CONTRACT_H
#define STORE_CONTRACT_H

#include "snapshots.h"

/* Write an object at once, and see to it that it is there. */
static inline int put(struct tl_store *s, const char *name, const char *text,
                      bool if_absent) {
    struct tl_store_writer *w = NULL;
    int r = s->ops->create(s, name, &w);
    if (r == 0) {
        r = s->ops->write(w, text, strlen(text));
        if (r < 0) {
            s->ops->abandon(w);
            return r;
        }
        r = s->ops->commit(w, if_absent);
    }
    return r == 0 ? tl_store_settle(s, false) : r;
}

static inline void expect(struct tl_store *s, const char *name, const char *text) {
    char bytes[64] = "";
    struct snapshots_bytes got = {.bytes = bytes, .capacity = sizeof(bytes)};
    assert_int_equal(s->ops->read(s, name, snapshots_collect, &got), 0);
    assert_int_equal(got.size, strlen(text));
    assert_memory_equal(bytes, text, got.size);
}

static inline struct tl_store *store_of(void **state) {
    return **(struct tl_store ***)state;
}

static inline void contract_visible_when_committed(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_store_writer *w = NULL;
    char bytes[64];
    struct snapshots_bytes got = {.bytes = bytes, .capacity = sizeof(bytes)};
    assert_int_equal(s->ops->create(s, "a/b/c", &w), 0);
    assert_int_equal(s->ops->write(w, "half", 4), 0);
    assert_int_equal(s->ops->read(s, "a/b/c", snapshots_collect, &got), TL_E_NOTFOUND);
    assert_int_equal(snapshots_objects(s), 0);
    assert_int_equal(s->ops->write(w, " whole", 6), 0);
    assert_int_equal(s->ops->commit(w, true), 0);
    expect(s, "a/b/c", "half whole");
    assert_int_equal(snapshots_objects(s), 1);
}

static inline void contract_if_absent_keeps_the_first(void **state) {
    struct tl_store *s = store_of(state);
    assert_int_equal(put(s, "x", "first", true), 0);
    assert_int_equal(put(s, "x", "second", true), TL_E_EXISTS);
    expect(s, "x", "first");
    assert_int_equal(put(s, "x", "third", false), 0);
    expect(s, "x", "third");
    assert_int_equal(put(s, "x", "third", true), TL_E_EXISTS);
    assert_int_equal(snapshots_objects(s), 1);
}

static inline void contract_abandoned_leaves_nothing(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_store_writer *w = NULL;
    assert_int_equal(s->ops->create(s, "d/e/f", &w), 0);
    assert_int_equal(s->ops->write(w, "never", 5), 0);
    s->ops->abandon(w);
    assert_int_equal(tl_store_settle(s, false), 0);
    assert_int_equal(snapshots_objects(s), 0);
}

static inline int contract_concatenate(void *ctx, const char *name, uint64_t size) {
    char *text = ctx;
    const size_t length = strlen(text);
    (void)snprintf(text + length, 256 - length, "%s:%llu ", name,
                   (unsigned long long)size);
    return strcmp(name, "stop") == 0 ? 17 : 0;
}

static inline void contract_list(struct tl_store *s, const char *prefix, int result,
                                 const char *right) {
    char text[256] = "";
    assert_int_equal(s->ops->list(s, prefix, contract_concatenate, text), result);
    assert_string_equal(text, right);
}

static inline void contract_names_in_byte_order(void **state) {
    static const char *const names[] = {"b/2", "b.1", "a", "b/10", "b-1/x", "c/d"};
    struct tl_store *s = store_of(state);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(put(s, names[i], "12345", true), 0);
    }
    contract_list(s, "", 0, "a:5 b-1/x:5 b.1:5 b/10:5 b/2:5 c/d:5 ");
    contract_list(s, "b/", 0, "b/10:5 b/2:5 ");
    contract_list(s, "b", 0, "b-1/x:5 b.1:5 b/10:5 b/2:5 ");
    contract_list(s, "nothing/", 0, "");
    assert_int_equal(put(s, "stop", "", true), 0);
    assert_int_equal(put(s, "stop-2", "", true), 0);
    contract_list(s, "s", 17, "stop:0 ");
}

static inline void contract_removed_is_gone(void **state) {
    struct tl_store *s = store_of(state);
    assert_int_equal(put(s, "p/q/1", "x", true), 0);
    assert_int_equal(put(s, "p/2", "y", true), 0);
    assert_int_equal(s->ops->remove(s, "p/q/1"), 0);
    contract_list(s, "", 0, "p/2:1 ");
    assert_int_equal(s->ops->read(s, "p/q/1", snapshots_collect, NULL), TL_E_NOTFOUND);
    assert_int_equal(s->ops->remove(s, "p/q/1"), 0);
    assert_int_equal(put(s, "p/q/1", "again", true), 0);
    expect(s, "p/q/1", "again");
}

static inline void contract_bad_names_are_refused(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_store_writer *w = NULL;
    assert_int_equal(s->ops->create(s, "../out", &w), TL_E_INVALID);
    assert_int_equal(s->ops->read(s, "/etc/passwd", snapshots_collect, NULL),
                     TL_E_INVALID);
    assert_int_equal(s->ops->remove(s, "a/../../b"), TL_E_INVALID);
}

/* What a sink returns ends the reading, and is returned. */
static inline int contract_refuse(void *ctx, const void *bytes, size_t size) {
    (void)ctx;
    (void)bytes;
    (void)size;
    return tl_fail(TL_E_LIMIT, "enough");
}

static inline void contract_a_sink_can_stop(void **state) {
    struct tl_store *s = store_of(state);
    assert_int_equal(put(s, "x", "something", true), 0);
    assert_int_equal(s->ops->read(s, "x", contract_refuse, NULL), TL_E_LIMIT);
    assert_string_equal(tl_error_text(), "enough");
    expect(s, "x", "something");
}

static inline void contract_sweeping_leaves_objects(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_store_writer *w = NULL;
    assert_int_equal(put(s, "x", "whole", true), 0);
    assert_int_equal(s->ops->create(s, "y", &w), 0);
    assert_int_equal(s->ops->write(w, "open", 4), 0);
    assert_int_equal(s->ops->sweep(s), 0);
    assert_int_equal(s->ops->commit(w, true), 0);
    expect(s, "x", "whole");
    expect(s, "y", "open");
}

/* Snapshots: written, listed, read, verified, pruned. */
static inline void contract_snapshots(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    uint32_t removed = 0;
    for (uint64_t version = 10; version <= 40; version += 10) {
        assert_int_equal(snapshots_put_small(s, 1, version), 0);
    }
    assert_int_equal(snapshots_put_small(s, 1, 40), TL_E_EXISTS);
    assert_int_equal(tl_snapshot_list(s, 0, &list, &count), 0);
    assert_int_equal(count, 4);
    assert_int_equal(list[0].version, 40);
    snapshots_expect_small(s, &list[0]);
    snapshots_expect_small(s, &list[3]);
    tl_manifests_free(list, count);
    assert_int_equal(snapshots_objects(s), 16);
    assert_int_equal(tl_snapshot_prune(s, 0, 2, &removed), 0);
    assert_int_equal(removed, 2);
    assert_int_equal(snapshots_objects(s), 8);
    assert_string_equal(snapshots_newest_valid(s), "1/40");
}

/* Damage of each kind is found, and the snapshot before is used. */
static inline void contract_damage_is_found(void **state) {
    struct tl_store *s = store_of(state);
    char names[3][TL_OBJECT_NAME_MAX * 2];
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(snapshots_put_small(s, 1, 10), 0);
    assert_int_equal(snapshots_put_small(s, 1, 20), 0);
    assert_int_equal(tl_snapshot_list(s, 0, &list, &count), 0);
    for (size_t i = 0; i < 3; i++) {
        char name[TL_OBJECT_NAME_MAX];
        tl_snapshot_name(&list[0], name);
        (void)snprintf(names[i], sizeof(names[i]), "%s/%s", name,
                       list[0].parts[i].name);
    }
    tl_manifests_free(list, count);
    assert_int_equal(put(s, names[2], "shorter", false), 0);
    assert_string_equal(snapshots_newest_valid(s), "1/10");
    assert_int_equal(s->ops->remove(s, names[1]), 0);
    assert_string_equal(snapshots_newest_valid(s), "1/10");
    assert_int_equal(tl_snapshot_prune(s, 0, 2, NULL), 0);
    assert_string_equal(snapshots_newest_valid(s), "1/10");
}

#define STORE_CONTRACT(setup, teardown)                                                \
    cmocka_unit_test_setup_teardown(contract_visible_when_committed, setup, teardown), \
        cmocka_unit_test_setup_teardown(contract_if_absent_keeps_the_first, setup,     \
                                        teardown),                                     \
        cmocka_unit_test_setup_teardown(contract_abandoned_leaves_nothing, setup,      \
                                        teardown),                                     \
        cmocka_unit_test_setup_teardown(contract_names_in_byte_order, setup,           \
                                        teardown),                                     \
        cmocka_unit_test_setup_teardown(contract_removed_is_gone, setup, teardown),    \
        cmocka_unit_test_setup_teardown(contract_bad_names_are_refused, setup,         \
                                        teardown),                                     \
        cmocka_unit_test_setup_teardown(contract_a_sink_can_stop, setup, teardown),    \
        cmocka_unit_test_setup_teardown(contract_sweeping_leaves_objects, setup,       \
                                        teardown),                                     \
        cmocka_unit_test_setup_teardown(contract_snapshots, setup, teardown),          \
        cmocka_unit_test_setup_teardown(contract_damage_is_found, setup, teardown)

#endif
