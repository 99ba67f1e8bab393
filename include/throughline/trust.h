/* trust.h - what a process shows to others, and asks of them, before it talks.
 *
 * Thread: made at start, then only read; any number of links may share it. */
#ifndef THROUGHLINE_TRUST_H
#define THROUGHLINE_TRUST_H

#include "throughline/auth.h"
#include "throughline/error.h"

#define TL_TRUST_PATH_MAX 1024u

/* Paths, "" for none. */
struct tl_trust_files {
    char secret[TL_TRUST_PATH_MAX]; /* the job's secret, or a role's key */
    char
        tls_cert[TL_TRUST_PATH_MAX]; /* our certificate, with those between it and CA */
    char tls_key[TL_TRUST_PATH_MAX]; /* its private key */
    char tls_ca[TL_TRUST_PATH_MAX];  /* who must have signed the other end's */
};

struct tl_trust;

/* Read the files. *ret_trust is NULL when there are none: whoever connects is believed.
 *   TL_E_CONFIG  one of them cannot be used: the text names it */
TL_MUST_USE int tl_trust_new(const struct tl_trust_files *files,
                             struct tl_trust **ret_trust);
void tl_trust_free(struct tl_trust *trust); /* NULL is legal */

/* NULL when there is none; `trust` may be NULL. */
const struct tl_secret *tl_trust_secret(const struct tl_trust *trust);

/* Does TCP go through TLS? `trust` may be NULL. */
bool tl_trust_has_tls(const struct tl_trust *trust);

/* Fresh randomness from the kernel. */
void tl_nonce(uint8_t ret_nonce[TL_NONCE_BYTES]);

#endif
