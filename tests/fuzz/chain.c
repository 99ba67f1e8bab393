/* A message between replicas: whatever is believed is written the same again. */
#include "throughline/chain.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tl_chain_message m;
    struct tl_chain_message again;
    uint8_t bytes[TL_CHAIN_MESSAGE_BYTES];
    if (size != sizeof(bytes) || tl_chain_message_decode(data, &m) != 0) {
        return 0;
    }
    tl_chain_message_encode(&m, bytes);
    must(tl_chain_message_decode(bytes, &again) == 0);
    must(again.kind == m.kind && again.number == m.number);
    return 0;
}
