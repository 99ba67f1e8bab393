/* What opens a connection: what is taken comes out the same when it is written again,
 * and nothing that does not know the secret is a proof that it does. */
#include "throughline/auth.h"
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

/* Neither end believes the other. */
static void proofs(const uint8_t *data, size_t size) {
    static const uint8_t nonce[TL_NONCE_BYTES] = {1};
    static const char text[] = "a secret that nobody guesses";
    struct tl_header header = {.kind = TL_KIND_HELLO};
    struct tl_hello greeting = {.role = TL_ROLE_WORKER, .job = "job", .run = "run"};
    struct tl_secret secret;
    struct tl_auth caller = {0};
    struct tl_auth server = {0};
    uint8_t bytes[TL_HELLO_BYTES];
    uint8_t challenge[TL_CHALLENGE_BYTES];
    uint8_t proof[TL_PROOF_BYTES];
    must(tl_secret_parse(text, sizeof(text) - 1, &secret) == 0);
    must(tl_auth_begin(&caller, &secret, &header, &greeting, nonce, bytes) == 0);
    must(tl_hello_decode(bytes, sizeof(bytes), &greeting) == 0);
    must(tl_auth_challenge(&server, &secret, &header, &greeting, nonce, challenge) ==
         0);
    must(tl_auth_check(&server, data, size) != 0);
    must(tl_auth_answer(&caller, data, size, proof) != 0);
    must(tl_auth_welcome(&caller) != 0);
}

static void secret(const uint8_t *data, size_t size) {
    struct tl_secret s;
    if (tl_secret_parse((const char *)data, size, &s) == 0) {
        tl_secret_clear(&s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hello(data, size);
    welcome(data, size);
    proofs(data, size);
    secret(data, size);
    return 0;
}
