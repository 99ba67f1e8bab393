/* stream.c - a link's bytes, as they are or through TLS.
 *
 * With TLS one call may need several of the socket's, in both directions: the handshake
 * happens here, whoever calls first. */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- the socket --------------------------------------------------------------- */

static int socket_error(const struct tl_link *l, ssize_t n, int error,
                        const char *what) {
    if (n == 0 || error == ECONNRESET || error == EPIPE) {
        return tl_fail(TL_E_CLOSED, "%s: the connection was closed %s", l->name, what);
    }
    return error == EAGAIN
               ? TL_E_BUSY
               : tl_fail(TL_E_IO, "%s: %s: %s", l->name, what, strerror(error));
}

static int socket_send(struct tl_link *l, struct iovec *iov, size_t count,
                       uint64_t *ret_size) {
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = 0;
    do {
        n = sendmsg(l->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return socket_error(l, n, errno, "during a request");
    }
    l->bytes_sent += (uint64_t)n;
    *ret_size = (uint64_t)n;
    return 0;
}

static int socket_receive(struct tl_link *l, struct iovec *iov, size_t count,
                          uint64_t *ret_size) {
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n = 0;
    do {
        n = recvmsg(l->fd, &message, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return socket_error(l, n, errno, "before the reply");
    }
    l->bytes_received += (uint64_t)n;
    *ret_size = (uint64_t)n;
    return 0;
}

/* ---- TLS ---------------------------------------------------------------------- */

int link_stream_flush(struct tl_link *l) {
    const uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = 0;
    while (l->tls != NULL && rc == 0 && (size = tl_tls_outgoing(l->tls, &bytes)) > 0) {
        struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
        uint64_t sent = 0;
        rc = socket_send(l, &iov, 1, &sent);
        tl_tls_sent(l->tls, sent);
    }
    return rc;
}

/* Put into TLS what the network has; TL_E_BUSY when it has nothing now. */
static int fill(struct tl_link *l) {
    uint8_t *where = NULL;
    struct iovec iov = {.iov_len = tl_tls_room(l->tls, &where)};
    uint64_t got = 0;
    iov.iov_base = where;
    if (iov.iov_len == 0) {
        return 0;
    }
    int rc = socket_receive(l, &iov, 1, &got);
    tl_tls_received(l->tls, got);
    return rc;
}

/* The other end learns why, if it still listens. */
static int break_off(struct tl_link *l, int rc) {
    char why[TL_TEXT_MAX];
    (void)snprintf(why, sizeof(why), "%s", tl_error_text());
    (void)!link_stream_flush(l);
    return tl_fail(rc, "%s: %s", l->name, why);
}

static int tls_send(struct tl_link *l, const struct iovec *iov, uint64_t *ret_size) {
    l->tls_waits = false;
    for (;;) {
        size_t size = 0;
        int rc = tl_tls_write(l->tls, iov->iov_base, iov->iov_len, &size);
        if (rc != 0 && rc != TL_E_BUSY) {
            return break_off(l, rc);
        }
        int flushed = link_stream_flush(l);
        if (rc == 0) {
            *ret_size = size;
            return flushed == TL_E_BUSY ? 0 : flushed;
        }
        if (flushed != 0) {
            return flushed;
        }
        /* The ring was full and is not any more, or the handshake waits for them. */
        if (!tl_tls_is_open(l->tls) && (rc = fill(l)) != 0) {
            l->tls_waits = rc == TL_E_BUSY;
            return rc;
        }
    }
}

static int tls_receive(struct tl_link *l, const struct iovec *iov, uint64_t *ret_size) {
    for (;;) {
        size_t size = 0;
        int rc = tl_tls_read(l->tls, iov->iov_base, iov->iov_len, &size);
        if (rc == 0) {
            *ret_size = size;
            return 0;
        }
        if (rc != TL_E_BUSY) {
            return break_off(l, rc);
        }
        /* Who does not listen any more may have said why. */
        rc = link_stream_flush(l);
        if (rc == TL_E_IO || (rc = fill(l)) != 0) {
            return rc;
        }
    }
}

/* ---- either ------------------------------------------------------------------- */

int link_stream_start(struct tl_link *l) {
    bool has_tls = !l->address.is_unix && tl_trust_has_tls(l->trust);
    l->tls_waits = false;
    return has_tls ? tl_tls_new(l->trust, l->address.host, &l->tls) : 0;
}

int link_stream_send(struct tl_link *l, struct iovec *iov, size_t count,
                     uint64_t *ret_size) {
    return l->tls != NULL ? tls_send(l, iov, ret_size)
                          : socket_send(l, iov, count, ret_size);
}

int link_stream_receive(struct tl_link *l, struct iovec *iov, size_t count,
                        uint64_t *ret_size) {
    return l->tls != NULL ? tls_receive(l, iov, ret_size)
                          : socket_receive(l, iov, count, ret_size);
}

short link_stream_events(const struct tl_link *l, bool has_more) {
    const uint8_t *bytes = NULL;
    bool may_send = has_more && !l->tls_waits;
    may_send = may_send || (l->tls != NULL && tl_tls_outgoing(l->tls, &bytes) > 0);
    return may_send ? POLLIN | POLLOUT : POLLIN;
}
