/* fake_server.h - a server in a thread that does what a real one cannot be made to do.
 *
 * One connection at a time, in blocking I/O, handled by the test's own function;
 * helpers read and write frames, whole or damaged. Every read has a deadline, so that a
 * test that goes wrong fails and does not hang. */
#ifndef TL_TESTS_FAKE_SERVER_H
#define TL_TESTS_FAKE_SERVER_H

#include "throughline/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAKE_DEADLINE_S 10

struct fake_server {
    void (*handle)(void *ctx, int fd, unsigned connection); /* counts from 1 */
    void *ctx;
    char address[128]; /* as tl_address_parse() takes it */
    char path[108];    /* of a Unix socket, "" for TCP */
    int listen_fd;
    int stop_pipe[2];
    pthread_t thread;
    pthread_mutex_t lock;
    int connection_fd; /* -1: none; under the lock */
    bool stopping;     /* under the lock */
};

/* ---- bytes ----------------------------------------------------------------------- */

static inline bool fake_read(int fd, void *to, size_t size) {
    uint8_t *at = to;
    while (size > 0) {
        ssize_t n = recv(fd, at, size, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static inline bool fake_write(int fd, const void *from, size_t size) {
    const uint8_t *at = from;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Until the peer closes, or the deadline. */
static inline void fake_wait_closed(int fd) {
    uint8_t scratch[4096];
    while (recv(fd, scratch, sizeof(scratch), 0) > 0) {
    }
}

/* ---- frames ------------------------------------------------------------------- */

/* Read a frame; the payload goes to `payload`. False: closed, damaged or too large. */
static inline bool fake_read_frame(int fd, struct tl_header *ret_header, void *payload,
                                   size_t payload_size) {
    uint8_t head[TL_HEADER_BYTES];
    uint8_t tail[TL_TRAILER_BYTES];
    if (!fake_read(fd, head, sizeof(head)) ||
        tl_header_decode(head, payload_size, ret_header) != 0 ||
        !fake_read(fd, payload, ret_header->length)) {
        return false;
    }
    bool has_sum =
        ret_header->length > 0 && (ret_header->flags & TL_FLAG_CHECKSUM) != 0;
    if (!has_sum) {
        return true;
    }
    return fake_read(fd, tail, sizeof(tail)) &&
           tl_sum_of(ret_header->checksum, payload, ret_header->length) ==
               tl_trailer_decode(tail);
}

/* A frame with its checksums as bytes, malloc'ed. */
static inline uint8_t *fake_frame(struct tl_header *header, const void *payload,
                                  size_t *ret_size) {
    bool has_sum = header->length > 0 && (header->flags & TL_FLAG_CHECKSUM) != 0;
    size_t size = TL_HEADER_BYTES + header->length + (has_sum ? TL_TRAILER_BYTES : 0);
    uint8_t *frame = malloc(TL_HEADER_BYTES + header->length + TL_TRAILER_BYTES);
    if (frame == NULL) {
        abort();
    }
    tl_header_encode(header, frame);
    if (header->length > 0 && payload != NULL) {
        memcpy(frame + TL_HEADER_BYTES, payload, header->length);
    }
    if (has_sum) {
        tl_trailer_encode(tl_sum_of(header->checksum, payload, header->length),
                          frame + TL_HEADER_BYTES + header->length);
    }
    *ret_size = size;
    return frame;
}

static inline bool fake_send_frame(int fd, struct tl_header *header,
                                   const void *payload) {
    size_t size = 0;
    uint8_t *frame = fake_frame(header, payload, &size);
    bool sent = fake_write(fd, frame, size);
    free(frame);
    return sent;
}

/* The header of a reply of `kind` to `request`. */
static inline struct tl_header fake_reply(const struct tl_header *request,
                                          enum tl_kind kind, uint64_t length) {
    return (struct tl_header){
        .kind = (uint8_t)kind,
        .flags = length > 0 ? TL_FLAG_CHECKSUM : 0,
        .shard = request->shard,
        .worker = request->worker,
        .epoch = request->epoch,
        .incarnation = request->incarnation,
        .sequence = request->sequence,
        .length = length,
    };
}

static inline bool fake_send_error(int fd, const struct tl_header *request, int status,
                                   const char *text) {
    struct tl_header h = fake_reply(request, TL_KIND_ERROR, strlen(text));
    h.status = status;
    return fake_send_frame(fd, &h, text);
}

/* ---- the thread --------------------------------------------------------------- */

static inline void fake_set_deadline(int fd) {
    const struct timeval limit = {.tv_sec = FAKE_DEADLINE_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* Makes `fd` (-1: none) the connection that stopping cuts; false when it is too late.
 */
static inline bool fake_set_connection(struct fake_server *f, int fd) {
    pthread_mutex_lock(&f->lock);
    f->connection_fd = fd;
    bool stopping = f->stopping;
    pthread_mutex_unlock(&f->lock);
    return !stopping;
}

static inline void *fake_server_main(void *arg) {
    struct fake_server *f = arg;
    for (unsigned connection = 1;; connection++) {
        struct pollfd polled[2] = {{.fd = f->listen_fd, .events = POLLIN},
                                   {.fd = f->stop_pipe[0], .events = POLLIN}};
        if (poll(polled, 2, -1) < 0 || polled[1].revents != 0) {
            return NULL;
        }
        int fd = accept(f->listen_fd, NULL, NULL);
        if (fd >= 0) {
            fake_set_deadline(fd);
            if (fake_set_connection(f, fd)) {
                f->handle(f->ctx, fd, connection);
            }
            (void)fake_set_connection(f, -1);
            close(fd);
        }
    }
}

static inline void fake_listen_unix(struct fake_server *f) {
    static unsigned count;
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    (void)snprintf(f->path, sizeof(f->path), "/tmp/throughline-fake-%ld-%u.sock",
                   (long)getpid(), ++count);
    (void)snprintf(f->address, sizeof(f->address), "unix://%s", f->path);
    memcpy(where.sun_path, f->path, sizeof(where.sun_path));
    (void)unlink(f->path);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(f->listen_fd, (struct sockaddr *)&where, sizeof(where)) != 0) {
        abort();
    }
}

static inline void fake_listen_tcp(struct fake_server *f) {
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(where);
    f->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(f->listen_fd, (struct sockaddr *)&where, sizeof(where)) != 0 ||
        getsockname(f->listen_fd, (struct sockaddr *)&where, &size) != 0) {
        abort();
    }
    f->path[0] = '\0';
    (void)snprintf(f->address, sizeof(f->address), "tcp://127.0.0.1:%u",
                   ntohs(where.sin_port));
}

static inline void fake_server_start(struct fake_server *f, bool tcp,
                                     void (*handle)(void *, int, unsigned), void *ctx) {
    f->handle = handle;
    f->ctx = ctx;
    f->connection_fd = -1;
    f->stopping = false;
    pthread_mutex_init(&f->lock, NULL);
    if (tcp) {
        fake_listen_tcp(f);
    } else {
        fake_listen_unix(f);
    }
    if (listen(f->listen_fd, 16) != 0 || pipe(f->stop_pipe) != 0 ||
        pthread_create(&f->thread, NULL, fake_server_main, f) != 0) {
        abort();
    }
}

/* As if the process had died: the open connection is cut too. */
static inline void fake_server_stop(struct fake_server *f) {
    (void)!write(f->stop_pipe[1], "x", 1);
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    if (f->connection_fd >= 0) {
        (void)shutdown(f->connection_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&f->lock);
    (void)pthread_join(f->thread, NULL);
    pthread_mutex_destroy(&f->lock);
    close(f->listen_fd);
    close(f->stop_pipe[0]);
    close(f->stop_pipe[1]);
    if (f->path[0] != '\0') {
        (void)unlink(f->path);
    }
}

#endif
