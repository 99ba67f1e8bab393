/* codec.h - smaller gradients: float32 values as fewer bytes, and back.
 *
 * Path:   nn -> client -> [codec] -> wire -> log -> [codec] -> fold
 * Pure:   no I/O, no clock, no memory of its own.
 * Thread: any.
 *
 * The worker encodes, the fold decodes, element by element as it applies: a record in a
 * log stays as small as it was sent. Decoding is integer and single IEEE operations, so
 * it gives the same bits on any x86-64 or arm64 machine; nothing hangs on how an
 * encoder rounds. What a lossy encoding leaves out is the encoder's to keep and to add
 * to the next gradient (error feedback: Seide et al., Interspeech 2014; Karimireddy et
 * al., 1901.09847): client.h does.
 *
 *   f32   count x float32
 *   f16   count x IEEE binary16; finite values beyond 65504 become that
 *   bf16  count x bfloat16 (the upper half of a float32, rounded to nearest even)
 *   int8  blocks of TL_INT8_BLOCK values, the last one shorter: float32 scale, then an
 *         int8 code for each value; value = code * scale. A scale that is no finite
 *         number says that the block held one that is none
 *   topk  the largest values by magnitude (Strom, Interspeech 2015; 1712.01887), in
 *         ascending order of index: uint32 index in the slice, float32 value; all
 *         others are 0
 *
 * Everything is little-endian. docs/protocol.md has the same for those who write their
 * own client. */
#ifndef THROUGHLINE_CODEC_H
#define THROUGHLINE_CODEC_H

#include "throughline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are those on the wire. */
enum tl_encoding {
    TL_ENCODING_F32 = 0,
    TL_ENCODING_F16 = 1,
    TL_ENCODING_BF16 = 2,
    TL_ENCODING_INT8 = 3,
    TL_ENCODING_TOPK = 4,
};
#define TL_ENCODINGS 5u

/* "f32", ..., and NULL at the end: the spelling of options. */
extern const char *const tl_encoding_names[TL_ENCODINGS + 1];

#define TL_INT8_BLOCK      256u
#define TL_INT8_SCALE_MAX  0x1.fffffep+120f /* every code times it is finite */
#define TL_TOPK_PAIR_BYTES 8u

/* `count` values as `size` bytes; borrowed. `bytes` may lie anywhere, but float32 where
 * a float may. */
struct tl_encoded {
    enum tl_encoding encoding;
    const void *bytes;
    uint64_t size;
    uint64_t count; /* at most 2^32, for topk's indices */
};

/* ---- the sender's side -------------------------------------------------------- */

/* How many values topk keeps: `fraction` of them, at least one, at most half (above it
 * the indices cost more than they save). */
uint64_t tl_codec_topk_count(uint64_t count, double fraction);

/* Bytes of `count` values; `kept`: topk's tl_codec_topk_count(). */
uint64_t tl_codec_size(enum tl_encoding encoding, uint64_t count, uint64_t kept);

/* Encode into `out`, of tl_codec_size() bytes. NaN and infinity stay what they are, or
 * make what they stand in something that is not finite either. The same values give the
 * same bytes. */
void tl_codec_encode(enum tl_encoding encoding, const float *values, uint64_t count,
                     uint64_t kept, void *out);

/* ---- the receiver's side: of what came from outside ---------------------------- */

/* Can `size` bytes be `count` values? Nothing is read. TL_E_SHAPE, TL_E_UNSUPPORTED. */
TL_MUST_USE int tl_codec_check_size(enum tl_encoding encoding, uint64_t count,
                                    uint64_t size);
/* Largest size that tl_codec_check_size() lets pass: bounds buffers. */
uint64_t tl_codec_size_max(enum tl_encoding encoding, uint64_t count);

/* Check size and structure; after it decoding is safe whatever the values.
 *   TL_E_SHAPE        not the size of `count` values; an index of topk's is not below
 *                     count, or not above the one before
 *   TL_E_UNSUPPORTED  no such encoding */
TL_MUST_USE int tl_codec_check(const struct tl_encoded *e);

/* Will every decoded value be finite? */
bool tl_codec_is_finite(const struct tl_encoded *e);

/* Values [first, first + n) into `out`; within count, and checked before. Bytes that
 * change meanwhile, as a hostile peer's may in shared memory, change the values and
 * nothing else: no byte outside `bytes` and `out` is touched. */
void tl_codec_decode(const struct tl_encoded *e, uint64_t first, size_t n, float *out);

#endif
