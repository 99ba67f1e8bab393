/* random.c - random numbers that are the same on every machine.
 *
 * Initial weights, dropout masks and the order of examples come from here, so that a
 * job's seed determines them wherever they are computed. The generator is splitmix64
 * (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
 * 2014): a counter and a mixing function, so that any stream starts at no cost. */
#include "throughline/data.h"

#define TL_GOLDEN_GAMMA 0x9e3779b97f4a7c15u

/* Every bit of the result depends on every bit of `z`: Stafford's variant 13. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t tl_random_next(uint64_t *state) {
    *state += TL_GOLDEN_GAMMA;
    return mix(*state);
}

float tl_random_unit(uint64_t *state) {
    /* The 24 highest bits: a float holds each such fraction exactly, and never 1. */
    return (float)(tl_random_next(state) >> 40) * 0x1p-24f;
}

uint64_t tl_random_mix(uint64_t seed, uint64_t a, uint64_t b) {
    /* Mixed one after the other: streams of neighbouring numbers, and of exchanged
     * ones, have nothing in common. */
    uint64_t h = mix(seed + TL_GOLDEN_GAMMA);
    h = mix((h ^ a) + TL_GOLDEN_GAMMA);
    return mix((h ^ b) + TL_GOLDEN_GAMMA);
}
