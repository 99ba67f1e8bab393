/* Encoded gradients: what passes the check can be decoded anywhere, and whoever is told
 * that it is finite finds it so. */
#include "throughline/codec.h"

#include "fuzz.h"

#include <math.h>

#define COUNT 300u /* more than one block of int8 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    float values[COUNT];
    if (size < 2) {
        return 0;
    }
    uint64_t count = 1 + data[1] % COUNT;
    void *bytes = malloc(size - 2 + 1); /* aligned, and its end guarded */
    must(bytes != NULL);
    memcpy(bytes, data + 2, size - 2);
    const struct tl_encoded e = {.encoding = (enum tl_encoding)(data[0] % TL_ENCODINGS),
                                 .bytes = bytes,
                                 .size = size - 2,
                                 .count = count};
    if (tl_codec_check(&e) == 0) {
        must(e.size <= tl_codec_size_max(e.encoding, count));
        bool is_finite = tl_codec_is_finite(&e);
        tl_codec_decode(&e, 0, count, values);
        for (uint64_t i = 0; i < count && is_finite; i++) {
            must(isfinite(values[i]));
        }
        tl_codec_decode(&e, count / 2, count - count / 2, values);
    }
    free(bytes);
    return 0;
}
