/* connect.c - an address becomes a connected socket, without waiting for it.
 *
 * A host name may have several addresses: they are tried one after another. */
#include "link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* Room for one gradient of a few million parameters on its way, so that sender and
 * receiver work at once. The kernel gives less where its limits say so. */
#define SOCKET_BUFFER_BYTES (4 << 20)

static int connect_error(const struct tl_link *l, int error) {
    switch (error) {
    case ECONNREFUSED:
    case ENOENT: /* no such Unix socket */
    case EAGAIN: /* the listener's queue is full */
        return tl_fail(TL_E_REFUSED, "%s: connection refused: nobody serves there",
                       l->name);
    case EMFILE:
    case ENFILE:
        return tl_fail(TL_E_LIMIT, "%s: no file descriptor left for a connection",
                       l->name);
    default:
        return tl_fail(TL_E_UNAVAILABLE, "%s: cannot connect: %s", l->name,
                       strerror(error));
    }
}

/* Failing to tune costs speed, not correctness. */
static void tune(int fd, bool is_unix) {
    const int size = SOCKET_BUFFER_BYTES;
    const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (!is_unix) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
}

void link_socket_close(struct tl_link *l) {
    if (l->fd >= 0) {
        (void)close(l->fd);
        l->fd = -1;
    }
    if (l->shared_fd >= 0) {
        (void)close(l->shared_fd);
        l->shared_fd = -1;
    }
    tl_shared_done(&l->shared);
    l->connecting = false;
}

/* 0: connected; TL_E_BUSY: the kernel tries; else the errno's error. */
static int try_address(struct tl_link *l, int family, const struct sockaddr *where,
                       socklen_t size) {
    link_socket_close(l);
    l->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) {
        return connect_error(l, errno);
    }
    l->low_water = 1;
    tune(l->fd, family == AF_UNIX);
    if (connect(l->fd, where, size) == 0) {
        return 0;
    }
    if (errno == EINPROGRESS || errno == EINTR) {
        l->connecting = true;
        return TL_E_BUSY;
    }
    return connect_error(l, errno);
}

static int try_unix(struct tl_link *l) {
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    size_t length = strlen(l->address.host);
    if (length >= sizeof(where.sun_path)) {
        return tl_fail(TL_E_CONFIG, "%s: the path is too long for a Unix socket",
                       l->name);
    }
    memcpy(where.sun_path, l->address.host, length);
    return try_address(l, AF_UNIX, (const struct sockaddr *)&where, sizeof(where));
}

static int try_next(struct tl_link *l) {
    int rc = tl_fail(TL_E_UNAVAILABLE, "%s: the host has no address", l->name);
    while (l->next != NULL) {
        const struct addrinfo *candidate = l->next;
        l->next = candidate->ai_next;
        rc = try_address(l, candidate->ai_family, candidate->ai_addr,
                         candidate->ai_addrlen);
        if (rc == 0 || rc == TL_E_BUSY) {
            return rc;
        }
    }
    return rc;
}

/* A name that does not resolve may do so later: a pod's does when the pod is there. */
static int resolve(struct tl_link *l) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    int rc = getaddrinfo(l->address.host, l->address.port, &hints, &l->found);
    if (rc != 0) {
        l->found = NULL;
        return tl_fail(TL_E_UNAVAILABLE, "%s: cannot resolve the host: %s", l->name,
                       rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    }
    l->next = l->found;
    return 0;
}

int link_connect_start(struct tl_link *l) {
    if (l->address.is_unix) {
        return try_unix(l);
    }
    int rc = resolve(l);
    return rc == 0 ? try_next(l) : rc;
}

int link_connect_finish(struct tl_link *l) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof(peer);
    int error = 0;
    socklen_t error_size = sizeof(error);
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0) {
        error = errno;
    }
    if (error == 0) {
        if (getpeername(l->fd, (struct sockaddr *)&peer, &size) != 0) {
            return TL_E_BUSY;
        }
        l->connecting = false;
        return 0;
    }
    int rc = connect_error(l, error);
    return l->next != NULL ? try_next(l) : rc;
}
