/* The generator's numbers are part of every job's result: they must never change. */
#include "throughline/data.h"

#include "test.h"

#include <math.h>
#include <stdint.h>

/* The published reference outputs of splitmix64 for the seed 1234567. */
static void next_is_splitmix64(void **state) {
    (void)state;
    uint64_t s = 1234567;
    assert_int_equal(tl_random_next(&s), 6457827717110365317u);
    assert_int_equal(tl_random_next(&s), 3203168211198807973u);
    assert_int_equal(tl_random_next(&s), 9817491932198370423u);
    assert_int_equal(tl_random_next(&s), 4593380528125082431u);
    assert_int_equal(tl_random_next(&s), 16408922859458223821u);
}

static void unit_is_uniform(void **state) {
    (void)state;
    enum { N = 100000 };
    uint64_t s = 7;
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < N; i++) {
        float u = tl_random_unit(&s);
        assert_true(u >= 0.0F && u < 1.0F);
        sum += u;
        squares += (double)u * u;
    }
    assert_true(fabs(sum / N - 0.5) < 0.005);
    assert_true(fabs(squares / N - 1.0 / 3.0) < 0.005);
}

static int bits_that_differ(uint64_t a, uint64_t b) {
    return __builtin_popcountll(a ^ b);
}

/* A change of one bit of any argument changes about half of the result. */
static void mix_spreads_every_bit(void **state) {
    (void)state;
    const uint64_t base = tl_random_mix(42, 3, 5);
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flip = UINT64_C(1) << bit;
        assert_in_range(bits_that_differ(base, tl_random_mix(42 ^ flip, 3, 5)), 12, 52);
        assert_in_range(bits_that_differ(base, tl_random_mix(42, 3 ^ flip, 5)), 12, 52);
        assert_in_range(bits_that_differ(base, tl_random_mix(42, 3, 5 ^ flip)), 12, 52);
    }
}

static void mix_tells_arguments_apart(void **state) {
    (void)state;
    assert_int_not_equal(tl_random_mix(1, 2, 3), tl_random_mix(1, 3, 2));
    assert_int_not_equal(tl_random_mix(1, 2, 3), tl_random_mix(2, 1, 3));
    assert_int_not_equal(tl_random_mix(0, 0, 0), 0);
    assert_int_equal(tl_random_mix(1, 2, 3), tl_random_mix(1, 2, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_is_splitmix64),
        cmocka_unit_test(unit_is_uniform),
        cmocka_unit_test(mix_spreads_every_bit),
        cmocka_unit_test(mix_tells_arguments_apart),
    };
    return cmocka_run_group_tests_name("data/random", tests, NULL, NULL);
}
