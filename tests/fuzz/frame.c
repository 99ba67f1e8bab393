/* A frame's header: what is taken comes out the same when it is written again. */
#include "throughline/wire.h"

#include "fuzz.h"

#include <xxhash.h>

#define PAYLOAD_MAX 4096u

/* The checksum is made right, or nothing would get behind it; the first byte says
 * whether. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t bytes[TL_HEADER_BYTES];
    uint8_t again[TL_HEADER_BYTES];
    struct tl_header h;
    if (size < 1 + TL_HEADER_BYTES) {
        return 0;
    }
    memcpy(bytes, data + 1, sizeof(bytes));
    if ((data[0] & 1) != 0) {
        uint64_t sum = XXH3_64bits(bytes, TL_HEADER_BYTES - sizeof(sum));
        memcpy(bytes + TL_HEADER_BYTES - sizeof(sum), &sum, sizeof(sum));
    }
    if (tl_header_decode(bytes, PAYLOAD_MAX, &h) == 0) {
        must(h.length <= PAYLOAD_MAX);
        tl_header_encode(&h, again);
        must(memcmp(bytes, again, sizeof(bytes)) == 0);
    }
    return 0;
}
