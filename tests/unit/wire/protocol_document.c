/* protocol_document.c - the frames printed in docs/protocol.md are what the codec
 * writes, and its table of errors is the program's. */
#include "throughline/auth.h"
#include "throughline/wire.h"

#include "fake_server.h"
#include "test.h"

static char *document;

static int read_document(void **state) {
    (void)state;
    enum { MOST = 1 << 20 };
    FILE *f = fopen(TL_SOURCE_DIR "/docs/protocol.md", "re");
    document = calloc(1, MOST);
    if (f == NULL || document == NULL) {
        return -1;
    }
    size_t size = fread(document, 1, MOST - 1, f);
    (void)fclose(f);
    return size > 0 ? 0 : -1;
}

static int free_document(void **state) {
    (void)state;
    free(document);
    return 0;
}

static void assert_documented(const char *text) {
    if (strstr(document, text) == NULL) {
        fail_msg("docs/protocol.md has to contain:\n%s", text);
    }
}

/* Sixteen bytes a line, as the document shows them. */
static void assert_dump_documented(const uint8_t *bytes, size_t size) {
    char text[4096];
    size_t used = 0;
    for (size_t at = 0; at < size; at += 16) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%04zx ", at);
        for (size_t i = at; i < size && i < at + 16; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%02x",
                                     i == at + 8 ? "  " : " ", bytes[i]);
        }
        used += (size_t)snprintf(text + used, sizeof(text) - used, "\n");
    }
    assert_documented(text);
}

static void assert_frame_documented(struct tl_header header, const void *payload) {
    size_t size = 0;
    uint8_t *frame = fake_frame(&header, payload, &size);
    assert_dump_documented(frame, size);
    free(frame);
}

static void the_hello_is_documented(void **state) {
    (void)state;
    const struct tl_hello hello = {.role = TL_ROLE_WORKER, .job = "demo", .run = "r1"};
    uint8_t payload[TL_HELLO_BYTES];
    tl_hello_encode(&hello, payload);
    const struct tl_header header = {.kind = TL_KIND_HELLO,
                                     .flags = TL_FLAG_CHECKSUM,
                                     .worker = 3,
                                     .length = sizeof(payload)};
    assert_frame_documented(header, payload);
}

static void the_welcome_is_documented(void **state) {
    (void)state;
    const struct tl_welcome welcome = {
        .writer = 0x77, .shards = 1, .parameters = 2, .count = 2};
    uint8_t payload[TL_WELCOME_BYTES];
    tl_welcome_encode(&welcome, payload);
    const struct tl_header header = {.kind = TL_KIND_WELCOME,
                                     .flags = TL_FLAG_CHECKSUM,
                                     .worker = 3,
                                     .epoch = 1,
                                     .read_version = 10,
                                     .length = sizeof(payload)};
    assert_frame_documented(header, payload);
}

static void the_join_is_documented(void **state) {
    (void)state;
    const struct tl_header join = {.kind = TL_KIND_JOIN,
                                   .worker = 3,
                                   .epoch = 1,
                                   .incarnation = 2,
                                   .sequence = 20};
    assert_frame_documented(join, NULL);
}

static void the_push_pull_is_documented(void **state) {
    (void)state;
    /* 0.5 and -2.0 in little-endian float32. */
    static const uint8_t gradient[8] = {0, 0, 0, 0x3f, 0, 0, 0, 0xc0};
    const struct tl_header push = {.kind = TL_KIND_PUSH_PULL,
                                   .flags = TL_FLAG_CHECKSUM,
                                   .worker = 3,
                                   .epoch = 1,
                                   .incarnation = 2,
                                   .sequence = 21,
                                   .read_version = 10,
                                   .length = sizeof(gradient),
                                   .norm = 2.0615528f};
    assert_frame_documented(push, gradient);
    struct tl_header weights = push;
    weights.kind = TL_KIND_WEIGHTS;
    weights.read_version = 11;
    weights.norm = 0;
    assert_frame_documented(weights, gradient);
}

/* The opening of a job that has a secret, with numbers instead of randomness. */
static void the_proofs_are_documented(void **state) {
    (void)state;
    static const char text[] = "correct horse battery staple";
    struct tl_secret secret;
    struct tl_secret key;
    struct tl_auth caller;
    struct tl_auth server;
    char key_text[TL_ROLE_KEY_MAX];
    struct tl_header h = {.kind = TL_KIND_HELLO,
                          .flags = TL_FLAG_CHECKSUM,
                          .worker = 3,
                          .length = TL_HELLO_BYTES};
    struct tl_hello hello = {.role = TL_ROLE_WORKER, .job = "demo", .run = "r1"};
    uint8_t nonce[TL_NONCE_BYTES];
    uint8_t said[TL_HELLO_BYTES];
    uint8_t challenge[TL_CHALLENGE_BYTES];
    uint8_t proof[TL_PROOF_BYTES];

    assert_int_equal(tl_secret_parse(text, strlen(text), &secret), 0);
    assert_documented(text);
    assert_int_equal(tl_secret_for(&secret, TL_ROLE_WORKER, &key), 0);
    tl_secret_print(&key, key_text);
    assert_documented(key_text);

    for (size_t i = 0; i < sizeof(nonce); i++) {
        nonce[i] = (uint8_t)i;
    }
    assert_int_equal(tl_auth_begin(&caller, &secret, &h, &hello, nonce, said), 0);
    assert_frame_documented(h, said);
    for (size_t i = 0; i < sizeof(nonce); i++) {
        nonce[i] = (uint8_t)(0x80 + i);
    }
    assert_int_equal(
        tl_auth_challenge(&server, &key, &h, &caller.hello, nonce, challenge), 0);
    h.kind = TL_KIND_CHALLENGE;
    h.length = sizeof(challenge);
    assert_frame_documented(h, challenge);
    assert_int_equal(tl_auth_answer(&caller, challenge, sizeof(challenge), proof), 0);
    h.kind = TL_KIND_PROOF;
    h.length = sizeof(proof);
    assert_frame_documented(h, proof);
    assert_int_equal(tl_auth_check(&server, proof, sizeof(proof)), 0);
}

static void every_error_is_documented(void **state) {
    (void)state;
    char row[128];
#define CHECK(name, value, retriable, text)                                            \
    (void)snprintf(row, sizeof(row), "| %d | %s | %s | %s |", -(value), #name,         \
                   (retriable) ? "yes" : "no", text);                                  \
    assert_documented(row);
    TL_ERRORS(CHECK)
#undef CHECK
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hello_is_documented),
        cmocka_unit_test(the_welcome_is_documented),
        cmocka_unit_test(the_join_is_documented),
        cmocka_unit_test(the_push_pull_is_documented),
        cmocka_unit_test(the_proofs_are_documented),
        cmocka_unit_test(every_error_is_documented),
    };
    return cmocka_run_group_tests(tests, read_document, free_document);
}
