/* Metrics: exact under threads, and printed as Prometheus reads them. */
#include "throughline/service.h"

#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *text_now(void) {
    size_t size = 0;
    char *text = tl_metrics_text(TL_METRICS_PROMETHEUS, &size);
    assert_non_null(text);
    assert_int_equal(strlen(text), size);
    return text;
}

static void expect_lines(const char *lines) {
    char *text = text_now();
    if (strstr(text, lines) == NULL) {
        fail_msg("missing:\n%s\nin:\n%s", lines, text);
    }
    free(text);
}

static double value_of(const char *name, const char *labels) {
    char *text = text_now();
    double v = NAN;
    assert_true(tl_metrics_find(text, name, labels, &v));
    free(text);
    return v;
}

static void families_stand_together(void **state) {
    (void)state;
    struct tl_metric *a =
        tl_metric_new(TL_COUNTER, "throughline_a_total", "worker=\"0\"",
                      "Back\\slash and\nnew line.", NULL, 0);
    struct tl_metric *g =
        tl_metric_new(TL_GAUGE, "throughline_g", NULL, "A gauge.", NULL, 0);
    struct tl_metric *b =
        tl_metric_new(TL_COUNTER, "throughline_a_total", "worker=\"1\"",
                      "Back\\slash and\nnew line.", NULL, 0);
    tl_metric_add(a, 2);
    tl_metric_add(b, 0.5);
    tl_metric_set(g, -1e-7);
    expect_lines("# HELP throughline_a_total Back\\\\slash and\\nnew line.\n"
                 "# TYPE throughline_a_total counter\n"
                 "throughline_a_total{worker=\"0\"} 2\n"
                 "throughline_a_total{worker=\"1\"} 0.5\n"
                 "# HELP throughline_g A gauge.\n"
                 "# TYPE throughline_g gauge\n"
                 "throughline_g -1e-07\n");
    assert_true(value_of("throughline_a_total", NULL) == 2.5);
    assert_true(value_of("throughline_a_total", "worker=\"1\"") == 0.5);
}

static void the_same_again_is_the_same(void **state) {
    (void)state;
    struct tl_metric *m =
        tl_metric_new(TL_GAUGE, "throughline_same", "x=\"1\"", "Same.", NULL, 0);
    assert_ptr_equal(
        m, tl_metric_new(TL_GAUGE, "throughline_same", "x=\"1\"", "Same.", NULL, 0));
    assert_ptr_not_equal(
        m, tl_metric_new(TL_GAUGE, "throughline_same", "x=\"2\"", "Same.", NULL, 0));
}

static void histograms_accumulate(void **state) {
    (void)state;
    static const double bounds[] = {0.001, 0.1, 1};
    struct tl_metric *h = tl_metric_new(TL_HISTOGRAM, "throughline_h_seconds",
                                        "op=\"x\"", "Times.", bounds, 3);
    tl_metric_observe(h, 0.001);
    tl_metric_observe(h, 0.05);
    tl_metric_observe(h, 0.5);
    tl_metric_observe(h, 8);
    assert_true(tl_metric_value(h) == 0.001 + 0.05 + 0.5 + 8);
    expect_lines("# TYPE throughline_h_seconds histogram\n"
                 "throughline_h_seconds_bucket{op=\"x\",le=\"0.001\"} 1\n"
                 "throughline_h_seconds_bucket{op=\"x\",le=\"0.1\"} 2\n"
                 "throughline_h_seconds_bucket{op=\"x\",le=\"1\"} 3\n"
                 "throughline_h_seconds_bucket{op=\"x\",le=\"+Inf\"} 4\n"
                 "throughline_h_seconds_sum{op=\"x\"} 8.551\n"
                 "throughline_h_seconds_count{op=\"x\"} 4\n");
}

/* As OpenMetrics 1.0.0 wants it: families of counters without their suffix, units, an
 * end that cannot be cut off unnoticed. */
static void open_metrics_are_spelt(void **state) {
    (void)state;
    size_t size = 0;
    struct tl_metric *c = tl_metric_new(TL_COUNTER, "throughline_open_bytes_total",
                                        "op=\"x\"", "So-called \"bytes\".", NULL, 0);
    tl_metric_add(c, 3);
    char *text = tl_metrics_text(TL_METRICS_OPEN, &size);
    assert_non_null(text);
    static const char *const parts[] = {
        "# HELP throughline_open_bytes So-called \\\"bytes\\\".\n"
        "# TYPE throughline_open_bytes counter\n"
        "# UNIT throughline_open_bytes bytes\n"
        "throughline_open_bytes_total{op=\"x\"} 3\n",
        "# TYPE process_cpu_seconds counter\n"
        "# UNIT process_cpu_seconds seconds\n"
        "process_cpu_seconds_total ",
        "# TYPE process_open_fds gauge\nprocess_open_fds ",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strstr(text, parts[i]) == NULL) {
            fail_msg("missing:\n%s\nin:\n%s", parts[i], text);
        }
    }
    assert_string_equal(text + size - 7, "\n# EOF\n");
    free(text);
}

