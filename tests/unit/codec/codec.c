/* codec.c - each encoding beside a plain reference; nothing from outside is believed.
 */
#include "throughline/codec.h"

#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers -------------------------------------------------------------------- */

static uint64_t random_next(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* Any float32 at all. */
static float random_float(uint64_t *seed) {
    return float_of((uint32_t)random_next(seed));
}

/* As gradients are: small, of both signs, of several orders of magnitude. */
static float random_gradient(uint64_t *seed) {
    double unit = (double)(random_next(seed) >> 11) * 0x1p-53 - 0.5;
    return (float)ldexp(unit, -(int)(random_next(seed) % 12));
}

static void *reserve(uint64_t bytes) {
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    assert_non_null(p);
    return p;
}

static float *gradient_of(uint64_t count, uint64_t seed) {
    float *values = reserve(count * sizeof(*values));
    for (uint64_t i = 0; i < count; i++) {
        values[i] = random_gradient(&seed);
    }
    return values;
}

static struct tl_encoded encode(enum tl_encoding encoding, const float *values,
                                uint64_t count, uint64_t kept) {
    struct tl_encoded e = {.encoding = encoding, .count = count};
    e.size = tl_codec_size(encoding, count, kept);
    void *bytes = reserve(e.size);
    tl_codec_encode(encoding, values, count, kept, bytes);
    e.bytes = bytes;
    return e;
}

/* One value, there and back. */
static float through(enum tl_encoding encoding, float x) {
    uint8_t bytes[16];
    float out = 0;
    struct tl_encoded e = {.encoding = encoding,
                           .bytes = bytes,
                           .size = tl_codec_size(encoding, 1, 1),
                           .count = 1};
    tl_codec_encode(encoding, &x, 1, 1, bytes);
    assert_int_equal(tl_codec_check(&e), 0);
    tl_codec_decode(&e, 0, 1, &out);
    assert_true(tl_codec_is_finite(&e) == (isfinite(x) != 0));
    return out;
}

/* ---- f16, bf16 ------------------------------------------------------------------ */

/* To nearest even among `bits` significant ones, none smaller than 2^lowest apart. */
static double rounded(float x, int bits, int lowest, double largest) {
    if (x == 0.0f || !isfinite(x)) {
        return (double)x;
    }
    int step = ilogb((double)x) - (bits - 1);
    step = step > lowest ? step : lowest;
    double result = ldexp(nearbyint(ldexp((double)x, -step)), step);
    return fabs(result) <= largest ? result : copysign(largest, (double)x);
}

static void assert_rounded(enum tl_encoding encoding, float x, double expected) {
    float got = through(encoding, x);
    bool same =
        isnan(x) ? isnan(got) : (double)got == expected && signbit(got) == signbit(x);
    if (!same) {
        fail_msg("%s: %a becomes %a, not %a", tl_encoding_names[encoding], (double)x,
                 (double)got, expected);
    }
}

static void assert_halves(float x) {
    const double f16_largest = 65504.0;
    const double bf16_largest = (double)float_of(0x7f7f0000u);
    assert_rounded(TL_ENCODING_F16, x, rounded(x, 11, -24, f16_largest));
    assert_rounded(TL_ENCODING_BF16, x, rounded(x, 8, -133, bf16_largest));
}

static void halves_are_rounded_to_nearest_even(void **state) {
    (void)state;
    uint64_t seed = 1;
    static const float borders[] = {0.0f,     -0.0f,    65504.0f, 65519.9f, 65520.0f,
                                    1e30f,    -1e30f,   0x1p-14f, 0x1p-24f, 0x1p-25f,
                                    0x3p-25f, 0x1p-26f, 0x1p-149f};
    for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
        assert_halves(borders[i]);
    }
    assert_halves(INFINITY);
    assert_halves(-INFINITY);
    assert_halves(NAN);
    assert_halves(float_of(0x7f7fffffu));
    assert_halves(float_of(0x7f800001u)); /* a NaN whose upper half looks infinite */
    for (int i = 0; i < 200000; i++) {
        assert_halves(random_float(&seed));
        assert_halves(random_gradient(&seed));
    }
}

