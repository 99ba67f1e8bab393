/* trust_table.c - the options of everybody who talks to servers, or is one. */
#include "throughline/service.h"

#include <stddef.h>

#define FIELD(member)                                                                  \
    .offset = offsetof(struct tl_trust_files, member),                                 \
    .size = sizeof(((struct tl_trust_files *)NULL)->member)

static const struct tl_option rows[] = {
    {.name = "secret_file",
     .type = TL_OPT_STRING,
     FIELD(secret),
     .fallback = "",
     .doc = "File with the job's secret, or with this role's key: both ends of each "
            "connection prove that they know it. `throughline secret` makes both."},
    {.name = "tls_cert",
     .type = TL_OPT_STRING,
     FIELD(tls_cert),
     .fallback = "",
     .doc =
         "Certificate of this process, PEM, followed by those between it and the CA. "
         "With it, every TCP connection is TLS 1.3."},
    {.name = "tls_key",
     .type = TL_OPT_STRING,
     FIELD(tls_key),
     .fallback = "",
     .doc = "Private key of the certificate, PEM, not encrypted."},
    {.name = "tls_ca",
     .type = TL_OPT_STRING,
     FIELD(tls_ca),
     .fallback = "",
     .doc = "Certificates, PEM, of those who must have signed the other end's."},
};

const struct tl_option_table tl_trust_table = {rows, sizeof(rows) / sizeof(rows[0])};
