/* mac.h - HMAC-SHA256 of OpenSSL, with the project's errors. */
#ifndef TL_WIRE_MAC_H
#define TL_WIRE_MAC_H

#include "throughline/error.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stddef.h>
#include <stdint.h>

#define TL_MAC_BYTES 32u

TL_MUST_USE static inline int tl_mac(const void *key, size_t key_size,
                                     const void *bytes, size_t size,
                                     uint8_t ret_mac[TL_MAC_BYTES]) {
    return HMAC(EVP_sha256(), key, (int)key_size, bytes, size, ret_mac, NULL) != NULL
               ? 0
               : tl_fail(TL_E_NOMEM, "OpenSSL cannot compute an HMAC-SHA256");
}

#endif
