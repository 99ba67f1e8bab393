/* The nearest name is the one that was meant; what is far from all is nothing. */
#include "throughline/config.h"

#include "test.h"

#include <string.h>

static const char *const names[] = {"batch", "workers", "optimizer.learning_rate",
                                    "optimizer.momentum", "seed"};
#define COUNT (sizeof(names) / sizeof(names[0]))

static void finds_misspelt_names(void **state) {
    (void)state;
    assert_string_equal(tl_nearest("bacth", names, COUNT), "batch");
    assert_string_equal(tl_nearest("worker", names, COUNT), "workers");
    assert_string_equal(tl_nearest("optimizer.lerning_rate", names, COUNT),
                        "optimizer.learning_rate");
    assert_string_equal(tl_nearest("optimiser.learningrate", names, COUNT),
                        "optimizer.learning_rate");
    assert_string_equal(tl_nearest("seed", names, COUNT), "seed");
}

static void finds_nothing_that_is_far(void **state) {
    (void)state;
    assert_null(tl_nearest("verbosity", names, COUNT));
    assert_null(tl_nearest("", names, COUNT));
    assert_null(tl_nearest("se", names, COUNT));   /* 2 of 2 letters */
    assert_null(tl_nearest("se-d", names, 0));     /* nothing to choose from */
    assert_null(tl_nearest("sxyd", names, COUNT)); /* 2 is half of 4 */
    assert_non_null(tl_nearest("sxed", names, COUNT));
}

static void distance_ends_at_three(void **state) {
    (void)state;
    assert_non_null(tl_nearest("optimizer.momentXXX", names, COUNT));
    assert_null(tl_nearest("optimizer.momeXXXX", names, COUNT));
}

static void the_first_of_equals_wins(void **state) {
    (void)state;
    static const char *const twins[] = {"shards", "sharps"};
    assert_string_equal(tl_nearest("sharks", twins, 2), "shards");
}

static void long_words_are_refused(void **state) {
    (void)state;
    char word[5000];
    memset(word, 'a', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    const char *const same[] = {word};
    assert_null(tl_nearest(word, names, COUNT));
    assert_null(tl_nearest("aaaaaaaa", same, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_misspelt_names),
        cmocka_unit_test(finds_nothing_that_is_far),
        cmocka_unit_test(distance_ends_at_three),
        cmocka_unit_test(the_first_of_equals_wins),
        cmocka_unit_test(long_words_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
