/* bits.h - floats as their bits, and numbers at any address. */
#ifndef TL_CODEC_BITS_H
#define TL_CODEC_BITS_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "encoded values are little-endian");

#define BITS_MAGNITUDE 0x7fffffffu
#define BITS_INFINITY  0x7f800000u

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* a where `chosen`, else b: without a branch, so that loops vectorise. */
static inline uint32_t select_bits(int chosen, uint32_t a, uint32_t b) {
    const uint32_t mask = (uint32_t)-chosen;
    return (a & mask) | (b & ~mask);
}

static inline uint16_t load_u16(const uint8_t *at) {
    uint16_t x;
    memcpy(&x, at, sizeof(x));
    return x;
}

static inline void store_u16(uint8_t *at, uint16_t x) {
    memcpy(at, &x, sizeof(x));
}

static inline uint32_t load_u32(const uint8_t *at) {
    uint32_t x;
    memcpy(&x, at, sizeof(x));
    return x;
}

static inline void store_u32(uint8_t *at, uint32_t x) {
    memcpy(at, &x, sizeof(x));
}

static inline float load_f32(const uint8_t *at) {
    return float_of(load_u32(at));
}

static inline void store_f32(uint8_t *at, float x) {
    store_u32(at, bits_of(x));
}

#endif
