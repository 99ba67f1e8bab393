/* half.c - two bytes a value: IEEE binary16 and bfloat16.
 *
 * In integer arithmetic and single exact operations, without the instructions that some
 * machines have for it: the loops vectorise, and every machine gives the same bits. */
#include "bits.h"
#include "codec_internal.h"
#include "wide.h"

/* ---- f16 ---------------------------------------------------------------------- */

#define F16_INFINITY 0x7c00u
#define F16_NAN      0x7e00u
#define F16_LARGEST  0x7bffu

/* A finite float32 magnitude that is normal as binary16: drop 13 bits, to nearest even,
 * and move the exponent's bias from 127 to 15. */
static inline uint32_t f16_of_normal(uint32_t magnitude) {
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (rounded >> 13) - (112u << 10);
}

/* One that is subnormal or zero: the last place of 0.5 is binary16's smallest step, so
 * the addition rounds to it. */
static inline uint32_t f16_of_small(uint32_t magnitude) {
    return bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
}

static inline uint16_t f16_of(float x) {
    const uint32_t bits = bits_of(x), magnitude = bits & BITS_MAGNITUDE;
    const uint32_t smallest_normal = 113u << 23;
    uint32_t half = select_bits(magnitude < smallest_normal, f16_of_small(magnitude),
                                f16_of_normal(magnitude));
    half = select_bits(magnitude > 0x477fe000u, F16_LARGEST, half);
    half = select_bits(magnitude == BITS_INFINITY, F16_INFINITY, half);
    half = select_bits(magnitude > BITS_INFINITY, F16_NAN, half);
    return (uint16_t)(half | (bits >> 16 & 0x8000u));
}

/* Subnormal ones are whole multiples of the smallest step; no float32 on the way is
 * subnormal, which many machines are slow at. */
static inline float f16_value(uint16_t half) {
    const uint32_t magnitude = half & 0x7fffu;
    const uint32_t small = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    uint32_t bits = select_bits(magnitude < 0x0400u, small, normal);
    bits = select_bits(magnitude >= F16_INFINITY, normal | BITS_INFINITY, bits);
    return float_of(bits | (uint32_t)(half & 0x8000u) << 16);
}

WIDE void codec_f16_encode(const float *values, size_t n, uint8_t *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        store_u16(out + 2 * i, f16_of(values[i]));
    }
}

WIDE void codec_f16_decode(const uint8_t *bytes, size_t n, float *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        out[i] = f16_value(load_u16(bytes + 2 * i));
    }
}

/* ---- bf16 --------------------------------------------------------------------- */

#define BF16_LARGEST 0x7f7fu
#define BF16_QUIET   0x0040u

static inline uint16_t bf16_of(float x) {
    const uint32_t bits = bits_of(x), magnitude = bits & BITS_MAGNITUDE;
    uint32_t rounded = (magnitude + 0x7fffu + (magnitude >> 16 & 1u)) >> 16;
    rounded = rounded > BF16_LARGEST ? BF16_LARGEST : rounded;
    rounded = magnitude >= BITS_INFINITY ? magnitude >> 16 : rounded;
    rounded = magnitude > BITS_INFINITY ? rounded | BF16_QUIET : rounded;
    return (uint16_t)(rounded | (bits >> 16 & 0x8000u));
}

WIDE void codec_bf16_encode(const float *values, size_t n, uint8_t *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        store_u16(out + 2 * i, bf16_of(values[i]));
    }
}

WIDE void codec_bf16_decode(const uint8_t *bytes, size_t n, float *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        out[i] = float_of((uint32_t)load_u16(bytes + 2 * i) << 16);
    }
}

/* ---- both --------------------------------------------------------------------- */

/* All bits of the exponent set is what is not finite: one more overflows into the sign.
 * No branch in the loop, so that it vectorises. */
static inline bool is_finite(const uint8_t *bytes, size_t n, uint32_t exponent_step) {
    uint32_t overflow = 0;
    for (size_t i = 0; i < n; i++) {
        overflow |= (load_u16(bytes + 2 * i) & 0x7fffu) + exponent_step;
    }
    return (overflow & 0x8000u) == 0;
}

WIDE bool codec_f16_is_finite(const uint8_t *bytes, size_t n) {
    return is_finite(bytes, n, 0x0400u);
}

WIDE bool codec_bf16_is_finite(const uint8_t *bytes, size_t n) {
    return is_finite(bytes, n, 0x0080u);
}
