/* auth.h - who may talk: a job's secret, the handshake that proves it, a role's rights.
 *
 * Path:   the first frames of every connection: HELLO, CHALLENGE, PROOF, WELCOME
 * Pure:   bytes and nonces in, bytes out. Sockets, clocks and randomness are the
 *         caller's; only tl_secret_read() opens a file.
 * Thread: a handshake belongs to one thread at a time; secrets are only read.
 *
 * Both ends prove that they know the key of the caller's role: an HMAC-SHA256 over what
 * was said so far (shard, worker, epoch, the whole HELLO with role, job and run, and a
 * random number of each end). The server proves first, so that a caller tells a
 * stranger nothing; the two proofs differ by a label, and every connection has fresh
 * numbers, so none can be sent back or used again. Each role has a key of its own,
 * derived from the job's secret with HKDF (RFC 5869): whoever was given a role's key
 * alone cannot claim another role. docs/protocol.md has the bytes. */
#ifndef THROUGHLINE_AUTH_H
#define THROUGHLINE_AUTH_H

#include "throughline/error.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- secrets ------------------------------------------------------------------ */

#define TL_KEY_BYTES    32u
#define TL_SECRET_MIN   16u   /* bytes: below, a proof could be guessed at leisure */
#define TL_SECRET_MAX   1024u /* likewise */
#define TL_ROLE_KEY_MAX 128u  /* text of a role's key, with the final NUL */

/* A job's secret, or the key of one role. */
struct tl_secret {
    enum tl_role role;         /* 0: the job's, good for every role */
    uint8_t key[TL_KEY_BYTES]; /* of the role; of the job: what the roles' come from */
};

/* From the text of a secret file: "throughline-key:ROLE:64 hexadecimal digits" is a
 * role's key, any other text of TL_SECRET_MIN bytes or more is a job's secret. Line
 * ends at the end of it do not count. TL_E_CONFIG: too short, too long, no such role.
 */
TL_MUST_USE int tl_secret_parse(const char *text, size_t size,
                                struct tl_secret *ret_secret);
/* From a file; its name is in every error's text, its content never. */
TL_MUST_USE int tl_secret_read(const char *path, struct tl_secret *ret_secret);
/* The key of `role`. TL_E_AUTH: the secret is another role's key. */
TL_MUST_USE int tl_secret_for(const struct tl_secret *secret, enum tl_role role,
                              struct tl_secret *ret_secret);
/* A role's key as tl_secret_parse() reads it. */
void tl_secret_print(const struct tl_secret *role_key, char ret_text[TL_ROLE_KEY_MAX]);
void tl_secret_clear(struct tl_secret *secret);

/* ---- the handshake ------------------------------------------------------------ */

#define TL_PROOF_BYTES 32u /* payload of PROOF */
#define TL_CHALLENGE_BYTES                                                             \
    64u /* payload of CHALLENGE: the server's nonce and proof                          \
         */

/* One connection's opening, at either end. All zero at first. */
struct tl_auth {
    bool has_secret, proven; /* proven: the other end has shown that it knows the key */
    uint8_t key[TL_KEY_BYTES];
    struct tl_header header; /* of HELLO */
    struct tl_hello hello;
    uint8_t server_nonce[TL_NONCE_BYTES];
};

/* Caller: begin, with the key of hello->role, or NULL. `nonce` is fresh randomness; it
 * goes into the HELLO's payload `ret_hello`, zeroes without a secret.
 *   TL_E_AUTH  the secret is another role's key */
TL_MUST_USE int tl_auth_begin(struct tl_auth *a, const struct tl_secret *secret,
                              const struct tl_header *header,
                              const struct tl_hello *hello,
                              const uint8_t nonce[TL_NONCE_BYTES],
                              uint8_t ret_hello[TL_HELLO_BYTES]);
/* Caller: the server's CHALLENGE. Checks the server's proof and gives ours.
 *   TL_E_AUTH      the server does not know this job's secret; or we have none
 *   TL_E_PROTOCOL  no challenge by its size */
TL_MUST_USE int tl_auth_answer(struct tl_auth *a, const uint8_t *challenge, size_t size,
                               uint8_t ret_proof[TL_PROOF_BYTES]);
/* Caller: may this WELCOME be believed? TL_E_AUTH: we have a secret, and the server did
 * not prove that it knows it. */
TL_MUST_USE int tl_auth_welcome(const struct tl_auth *a);

/* Server: a HELLO has come; `nonce` is fresh randomness. Gives the CHALLENGE.
 *   TL_E_AUTH  the caller has no secret to prove, or may not have this role */
TL_MUST_USE int tl_auth_challenge(struct tl_auth *a, const struct tl_secret *secret,
                                  const struct tl_header *header,
                                  const struct tl_hello *hello,
                                  const uint8_t nonce[TL_NONCE_BYTES],
                                  uint8_t ret_challenge[TL_CHALLENGE_BYTES]);
/* Server: the caller's PROOF. Each challenge is good for one try.
 *   TL_E_AUTH  it is wrong, or there was no challenge */
TL_MUST_USE int tl_auth_check(struct tl_auth *a, const uint8_t *proof, size_t size);

/* ---- rights ------------------------------------------------------------------- */

/* May a caller of this role send this request? The one table of rights. */
bool tl_role_may(enum tl_role role, uint8_t kind);

#endif
