/* trust.c - the files that say who may talk, read once. */
#include "trust.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static int read_secret(struct tl_trust *t, const char *path) {
    int rc = path[0] == '\0' ? 0 : tl_secret_read(path, &t->secret);
    t->has_secret = rc == 0 && path[0] != '\0';
    return rc;
}

int tl_trust_new(const struct tl_trust_files *files, struct tl_trust **ret_trust) {
    struct tl_trust *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return tl_fail(TL_E_NOMEM, "trust: out of memory");
    }
    int rc = read_secret(t, files->secret);
    rc = rc == 0 ? trust_read_tls(files, &t->tls) : rc;
    if (rc != 0) {
        tl_trust_free(t);
        return rc;
    }
    if (!t->has_secret && t->tls == NULL) {
        tl_trust_free(t);
        t = NULL;
    }
    *ret_trust = t;
    return 0;
}

void tl_trust_free(struct tl_trust *t) {
    if (t != NULL) {
        tl_secret_clear(&t->secret);
        SSL_CTX_free(t->tls);
        free(t);
    }
}

const struct tl_secret *tl_trust_secret(const struct tl_trust *t) {
    return t != NULL && t->has_secret ? &t->secret : NULL;
}

bool tl_trust_has_tls(const struct tl_trust *t) {
    return t != NULL && t->tls != NULL;
}

/* So few bytes come whole, and fail only where the system call does not exist: numbers
 * that an attacker might know are worse than no process. */
void tl_nonce(uint8_t ret_nonce[TL_NONCE_BYTES]) {
    while (getrandom(ret_nonce, TL_NONCE_BYTES, 0) != (ssize_t)TL_NONCE_BYTES) {
        if (errno != EINTR) {
            abort();
        }
    }
}
