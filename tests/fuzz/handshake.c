/* The payloads that open a connection: what is taken comes out the same when it is
 * written again. */
#include "throughline/wire.h"

#include "fuzz.h"

static void hello(const uint8_t *data, size_t size) {
    struct tl_hello h;
    uint8_t again[TL_HELLO_BYTES];
    if (tl_hello_decode(data, size, &h) == 0) {
        tl_hello_encode(&h, again);
        must(memcmp(data, again, sizeof(again)) == 0);
    }
}

static void welcome(const uint8_t *data, size_t size) {
    struct tl_welcome w;
    uint8_t again[TL_WELCOME_BYTES];
    if (tl_welcome_decode(data, size, &w) == 0) {
        must(w.parameters <= TL_PARAMETERS_MAX && w.first + w.count <= w.parameters);
        tl_welcome_encode(&w, again);
        must(memcmp(data, again, sizeof(again)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hello(data, size);
    welcome(data, size);
    return 0;
}
