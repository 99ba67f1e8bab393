/* int8.c - one byte a value: blocks of codes, each with a scale of its own.
 *
 * A block's largest magnitude is code 127, so that one outlier costs precision in its
 * block only (1610.02132's buckets, without the dice: what rounding leaves out, error
 * feedback brings). Scale and codes lie together: a part of a slice can be decoded from
 * a part of the bytes. */
#include "bits.h"
#include "codec_internal.h"
#include "wide.h"

#include <math.h>

#define SCALE_BYTES 4u
#define BLOCK_BYTES (SCALE_BYTES + TL_INT8_BLOCK)
#define CODE_MAX    127
/* Its reciprocal is finite; what is smaller is 0, and stays with the sender. */
#define SCALE_MIN   0x1p-120f
/* Adding it leaves the nearest whole number, to even, in the lowest bits. */
#define ROUND       0x1.8p23f

static size_t block_size(uint64_t left) {
    return left < TL_INT8_BLOCK ? (size_t)left : TL_INT8_BLOCK;
}

uint64_t codec_int8_size(uint64_t count) {
    uint64_t blocks = (count + TL_INT8_BLOCK - 1) / TL_INT8_BLOCK;
    return blocks * SCALE_BYTES + count;
}

/* ---- encoding ----------------------------------------------------------------- */

/* Bits of magnitudes are ordered as the magnitudes are, NaN above all. */
static inline uint32_t largest_magnitude(const float *values, size_t n) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(values[i]) & BITS_MAGNITUDE;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

static inline float scale_of(uint32_t largest) {
    if (largest >= BITS_INFINITY) {
        return NAN;
    }
    float scale = float_of(largest) / (float)CODE_MAX;
    scale = scale < TL_INT8_SCALE_MAX ? scale : TL_INT8_SCALE_MAX;
    return scale >= SCALE_MIN ? scale : 0.0f;
}

static inline void encode_codes(const float *values, size_t n, float reciprocal,
                                uint8_t *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float x = values[i] * reciprocal;
        int32_t code = (int32_t)(bits_of(x + ROUND) - bits_of(ROUND));
        code = code < CODE_MAX ? code : CODE_MAX;
        code = code > -CODE_MAX ? code : -CODE_MAX;
        out[i] = (uint8_t)code;
    }
}

WIDE void codec_int8_encode(const float *values, uint64_t count, uint8_t *out) {
    for (uint64_t at = 0; at < count; at += TL_INT8_BLOCK) {
        size_t n = block_size(count - at);
        float scale = scale_of(largest_magnitude(values + at, n));
        bool has_codes = scale > 0.0f; /* no scale of zero, and no NaN */
        store_f32(out, scale);
        encode_codes(values + at, has_codes ? n : 0, 1.0f / scale, out + SCALE_BYTES);
        if (!has_codes) {
            memset(out + SCALE_BYTES, 0, n);
        }
        out += SCALE_BYTES + n;
    }
}

/* ---- decoding ----------------------------------------------------------------- */

static inline void decode_codes(const uint8_t *codes, size_t n, float scale,
                                float *out) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)(int8_t)codes[i] * scale;
    }
}

WIDE void codec_int8_decode(const uint8_t *bytes, uint64_t first, size_t n,
                            float *out) {
    while (n > 0) {
        const uint8_t *block = bytes + first / TL_INT8_BLOCK * BLOCK_BYTES;
        size_t at = (size_t)(first % TL_INT8_BLOCK);
        size_t run = n < TL_INT8_BLOCK - at ? n : TL_INT8_BLOCK - at;
        decode_codes(block + SCALE_BYTES + at, run, load_f32(block), out);
        first += run;
        out += run;
        n -= run;
    }
}

bool codec_int8_is_finite(const uint8_t *bytes, uint64_t count) {
    for (uint64_t at = 0; at < count; at += TL_INT8_BLOCK) {
        float scale = load_f32(bytes + at / TL_INT8_BLOCK * BLOCK_BYTES);
        if (!(fabsf(scale) <= TL_INT8_SCALE_MAX)) {
            return false;
        }
    }
    return true;
}
