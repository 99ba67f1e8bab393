/* How a service starts, seen from outside: arguments in; exit code and lines out. */
#include "throughline/service.h"

#include "child.h"
#include "scratch.h"

struct extra {
    uint32_t pace;
};
static const struct tl_option extra_options[] = {
    {.name = "pace",
     .type = TL_OPT_U32,
     .offset = offsetof(struct extra, pace),
     .fallback = "4",
     .min = 1,
     .max = 9,
     .doc = "How fast."},
};
static const struct tl_option_table extra_table = {extra_options, 1};

static struct child child;

/* A service that says what it was started with. */
static int service(void *ctx) {
    char *const *arguments = ctx;
    char *argv[16] = {"tl-test"};
    int argc = 1;
    struct tl_service_options o;
    struct extra extra;
    struct tl_job job;
    for (; arguments[argc - 1] != NULL; argc++) {
        argv[argc] = arguments[argc - 1];
    }
    tl_service_start("tl-test", "a test", argc, argv, &extra_table, &extra, &o, &job);
    (void)printf(
        "job=%s run=%s http=%s index=%u pace=%u batch=%u momentum=%g images=%s",
        job.name, o.run, o.http, o.index, extra.pace, job.batch, job.momentum,
        job.train_images);
    tl_job_done(&job);
    return 0;
}

#define START(...) child_run(service, (char *[]){__VA_ARGS__, NULL}, &child)

static char *job_path(void) {
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/job.json", scratch);
    return path;
}

static void expect_refused(const char *line) {
    assert_int_equal(child.status, TL_EXIT_CONFIG);
    assert_string_equal(child.out, "");
    assert_string_equal(child.err, line);
}

static void help_and_version_are_answered(void **state) {
    (void)state;
    START("--nonsense", "--help");
    assert_int_equal(child.status, 0);
    assert_memory_equal(child.out, "tl-test - a test\n", 17);
    assert_non_null(strstr(child.out, "--pace N\n      How fast.\n      default 4;"));
    assert_non_null(strstr(child.out, "--log-format WORD"));
    assert_non_null(strstr(child.out, "--optimizer-learning-rate NUMBER"));
    START("--version");
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "tl-test " TL_VERSION "\n");
    START("--help-flags");
    assert_non_null(strstr(child.out, "--pace\n"));
    assert_non_null(strstr(child.out, "--no-optimizer-nesterov\n"));
    START("--help-markdown");
    assert_non_null(strstr(child.out, "## tl-test\n"));
    assert_non_null(strstr(child.out, "| `pace` | whole number | `4` |"));
}

/* As a container's health check asks, while the service answers in another process. */
static void a_service_is_asked_whether_it_is_ready(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* a child of a process with threads: the leak check cannot tell */
#endif
    struct tl_http *http = NULL;
    char address[TL_NAME_MAX * 4];
    assert_int_equal(tl_http_start("127.0.0.1:0", NULL, &http, address), 0);
    (void)setenv("THROUGHLINE_HTTP", address, 1);
    tl_health_ready("joining");
    START("--ready");
    assert_int_equal(child.status, TL_EXIT_FAILED);
    assert_memory_equal(child.err, "tl-test: not ready: ", 20);
    tl_health_ready(NULL);
    START("--ready");
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
    tl_http_stop(http);
    START("--ready");
    assert_int_equal(child.status, TL_EXIT_FAILED);
    (void)unsetenv("THROUGHLINE_HTTP");
}

static void everything_finds_its_place(void **state) {
    (void)state;
    char expected[512];
    START("--run", "r2", "--pace=7", job_path(), "--batch", "64", "--http", "off");
    (void)snprintf(expected, sizeof(expected),
                   "job=fashion run=r2 http=off index=0 pace=7 batch=64 momentum=0.9 "
                   "images=%s/data/a",
                   scratch);
    assert_string_equal(child.err, "");
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, expected);
}

static void flags_go_before_variables_before_the_file(void **state) {
    (void)state;
    (void)setenv("THROUGHLINE_BATCH", "16", 1);
    (void)setenv("THROUGHLINE_PACE", "9", 1);
    (void)setenv("THROUGHLINE_JOB", job_path(), 1);
    START("--pace", "2");
    assert_int_equal(child.status, 0);
    assert_non_null(strstr(child.out, "pace=2 batch=16 "));
    START("--batch", "8");
    assert_non_null(strstr(child.out, "pace=9 batch=8 "));
    (void)unsetenv("THROUGHLINE_BATCH");
    (void)unsetenv("THROUGHLINE_PACE");
    START("--index=3");
    assert_non_null(strstr(child.out, "index=3 pace=4 batch=24 "));
    (void)unsetenv("THROUGHLINE_JOB");
}

