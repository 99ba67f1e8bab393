/* Log lines: one per event, parseable in both forms, whatever the values hold. */
#include "throughline/service.h"

#include "child.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static struct child child;

/* The last line's fields as an object; fails unless it is whole and JSON. */
static json_t *parse_line(const char *line) {
    json_error_t error;
    json_t *object = json_loads(line, 0, &error);
    if (object == NULL) {
        fail_msg("%s in: %s", error.text, line);
    }
    return object;
}

static const char *string_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "(none)";
}

/* ---- logfmt --------------------------------------------------------------------- */

static int log_logfmt(void *ctx) {
    (void)ctx;
    tl_log_setup("tl-server", "fashion", "r1", 2, 0, TL_INFO);
    tl_log_line(TL_DEBUG, "unseen", NULL);
    tl_log_field("epoch", "7");
    tl_log_field("epoch", "8");
    tl_log_line(TL_WARNING, "two words", "n", tl_text_u64(5), "f",
                tl_text_double(0.5, 3), "i", tl_text_i64(-3), "empty", "", "odd",
                "a \"b\"=c\\\n\x01", NULL);
    return 0;
}

static void logfmt_is_escaped(void **state) {
    (void)state;
    child_run(log_logfmt, NULL, &child);
    assert_int_equal(child.status, 0);
    assert_string_equal(child.out, "");
    assert_memory_equal(child.err, "time=2", 6);
    assert_string_equal(
        strchr(child.err, ' '),
        " level=warning service=tl-server job=fashion run=r1 index=2 epoch=8 "
        "msg=\"two words\" n=5 f=0.500 i=-3 empty=\"\" odd=\"a "
        "\\\"b\\\"=c\\\\\\n\\x01\"\n");
}

/* ---- JSON ----------------------------------------------------------------------- */

static int log_json(void *ctx) {
    (void)ctx;
    tl_log_setup("tl-server", "fashion", "2024", 2, 1, TL_DEBUG);
    tl_log_line(TL_DEBUG, "msg \"x\"\n", "count", tl_text_u64(UINT64_C(1) << 40),
                "rate", tl_text_double(0.25, 4), "digits", "123", "bytes", "caf\xe9",
                NULL);
    return 0;
}

static void json_keeps_types(void **state) {
    (void)state;
    child_run(log_json, NULL, &child);
    json_t *o = parse_line(child.err);
    assert_string_equal(string_of(o, "msg"), "msg \"x\"\n");
    assert_string_equal(string_of(o, "level"), "debug");
    assert_string_equal(string_of(o, "run"), "2024");
    assert_string_equal(string_of(o, "digits"), "123");
    assert_string_equal(string_of(o, "bytes"), "caf?");
    assert_true(json_integer_value(json_object_get(o, "count")) ==
                (json_int_t)UINT64_C(1) << 40);
    assert_true(json_real_value(json_object_get(o, "rate")) == 0.25);
    assert_int_equal(json_integer_value(json_object_get(o, "index")), 2);
    json_decref(o);
}

/* ---- bounds --------------------------------------------------------------------- */

static int log_much(void *ctx) {
    const int format = *(const int *)ctx;
    char text[9000];
    memset(text, '"', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    tl_log_setup("tl-server", "fashion", "r1", 0, format, TL_INFO);
    for (size_t i = 0; i < 12; i++) {
        tl_log_field(text + i * 200, text);
    }
    tl_log_line(TL_INFO, "long", "a", text, "b", text, "c", text, "d", text, "last",
                "here", NULL);
    return 0;
}

static void long_lines_are_cut_and_whole(void **state) {
    (void)state;
    int format = 0;
    child_run(log_much, &format, &child);
    assert_int_equal(child.status, 0);
    const size_t size = strlen(child.err);
    assert_in_range(size, 1000, 4096);
    assert_ptr_equal(strchr(child.err, '\n'), child.err + size - 1);
    assert_non_null(strstr(child.err, "last=here\n"));
    format = 1;
    child_run(log_much, &format, &child);
    assert_in_range(strlen(child.err), 100, 4096);
    json_t *o = parse_line(child.err);
    assert_string_equal(string_of(o, "msg"), "long");
    json_decref(o);
}

enum { THREADS = 4, LINES = 50 };

static void *log_often(void *ctx) {
    (void)ctx;
    for (uint64_t i = 0; i < LINES; i++) {
        tl_log_line(TL_INFO, "line", "i", tl_text_u64(i), NULL);
    }
    return NULL;
}

static int log_from_threads(void *ctx) {
    (void)ctx;
    pthread_t threads[THREADS];
    tl_log_setup("tl-server", "fashion", "r1", 0, 1, TL_INFO);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_often, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    return 0;
}

static void lines_of_threads_stay_whole(void **state) {
    (void)state;
    static struct child many;
    int lines = 0;
    child_run(log_from_threads, NULL, &many);
    /* What fits the capture: whole lines, each of them JSON. */
    for (char *line = many.err, *end; (end = strchr(line, '\n')) != NULL;
         line = end + 1) {
        *end = '\0';
        json_decref(parse_line(line));
        lines++;
    }
    assert_true(lines > THREADS * LINES / 4);
}

static void numbers_have_texts(void **state) {
    (void)state;
    assert_string_equal(tl_text_u64(UINT64_MAX), "18446744073709551615");
    assert_string_equal(tl_text_i64(INT64_MIN), "-9223372036854775808");
    assert_string_equal(tl_text_double(1.0 / 3.0, 2), "0.33");
    assert_true(strlen(tl_text_double(-1e300, 99)) < 32);
    const char *first = tl_text_u64(1);
    for (uint64_t i = 2; i <= 32; i++) {
        (void)tl_text_u64(i);
    }
    assert_string_equal(first, "1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_is_escaped),
        cmocka_unit_test(json_keeps_types),
        cmocka_unit_test(long_lines_are_cut_and_whole),
        cmocka_unit_test(lines_of_threads_stay_whole),
        cmocka_unit_test(numbers_have_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
