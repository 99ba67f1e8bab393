/* trust.h - what the files of trust share. */
#ifndef TL_WIRE_TRUST_H
#define TL_WIRE_TRUST_H

#include "throughline/trust.h"

#include <openssl/ssl.h>

struct tl_trust {
    bool has_secret;
    struct tl_secret secret;
    SSL_CTX *tls; /* for both ends of a connection; NULL: no TLS */
};

/* tls_files.c: certificate, key and CA, checked. */
TL_MUST_USE int trust_read_tls(const struct tl_trust_files *files, SSL_CTX **ret_tls);

#endif
