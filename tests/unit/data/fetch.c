/* datasets/fetch: what it leaves is complete and right, or is not there. The script
 * runs from a folder of its own, with the sums of small files, and asks a mirror beside
 * it. */
#include "test.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char images[] = "images of training\n";
static const char labels[] = "labels of training\n";
static const char sums[] =
    "71cba5eacdef48b44d8bc42e2bd09c8c1f10eb93cb97b2f26cbf721552e2bc56  images.gz\n"
    "269bf526dc27b01a9abb66edfcb149ee4be75772a3941115f4de7ea41330a4d4  labels.gz\n";

static char folder[64];

/* `name` in the test's folder; good until the fourth call after it. */
static const char *in_folder(const char *name) {
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static bool exists(const char *name) {
    return access(in_folder(name), F_OK) == 0;
}

/* The text of a file; good until the next call. */
static const char *contents(const char *name) {
    static char found[1024];
    FILE *f = fopen(in_folder(name), "rb");
    assert_non_null(f);
    size_t size = fread(found, 1, sizeof(found) - 1, f);
    assert_int_equal(fclose(f), 0);
    found[size] = '\0';
    return found;
}

static void expect_file(const char *name, const char *text) {
    assert_string_equal(contents(name), text);
}

/* Run a program in the child: its exit status, its output in "output". */
static int run(char *const argv[]) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int out = open(in_folder("output"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (out >= 0 && dup2(out, 1) >= 0 && dup2(out, 2) >= 0) {
            (void)execvp(argv[0], argv);
        }
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int fetch(void) {
    char script[128], into[128];
    (void)snprintf(script, sizeof(script), "%s/fetch", folder);
    (void)snprintf(into, sizeof(into), "%s/got", folder);
    return run((char *[]){"sh", script, "mnist", into, NULL});
}

static void expect_output(const char *text) {
    assert_non_null(strstr(contents("output"), text));
}

static void expect_all(void) {
    expect_file("got/images.gz", images);
    expect_file("got/labels.gz", labels);
    assert_false(exists("got/images.gz.part"));
    assert_false(exists("got/labels.gz.part"));
}

static void right_files_are_fetched_once(void **state) {
    (void)state;
    assert_int_equal(fetch(), 0);
    expect_all();
    assert_int_equal(unlink(in_folder("mirror/images.gz")), 0);
    assert_int_equal(fetch(), 0);
    expect_all();
}

static void wrong_contents_are_refused(void **state) {
    (void)state;
    write_file("mirror/labels.gz", "labels of somebody\n");
    assert_int_equal(fetch(), 1);
    expect_output("SHA-256 is not the published one");
    expect_file("got/images.gz", images);
    assert_false(exists("got/labels.gz"));
    assert_false(exists("got/labels.gz.part"));
    write_file("mirror/labels.gz", labels);
    assert_int_equal(fetch(), 0);
    expect_all();
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    assert_int_equal(unlink(in_folder("mirror/images.gz")), 0);
    assert_int_equal(fetch(), 1);
    expect_output("images.gz: could not be fetched");
    assert_false(exists("got/images.gz.part"));
}

static void a_broken_transfer_goes_on(void **state) {
    (void)state;
    assert_int_equal(mkdir(in_folder("got"), 0700), 0);
    write_file("got/images.gz.part", "images of ");
    assert_int_equal(fetch(), 0);
    expect_all();
}

/* A remainder of some other file, shorter or longer than the right one. */
static void a_wrong_remainder_is_dropped(void **state) {
    (void)state;
    assert_int_equal(mkdir(in_folder("got"), 0700), 0);
    write_file("got/images.gz.part", "quite ");
    write_file("got/labels.gz.part", "something that is longer than the right file\n");
    assert_int_equal(fetch(), 0);
    expect_all();
}

static void a_foreign_file_is_left_alone(void **state) {
    (void)state;
    assert_int_equal(mkdir(in_folder("got"), 0700), 0);
    write_file("got/images.gz", "mine\n");
    assert_int_equal(fetch(), 1);
    expect_file("got/images.gz", "mine\n");
}

static void unknown_sets_are_refused(void **state) {
    (void)state;
    char script[128];
    (void)snprintf(script, sizeof(script), "%s/fetch", folder);
    assert_int_equal(run((char *[]){"sh", script, "imagenet", NULL}), 2);
    assert_int_equal(run((char *[]){"sh", script, NULL}), 2);
}

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/throughline-test-XXXXXX");
    char url[128];
    if (mkdtemp(folder) == NULL || mkdir(in_folder("mirror"), 0700) != 0) {
        return -1;
    }
    (void)snprintf(url, sizeof(url), "file://%s/mirror", folder);
    write_file("mnist.sha256", sums);
    write_file("mirror/images.gz", images);
    write_file("mirror/labels.gz", labels);
    (void)setenv("THROUGHLINE_DATASETS_URL", url, 1);
    return run((char *[]){"cp", TL_SOURCE_DIR "/datasets/fetch", folder, NULL});
}

static int remove_folder(void **state) {
    (void)state;
    char path[64];
    (void)snprintf(path, sizeof(path), "%s", folder);
    return run((char *[]){"rm", "-r", path, NULL});
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(right_files_are_fetched_once), TEST(wrong_contents_are_refused),
        TEST(a_missing_file_is_named),      TEST(a_broken_transfer_goes_on),
        TEST(a_wrong_remainder_is_dropped), TEST(a_foreign_file_is_left_alone),
        TEST(unknown_sets_are_refused),
    };
    return cmocka_run_group_tests_name("data/fetch", tests, NULL, NULL);
}
