/* codec_internal.h - what the files of the codec offer each other.
 *
 *   codec.c  which encoding, of what size, and is it sound
 *   half.c   f16 and bf16
 *   int8.c   blocks with a scale
 *   topk.c   the largest values, with their indices
 *   bits.h   floats as their bits, bytes as numbers
 *   wide.h   how loops over elements are compiled */
#ifndef TL_CODEC_INTERNAL_H
#define TL_CODEC_INTERNAL_H

#include "throughline/codec.h"

/* ---- half.c ------------------------------------------------------------------- */

void codec_f16_encode(const float *values, size_t n, uint8_t *out);
void codec_f16_decode(const uint8_t *bytes, size_t n, float *out);
bool codec_f16_is_finite(const uint8_t *bytes, size_t n);
void codec_bf16_encode(const float *values, size_t n, uint8_t *out);
void codec_bf16_decode(const uint8_t *bytes, size_t n, float *out);
bool codec_bf16_is_finite(const uint8_t *bytes, size_t n);

/* ---- int8.c ------------------------------------------------------------------- */

uint64_t codec_int8_size(uint64_t count);
void codec_int8_encode(const float *values, uint64_t count, uint8_t *out);
/* Values [first, first + n) of `count`. */
void codec_int8_decode(const uint8_t *bytes, uint64_t first, size_t n, float *out);
bool codec_int8_is_finite(const uint8_t *bytes, uint64_t count);

/* ---- topk.c ------------------------------------------------------------------- */

void codec_topk_encode(const float *values, uint64_t count, uint64_t kept,
                       uint8_t *out);
void codec_topk_decode(const uint8_t *bytes, uint64_t kept, uint64_t first, size_t n,
                       float *out);
/* Are the indices ascending and below `count`? */
TL_MUST_USE int codec_topk_check(const uint8_t *bytes, uint64_t kept, uint64_t count);
bool codec_topk_is_finite(const uint8_t *bytes, uint64_t kept);

#endif