/* All that two bytes can be, decoded by the definition. */
static void every_half_is_decoded(void **state) {
    (void)state;
    enum { HALVES = 65536 };
    uint16_t *halves = reserve(HALVES * sizeof(*halves));
    float *got = reserve(HALVES * sizeof(*got));
    for (uint32_t i = 0; i < HALVES; i++) {
        halves[i] = (uint16_t)i;
    }
    struct tl_encoded e = {.encoding = TL_ENCODING_F16,
                           .bytes = halves,
                           .size = HALVES * sizeof(*halves),
                           .count = HALVES};
    tl_codec_decode(&e, 0, HALVES, got);
    for (uint32_t i = 0; i < HALVES; i++) {
        int exponent = (int)(i >> 10 & 31);
        double fraction = (double)(i & 1023) / 1024.0;
        double size =
            exponent == 0 ? ldexp(fraction, -14) : ldexp(1.0 + fraction, exponent - 15);
        bool special = exponent == 31;
        bool is_right = !special     ? (double)got[i] == (i >> 15 ? -size : size)
                        : (i & 1023) ? isnan(got[i])
                                     : isinf(got[i]);
        assert_true(is_right && !signbit(got[i]) == !(i >> 15));
    }
    e.encoding = TL_ENCODING_BF16;
    tl_codec_decode(&e, 0, HALVES, got);
    for (uint32_t i = 0; i < HALVES; i++) {
        assert_int_equal(bits_of(got[i]), i << 16);
    }
    free(halves);
    free(got);
}

/* ---- int8 ----------------------------------------------------------------------- */

static float largest_of(const float *values, uint64_t n) {
    float largest = 0;
    for (uint64_t i = 0; i < n; i++) {
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    }
    return largest;
}

static void compare_int8(uint64_t count) {
    float *values = gradient_of(count, count), *got = reserve(count * sizeof(*got));
    struct tl_encoded e = encode(TL_ENCODING_INT8, values, count, 0);
    assert_int_equal(tl_codec_check(&e), 0);
    tl_codec_decode(&e, 0, count, got);
    const uint8_t *at = e.bytes;
    for (uint64_t first = 0; first < count; first += 256) {
        uint64_t n = count - first < 256 ? count - first : 256;
        float scale = 0;
        memcpy(&scale, at, 4);
        assert_true(scale == largest_of(values + first, n) / 127.0f);
        for (uint64_t i = 0; i < n; i++) {
            volatile float expected = (float)(int8_t)at[4 + i] * scale;
            assert_int_equal(bits_of(got[first + i]), bits_of(expected));
            float error = fabsf(got[first + i] - values[first + i]);
            assert_true(error <= 0.5001f * scale);
        }
        at += 4 + n;
    }
    assert_ptr_equal(at, (const uint8_t *)e.bytes + e.size);
    free((void *)e.bytes);
    free(values);
    free(got);
}

static void int8_is_within_half_a_step(void **state) {
    (void)state;
    const uint64_t counts[] = {1, 2, 255, 256, 257, 1000, 70001};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        compare_int8(counts[i]);
    }
}

static void int8_borders(void **state) {
    (void)state;
    assert_true(through(TL_ENCODING_INT8, 0.0f) == 0.0f);
    assert_true(through(TL_ENCODING_INT8, 1e-40f) == 0.0f);
    assert_true(fabsf(through(TL_ENCODING_INT8, -3.0f) + 3.0f) < 1e-6f);
    const float huge = float_of(0x7f7fffffu);
    float got = through(TL_ENCODING_INT8, huge);
    assert_true(isfinite(got) && got > 0.99f * huge);
    assert_true(isnan(through(TL_ENCODING_INT8, NAN)));
    assert_true(!isfinite(through(TL_ENCODING_INT8, -INFINITY)));
}

/* Scales that would make something infinite of a code, or are no number. */
static void int8_scales_are_checked(void **state) {
    (void)state;
    enum { COUNT = 600 };
    float *values = gradient_of(COUNT, 3);
    struct tl_encoded e = encode(TL_ENCODING_INT8, values, COUNT, 0);
    uint8_t *last_scale = (uint8_t *)e.bytes + (size_t)2 * 260;
    const float bad[] = {NAN, INFINITY, -INFINITY, float_of(0x7f7fffffu), 0x1p121f};
    assert_true(tl_codec_is_finite(&e));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(last_scale, &bad[i], sizeof(bad[i]));
        assert_false(tl_codec_is_finite(&e));
    }
    const float most = TL_INT8_SCALE_MAX;
    float got[COUNT];
    memcpy(last_scale, &most, sizeof(most));
    memset(last_scale + 4, 0x80, COUNT - 512); /* the code -128, which nobody writes */
    assert_true(tl_codec_is_finite(&e));
    tl_codec_decode(&e, 0, COUNT, got);
    assert_true(isfinite(got[512]) && got[512] == -128.0f * most);
    free((void *)e.bytes);
    free(values);
}

/* ---- topk ----------------------------------------------------------------------- */

static int larger_first(const void *a, const void *b) {
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x < y) - (x > y);
}

