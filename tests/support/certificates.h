/* certificates.h - a CA, and certificates signed by it, made by the test itself. */
#ifndef TL_TESTS_CERTIFICATES_H
#define TL_TESTS_CERTIFICATES_H

#include "throughline/trust.h"

#include "scratch.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct certificate {
    X509 *cert;
    EVP_PKEY *key;
};

/* What a certificate says; NULL for what it does not. */
struct certificate_claims {
    const char *names; /* "DNS:localhost,IP:127.0.0.1" */
    const char *usage; /* "serverAuth,clientAuth" */
    bool is_ca, has_expired;
};

/* Either side of now: some tests set clocks, by up to a year. */
#define CERTIFICATE_LIFE_S (2L * 365 * 24 * 3600)

static inline void certificate_extend(X509 *cert, int nid, const char *value) {
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* Signed by `issuer`, or by itself. */
static inline struct certificate
certificate_new(const char *subject, const struct certificate *issuer,
                const struct certificate_claims *claims) {
    static long serial;
    struct certificate c = {.cert = X509_new(), .key = EVP_EC_gen("P-256")};
    assert_non_null(c.cert);
    assert_non_null(c.key);
    (void)X509_set_version(c.cert, X509_VERSION_3);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(c.cert), ++serial);
    (void)X509_gmtime_adj(X509_getm_notBefore(c.cert), -CERTIFICATE_LIFE_S);
    (void)X509_gmtime_adj(X509_getm_notAfter(c.cert),
                          claims->has_expired ? -3600 : CERTIFICATE_LIFE_S);
    (void)X509_set_pubkey(c.cert, c.key);
    X509_NAME *name = X509_get_subject_name(c.cert);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)subject, -1, -1,
                                                0),
                     1);
    const struct certificate *signer = issuer != NULL ? issuer : &c;
    (void)X509_set_issuer_name(c.cert, X509_get_subject_name(signer->cert));
    if (claims->is_ca) {
        certificate_extend(c.cert, NID_basic_constraints, "critical,CA:TRUE");
    }
    if (claims->names != NULL) {
        certificate_extend(c.cert, NID_subject_alt_name, claims->names);
    }
    if (claims->usage != NULL) {
        certificate_extend(c.cert, NID_ext_key_usage, claims->usage);
    }
    assert_true(X509_sign(c.cert, signer->key, EVP_sha256()) > 0);
    return c;
}

static inline void certificate_done(struct certificate *c) {
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
}

static inline struct certificate certificate_ca(const char *subject) {
    const struct certificate_claims claims = {.is_ca = true};
    return certificate_new(subject, NULL, &claims);
}

/* Write NAME.pem and NAME.key into the scratch directory. */
static inline void certificate_write(const struct certificate *c, const char *name) {
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s.pem", scratch, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, c->cert), 1);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(path, sizeof(path), "%s/%s.key", scratch, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, c->key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

/* The files NAME.pem, NAME.key and CA.pem; `secret`: a path, or NULL. */
static inline struct tl_trust_files certificate_files(const char *name, const char *ca,
                                                      const char *secret) {
    struct tl_trust_files f = {.secret = ""};
    (void)snprintf(f.secret, sizeof(f.secret), "%s", secret != NULL ? secret : "");
    (void)snprintf(f.tls_cert, sizeof(f.tls_cert), "%s/%s.pem", scratch, name);
    (void)snprintf(f.tls_key, sizeof(f.tls_key), "%s/%s.key", scratch, name);
    (void)snprintf(f.tls_ca, sizeof(f.tls_ca), "%s/%s.pem", scratch, ca);
    return f;
}

static inline struct tl_trust *certificate_trust(const char *name, const char *ca,
                                                 const char *secret) {
    const struct tl_trust_files files = certificate_files(name, ca, secret);
    struct tl_trust *trust = NULL;
    int rc = tl_trust_new(&files, &trust);
    if (rc != 0) {
        fail_msg("%s", tl_error_text());
    }
    assert_true(tl_trust_has_tls(trust));
    return trust;
}

/* Into the scratch directory: a CA "ca", "node" for this machine, and what is wrong in
 * various ways: "stranger" (of "other-ca"), "expired", "elsewhere" (for another host),
 * "client" (may not be a server). */
static inline void certificates_make(void) {
    static const struct certificate_claims here = {.names =
                                                       "DNS:localhost,IP:127.0.0.1"};
    static const struct certificate_claims old = {.names = "IP:127.0.0.1",
                                                  .has_expired = true};
    static const struct certificate_claims elsewhere = {.names = "DNS:elsewhere"};
    static const struct certificate_claims client = {.names = "IP:127.0.0.1",
                                                     .usage = "clientAuth"};
    const struct {
        const char *name;
        const struct certificate_claims *claims;
    } nodes[] = {{"node", &here},
                 {"expired", &old},
                 {"elsewhere", &elsewhere},
                 {"client", &client}};
    struct certificate ca = certificate_ca("test CA");
    struct certificate other = certificate_ca("another CA");
    certificate_write(&ca, "ca");
    certificate_write(&other, "other-ca");
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        struct certificate c = certificate_new(nodes[i].name, &ca, nodes[i].claims);
        certificate_write(&c, nodes[i].name);
        certificate_done(&c);
    }
    struct certificate stranger = certificate_new("stranger", &other, &here);
    certificate_write(&stranger, "stranger");
    certificate_done(&stranger);
    certificate_done(&other);
    certificate_done(&ca);
}

/* cmocka group setup. */
static inline int certificates_setup(void **state) {
    int rc = scratch_setup(state);
    if (rc == 0) {
        certificates_make();
    }
    return rc;
}

#endif
