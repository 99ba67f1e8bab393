/* frame.c - the codec: every field goes and comes back, and nothing damaged is
 * believed. */
#include "throughline/wire.h"

#include "bytes.h"
#include "test.h"

#include <stdlib.h>

static struct tl_header sample(void) {
    return (struct tl_header){
        .kind = TL_KIND_PUSH_PULL,
        .encoding = TL_ENCODING_INT8,
        .flags = TL_FLAG_CHECKSUM | TL_FLAG_WAIT,
        .shard = 3,
        .worker = 1023,
        .status = TL_E_STALE,
        .epoch = UINT64_C(0x0102030405060708),
        .incarnation = 7,
        .sequence = UINT64_MAX - 1,
        .read_version = TL_VERSION_NONE,
        .position = 42,
        .length = 3253032,
        .norm = 1.5f,
    };
}

static void assert_same_header(const struct tl_header *a, const struct tl_header *b) {
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->encoding, b->encoding);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->shard, b->shard);
    assert_int_equal(a->worker, b->worker);
    assert_int_equal(a->status, b->status);
    assert_true(a->epoch == b->epoch);
    assert_true(a->incarnation == b->incarnation);
    assert_true(a->sequence == b->sequence);
    assert_true(a->read_version == b->read_version);
    assert_true(a->position == b->position);
    assert_true(a->length == b->length);
    assert_memory_equal(&a->norm, &b->norm, sizeof(a->norm));
    assert_true(a->checksum == b->checksum);
}

static void header_comes_back(void **state) {
    (void)state;
    uint8_t buf[TL_HEADER_BYTES];
    struct tl_header in = sample();
    struct tl_header out = {0};
    tl_header_encode(&in, buf);
    assert_int_equal(tl_header_decode(buf, in.length, &out), 0);
    assert_same_header(&in, &out);
}

