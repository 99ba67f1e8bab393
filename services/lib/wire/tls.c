/* tls.c - OpenSSL between two rings of bytes.
 *
 * A BIO pair: OpenSSL reads and writes one end, the caller the other, in place. So
 * there is no copy beyond what encryption makes, and a bound on what a connection
 * holds. */
#include "throughline/tls.h"

#include "trust.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define RING_BYTES (128u << 10) /* seven records of 16 KiB each way */

struct tl_tls {
    SSL *ssl;
    BIO *network;   /* the caller's end */
    bool is_server; /* this end */
};

/* ---- life --------------------------------------------------------------------- */

static bool expect_host(SSL *ssl, const char *host) {
    uint8_t address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 ||
        inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static bool connect_rings(struct tl_tls *t) {
    BIO *inside = NULL;
    if (BIO_new_bio_pair(&inside, RING_BYTES, &t->network, RING_BYTES) != 1) {
        return false;
    }
    SSL_set_bio(t->ssl, inside, inside);
    return true;
}

int tl_tls_new(const struct tl_trust *trust, const char *host,
               struct tl_tls **ret_tls) {
    struct tl_tls *t = calloc(1, sizeof(*t));
    bool ok = t != NULL && (t->ssl = SSL_new(trust->tls)) != NULL && connect_rings(t);
    ok = ok && (host == NULL || expect_host(t->ssl, host));
    if (!ok) {
        tl_tls_free(t);
        return tl_fail(TL_E_NOMEM, "TLS: no memory for a connection");
    }
    t->is_server = host == NULL;
    if (t->is_server) {
        SSL_set_accept_state(t->ssl);
    } else {
        SSL_set_connect_state(t->ssl);
    }
    *ret_tls = t;
    return 0;
}

void tl_tls_free(struct tl_tls *t) {
    if (t != NULL) {
        SSL_free(t->ssl);
        (void)BIO_free(t->network);
        free(t);
    }
}

bool tl_tls_is_open(const struct tl_tls *t) {
    return SSL_is_init_finished(t->ssl) == 1;
}

/* ---- the network's end ---------------------------------------------------------- */

size_t tl_tls_room(struct tl_tls *t, uint8_t **ret_where) {
    char *where = NULL;
    int size = BIO_nwrite0(t->network, &where);
    *ret_where = (uint8_t *)where;
    return size > 0 ? (size_t)size : 0;
}

void tl_tls_received(struct tl_tls *t, size_t size) {
    char *where = NULL;
    (void)BIO_nwrite(t->network, &where, (int)size);
}

size_t tl_tls_outgoing(struct tl_tls *t, const uint8_t **ret_bytes) {
    char *bytes = NULL;
    int size = BIO_nread0(t->network, &bytes);
    *ret_bytes = (const uint8_t *)bytes;
    return size > 0 ? (size_t)size : 0;
}

void tl_tls_sent(struct tl_tls *t, size_t size) {
    char *bytes = NULL;
    (void)BIO_nread(t->network, &bytes, (int)size);
}

/* ---- what went wrong ------------------------------------------------------------ */

/* The other end's certificate does not convince us. */
static int distrust(const struct tl_tls *t, long result) {
    const char *who = t->is_server ? "caller" : "server";
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return tl_fail(
            TL_E_AUTH,
            "TLS: the server's certificate is not for this address: issue one "
            "that names it, or have the server advertise a name that it has");
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return tl_fail(
            TL_E_AUTH,
            "TLS: the %s's certificate has expired, or is not valid yet: renew "
            "it, or set the clocks",
            who);
    case X509_V_ERR_INVALID_PURPOSE:
        return tl_fail(TL_E_AUTH, "TLS: the %s's certificate may not be used as a %s's",
                       who, who);
    default:
        return tl_fail(TL_E_AUTH,
                       "TLS: the %s's certificate is not signed by our --tls-ca (%s): "
                       "give both ends certificates of one CA",
                       who, X509_verify_cert_error_string(result));
    }
}

static bool is_alert_about_certificates(int reason) {
    switch (reason) {
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

static int explain(const struct tl_tls *t) {
    const unsigned long error = ERR_peek_error();
    const int reason = ERR_GET_REASON(error);
    const char *why = ERR_reason_error_string(error);
    const char *other = t->is_server ? "caller" : "server";
    long result = SSL_get_verify_result(t->ssl);
    if (reason == ERR_R_MALLOC_FAILURE) {
        return tl_fail(TL_E_NOMEM, "TLS: out of memory");
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && result != X509_V_OK) {
        return distrust(t, result);
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        return tl_fail(TL_E_AUTH, "TLS: the caller shows no certificate: give it "
                                  "--tls-cert and --tls-key");
    }
    if (is_alert_about_certificates(reason)) {
        return tl_fail(
            TL_E_AUTH,
            "TLS: the %s does not accept our certificate (%s): give one that "
            "its --tls-ca has signed",
            other, why);
    }
    if (reason == SSL_R_WRONG_VERSION_NUMBER && !SSL_is_init_finished(t->ssl)) {
        return tl_fail(TL_E_AUTH,
                       "TLS: the %s does not speak TLS: give both ends --tls-cert, "
                       "--tls-key and --tls-ca, or neither",
                       other);
    }
    return tl_fail(TL_E_PROTOCOL, "TLS: %s", why != NULL ? why : "broken connection");
}

/* What SSL_read() or SSL_write() returned, as an error of ours. */
static int outcome(const struct tl_tls *t, int returned) {
    switch (SSL_get_error(t->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return TL_E_BUSY;
    case SSL_ERROR_ZERO_RETURN:
        return tl_fail(TL_E_CLOSED, "TLS: the connection was closed");
    default:
        return explain(t);
    }
}

/* ---- the plaintext's end ----------------------------------------------------------
 */

int tl_tls_read(struct tl_tls *t, void *bytes, size_t size, size_t *ret_size) {
    ERR_clear_error();
    int n = SSL_read(t->ssl, bytes, size > INT_MAX ? INT_MAX : (int)size);
    if (n <= 0) {
        return outcome(t, n);
    }
    *ret_size = (size_t)n;
    return 0;
}

int tl_tls_write(struct tl_tls *t, const void *bytes, size_t size, size_t *ret_size) {
    ERR_clear_error();
    int n = SSL_write(t->ssl, bytes, size > INT_MAX ? INT_MAX : (int)size);
    if (n <= 0) {
        return outcome(t, n);
    }
    *ret_size = (size_t)n;
    return 0;
}