static void odd_numbers_are_spelt(void **state) {
    (void)state;
    struct tl_metric *g =
        tl_metric_new(TL_GAUGE, "throughline_odd", NULL, "Odd.", NULL, 0);
    tl_metric_set(g, (double)NAN);
    expect_lines("\nthroughline_odd NaN\n");
    tl_metric_set(g, -(double)INFINITY);
    expect_lines("\nthroughline_odd -Inf\n");
    tl_metric_set(g, 0.1);
    expect_lines("\nthroughline_odd 0.1\n");
    tl_metric_set(g, 0.1 + 0.2);
    expect_lines("\nthroughline_odd 0.30000000000000004\n");
    tl_metric_set(g, 813258);
    expect_lines("\nthroughline_odd 813258\n");
}

static void backends_are_counted(void **state) {
    (void)state;
    static const char read_store[] = "backend=\"store\",op=\"read\"";
    tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_READ, 1, 100);
    tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_READ, 0, 23);
    tl_backend_count(TL_BACKEND_REDIS, TL_ACCESS_WRITE, 2, 7);
    assert_true(value_of("throughline_backend_requests_total", read_store) == 1);
    assert_true(value_of("throughline_backend_bytes_total", read_store) == 123);
    assert_true(value_of("throughline_backend_requests_total", "backend=\"redis\"") ==
                2);
    assert_true(value_of("throughline_backend_bytes_total", "backend=\"kafka\"") == 0);
}

/* ---- threads -------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20000 };
static struct tl_metric *shared_counter, *shared_histogram;

static void *count(void *ctx) {
    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        tl_metric_add(shared_counter, 1);
        tl_metric_observe(shared_histogram, 1);
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void **state) {
    (void)state;
    static const double bounds[] = {1};
    pthread_t threads[THREADS];
    shared_counter =
        tl_metric_new(TL_COUNTER, "throughline_shared_total", NULL, "Shared.", NULL, 0);
    shared_histogram =
        tl_metric_new(TL_HISTOGRAM, "throughline_shared", NULL, "Shared.", bounds, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    }
    for (int i = 0; i < 20; i++) { /* read while they write */
        free(text_now());
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(tl_metric_value(shared_counter) == THREADS * ROUNDS);
    assert_true(value_of("throughline_shared_count", NULL) == THREADS * ROUNDS);
    assert_true(value_of("throughline_shared_bucket", "le=\"1\"") == THREADS * ROUNDS);
}

/* ---- the process ---------------------------------------------------------------- */

static void the_process_is_measured(void **state) {
    (void)state;
    double cpu = 0;
    uint64_t resident = 0;
    const double before = value_of("process_open_fds", NULL);
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(value_of("process_open_fds", NULL) == before + 1);
    assert_int_equal(close(fd), 0);
    tl_process_usage(&cpu, &resident);
    for (volatile unsigned i = 0; value_of("process_cpu_seconds_total", NULL) <= cpu;) {
        i++; /* ends as soon as the kernel has counted more */
    }
    assert_true(resident > (1u << 20));
    assert_true(value_of("process_resident_memory_bytes", NULL) > (1u << 20));
    assert_true(value_of("throughline_build_info", "version=\"" TL_VERSION "\"") == 1);
    const double started = value_of("throughline_process_start_time_seconds", NULL);
    const double now = (double)tl_unix_ms() / 1000.0;
    assert_true(started <= now + 0.1 && started > now - 600);
}

/* ---- reading -------------------------------------------------------------------- */

static void samples_are_found_exactly(void **state) {
    (void)state;
    static const char text[] = "# HELP x_total Not 5\n"
                               "x 1\n"
                               "x_total{a=\"}\",b=\"q\\\" 9\"} 3\n"
                               "x_total{a=\"2\"} 4 1700000000\n"
                               "x_total_more 7\n"
                               "broken{a=\"1\" 5\n"
                               "empty \n"
                               "last 2.5e3";
    double v = -1;
    assert_true(tl_metrics_find(text, "x", NULL, &v) && v == 1);
    assert_true(tl_metrics_find(text, "x_total", NULL, &v) && v == 7);
    assert_true(tl_metrics_find(text, "x_total", "a=\"}\"", &v) && v == 3);
    assert_true(tl_metrics_find(text, "last", NULL, &v) && v == 2500);
    v = -1;
    assert_false(tl_metrics_find(text, "x_total", "a=\"5\"", &v));
    assert_false(tl_metrics_find(text, "x", "a", &v));
    assert_false(tl_metrics_find(text, "broken", NULL, &v));
    assert_false(tl_metrics_find(text, "empty", NULL, &v));
    assert_false(tl_metrics_find(text, "absent", NULL, &v));
    assert_false(tl_metrics_find("", "x", NULL, &v));
    assert_true(v == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_stand_together),
        cmocka_unit_test(the_same_again_is_the_same),
        cmocka_unit_test(histograms_accumulate),
        cmocka_unit_test(open_metrics_are_spelt),
        cmocka_unit_test(odd_numbers_are_spelt),
        cmocka_unit_test(backends_are_counted),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(the_process_is_measured),
        cmocka_unit_test(samples_are_found_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