static void every_flipped_bit_of_a_header_is_noticed(void **state) {
    (void)state;
    uint8_t buf[TL_HEADER_BYTES];
    struct tl_header in = sample();
    tl_header_encode(&in, buf);
    for (size_t bit = 0; bit < (size_t)8 * TL_HEADER_BYTES; bit++) {
        struct tl_header out = {.kind = 99};
        buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(tl_header_decode(buf, UINT64_MAX, &out), TL_E_CHECKSUM);
        assert_int_equal(out.kind, 99);
        buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void a_larger_payload_than_declared_is_refused(void **state) {
    (void)state;
    uint8_t buf[TL_HEADER_BYTES];
    struct tl_header in = sample();
    struct tl_header out;
    tl_header_encode(&in, buf);
    assert_int_equal(tl_header_decode(buf, in.length - 1, &out), TL_E_TOOBIG);
    assert_non_null(strstr(tl_error_text(), "3253032"));
    in.length = UINT64_MAX;
    tl_header_encode(&in, buf);
    assert_int_equal(tl_header_decode(buf, UINT64_C(1) << 40, &out), TL_E_TOOBIG);
}

/* Rewrite one byte and put the right checksum under it, as a stranger would. */
static int decode_with(size_t at, uint8_t value) {
    uint8_t buf[TL_HEADER_BYTES];
    struct tl_header in = sample();
    struct tl_header out;
    tl_header_encode(&in, buf);
    buf[at] = value;
    put_u64(buf + TL_HEADER_BYTES - 8, tl_sum_of(0, buf, TL_HEADER_BYTES - 8));
    return tl_header_decode(buf, UINT64_MAX, &out);
}

static void strangers_are_recognised(void **state) {
    (void)state;
    assert_int_equal(decode_with(6, TL_KIND_PUSH),
                     0); /* the rewriting itself is right */
    assert_int_equal(decode_with(0, 'X'), TL_E_PROTOCOL);
    assert_int_equal(decode_with(4, 2), TL_E_PROTOCOL);
    assert_non_null(strstr(tl_error_text(), "version 2"));
    assert_int_equal(decode_with(5, 1), TL_E_PROTOCOL);
    static const uint8_t unknown_kinds[] = {0, 12, 25, 255};
    for (size_t i = 0; i < sizeof(unknown_kinds); i++) {
        assert_int_equal(decode_with(6, unknown_kinds[i]), TL_E_PROTOCOL);
    }
    static const size_t reserved[] = {7, 9, 10, 11, 28, 29, 30, 31};
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        assert_int_equal(decode_with(reserved[i], 0x80), TL_E_PROTOCOL);
    }
}

/* Gradients have a choice of encodings, and nothing else has. */
static void only_known_encodings_pass(void **state) {
    (void)state;
    assert_int_equal(decode_with(7, TL_ENCODING_TOPK), 0);
    assert_int_equal(decode_with(7, TL_ENCODINGS), TL_E_PROTOCOL);
    uint8_t buf[TL_HEADER_BYTES];
    struct tl_header h = {.kind = TL_KIND_PULL, .encoding = TL_ENCODING_F16};
    tl_header_encode(&h, buf);
    assert_int_equal(tl_header_decode(buf, 0, &h), TL_E_PROTOCOL);
}

static void garbage_is_no_frame(void **state) {
    (void)state;
    uint8_t buf[TL_HEADER_BYTES] = "GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n";
    struct tl_header out;
    assert_int_equal(tl_header_decode(buf, UINT64_MAX, &out), TL_E_CHECKSUM);
    assert_non_null(strstr(tl_error_text(), "another protocol"));
    memset(buf, 0, sizeof(buf));
    assert_int_equal(tl_header_decode(buf, UINT64_MAX, &out), TL_E_CHECKSUM);
}

/* ---- payload checksum --------------------------------------------------------- */

static uint64_t sum_in_pieces(const uint8_t *bytes, size_t size, size_t piece,
                              uint64_t seed) {
    struct tl_sum *sum = NULL;
    assert_int_equal(tl_sum_new(&sum), 0);
    tl_sum_start(sum, seed);
    for (size_t at = 0; at < size; at += piece) {
        tl_sum_feed(sum, bytes + at, size - at < piece ? size - at : piece);
    }
    uint64_t value = tl_sum_value(sum);
    tl_sum_free(sum);
    return value;
}

static void the_sum_does_not_depend_on_the_pieces(void **state) {
    (void)state;
    enum { SIZE = 100003 };
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)(i * 31u + (i >> 8));
    }
    uint64_t whole = sum_in_pieces(bytes, SIZE, SIZE, 5);
    assert_true(tl_sum_of(5, bytes, SIZE) == whole);
    assert_true(sum_in_pieces(bytes, SIZE, 1, 5) == whole);
    assert_true(sum_in_pieces(bytes, SIZE, 4097, 5) == whole);
    assert_false(sum_in_pieces(bytes, SIZE, SIZE, 6) == whole);
    assert_false(sum_in_pieces(bytes, SIZE - 1, SIZE, 5) == whole);
    bytes[SIZE / 2] ^= 1;
    assert_false(sum_in_pieces(bytes, SIZE, SIZE, 5) == whole);
    free(bytes);
}

static void the_sum_is_xxh3_of_the_specification(void **state) {
    (void)state;
    /* XXH3_64bits("") with seed 0, from xxHash's own test vectors. */
    assert_true(sum_in_pieces(NULL, 0, 1, 0) == UINT64_C(0x2D06800538D394C2));
}

static void trailer_comes_back(void **state) {
    (void)state;
    uint8_t buf[TL_TRAILER_BYTES];
    tl_trailer_encode(UINT64_C(0x1122334455667788), buf);
    assert_int_equal(buf[0], 0x88);
    assert_true(tl_trailer_decode(buf) == UINT64_C(0x1122334455667788));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_comes_back),
        cmocka_unit_test(every_flipped_bit_of_a_header_is_noticed),
        cmocka_unit_test(a_larger_payload_than_declared_is_refused),
        cmocka_unit_test(strangers_are_recognised),
        cmocka_unit_test(only_known_encodings_pass),
        cmocka_unit_test(garbage_is_no_frame),
        cmocka_unit_test(the_sum_does_not_depend_on_the_pieces),
        cmocka_unit_test(the_sum_is_xxh3_of_the_specification),
        cmocka_unit_test(trailer_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
