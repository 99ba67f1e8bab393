/* The table of errors, the text of the last failure, and the exit codes. */
#include "throughline/service.h"

#include "test.h"

#include <pthread.h>
#include <string.h>

static void every_code_has_its_texts(void **state) {
    (void)state;
    size_t seen = 0;
#define CHECK(name, value, retriable, text)                                            \
    assert_string_equal(tl_error_name(-(value)), #name);                               \
    assert_string_equal(tl_error_string(-(value)), text);                              \
    assert_int_equal(tl_error_retriable(-(value)), retriable);                         \
    seen++;
    TL_ERRORS(CHECK)
#undef CHECK
    assert_true(seen >= 31);
    assert_string_equal(tl_error_name(0), "OK");
    assert_string_equal(tl_error_name(-9999), "UNKNOWN");
    assert_string_equal(tl_error_name(5), "UNKNOWN");
    assert_false(tl_error_retriable(-9999));
}

static void context_can_be_added(void **state) {
    (void)state;
    assert_int_equal(tl_fail(TL_E_IO, "disk %d is full", 3), TL_E_IO);
    assert_int_equal(tl_fail(TL_E_CONFIG, "store: %s", tl_error_text()), TL_E_CONFIG);
    assert_string_equal(tl_error_text(), "store: disk 3 is full");
}

static void a_text_is_one_bounded_line(void **state) {
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[3] = '\n';
    text[4] = '\x1b';
    assert_int_equal(tl_fail(TL_E_PARSE, "%s", text), TL_E_PARSE);
    assert_int_equal(strlen(tl_error_text()), 511);
    assert_memory_equal(tl_error_text(), "xxx  xxx", 8);
}

static void *fail_elsewhere(void *ctx) {
    (void)ctx;
    (void)tl_fail(TL_E_IO, "another thread's");
    return NULL;
}

static void the_text_is_per_thread(void **state) {
    (void)state;
    pthread_t thread;
    (void)tl_fail(TL_E_IO, "mine");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(tl_error_text(), "mine");
}

static void exit_codes_say_what_to_do(void **state) {
    (void)state;
    assert_int_equal(tl_exit_code(0), 0);
    assert_int_equal(tl_exit_code(TL_E_ENDED), 0);
    assert_int_equal(tl_exit_code(TL_E_IO), 1);
    assert_int_equal(tl_exit_code(TL_E_CONFIG), 2);
    assert_int_equal(tl_exit_code(TL_E_MISMATCH), 2);
    assert_int_equal(tl_exit_code(TL_E_FENCED), 3);
    assert_int_equal(tl_exit_code(TL_E_TIMEOUT), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_texts),
        cmocka_unit_test(context_can_be_added),
        cmocka_unit_test(a_text_is_one_bounded_line),
        cmocka_unit_test(the_text_is_per_thread),
        cmocka_unit_test(exit_codes_say_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
