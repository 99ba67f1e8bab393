/* digest.c - SHA-256 as hexadecimal text, and a state's digest, which is made of it. */
#include "snapshot_internal.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int end(struct tl_sha256 *s, unsigned char ret_bytes[SHA256_DIGEST_LENGTH]) {
    return EVP_DigestFinal_ex(s->context, ret_bytes, NULL) == 1 &&
                   EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) == 1
               ? 0
               : tl_fail(TL_E_NOMEM, "OpenSSL could not finish a SHA-256");
}

static void write_hex(const unsigned char bytes[SHA256_DIGEST_LENGTH],
                      char ret_hex[TL_SHA256_HEX]) {
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        (void)snprintf(ret_hex + 2u * i, 3, "%02x", bytes[i]);
    }
}

int tl_sha256_end(struct tl_sha256 *s, char ret_hex[TL_SHA256_HEX]) {
    unsigned char bytes[SHA256_DIGEST_LENGTH];
    const int r = end(s, bytes);
    if (r == 0) {
        write_hex(bytes, ret_hex);
    }
    return r;
}

/* ---- of a state --------------------------------------------------------------- */

struct tl_digest {
    struct tl_sha256 *block; /* of the bytes of the open block */
    struct tl_sha256 *whole; /* of the blocks' */
    size_t filled;           /* bytes of the open block */
    char last[TL_SHA256_HEX];
};

int tl_digest_new(struct tl_digest **ret_digest) {
    struct tl_digest *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a digest");
    }
    int r = tl_sha256_new(&d->block);
    if (r == 0) {
        r = tl_sha256_new(&d->whole);
    }
    if (r < 0) {
        tl_digest_free(d);
        return r;
    }
    *ret_digest = d;
    return 0;
}

void tl_digest_free(struct tl_digest *d) {
    if (d != NULL) {
        tl_sha256_free(d->block);
        tl_sha256_free(d->whole);
        free(d);
    }
}

/* Nothing to do where no byte of it has come. */
static int close_block(struct tl_digest *d) {
    unsigned char bytes[SHA256_DIGEST_LENGTH];
    if (d->filled == 0) {
        return 0;
    }
    const int r = end(d->block, bytes);
    if (r < 0) {
        return r;
    }
    write_hex(bytes, d->last);
    d->filled = 0;
    return tl_sha256_feed(d->whole, bytes, sizeof(bytes));
}

size_t tl_digest_room(const struct tl_digest *d) {
    return TL_BLOCK_BYTES - d->filled;
}

int tl_digest_feed(struct tl_digest *d, const void *bytes, size_t size) {
    const unsigned char *next = bytes;
    int r = 0;
    while (size > 0 && r == 0) {
        const size_t n = size < tl_digest_room(d) ? size : tl_digest_room(d);
        r = tl_sha256_feed(d->block, next, n);
        d->filled += n;
        next += n;
        size -= n;
        if (r == 0 && d->filled == TL_BLOCK_BYTES) {
            r = close_block(d);
        }
    }
    return r;
}

int tl_digest_close(struct tl_digest *d, char ret_hex[TL_SHA256_HEX]) {
    const int r = close_block(d);
    memcpy(ret_hex, d->last, TL_SHA256_HEX);
    return r;
}

int tl_digest_end(struct tl_digest *d, char ret_hex[TL_SHA256_HEX]) {
    const int r = close_block(d);
    return r < 0 ? r : tl_sha256_end(d->whole, ret_hex);
}
