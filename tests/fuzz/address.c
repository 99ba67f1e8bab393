/* Addresses, as they stand in Redis and on command lines. */
#include "throughline/wire.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tl_address address;
    char text[512];
    if (size < sizeof(text)) {
        memcpy(text, data, size);
        text[size] = '\0';
        (void)!tl_address_parse(text, &address);
    }
    return 0;
}
