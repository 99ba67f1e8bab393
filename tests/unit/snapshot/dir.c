/* The directory store: the contract, and what is a directory's own: leftovers, full
 * disks, rights. */
#include "store_contract.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Every file below the directory, hidden ones too. */
static unsigned files_in(char *directory) {
    char *const paths[] = {directory, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    unsigned count = 0;
    assert_non_null(tree);
    for (FTSENT *e = fts_read(tree); e != NULL; e = fts_read(tree)) {
        count += e->fts_info == FTS_F;
    }
    (void)fts_close(tree);
    return count;
}

static void an_abandoned_object_leaves_nothing(void **state) {
    struct snapshots *t = *state;
    struct tl_store_writer *w = NULL;
    assert_int_equal(t->store->ops->create(t->store, "d/e/f", &w), 0);
    assert_int_equal(files_in(t->directory), 1);
    t->store->ops->abandon(w);
    assert_int_equal(files_in(t->directory), 0);
    assert_int_equal(access(snapshots_path(t, "d"), F_OK), -1);
}

static void removing_takes_empty_directories_along(void **state) {
    struct snapshots *t = *state;
    struct tl_store *s = t->store;
    assert_int_equal(put(s, "p/q/1", "x", true), 0);
    assert_int_equal(put(s, "p/2", "x", true), 0);
    assert_int_equal(s->ops->remove(s, "p/q/1"), 0);
    assert_int_equal(access(snapshots_path(t, "p/q"), F_OK), -1);
    expect(s, "p/2", "x");
    assert_int_equal(s->ops->remove(s, "p/2"), 0);
    assert_int_equal(access(snapshots_path(t, "p"), F_OK), -1);
    assert_int_equal(s->ops->remove(s, "p/2"), 0);
    assert_int_equal(access(t->directory, F_OK), 0);
}

static void a_directory_in_an_objects_place_is_damage(void **state) {
    struct snapshots *t = *state;
    assert_int_equal(mkdir(snapshots_path(t, "x"), 0777), 0);
    assert_int_equal(t->store->ops->read(t->store, "x", snapshots_collect, NULL),
                     TL_E_CORRUPT);
}

/* A child starts an object and is killed in the middle of it; another one goes on. */
static void only_what_the_dead_left_is_swept(void **state) {
    struct snapshots *t = *state;
    struct tl_store *s = t->store;
    struct tl_store_writer *living = NULL;
    const pid_t child = fork();
    if (child == 0) {
        struct tl_store_writer *w = NULL;
        if (s->ops->create(s, "shard/dead", &w) != 0 ||
            s->ops->write(w, "half", 4) != 0) {
            _exit(1);
        }
        (void)kill(getpid(), SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(files_in(t->directory), 1);
    assert_int_equal(s->ops->create(s, "shard/living", &living), 0);
    assert_int_equal(s->ops->write(living, "all", 3), 0);
    assert_int_equal(files_in(t->directory), 2);
    assert_int_equal(s->ops->sweep(s), 0);
    assert_int_equal(files_in(t->directory), 1);
    assert_int_equal(s->ops->commit(living, true), 0);
    expect(s, "shard/living", "all");
}

/* Run `body` in a child; its exit status. */
static int in_child(int (*body)(struct snapshots *t), struct snapshots *t) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(body(t));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* No file may grow beyond 8 KiB: the same path as a full disk. */
static int write_too_much(struct snapshots *t) {
    const struct rlimit limit = {8192, 8192};
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 2;
    }
    const struct tl_manifest meta = snapshots_meta(1, 1);
    const struct tl_snapshot_options options = {.part_bytes = 1u << 20};
    char *bytes = snapshots_state(1, 100000, false);
    const int r = snapshots_put(t->store, &meta, &options, bytes, 100000, 4096);
    free(bytes);
    return r == TL_E_IO &&
                   strstr(tl_error_text(), "cannot write shard-0000/") != NULL &&
                   strstr(tl_error_text(), "make room") != NULL &&
                   files_in(t->directory) == 0
               ? 42
               : 3;
}

static void a_full_store_says_so_and_keeps_nothing(void **state) {
    struct snapshots *t = *state;
    assert_int_equal(in_child(write_too_much, t), 42);
    assert_int_equal(files_in(t->directory), 0);
}

static int write_without_permission(struct snapshots *t) {
    if (geteuid() == 0 &&
        (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)) {
        return 2;
    }
    const int r = put(t->store, "a/b", "x", true);
    return r == TL_E_IO && strstr(tl_error_text(), "Permission denied") != NULL &&
                   strstr(tl_error_text(), "make it writable") != NULL
               ? 42
               : 3;
}

static void a_read_only_store_says_so(void **state) {
    struct snapshots *t = *state;
    assert_int_equal(chmod(t->directory, 0555), 0);
    assert_int_equal(in_child(write_without_permission, t), 42);
    assert_int_equal(chmod(t->directory, 0755), 0);
}

/* "There is nothing" and "it cannot be seen" are not the same: a server would start
 * over from its seed. */
static void a_store_that_went_away_is_not_empty(void **state) {
    struct snapshots *t = *state;
    unsigned count = 0;
    assert_int_equal(put(t->store, "a/b", "x", true), 0);
    tempdir_remove(t->directory);
    assert_int_equal(access(t->directory, F_OK), -1);
    assert_int_equal(t->store->ops->list(t->store, "", snapshots_count_name, &count),
                     TL_E_IO);
    file_write(t->directory, "", 0);
    assert_int_equal(t->store->ops->list(t->store, "", snapshots_count_name, &count),
                     TL_E_IO);
    assert_int_equal(count, 0);
}

static void urls_are_checked(void **state) {
    struct snapshots *t = *state;
    struct tl_store *s = NULL;
    char url[TEMPDIR_MAX + 64];
    assert_int_equal(tl_store_open("file://relative/path", NULL, &s), TL_E_CONFIG);
    assert_int_equal(tl_store_open("/var/lib", NULL, &s), TL_E_CONFIG);
    assert_int_equal(tl_store_open("", NULL, &s), TL_E_CONFIG);
    assert_int_equal(tl_store_open("ftp://host/x", NULL, &s), TL_E_UNSUPPORTED);
    (void)snprintf(url, sizeof(url), "file://%s/new/deep", t->directory);
    assert_int_equal(tl_store_open_existing(url, NULL, &s), TL_E_NOTFOUND);
    assert_int_equal(access(snapshots_path(t, "new"), F_OK), -1);
    assert_int_equal(tl_store_open(url, NULL, &s), 0);
    assert_int_equal(put(s, "x", "y", true), 0);
    tl_store_close(s);
    assert_int_equal(tl_store_open_existing(url, NULL, &s), 0);
    expect(s, "x", "y");
    tl_store_close(s);
    (void)snprintf(url, sizeof(url), "file://%s/new/deep/x", t->directory);
    assert_int_equal(tl_store_open(url, NULL, &s), TL_E_IO);
    assert_non_null(strstr(tl_error_text(), "Not a directory"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, snapshots_setup, snapshots_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_CONTRACT(snapshots_setup, snapshots_teardown),
        TEST(an_abandoned_object_leaves_nothing),
        TEST(removing_takes_empty_directories_along),
        TEST(a_directory_in_an_objects_place_is_damage),
        TEST(only_what_the_dead_left_is_swept),
        TEST(a_full_store_says_so_and_keeps_nothing),
        TEST(a_read_only_store_says_so),
        TEST(a_store_that_went_away_is_not_empty),
        TEST(urls_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
