/* topk.c - the largest values by magnitude, with their indices.
 *
 * Bits of magnitudes are ordered as the magnitudes are. So the smallest one that is
 * kept is found by counting, eleven or ten bits at a time from the top: three light
 * passes, no sorting, nothing copied. Of equal ones at the border the first are kept.
 */
#include "bits.h"
#include "codec_internal.h"

#define DIGITS   3u
#define BINS     2048u
#define VALUE_AT 4u

static const unsigned shifts[DIGITS] = {20, 10, 0};
static const uint32_t masks[DIGITS] = {0x7ffu, 0x3ffu, 0x3ffu};

static uint32_t magnitude_of(float x) {
    return bits_of(x) & BITS_MAGNITUDE;
}

/* How many magnitudes that agree with `prefix` above this digit have which digit. */
static void count_digits(const float *values, uint64_t count, unsigned digit,
                         uint32_t prefix, uint64_t *bins) {
    const unsigned shift = shifts[digit];
    const uint32_t above = digit == 0 ? 0 : ~UINT32_C(0) << shifts[digit - 1];
    memset(bins, 0, BINS * sizeof(*bins));
    for (uint64_t i = 0; i < count; i++) {
        uint32_t magnitude = magnitude_of(values[i]);
        if (((magnitude ^ prefix) & above) == 0) {
            bins[magnitude >> shift & masks[digit]]++;
        }
    }
}

/* The border: every larger magnitude is kept, and *ret_equal of those equal to it. */
static uint32_t find_border(const float *values, uint64_t count, uint64_t kept,
                            uint64_t *ret_equal) {
    uint64_t bins[BINS];
    uint32_t prefix = 0;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        count_digits(values, count, digit, prefix, bins);
        uint32_t bin = masks[digit];
        while (bins[bin] < kept) {
            kept -= bins[bin--];
        }
        prefix |= bin << shifts[digit];
    }
    *ret_equal = kept;
    return prefix;
}

void codec_topk_encode(const float *values, uint64_t count, uint64_t kept,
                       uint8_t *out) {
    uint64_t equal = 0;
    const uint32_t border = find_border(values, count, kept, &equal);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t magnitude = magnitude_of(values[i]);
        bool is_kept = magnitude > border || (magnitude == border && equal > 0);
        if (is_kept) {
            equal -= magnitude == border ? 1 : 0;
            store_u32(out, (uint32_t)i);
            store_f32(out + VALUE_AT, values[i]);
            out += TL_TOPK_PAIR_BYTES;
        }
    }
}

static uint32_t index_at(const uint8_t *bytes, uint64_t pair) {
    return load_u32(bytes + pair * TL_TOPK_PAIR_BYTES);
}

/* The first pair whose index is not below `first`. */
static uint64_t find_pair(const uint8_t *bytes, uint64_t kept, uint64_t first) {
    uint64_t low = 0, high = kept;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (index_at(bytes, middle) < first) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void codec_topk_decode(const uint8_t *bytes, uint64_t kept, uint64_t first, size_t n,
                       float *out) {
    memset(out, 0, n * sizeof(*out));
    for (uint64_t pair = find_pair(bytes, kept, first); pair < kept; pair++) {
        uint64_t at = index_at(bytes, pair) - first;
        if (at >= n) {
            return;
        }
        out[at] = load_f32(bytes + pair * TL_TOPK_PAIR_BYTES + VALUE_AT);
    }
}

int codec_topk_check(const uint8_t *bytes, uint64_t kept, uint64_t count) {
    uint64_t above = 0;
    for (uint64_t pair = 0; pair < kept; pair++) {
        uint32_t index = index_at(bytes, pair);
        if (index < above || index >= count) {
            return tl_fail(TL_E_SHAPE,
                           "topk: index %u is not above the one before and below the "
                           "slice's %llu values",
                           index, (unsigned long long)count);
        }
        above = (uint64_t)index + 1;
    }
    return 0;
}

bool codec_topk_is_finite(const uint8_t *bytes, uint64_t kept) {
    for (uint64_t pair = 0; pair < kept; pair++) {
        uint32_t bits = load_u32(bytes + pair * TL_TOPK_PAIR_BYTES + VALUE_AT);
        if ((bits & BITS_INFINITY) == BITS_INFINITY) {
            return false;
        }
    }
    return true;
}