static void compare_topk(const float *values, uint64_t count, uint64_t kept) {
    float *sorted = reserve(count * sizeof(*sorted));
    float *got = reserve(count * sizeof(*got));
    memcpy(sorted, values, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), larger_first);
    float border = fabsf(sorted[kept - 1]);
    struct tl_encoded e = encode(TL_ENCODING_TOPK, values, count, kept);
    assert_int_equal(tl_codec_check(&e), 0);
    tl_codec_decode(&e, 0, count, got);
    uint64_t equal = kept;
    for (uint64_t i = 0; i < count; i++) {
        equal -= fabsf(values[i]) > border ? 1 : 0;
    }
    for (uint64_t i = 0; i < count; i++) {
        bool at_border = fabsf(values[i]) == border;
        bool is_kept = fabsf(values[i]) > border || (at_border && equal > 0);
        equal -= at_border && equal > 0 ? 1 : 0;
        assert_true(got[i] == (is_kept ? values[i] : 0.0f));
    }
    free((void *)e.bytes);
    free(sorted);
    free(got);
}

static void topk_keeps_the_largest(void **state) {
    (void)state;
    enum { COUNT = 5003 };
    float *values = gradient_of(COUNT, 9);
    const uint64_t kept[] = {1, 2, 50, 2501};
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        compare_topk(values, COUNT, kept[i]);
    }
    for (size_t i = 0; i < COUNT; i++) { /* many ties, and borders between digits */
        values[i] = (float)((int)(i * 7919 % 5) - 2);
    }
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        compare_topk(values, COUNT, kept[i]);
    }
    const float one = -2.5f;
    compare_topk(&one, 1, 1);
    free(values);
}

static void topk_never_hides_what_is_not_finite(void **state) {
    (void)state;
    float values[100] = {0};
    values[7] = 1e30f;
    values[50] = NAN;
    struct tl_encoded e = encode(TL_ENCODING_TOPK, values, 100, 1);
    assert_false(tl_codec_is_finite(&e));
    free((void *)e.bytes);
}

static void topk_counts(void **state) {
    (void)state;
    assert_int_equal(tl_codec_topk_count(1000, 0.01), 10);
    assert_int_equal(tl_codec_topk_count(1000, 0.9), 500);
    assert_int_equal(tl_codec_topk_count(10, 0.001), 1);
    assert_int_equal(tl_codec_topk_count(1, 0.5), 1);
}

struct pair {
    uint32_t index;
    float value;
};

static int check_pairs(const struct pair *pairs, uint64_t n, uint64_t count) {
    const struct tl_encoded e = {.encoding = TL_ENCODING_TOPK,
                                 .bytes = pairs,
                                 .size = n * sizeof(*pairs),
                                 .count = count};
    return tl_codec_check(&e);
}

static void topk_indices_are_checked(void **state) {
    (void)state;
    const struct pair good[] = {{0, 1}, {5, 2}, {9, 3}};
    const struct pair twice[] = {{0, 1}, {5, 2}, {5, 3}};
    const struct pair falling[] = {{5, 1}, {0, 2}, {9, 3}};
    const struct pair beyond[] = {{0, 1}, {5, 2}, {10, 3}};
    const struct pair far[] = {{0, 1}, {5, 2}, {UINT32_MAX, 3}};
    assert_int_equal(check_pairs(good, 3, 10), 0);
    assert_int_equal(check_pairs(twice, 3, 10), TL_E_SHAPE);
    assert_int_equal(check_pairs(falling, 3, 10), TL_E_SHAPE);
    assert_int_equal(check_pairs(beyond, 3, 10), TL_E_SHAPE);
    assert_int_equal(check_pairs(far, 3, 10), TL_E_SHAPE);
    assert_int_equal(check_pairs(good, 3, 5), TL_E_SHAPE); /* more than half */
    assert_int_equal(check_pairs(good, 0, 10), TL_E_SHAPE);
}

/* ---- all ------------------------------------------------------------------------ */

static void sizes_are_checked(void **state) {
    (void)state;
    const uint64_t counts[] = {1, 2, 255, 256, 257, 813258};
    for (unsigned e = 0; e < TL_ENCODINGS; e++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            uint64_t count = counts[i];
            uint64_t size = tl_codec_size(e, count, tl_codec_topk_count(count, 0.01));
            assert_int_equal(tl_codec_check_size(e, count, size), 0);
            assert_int_equal(tl_codec_check_size(e, count, size + 1), TL_E_SHAPE);
            assert_int_equal(tl_codec_check_size(e, count, size - 1), TL_E_SHAPE);
            assert_int_equal(tl_codec_check_size(e, count, 0), TL_E_SHAPE);
            uint64_t most = tl_codec_size_max(e, count);
            assert_int_equal(tl_codec_check_size(e, count, most), 0);
            assert_int_equal(tl_codec_check_size(e, count, most + 8), TL_E_SHAPE);
            assert_true(most <= 4 * count + 4);
        }
    }
    assert_int_equal(tl_codec_check_size(TL_ENCODINGS, 1, 4), TL_E_UNSUPPORTED);
    assert_int_equal(tl_codec_check_size(255, 1, 4), TL_E_UNSUPPORTED);
    assert_int_equal(tl_codec_size(TL_ENCODING_INT8, 813258, 0), 813258 + 4 * 3177);
}

