/* The lines of a run for viewers: in order, whole, bounded, the same for who comes
 * late. */
#include "throughline/page.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

static struct tl_page_feed *feed;

static int start(void **state) {
    (void)state;
    return tl_page_feed_new("{\"kind\":\"hello\"}", &feed);
}

static int stop(void **state) {
    (void)state;
    tl_page_feed_free(feed);
    return 0;
}

static void put_sample(int number, size_t padding) {
    char *line = malloc(padding + 128);
    assert_non_null(line);
    const int n = snprintf(line, 128, "{\"t\":%d,\"kind\":\"sample\",\"x\":\"", number);
    memset(line + n, 'x', padding);
    (void)snprintf(line + n + padding, 8, "\"}");
    tl_page_feed_put(feed, line, strlen(line));
    free(line);
}

static void put_event(int number) {
    char line[128];
    const int n = snprintf(line, sizeof(line), "{\"t\":%d,\"kind\":\"event\"}", number);
    tl_page_feed_put(feed, line, (size_t)n);
}

/* The next event as a string; false: none. */
static bool next(uint64_t *cursor, char *text, size_t size) {
    size_t n = 0;
    char *event = tl_page_feed_next(feed, cursor, &n);
    if (event == NULL) {
        return false;
    }
    assert_true(n >= 8 && memcmp(event, "data: ", 6) == 0);
    assert_memory_equal(event + n - 2, "\n\n", 2);
    (void)snprintf(text, size, "%.*s", (int)(n - 8), event + 6);
    free(event);
    return true;
}

static void lines_come_in_order_after_the_greeting(void **state) {
    (void)state;
    char text[256];
    uint64_t cursor = 0;
    put_sample(1, 0);
    assert_true(next(&cursor, text, sizeof(text)));
    assert_string_equal(text, "{\"kind\":\"hello\"}");
    assert_true(next(&cursor, text, sizeof(text)));
    assert_string_equal(text, "{\"t\":1,\"kind\":\"sample\",\"x\":\"\"}");
    assert_false(next(&cursor, text, sizeof(text)));
    put_event(2);
    assert_true(next(&cursor, text, sizeof(text)));
    assert_string_equal(text, "{\"t\":2,\"kind\":\"event\"}");
    assert_false(next(&cursor, text, sizeof(text)));
}

/* Reads everything from the start: how many lines and bytes; times must rise. */
static size_t read_all(size_t *ret_bytes, double *ret_last) {
    static char text[1 << 17];
    uint64_t cursor = 0;
    size_t lines = 0;
    double before = -1;
    *ret_bytes = 0;
    while (next(&cursor, text, sizeof(text))) {
        const char *t = strstr(text, "\"t\":");
        *ret_bytes += strlen(text);
        if (t != NULL) {
            const double now = strtod(t + 4, NULL);
            assert_true(now > before);
            before = now;
            lines++;
        }
    }
    *ret_last = before;
    return lines;
}

static void many_lines_are_thinned_and_the_whole_run_stays(void **state) {
    (void)state;
    char text[256];
    uint64_t slow = 0;
    assert_true(next(&slow, text, sizeof(text)));
    for (int i = 0; i < 100000; i++) {
        put_sample(2 * i, 10);
        if (i % 100 == 0) {
            put_event(2 * i + 1);
        }
    }
    size_t bytes = 0;
    double last = 0;
    assert_in_range(read_all(&bytes, &last), 500, 4096);
    assert_true(last == 2 * 99999);
    /* Evenly: half of what is left is of the run's first half. Who had stopped reading
     * goes on where it was. */
    size_t early = 0;
    size_t all = 0;
    while (next(&slow, text, sizeof(text))) {
        const bool is_sample = strstr(text, "sample") != NULL;
        all += is_sample;
        early += is_sample && strtod(strstr(text, "\"t\":") + 4, NULL) < 100000;
    }
    assert_in_range(early * 100 / all, 45, 55);
}

static void bytes_are_bounded(void **state) {
    (void)state;
    size_t bytes = 0;
    double last = 0;
    for (int i = 0; i < 1000; i++) {
        put_sample(i, 60000);
    }
    const size_t lines = read_all(&bytes, &last);
    assert_true(bytes <= (2u << 20) + 64);
    assert_true(lines >= 10);
    assert_true(last == 999);
}

static void events_alone_are_bounded_too(void **state) {
    (void)state;
    size_t bytes = 0;
    double last = 0;
    for (int i = 0; i < 20000; i++) {
        put_event(i);
    }
    assert_in_range(read_all(&bytes, &last), 100, 4096);
    assert_true(last == 19999);
}

/* Such as nobody of ours writes. */
static void huge_events_are_bounded_too(void **state) {
    (void)state;
    size_t bytes = 0;
    double last = 0;
    static char line[60000];
    for (int i = 0; i < 200; i++) {
        const int n =
            snprintf(line, sizeof(line), "{\"t\":%d,\"x\":\"%058000d\"}", i, i);
        tl_page_feed_put(feed, line, (size_t)n);
    }
    assert_in_range(read_all(&bytes, &last), 10, 36);
    assert_true(last == 199);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(lines_come_in_order_after_the_greeting),
        CASE(many_lines_are_thinned_and_the_whole_run_stays),
        CASE(bytes_are_bounded),
        CASE(events_alone_are_bounded_too),
        CASE(huge_events_are_bounded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
