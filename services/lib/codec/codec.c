/* codec.c - which encoding, of what size, and is it sound. */
#include "throughline/codec.h"

#include "bits.h"
#include "codec_internal.h"
#include "wide.h"

#include <assert.h>
#include <inttypes.h>

const char *const tl_encoding_names[TL_ENCODINGS + 1] = {"f32",  "f16",  "bf16",
                                                         "int8", "topk", NULL};

/* ---- sizes -------------------------------------------------------------------- */

static uint64_t topk_most(uint64_t count) {
    return count >= 2 ? count / 2 : 1;
}

uint64_t tl_codec_topk_count(uint64_t count, double fraction) {
    uint64_t kept = (uint64_t)((double)count * fraction);
    kept = kept > 0 ? kept : 1;
    return kept < topk_most(count) ? kept : topk_most(count);
}

uint64_t tl_codec_size(enum tl_encoding encoding, uint64_t count, uint64_t kept) {
    switch (encoding) {
    case TL_ENCODING_F16:
    case TL_ENCODING_BF16:
        return count * sizeof(uint16_t);
    case TL_ENCODING_INT8:
        return codec_int8_size(count);
    case TL_ENCODING_TOPK:
        return kept * TL_TOPK_PAIR_BYTES;
    case TL_ENCODING_F32:
    default:
        return count * sizeof(float);
    }
}

uint64_t tl_codec_size_max(enum tl_encoding encoding, uint64_t count) {
    return tl_codec_size(encoding, count, topk_most(count));
}

static bool size_fits(enum tl_encoding encoding, uint64_t count, uint64_t size) {
    uint64_t most = tl_codec_size_max(encoding, count);
    if (encoding == TL_ENCODING_TOPK) {
        return size > 0 && size <= most && size % TL_TOPK_PAIR_BYTES == 0;
    }
    return size == most;
}

int tl_codec_check_size(enum tl_encoding encoding, uint64_t count, uint64_t size) {
    if ((unsigned)encoding >= TL_ENCODINGS) {
        return tl_fail(TL_E_UNSUPPORTED, "encoding %d is not known", (int)encoding);
    }
    if (!size_fits(encoding, count, size)) {
        return tl_fail(TL_E_SHAPE, "%" PRIu64 " bytes are not %" PRIu64 " values as %s",
                       size, count, tl_encoding_names[encoding]);
    }
    return 0;
}

/* ---- contents ----------------------------------------------------------------- */

int tl_codec_check(const struct tl_encoded *e) {
    int rc = tl_codec_check_size(e->encoding, e->count, e->size);
    if (rc == 0 && e->encoding == TL_ENCODING_TOPK) {
        rc = codec_topk_check(e->bytes, e->size / TL_TOPK_PAIR_BYTES, e->count);
    }
    return rc;
}

WIDE static bool f32_is_finite(const uint8_t *bytes, uint64_t count) {
    uint32_t overflow = 0;
    for (uint64_t i = 0; i < count; i++) {
        overflow |= (load_u32(bytes + 4 * i) & BITS_MAGNITUDE) + 0x00800000u;
    }
    return (overflow & ~BITS_MAGNITUDE) == 0;
}

bool tl_codec_is_finite(const struct tl_encoded *e) {
    switch (e->encoding) {
    case TL_ENCODING_F16:
        return codec_f16_is_finite(e->bytes, e->count);
    case TL_ENCODING_BF16:
        return codec_bf16_is_finite(e->bytes, e->count);
    case TL_ENCODING_INT8:
        return codec_int8_is_finite(e->bytes, e->count);
    case TL_ENCODING_TOPK:
        return codec_topk_is_finite(e->bytes, e->size / TL_TOPK_PAIR_BYTES);
    case TL_ENCODING_F32:
    default:
        return f32_is_finite(e->bytes, e->count);
    }
}

/* ---- both ways ---------------------------------------------------------------- */

void tl_codec_encode(enum tl_encoding encoding, const float *values, uint64_t count,
                     uint64_t kept, void *out) {
    switch (encoding) {
    case TL_ENCODING_F16:
        codec_f16_encode(values, count, out);
        break;
    case TL_ENCODING_BF16:
        codec_bf16_encode(values, count, out);
        break;
    case TL_ENCODING_INT8:
        codec_int8_encode(values, count, out);
        break;
    case TL_ENCODING_TOPK:
        codec_topk_encode(values, count, kept, out);
        break;
    case TL_ENCODING_F32:
    default:
        memcpy(out, values, count * sizeof(*values));
        break;
    }
}

void tl_codec_decode(const struct tl_encoded *e, uint64_t first, size_t n, float *out) {
    const uint8_t *bytes = e->bytes;
    assert(first <= e->count && n <= e->count - first);
    switch (e->encoding) {
    case TL_ENCODING_F16:
        codec_f16_decode(bytes + 2 * first, n, out);
        break;
    case TL_ENCODING_BF16:
        codec_bf16_decode(bytes + 2 * first, n, out);
        break;
    case TL_ENCODING_INT8:
        codec_int8_decode(bytes, first, n, out);
        break;
    case TL_ENCODING_TOPK:
        codec_topk_decode(bytes, e->size / TL_TOPK_PAIR_BYTES, first, n, out);
        break;
    case TL_ENCODING_F32:
    default:
        memcpy(out, bytes + 4 * first, n * sizeof(*out));
        break;
    }
}
