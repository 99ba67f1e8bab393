/* Killed in the middle of it: a writer, or a clean-up, dies by SIGKILL around each of
 * its operations in turn; a reader always finds a complete snapshot, the newest there
 * is. */
#include "faulty_store.h"
#include "snapshots.h"

#include <sys/wait.h>

/* Run `body` on a store that kills the process around operation `n`. False: it came to
 * its end before. */
static bool killed_at(struct snapshots *t, unsigned n, bool before,
                      void (*body)(struct tl_store *s)) {
    const pid_t child = fork();
    if (child == 0) {
        struct faulty_store f;
        faulty_init(&f, t->store);
        f.due = n;
        f.before = before;
        f.is_killing = true;
        body(&f.base);
        _exit(0);
    }
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return false;
    }
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return true;
}

static void write_the_second(struct tl_store *s) {
    if (snapshots_put_small(s, 1, 20) != 0) {
        _exit(1);
    }
}

/* Parts and manifest of the second snapshot, as far as they came, out of the way. */
static void forget_the_second(struct snapshots *t) {
    assert_int_equal(snapshots_put_small(t->store, 2, 30), 0);
    assert_int_equal(snapshots_put_small(t->store, 2, 40), 0);
    assert_int_equal(tl_snapshot_prune(t->store, 0, 2, NULL), 0);
    assert_int_equal(t->store->ops->sweep(t->store), 0);
    assert_int_equal(snapshots_objects(t->store), 8);
    assert_string_equal(snapshots_newest_valid(t->store), "2/40");
}

static void a_killed_writer_leaves_the_one_before(void **state) {
    struct snapshots *t = *state;
    unsigned kills = 0;
    unsigned published = 0;
    bool is_killed = true;
    for (unsigned n = 1; is_killed; n++) {
        for (unsigned after = 0; after < 2; after++) {
            tempdir_remove(t->directory);
            snapshots_reopen(t);
            assert_int_equal(snapshots_put_small(t->store, 1, 10), 0);
            is_killed = killed_at(t, n, after == 0, write_the_second);
            const char *newest = snapshots_newest_valid(t->store);
            kills += is_killed;
            published += strcmp(newest, "1/20") == 0;
            /* Only after the last commit, the manifest's, is the new one there. */
            assert_string_equal(newest, published > 0 ? "1/20" : "1/10");
            forget_the_second(t);
        }
    }
    assert_true(kills > 30);
    assert_int_equal(published, 3);
}

static void prune_to_two(struct tl_store *s) {
    if (tl_snapshot_prune(s, 0, 2, NULL) != 0) {
        _exit(1);
    }
}

static void a_killed_clean_up_leaves_the_newest_two(void **state) {
    struct snapshots *t = *state;
    unsigned kills = 0;
    bool is_killed = true;
    for (unsigned n = 1; is_killed; n++) {
        for (unsigned before = 0; before < 2; before++) {
            for (uint64_t version = 10; version <= 50; version += 10) {
                const int r = snapshots_put_small(t->store, 1, version);
                assert_true(r == 0 || r == TL_E_EXISTS);
            }
            is_killed = killed_at(t, n, before == 1, prune_to_two);
            kills += is_killed;
            struct tl_manifest *list = NULL;
            size_t count = 0;
            assert_int_equal(tl_snapshot_list(t->store, 0, &list, &count), 0);
            assert_true(count >= 2);
            for (size_t i = 0; i < count; i++) {
                /* No manifest is ever without its parts. */
                assert_int_equal(tl_snapshot_verify(t->store, &list[i]), 0);
                assert_int_equal(list[i].version, 50 - 10 * i);
            }
            tl_manifests_free(list, count);
            assert_int_equal(tl_snapshot_prune(t->store, 0, 2, NULL), 0);
            assert_int_equal(snapshots_objects(t->store), 8);
        }
    }
    assert_true(kills > 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_killed_writer_leaves_the_one_before),
        TEST(a_killed_clean_up_leaves_the_newest_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
