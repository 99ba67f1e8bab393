/* auth.c - the handshake as a state machine of each end; docs/protocol.md,
 * "Authentication". */
#include "throughline/auth.h"

#include "bytes.h"
#include "mac.h"

#include <openssl/crypto.h>
#include <string.h>

_Static_assert(TL_MAC_BYTES == TL_PROOF_BYTES, "a proof is an HMAC");
_Static_assert(TL_CHALLENGE_BYTES == TL_NONCE_BYTES + TL_PROOF_BYTES, "challenge");

#define LABEL_BYTES 18u
static const char server_label[LABEL_BYTES + 1] = "throughline server";
static const char caller_label[LABEL_BYTES + 1] = "throughline caller";

/* What a proof is made over. */
enum {
    AT_LABEL = 0,
    AT_SHARD = LABEL_BYTES,
    AT_WORKER = AT_SHARD + 4,
    AT_EPOCH = AT_WORKER + 4,
    AT_HELLO = AT_EPOCH + 8,
    AT_NONCE = AT_HELLO + TL_HELLO_BYTES,
    SAID_BYTES = AT_NONCE + TL_NONCE_BYTES,
};

static int prove(const struct tl_auth *a, const char *label,
                 uint8_t ret_proof[TL_PROOF_BYTES]) {
    uint8_t said[SAID_BYTES];
    memcpy(said + AT_LABEL, label, LABEL_BYTES);
    put_u32(said + AT_SHARD, a->header.shard);
    put_u32(said + AT_WORKER, a->header.worker);
    put_u64(said + AT_EPOCH, a->header.epoch);
    tl_hello_encode(&a->hello, said + AT_HELLO);
    memcpy(said + AT_NONCE, a->server_nonce, TL_NONCE_BYTES);
    return tl_mac(a->key, sizeof(a->key), said, sizeof(said), ret_proof);
}

static int check(const struct tl_auth *a, const char *label, const uint8_t *proof,
                 bool *ret_right) {
    uint8_t expected[TL_PROOF_BYTES];
    int rc = prove(a, label, expected);
    *ret_right = rc == 0 && CRYPTO_memcmp(expected, proof, TL_PROOF_BYTES) == 0;
    OPENSSL_cleanse(expected, sizeof(expected));
    return rc;
}

static int take_key(struct tl_auth *a, const struct tl_secret *secret,
                    enum tl_role role) {
    struct tl_secret key;
    int rc = tl_secret_for(secret, role, &key);
    if (rc == 0) {
        memcpy(a->key, key.key, sizeof(a->key));
        a->has_secret = true;
        tl_secret_clear(&key);
    }
    return rc;
}

/* ---- the caller's end ------------------------------------------------------------ */

int tl_auth_begin(struct tl_auth *a, const struct tl_secret *secret,
                  const struct tl_header *header, const struct tl_hello *hello,
                  const uint8_t nonce[TL_NONCE_BYTES],
                  uint8_t ret_hello[TL_HELLO_BYTES]) {
    *a = (struct tl_auth){.header = *header, .hello = *hello};
    memset(a->hello.nonce, 0, TL_NONCE_BYTES);
    if (secret != NULL) {
        int rc = take_key(a, secret, hello->role);
        if (rc != 0) {
            return rc;
        }
        memcpy(a->hello.nonce, nonce, TL_NONCE_BYTES);
    }
    tl_hello_encode(&a->hello, ret_hello);
    return 0;
}

int tl_auth_answer(struct tl_auth *a, const uint8_t *challenge, size_t size,
                   uint8_t ret_proof[TL_PROOF_BYTES]) {
    if (size != TL_CHALLENGE_BYTES) {
        return tl_fail(TL_E_PROTOCOL, "challenge: %zu bytes instead of %u", size,
                       TL_CHALLENGE_BYTES);
    }
    if (!a->has_secret || a->proven) {
        return tl_fail(TL_E_AUTH, "the server asks for a proof that is not due");
    }
    memcpy(a->server_nonce, challenge, TL_NONCE_BYTES);
    int rc = check(a, server_label, challenge + TL_NONCE_BYTES, &a->proven);
    if (rc == 0 && !a->proven) {
        rc = tl_fail(TL_E_AUTH, "the server does not know this job's secret: give both "
                                "the same --secret-file");
    }
    return rc == 0 ? prove(a, caller_label, ret_proof) : rc;
}

int tl_auth_welcome(const struct tl_auth *a) {
    if (a->has_secret && !a->proven) {
        return tl_fail(TL_E_AUTH,
                       "the server has no secret, so it may be anybody: give "
                       "it this job's --secret-file");
    }
    return 0;
}

/* ---- the server's end ------------------------------------------------------------ */

int tl_auth_challenge(struct tl_auth *a, const struct tl_secret *secret,
                      const struct tl_header *header, const struct tl_hello *hello,
                      const uint8_t nonce[TL_NONCE_BYTES],
                      uint8_t ret_challenge[TL_CHALLENGE_BYTES]) {
    static const uint8_t none[TL_NONCE_BYTES];
    *a = (struct tl_auth){.header = *header, .hello = *hello};
    if (memcmp(hello->nonce, none, TL_NONCE_BYTES) == 0) {
        return tl_fail(TL_E_AUTH, "this job has a secret: give --secret-file or "
                                  "THROUGHLINE_SECRET_FILE");
    }
    int rc = take_key(a, secret, hello->role);
    if (rc != 0) {
        return rc;
    }
    memcpy(a->server_nonce, nonce, TL_NONCE_BYTES);
    memcpy(ret_challenge, nonce, TL_NONCE_BYTES);
    return prove(a, server_label, ret_challenge + TL_NONCE_BYTES);
}

int tl_auth_check(struct tl_auth *a, const uint8_t *proof, size_t size) {
    if (!a->has_secret || a->proven || size != TL_PROOF_BYTES) {
        return tl_fail(TL_E_AUTH, "a proof that nobody asked for");
    }
    int rc = check(a, caller_label, proof, &a->proven);
    a->has_secret = a->proven; /* one try */
    if (rc == 0 && !a->proven) {
        rc = tl_fail(TL_E_AUTH,
                     "the caller does not know this job's secret as a %s: "
                     "give both the same --secret-file",
                     tl_role_name(a->hello.role));
    }
    return rc;
}
