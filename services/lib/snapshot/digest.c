/* digest.c - SHA-256 over a state's bytes, as hexadecimal text. */
#include "snapshot_internal.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

struct tl_sha256 {
    EVP_MD_CTX *context;
};

int tl_sha256_new(struct tl_sha256 **ret_sha) {
    struct tl_sha256 *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a SHA-256");
    }
    s->context = EVP_MD_CTX_new();
    if (s->context == NULL || EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) != 1) {
        tl_sha256_free(s);
        return tl_fail(TL_E_NOMEM, "OpenSSL could not start a SHA-256");
    }
    *ret_sha = s;
    return 0;
}

void tl_sha256_free(struct tl_sha256 *s) {
    if (s != NULL) {
        EVP_MD_CTX_free(s->context);
        free(s);
    }
}

int tl_sha256_feed(struct tl_sha256 *s, const void *bytes, size_t size) {
    return EVP_DigestUpdate(s->context, bytes, size) == 1
               ? 0
               : tl_fail(TL_E_NOMEM, "OpenSSL could not go on with a SHA-256");
}

int tl_sha256_end(struct tl_sha256 *s, char ret_hex[TL_SHA256_HEX]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_DigestFinal_ex(s->context, digest, &size) != 1) {
        return tl_fail(TL_E_NOMEM, "OpenSSL could not finish a SHA-256");
    }
    for (unsigned int i = 0; i < size && 2u * i + 2u < TL_SHA256_HEX; i++) {
        (void)snprintf(ret_hex + (size_t)2u * i, 3, "%02x", digest[i]);
    }
    return EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) == 1
               ? 0
               : tl_fail(TL_E_NOMEM, "OpenSSL could not start a SHA-256");
}
