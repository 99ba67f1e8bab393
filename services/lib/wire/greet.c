/* greet.c - HELLO to WELCOME as one exchange of a link, whatever lies between.
 *
 * Whoever asks sees WELCOME or ERROR; the CHALLENGE of a server that has a secret is
 * answered here. */
#include "link.h"

#include <string.h>

int tl_link_hello(struct tl_link *l, const struct tl_header *header,
                  const struct tl_hello *hello, uint8_t welcome[TL_WELCOME_BYTES]) {
    struct tl_header h = *header;
    uint8_t nonce[TL_NONCE_BYTES];
    h.kind = TL_KIND_HELLO;
    h.length = TL_HELLO_BYTES;
    tl_nonce(nonce);
    int rc =
        tl_auth_begin(&l->auth, tl_trust_secret(l->trust), &h, hello, nonce, l->said);
    if (rc != 0) {
        return rc;
    }
    rc = tl_link_request(l, &h, l->said, l->heard, sizeof(l->heard), true);
    l->welcome = rc == 0 ? welcome : NULL;
    return rc;
}

/* The server has shown that it knows the secret: show it too. */
static int send_proof(struct tl_link *l) {
    struct tl_header h = l->auth.header;
    h.kind = TL_KIND_PROOF;
    h.length = TL_PROOF_BYTES;
    int rc = tl_auth_answer(&l->auth, l->heard, l->reply.length, l->said);
    if (rc != 0) {
        return tl_fail(rc, "%s: %s", l->name, tl_error_text());
    }
    uint8_t *welcome = l->welcome;
    rc = tl_link_request(l, &h, l->said, l->heard, sizeof(l->heard), true);
    l->welcome = welcome;
    return rc == 0 ? TL_E_BUSY : rc;
}

/* What a server that has not proven itself says ends nothing, but that it wants a proof
 * that we cannot give. */
static int take_error(const struct tl_link *l) {
    bool is_believed = tl_auth_welcome(&l->auth) == 0 || l->reply.status == TL_E_AUTH;
    return is_believed ? 0 : tl_fail(TL_E_UNAVAILABLE, "%s: %s", l->name, l->text);
}

int link_greet(struct tl_link *l) {
    if (l->reply.kind == TL_KIND_CHALLENGE) {
        l->state = LINK_COMPLETE; /* this frame's exchange; PROOF is the next one */
        return send_proof(l);
    }
    uint8_t *welcome = l->welcome;
    l->welcome = NULL;
    if (l->reply.kind == TL_KIND_ERROR) {
        return take_error(l);
    }
    int rc = tl_auth_welcome(&l->auth);
    if (rc != 0) {
        return tl_fail(rc, "%s: %s", l->name, tl_error_text());
    }
    if (l->reply.length > TL_WELCOME_BYTES) {
        return tl_fail(TL_E_TOOBIG, "%s: a WELCOME of %llu bytes", l->name,
                       (unsigned long long)l->reply.length);
    }
    memcpy(welcome, l->heard, l->reply.length);
    return 0;
}
