/* trust.c - the files of the configuration that say who may talk. */
#include "client_internal.h"

#include <stdio.h>

static int copy(const char *path, const char *field, char ret_path[TL_TRUST_PATH_MAX]) {
    int n = snprintf(ret_path, TL_TRUST_PATH_MAX, "%s", path != NULL ? path : "");
    return n < (int)TL_TRUST_PATH_MAX ? 0
                                      : tl_fail(TL_E_CONFIG, "%s: longer than %u bytes",
                                                field, TL_TRUST_PATH_MAX - 1);
}

int client_trust_open(const struct tl_client_config *config,
                      struct tl_trust **ret_trust) {
    struct tl_trust_files files;
    int rc = copy(config->secret_file, "secret_file", files.secret);
    rc = rc == 0 ? copy(config->tls_cert, "tls_cert", files.tls_cert) : rc;
    rc = rc == 0 ? copy(config->tls_key, "tls_key", files.tls_key) : rc;
    rc = rc == 0 ? copy(config->tls_ca, "tls_ca", files.tls_ca) : rc;
    return rc == 0 ? tl_trust_new(&files, ret_trust) : rc;
}
