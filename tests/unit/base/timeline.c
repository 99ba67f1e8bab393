/* The timeline: whole lines from several writers, on one clock. */
#include "throughline/service.h"

#include "child.h"
#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

static json_t *event(const char *name, int n) {
    return json_pack("{s:s, s:i}", "kind", name, "n", n);
}

/* Every line of the file, parsed; fails on a torn one. */
static size_t count_lines(const char *path, json_t **ret_last) {
    char line[70000];
    size_t count = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    *ret_last = NULL;
    while (fgets(line, sizeof(line), f) != NULL) {
        json_decref(*ret_last);
        *ret_last = json_loads(line, 0, NULL);
        if (*ret_last == NULL) {
            fail_msg("torn line: %s", line);
        }
        count++;
    }
    (void)fclose(f);
    return count;
}

static void lines_are_stamped(void **state) {
    (void)state;
    struct tl_timeline *t = NULL;
    json_t *last = NULL;
    char started[32];
    const char *path = scratch_path("one.jsonl");
    (void)snprintf(started, sizeof(started), "%llu",
                   (unsigned long long)tl_unix_ms() - 5000);
    (void)setenv("THROUGHLINE_RUN_STARTED_MS", started, 1);
    assert_int_equal(tl_timeline_open(path, &t), 0);
    assert_int_equal(tl_timeline_write(t, event("event", 3)), 0);
    assert_true(tl_timeline_now(t) >= 5.0 && tl_timeline_now(t) < 15.0);
    tl_timeline_close(t);
    (void)unsetenv("THROUGHLINE_RUN_STARTED_MS");
    assert_int_equal(count_lines(path, &last), 1);
    const double seconds = json_real_value(json_object_get(last, "t"));
    const double unix_time = json_real_value(json_object_get(last, "time"));
    assert_true(seconds >= 4.9 && seconds < 15.0);
    assert_true(unix_time > (double)tl_unix_ms() / 1000.0 - 60);
    assert_int_equal(json_integer_value(json_object_get(last, "n")), 3);
    json_decref(last);
    assert_memory_equal(scratch_read(path), "{\"time\":", 8);
}

static void without_a_start_the_clock_begins_at_open(void **state) {
    (void)state;
    struct tl_timeline *t = NULL;
    assert_int_equal(tl_timeline_open(scratch_path("two.jsonl"), &t), 0);
    assert_true(tl_timeline_now(t) > -0.1 && tl_timeline_now(t) < 10.0);
    tl_timeline_close(t);
    tl_timeline_close(NULL);
}

enum { WRITERS = 3, LINES = 200 };

static int write_lines(void *ctx) {
    struct tl_timeline *t = NULL;
    int failed = tl_timeline_open(ctx, &t) != 0;
    for (int i = 0; i < LINES && !failed; i++) {
        failed = tl_timeline_write(t, event("sample", i)) != 0;
    }
    tl_timeline_close(t);
    return failed;
}

static void several_processes_share_a_file(void **state) {
    (void)state;
    char path[256];
    pid_t pids[WRITERS];
    json_t *last = NULL;
    (void)snprintf(path, sizeof(path), "%s", scratch_path("shared.jsonl"));
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            _exit(write_lines(path));
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count_lines(path, &last), WRITERS * LINES);
    json_decref(last);
}

static void what_is_too_long_is_refused(void **state) {
    (void)state;
    static char text[70000];
    struct tl_timeline *t = NULL;
    json_t *last = NULL;
    const char *path = scratch_path("long.jsonl");
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(tl_timeline_open(path, &t), 0);
    assert_int_equal(tl_timeline_write(t, json_pack("{s:s}", "k", text)), TL_E_TOOBIG);
    assert_int_equal(tl_timeline_write(t, NULL), TL_E_NOMEM);
    assert_int_equal(tl_timeline_write(t, event("event", 1)), 0);
    tl_timeline_close(t);
    assert_int_equal(count_lines(path, &last), 1);
    json_decref(last);
}

/* A file size limit stands for a full disk: the line is torn, then there is room. */
static void a_torn_line_spoils_no_other(void **state) {
    (void)state;
    struct tl_timeline *t = NULL;
    struct rlimit old;
    const char *path = scratch_path("torn.jsonl");
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(tl_timeline_open(path, &t), 0);
    const struct rlimit small = {.rlim_cur = 20, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(tl_timeline_write(t, event("event", 1)), TL_E_IO);
    assert_int_equal(tl_timeline_write(t, event("event", 2)), TL_E_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(tl_timeline_write(t, event("event", 3)), 0);
    tl_timeline_close(t);
    const char *second = strchr(scratch_read(path), '\n');
    assert_non_null(second);
    json_t *line = json_loads(second + 1, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(line, "n")), 3);
    json_decref(line);
}

static void wrong_starts_and_places_are_refused(void **state) {
    (void)state;
    struct tl_timeline *t = NULL;
    (void)setenv("THROUGHLINE_RUN_STARTED_MS", "yesterday", 1);
    assert_int_equal(tl_timeline_open(scratch_path("x.jsonl"), &t), TL_E_CONFIG);
    (void)unsetenv("THROUGHLINE_RUN_STARTED_MS");
    assert_int_equal(tl_timeline_open("/nowhere/t.jsonl", &t), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "/nowhere/t.jsonl"));
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_stamped),
        cmocka_unit_test(without_a_start_the_clock_begins_at_open),
        cmocka_unit_test(several_processes_share_a_file),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(a_torn_line_spoils_no_other),
        cmocka_unit_test(wrong_starts_and_places_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