static void mistakes_are_one_line(void **state) {
    (void)state;
    char line[512];
    START("--index", "1");
    expect_refused("tl-test: no job file: give --job FILE or THROUGHLINE_JOB\n");
    START(job_path(), "--optimizer-lerning-rate", "0.1");
    expect_refused("tl-test: --optimizer-lerning-rate is not known; did you mean "
                   "--optimizer-learning-rate?\n");
    START(job_path(), "--colour=blue");
    expect_refused("tl-test: --colour is not known; --help lists the options\n");
    START(job_path(), "--pace", "10");
    expect_refused("tl-test: --pace must be a whole number from 1 to 9, not \"10\"\n");
    START(job_path(), "again.json");
    expect_refused(
        "tl-test: one job file, please: \"again.json\" is a second argument\n");
    START(job_path(), "--run", "Run 1");
    expect_refused("tl-test: --run must be lower-case letters, digits and dashes, not "
                   "\"Run 1\"\n");
    START(job_path(), "--until-updates", "0");
    (void)snprintf(line, sizeof(line),
                   "tl-test: %s: the job has no end: give \"until.updates\", "
                   "\"until.seconds\" or \"until.accuracy\"\n",
                   job_path());
    expect_refused(line);
    START("/nowhere/job.json");
    expect_refused("tl-test: /nowhere/job.json: cannot be opened: No such file or "
                   "directory\n");
}

static void a_misspelt_variable_is_logged(void **state) {
    (void)state;
    (void)setenv("THROUGHLINE_WORKER", "3", 1);
    (void)setenv("THROUGHLINE_REDIS_SERVICE_HOST", "10.0.0.1", 1);
    START(job_path());
    assert_int_equal(child.status, 0);
    assert_non_null(strstr(child.err, "variable=THROUGHLINE_WORKER "
                                      "did_you_mean=THROUGHLINE_WORKERS\n"));
    assert_null(strstr(child.err, "REDIS"));
    (void)unsetenv("THROUGHLINE_WORKER");
    (void)unsetenv("THROUGHLINE_REDIS_SERVICE_HOST");
}

static void a_pod_knows_its_number(void **state) {
    (void)state;
    (void)setenv("HOSTNAME", "server-2", 1);
    START(job_path());
    assert_non_null(strstr(child.out, " index=0 "));
    (void)setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
    START(job_path());
    assert_non_null(strstr(child.out, " index=2 "));
    (void)setenv("HOSTNAME", "monitor-5d4f-x2v9k", 1);
    START(job_path());
    assert_non_null(strstr(child.out, " index=0 "));
    (void)setenv("JOB_COMPLETION_INDEX", "5", 1);
    START(job_path());
    assert_non_null(strstr(child.out, " index=5 "));
    START(job_path(), "--index", "6");
    assert_non_null(strstr(child.out, " index=6 "));
    (void)setenv("JOB_COMPLETION_INDEX", "five", 1);
    START(job_path());
    assert_int_equal(child.status, TL_EXIT_CONFIG);
    assert_non_null(strstr(child.err, "JOB_COMPLETION_INDEX"));
    (void)unsetenv("JOB_COMPLETION_INDEX");
    (void)unsetenv("KUBERNETES_SERVICE_HOST");
}

static int setup(void **state) {
    if (scratch_setup(state) != 0) {
        return -1;
    }
    (void)scratch_write("job.json",
                        "{\"name\": \"fashion\", \"model\": {\"layers\": []}, "
                        "\"batch\": 24, \"data\": {"
                        "\"train_images\": \"data/a\", \"train_labels\": \"data/b\", "
                        "\"test_images\": \"data/c\", \"test_labels\": \"data/d\"}, "
                        "\"optimizer\": {\"momentum\": 0.9}, \"strategy\": \"none\", "
                        "\"until\": {\"updates\": 100}}");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_are_answered),
        cmocka_unit_test(a_service_is_asked_whether_it_is_ready),
        cmocka_unit_test(everything_finds_its_place),
        cmocka_unit_test(flags_go_before_variables_before_the_file),
        cmocka_unit_test(mistakes_are_one_line),
        cmocka_unit_test(a_misspelt_variable_is_logged),
        cmocka_unit_test(a_pod_knows_its_number),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
