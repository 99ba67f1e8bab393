/* A state's digest: what the manual says it is, however the bytes come; and each
 * block's SHA-256 in time for whoever sends it. */
#include "snapshot_internal.h"
#include "test.h"

#include <openssl/sha.h>
#include <stdlib.h>

#define TWO_BLOCKS ((size_t)2 * TL_BLOCK_BYTES)
#define BYTES      (TWO_BLOCKS + 1234567u)

static void write_hex(const unsigned char *bytes, char *ret_hex) {
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        (void)snprintf(ret_hex + 2u * i, 3, "%02x", bytes[i]);
    }
}

static unsigned char *some_bytes(void) {
    unsigned char *bytes = malloc(BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    return bytes;
}

/* By OpenSSL's one call, without our code. */
static void digest_by_hand(const unsigned char *bytes, size_t size, char *ret_hex) {
    unsigned char blocks[3][SHA256_DIGEST_LENGTH];
    unsigned char whole[SHA256_DIGEST_LENGTH];
    size_t n = 0;
    for (size_t at = 0; at < size; at += TL_BLOCK_BYTES) {
        const size_t left = size - at;
        (void)SHA256(bytes + at, left < TL_BLOCK_BYTES ? left : TL_BLOCK_BYTES,
                     blocks[n++]);
    }
    (void)SHA256(blocks[0], n * SHA256_DIGEST_LENGTH, whole);
    write_hex(whole, ret_hex);
}

static void feed(struct tl_digest *d, const unsigned char *bytes, size_t size,
                 size_t piece) {
    for (size_t at = 0; at < size; at += piece) {
        const size_t left = size - at;
        assert_int_equal(tl_digest_feed(d, bytes + at, left < piece ? left : piece), 0);
    }
}

/* Nor whether the last block is a full one; and the digest begins anew each time. */
static void the_pieces_do_not_matter(void **state) {
    static const size_t sizes[] = {BYTES, TWO_BLOCKS};
    static const size_t pieces[] = {4093, 1u << 20, TL_BLOCK_BYTES, BYTES};
    unsigned char *bytes = some_bytes();
    struct tl_digest *d = NULL;
    char expected[TL_SHA256_HEX];
    char found[TL_SHA256_HEX];
    (void)state;
    assert_int_equal(tl_digest_new(&d), 0);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        digest_by_hand(bytes, sizes[s], expected);
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
            feed(d, bytes, sizes[s], pieces[i]);
            assert_int_equal(tl_digest_end(d, found), 0);
            assert_string_equal(found, expected);
        }
    }
    tl_digest_free(d);
    free(bytes);
}

static void each_block_is_known_when_it_is_full(void **state) {
    unsigned char *bytes = some_bytes();
    unsigned char sha[SHA256_DIGEST_LENGTH];
    struct tl_digest *d = NULL;
    char expected[TL_SHA256_HEX];
    char found[TL_SHA256_HEX];
    size_t blocks = 0;
    (void)state;
    assert_int_equal(tl_digest_new(&d), 0);
    for (size_t at = 0; at < BYTES;) {
        const size_t room = tl_digest_room(d);
        const size_t n = BYTES - at < room ? BYTES - at : room;
        assert_int_equal(tl_digest_feed(d, bytes + at, n), 0);
        assert_int_equal(tl_digest_close(d, found), 0);
        (void)SHA256(bytes + at, n, sha);
        write_hex(sha, expected);
        assert_string_equal(found, expected);
        at += n;
        blocks++;
    }
    assert_int_equal(blocks, 3);
    digest_by_hand(bytes, BYTES, expected);
    assert_int_equal(tl_digest_end(d, found), 0);
    assert_string_equal(found, expected);
    tl_digest_free(d);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pieces_do_not_matter),
        cmocka_unit_test(each_block_is_known_when_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
