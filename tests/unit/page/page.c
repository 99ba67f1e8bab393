/* The page holds together, asks nobody, and cannot be broken by what it shows. */
#include "throughline/page.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

static size_t count(const char *text, const char *part) {
    size_t n = 0;
    for (const char *c = strstr(text, part); c != NULL; c = strstr(c + 1, part)) {
        n++;
    }
    return n;
}

static char *html(const json_t *report) {
    size_t size = 0;
    char *text = tl_page_html(report, &size);
    assert_non_null(text);
    assert_int_equal(strlen(text), size);
    return text;
}

static void the_live_page_is_whole(void **state) {
    (void)state;
    char *text = html(NULL);
    assert_memory_equal(text, "<!doctype html>", 15);
    assert_non_null(
        strstr(text, "<script id=\"report\" type=\"application/json\"></script>"));
    assert_non_null(strstr(text, "uPlot"));
    assert_non_null(strstr(text, "new EventSource(\"/events\")"));
    free(text);
}

/* Nothing is loaded from elsewhere: the report opens offline. */
static void nothing_is_loaded(void **state) {
    (void)state;
    static const char *const loads[] = {
        "src=", "<link rel=\"stylesheet", "@import", "url(", "//cdn", "https://"};
    char *text = html(NULL);
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        const char *found = strstr(text, loads[i]);
        /* uPlot's banner names its home; a comment loads nothing. */
        if (found != NULL && strstr(found, "github.com/leeoniya") != found + 8) {
            fail_msg("the page loads something: %.80s", found);
        }
    }
    free(text);
}

static void no_text_ends_its_element(void **state) {
    (void)state;
    char *plain = html(NULL);
    json_t *report = json_pack("{s:s}", "title", "</script><script>alert(1)</script>");
    char *text = html(report);
    assert_int_equal(count(text, "</script>"), count(plain, "</script>"));
    assert_non_null(strstr(text, "\\u003c/script>\\u003cscript>alert(1)"));
    json_decref(report);
    free(text);
    free(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_live_page_is_whole),
        cmocka_unit_test(nothing_is_loaded),
        cmocka_unit_test(no_text_ends_its_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
