/* shared.c - memory that the two ends of a Unix socket share, and how it is handed
 * over.
 *
 * On one machine a payload of megabytes costs more to be copied into and out of the
 * kernel than to be folded. So it is left in memory that both have, and only the header
 * crosses the socket. The memory is sealed against shrinking: whoever maps it can read
 * it without fear of its owner. */
#include "throughline/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int map(int fd, size_t area, struct tl_shared *ret_shared) {
    void *bytes =
        mmap(NULL, 2 * area, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return tl_fail(TL_E_NOMEM, "shared memory of %zu bytes: %s", 2 * area,
                       strerror(errno));
    }
    *ret_shared = (struct tl_shared){.bytes = bytes, .area = area};
    return 0;
}

static int create_failed(int fd, const char *what) {
    int error = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    int rc = error == ENOMEM || error == ENOSPC   ? TL_E_NOMEM
             : error == EMFILE || error == ENFILE ? TL_E_LIMIT
                                                  : TL_E_UNSUPPORTED;
    return tl_fail(rc, "shared memory: %s: %s", what, strerror(error));
}

int tl_shared_create(size_t payload, struct tl_shared *ret_shared, int *ret_fd) {
    size_t area = (payload + PAGE - 1) / PAGE * PAGE;
    int fd = memfd_create("throughline", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return create_failed(fd, "memfd_create");
    }
    if (ftruncate(fd, (off_t)(2 * area)) != 0) {
        return create_failed(fd, "ftruncate");
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        return create_failed(fd, "sealing");
    }
    int rc = map(fd, area, ret_shared);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static int check(int fd, uint64_t area) {
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    bool is_whole = area > 0 && area % PAGE == 0 && area <= SIZE_MAX / 4 &&
                    fstat(fd, &status) == 0 && status.st_size >= 0 &&
                    (uint64_t)status.st_size == 2 * area;
    if (!is_whole || seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return tl_fail(TL_E_PROTOCOL,
                       "shared memory: what came is not sealed memory of two areas of "
                       "%" PRIu64 " bytes",
                       area);
    }
    return 0;
}

int tl_shared_map(int fd, uint64_t area, struct tl_shared *ret_shared) {
    int rc = check(fd, area);
    if (rc == 0) {
        rc = map(fd, (size_t)area, ret_shared);
    }
    (void)close(fd);
    return rc;
}

void tl_shared_done(struct tl_shared *m) {
    if (m->bytes != NULL) {
        (void)munmap(m->bytes, 2 * m->area);
    }
    *m = (struct tl_shared){0};
}

/* ---- handing over --------------------------------------------------------------- */

/* Room for one descriptor's message, aligned as the kernel wants it. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int tl_shared_send(int socket, const uint8_t header[TL_HEADER_BYTES], int fd) {
    union control control = {0};
    struct iovec iov = {.iov_base = (void *)header, .iov_len = TL_HEADER_BYTES};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    ssize_t n = 0;
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n == TL_HEADER_BYTES) {
        return 0;
    }
    if (n >= 0 || errno == EAGAIN) {
        return TL_E_BUSY;
    }
    return errno == EPIPE || errno == ECONNRESET
               ? tl_fail(TL_E_CLOSED, "shared memory: the connection was closed")
               : tl_fail(TL_E_IO, "shared memory: send: %s", strerror(errno));
}

ssize_t tl_shared_receive(int socket, void *bytes, size_t size, int *ret_fd) {
    union control control;
    struct iovec iov = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    *ret_fd = -1;
    ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
    }
    return n;
}