/* The fold decodes tile by tile, from wherever it is. */
static void parts_are_parts_of_the_whole(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    uint64_t seed = 5;
    float *values = gradient_of(COUNT, 4), whole[COUNT], part[COUNT];
    for (unsigned encoding = 0; encoding < TL_ENCODINGS; encoding++) {
        struct tl_encoded e = encode(encoding, values, COUNT, 300);
        tl_codec_decode(&e, 0, COUNT, whole);
        for (int i = 0; i < 200; i++) {
            uint64_t first = random_next(&seed) % (COUNT + 1);
            size_t n = (size_t)(random_next(&seed) % (COUNT + 1 - first));
            memset(part, 0xff, sizeof(part));
            tl_codec_decode(&e, first, n, part);
            assert_memory_equal(part, whole + first, n * sizeof(*part));
            assert_true(n == COUNT || bits_of(part[n]) == UINT32_MAX);
        }
        free((void *)e.bytes);
    }
    free(values);
}

/* What comes in is not aligned to anything. */
static void bytes_may_lie_anywhere(void **state) {
    (void)state;
    enum { COUNT = 700 };
    float *values = gradient_of(COUNT, 6), expected[COUNT], got[COUNT];
    for (unsigned encoding = 1; encoding < TL_ENCODINGS; encoding++) {
        struct tl_encoded e = encode(encoding, values, COUNT, 70);
        tl_codec_decode(&e, 0, COUNT, expected);
        uint8_t *moved = reserve(e.size + 1);
        memcpy(moved + 1, e.bytes, e.size);
        struct tl_encoded odd = e;
        odd.bytes = moved + 1;
        assert_int_equal(tl_codec_check(&odd), 0);
        assert_true(tl_codec_is_finite(&odd));
        tl_codec_decode(&odd, 0, COUNT, got);
        assert_memory_equal(got, expected, sizeof(got));
        free(moved);
        free((void *)e.bytes);
    }
    free(values);
}

/* Whatever bytes come: a check that passes means that decoding is safe, and a finite
 * one that every value is. Most random indices are refused; so half of them rise. */
static void anything_is_refused_or_decoded(void **state) {
    (void)state;
    enum { COUNT = 600, ROUNDS = 20000 };
    uint64_t seed = 77, accepted[TL_ENCODINGS] = {0};
    float got[COUNT];
    for (int round = 0; round < ROUNDS; round++) {
        enum tl_encoding encoding = (enum tl_encoding)(random_next(&seed) % 6);
        uint64_t count = 1 + random_next(&seed) % COUNT;
        uint64_t size = random_next(&seed) % 2 == 0 && encoding < TL_ENCODINGS
                            ? tl_codec_size(encoding, count, 1)
                            : random_next(&seed) % (UINT64_C(4) * COUNT);
        uint8_t *bytes = reserve(size); /* exact, for sanitizers to see its end */
        for (uint64_t i = 0; i < size; i++) {
            bytes[i] = (uint8_t)random_next(&seed);
        }
        struct tl_encoded e = {encoding, bytes, size, count};
        if (encoding == TL_ENCODING_TOPK && size == 8 && round % 2 == 0) {
            memset(bytes, 0, 4);
        }
        if (tl_codec_check(&e) == 0) {
            accepted[encoding]++;
            bool is_finite = tl_codec_is_finite(&e);
            tl_codec_decode(&e, 0, count, got);
            for (uint64_t i = 0; i < count && is_finite; i++) {
                assert_true(isfinite(got[i]));
            }
        }
        free(bytes);
    }
    for (unsigned e = 0; e < TL_ENCODINGS; e++) {
        assert_true(accepted[e] > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_rounded_to_nearest_even),
        cmocka_unit_test(every_half_is_decoded),
        cmocka_unit_test(int8_is_within_half_a_step),
        cmocka_unit_test(int8_borders),
        cmocka_unit_test(int8_scales_are_checked),
        cmocka_unit_test(topk_keeps_the_largest),
        cmocka_unit_test(topk_never_hides_what_is_not_finite),
        cmocka_unit_test(topk_counts),
        cmocka_unit_test(topk_indices_are_checked),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(parts_are_parts_of_the_whole),
        cmocka_unit_test(bytes_may_lie_anywhere),
        cmocka_unit_test(anything_is_refused_or_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
