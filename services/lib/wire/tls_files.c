/* tls_files.c - certificate, key and CA: what is wrong with them is said at start. */
#include "trust.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

static int unusable(const char *option, const char *path, const char *what) {
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    return tl_fail(TL_E_CONFIG, "%s %s: %s (%s)", option, path, what,
                   why != NULL ? why : "OpenSSL does not say why");
}

/* A key that needs a passphrase: nobody is there to be asked. */
static int no_passphrase(char *text, int size, int is_writing, void *ctx) {
    (void)text;
    (void)size;
    (void)is_writing;
    (void)ctx;
    return -1;
}

static int check_readable(const char *option, const char *path) {
    return access(path, R_OK) == 0 ? 0
                                   : tl_fail(TL_E_CONFIG, "%s %s: cannot be read: %s",
                                             option, path, strerror(errno));
}

static int check_files(const struct tl_trust_files *f) {
    if (f->tls_cert[0] == '\0' || f->tls_key[0] == '\0' || f->tls_ca[0] == '\0') {
        return tl_fail(TL_E_CONFIG,
                       "TLS needs all of --tls-cert, --tls-key and --tls-ca");
    }
    int rc = check_readable("--tls-cert", f->tls_cert);
    rc = rc == 0 ? check_readable("--tls-key", f->tls_key) : rc;
    return rc == 0 ? check_readable("--tls-ca", f->tls_ca) : rc;
}

static int load(SSL_CTX *tls, const struct tl_trust_files *f) {
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(tls, f->tls_cert) != 1) {
        return unusable("--tls-cert", f->tls_cert, "no certificate in PEM");
    }
    if (SSL_CTX_use_PrivateKey_file(tls, f->tls_key, SSL_FILETYPE_PEM) != 1) {
        return unusable("--tls-key", f->tls_key,
                        "no unencrypted private key in PEM, or not the certificate's");
    }
    if (SSL_CTX_check_private_key(tls) != 1) {
        return unusable("--tls-key", f->tls_key, "not the certificate's key");
    }
    if (SSL_CTX_load_verify_locations(tls, f->tls_ca, NULL) != 1) {
        return unusable("--tls-ca", f->tls_ca, "no certificate in PEM");
    }
    return 0;
}

/* TLS 1.3 alone, both ends with certificates, no sessions to resume. */
static SSL_CTX *context(void) {
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_num_tickets(tls, 0) != 1) {
        SSL_CTX_free(tls);
        return NULL;
    }
    SSL_CTX_set_default_passwd_cb(tls, no_passphrase);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return tls;
}

int trust_read_tls(const struct tl_trust_files *files, SSL_CTX **ret_tls) {
    if (files->tls_cert[0] == '\0' && files->tls_key[0] == '\0' &&
        files->tls_ca[0] == '\0') {
        return 0;
    }
    int rc = check_files(files);
    if (rc != 0) {
        return rc;
    }
    SSL_CTX *tls = context();
    if (tls == NULL) {
        return tl_fail(TL_E_NOMEM, "TLS: OpenSSL has no TLS 1.3, or no memory");
    }
    rc = load(tls, files);
    if (rc != 0) {
        SSL_CTX_free(tls);
        return rc;
    }
    *ret_tls = tls;
    return 0;
}
