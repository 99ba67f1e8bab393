/* docs/configuration.md is what the tables print. To write it anew:
 *   UPDATE_DOCS=1 build/release/tests/unit_base_reference */
#include "throughline/service.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

static const char path[] = TL_SOURCE_DIR "/docs/configuration.md";

static char *printed(void) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    tl_reference_markdown(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void the_reference_is_up_to_date(void **state) {
    (void)state;
    static char stored[1 << 17];
    char *text = printed();
    assert_true(strlen(text) < sizeof(stored));
    if (getenv("UPDATE_DOCS") != NULL) {
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        assert_true(fputs(text, out) >= 0);
        assert_int_equal(fclose(out), 0);
    }
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    stored[fread(stored, 1, sizeof(stored) - 1, in)] = '\0';
    (void)fclose(in);
    assert_string_equal(stored, text);
    free(text);
}

/* Names are unique over both tables: a flag must mean one thing. */
static void no_name_is_taken_twice(void **state) {
    (void)state;
    for (size_t i = 0; i < tl_job_table.count; i++) {
        const char *name = tl_job_table.options[i].name;
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(name, tl_job_table.options[j].name);
        }
        for (size_t j = 0; j < tl_service_table.count; j++) {
            assert_string_not_equal(name, tl_service_table.options[j].name);
        }
    }
}

static void every_option_is_documented(void **state) {
    (void)state;
    for (size_t i = 0; i < tl_job_table.count; i++) {
        const char *doc = tl_job_table.options[i].doc;
        assert_non_null(doc);
        assert_true(doc[strlen(doc) - 1] == '.');
        assert_null(strchr(doc, '|'));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_is_up_to_date),
        cmocka_unit_test(no_name_is_taken_twice),
        cmocka_unit_test(every_option_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
