/* receive.c - a reply's bytes in, checked before they are believed.
 *
 * The header first, alone: where the payload goes and how much of it there may be
 * depends on it. The payload then goes straight to where the caller wants it, hashed
 * while the rest is still on its way. */
#include "link.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

void link_receive_start(struct tl_link *l) {
    l->in.moved = 0;
    l->in.bytes = TL_HEADER_BYTES;
    l->text[0] = '\0';
    memset(&l->reply, 0, sizeof(l->reply));
}

/* ---- the header --------------------------------------------------------------- */

/* Replies are the even number after their request, with two exceptions. */
static uint8_t expected_kind(uint8_t request) {
    switch (request) {
    case TL_KIND_PUSH_PULL:
        return TL_KIND_WEIGHTS;
    case TL_KIND_PROOF:
        return TL_KIND_WELCOME;
    default:
        return (uint8_t)(request + 1);
    }
}

/* A server that has a secret answers HELLO with a question of its own. */
static bool is_kind_expected(const struct tl_link *l) {
    return l->reply.kind == expected_kind(l->request.kind) ||
           (l->reply.kind == TL_KIND_CHALLENGE && l->request.kind == TL_KIND_HELLO &&
            l->welcome != NULL);
}

/* JOINED speaks of the table's entry, not of the request's. */
static bool echoes(const struct tl_header *request, const struct tl_header *reply) {
    return reply->shard == request->shard && reply->worker == request->worker &&
           (reply->kind == TL_KIND_JOINED ||
            (reply->incarnation == request->incarnation &&
             reply->sequence == request->sequence));
}

static int check_size(const struct tl_link *l) {
    uint64_t most = l->into_size;
    if (l->reply.kind == TL_KIND_ERROR) {
        most = TL_TEXT_MAX;
    } else if (l->sink != NULL) {
        return 0;
    }
    if (l->reply.length > most) {
        return tl_fail(TL_E_TOOBIG,
                       "%s: a reply of %" PRIu64 " bytes where at most %" PRIu64
                       " are expected",
                       l->name, l->reply.length, most);
    }
    return 0;
}

static int check_header(struct tl_link *l) {
    int rc = tl_header_decode(
        l->in.head, UINT64_MAX - TL_HEADER_BYTES - TL_TRAILER_BYTES, &l->reply);
    if (rc != 0) {
        return tl_fail(rc, "%s: %s", l->name, tl_error_text());
    }
    bool is_error = l->reply.kind == TL_KIND_ERROR;
    if (!is_error && (!link_send_is_done(l) || !is_kind_expected(l) ||
                      !echoes(&l->request, &l->reply))) {
        return tl_fail(TL_E_PROTOCOL, "%s: a frame of kind %u is no reply to kind %u",
                       l->name, l->reply.kind, l->request.kind);
    }
    bool has_sum = (l->reply.flags & TL_FLAG_CHECKSUM) != 0;
    if (l->reply.length > 0 && !has_sum && !l->address.is_unix && !l->takes_unchecked) {
        return tl_fail(TL_E_PROTOCOL, "%s: a payload over TCP without a checksum",
                       l->name);
    }
    return check_size(l);
}

/* The memory's descriptor has come with the reply; without it, or without room for it
 * here, payloads go on through the socket. */
static int take_shared(struct tl_link *l) {
    if (l->shared_fd < 0) {
        return 0;
    }
    int fd = l->shared_fd;
    l->shared_fd = -1;
    tl_shared_done(&l->shared);
    int rc = tl_shared_map(fd, l->reply.position, &l->shared);
    return rc == TL_E_NOMEM ? 0 : rc;
}

/* The payload lies in the shared memory. */
static int read_shared(struct tl_link *l) {
    bool is_right = l->shared.bytes != NULL && l->reply.kind == TL_KIND_WEIGHTS &&
                    l->reply.length <= l->shared.area &&
                    (l->reply.flags & TL_FLAG_CHECKSUM) == 0;
    if (!is_right) {
        return tl_fail(TL_E_PROTOCOL,
                       "%s: a payload in shared memory that is not there", l->name);
    }
    memcpy(l->into, tl_shared_reply(&l->shared), l->reply.length);
    return 0;
}

static int begin_payload(struct tl_link *l) {
    int rc = check_header(l);
    if (rc != 0) {
        return rc;
    }
    if (l->reply.kind == TL_KIND_SHARED) {
        return take_shared(l);
    }
    if ((l->reply.flags & TL_FLAG_SHARED) != 0) {
        return read_shared(l);
    }
    if (l->reply.length > 0) {
        bool has_sum = (l->reply.flags & TL_FLAG_CHECKSUM) != 0;
        l->in.bytes += l->reply.length + (has_sum ? TL_TRAILER_BYTES : 0);
        tl_sum_start(l->sum, l->reply.checksum);
    }
    return 0;
}

/* ---- the payload -------------------------------------------------------------- */

/* Where the payload's byte `at` goes, and for how many bytes that is good. Pieces end
 * at multiples of their size, so that most copies begin at an even address. */
static uint8_t *place_for(struct tl_link *l, uint64_t at, uint64_t *size) {
    uint64_t left = l->reply.length - at;
    uint64_t piece = TL_PIECE_BYTES - at % TL_PIECE_BYTES;
    *size = left < piece ? left : piece;
    if (l->reply.kind == TL_KIND_ERROR) {
        return (uint8_t *)l->text + at;
    }
    return l->sink != NULL ? l->piece : l->into + at;
}

/* `size` payload bytes have arrived at `bytes`. */
static int take_payload(struct tl_link *l, const uint8_t *bytes, uint64_t size) {
    if ((l->reply.flags & TL_FLAG_CHECKSUM) != 0) {
        tl_sum_feed(l->sum, bytes, size);
    }
    if (l->sink != NULL && l->reply.kind != TL_KIND_ERROR) {
        return l->sink(l->sink_ctx, bytes, size);
    }
    return 0;
}

/* The peer's words end up in logs and on terminals. */
static void clean_text(char *text, uint64_t length) {
    for (uint64_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        text[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
    }
    text[length] = '\0';
}

static int complete(struct tl_link *l) {
    if ((l->reply.flags & TL_FLAG_CHECKSUM) != 0 && l->reply.length > 0 &&
        tl_trailer_decode(l->in.tail) != tl_sum_value(l->sum)) {
        return tl_fail(TL_E_CHECKSUM,
                       "%s: a reply's payload does not match its checksum", l->name);
    }
    if (l->reply.kind == TL_KIND_ERROR) {
        clean_text(l->text, l->reply.length);
    }
    return 0;
}

/* ---- reading ------------------------------------------------------------------ */

static int receive_error(const struct tl_link *l, ssize_t n, int error) {
    if (n == 0 || error == ECONNRESET || error == EPIPE) {
        return tl_fail(TL_E_CLOSED, "%s: the connection was closed before the reply",
                       l->name);
    }
    return error == EAGAIN
               ? TL_E_BUSY
               : tl_fail(TL_E_IO, "%s: receive: %s", l->name, strerror(error));
}

/* Read up to what `iov` holds; *ret_size > 0 on success. */
static int read_some(struct tl_link *l, struct iovec *iov, size_t count,
                     uint64_t *ret_size) {
    int rc = link_stream_receive(l, iov, count, ret_size);
    l->in.moved += rc == 0 ? *ret_size : 0;
    return rc;
}

/* The same, and a descriptor may come along. */
static int read_with_descriptor(struct tl_link *l, const struct iovec *iov) {
    int fd = -1;
    ssize_t n = 0;
    do {
        n = tl_shared_receive(l->fd, iov->iov_base, iov->iov_len, &fd);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return receive_error(l, n, errno);
    }
    if (fd >= 0 && l->shared_fd >= 0) {
        (void)close(fd);
    } else if (fd >= 0) {
        l->shared_fd = fd;
    }
    l->in.moved += (uint64_t)n;
    l->bytes_received += (uint64_t)n;
    return 0;
}

static int read_header(struct tl_link *l) {
    struct iovec iov = {.iov_base = l->in.head + l->in.moved,
                        .iov_len = TL_HEADER_BYTES - l->in.moved};
    uint64_t got = 0;
    int rc = l->request.kind == TL_KIND_SHARE ? read_with_descriptor(l, &iov)
                                              : read_some(l, &iov, 1, &got);
    return rc == 0 && l->in.moved == TL_HEADER_BYTES ? begin_payload(l) : rc;
}

/* The next piece of the payload, and with the last one the trailer. */
static int read_body(struct tl_link *l) {
    const uint64_t length = l->reply.length;
    const uint64_t at = l->in.moved - TL_HEADER_BYTES;
    struct iovec iov[2];
    size_t count = 0;
    uint64_t size = 0;
    uint8_t *place = NULL;
    if (at < length) {
        place = place_for(l, at, &size);
        iov[count++] = (struct iovec){.iov_base = place, .iov_len = size};
    }
    if ((l->reply.flags & TL_FLAG_CHECKSUM) != 0 && at + size >= length) {
        uint64_t from = at + size - length;
        iov[count++] = (struct iovec){.iov_base = l->in.tail + from,
                                      .iov_len = TL_TRAILER_BYTES - from};
    }
    uint64_t got = 0;
    int rc = read_some(l, iov, count, &got);
    if (rc != 0 || place == NULL) {
        return rc;
    }
    return take_payload(l, place, got < size ? got : size);
}

/* Wake up for a piece of the payload, and for the next reply's header. */
static void set_low_water(struct tl_link *l) {
    bool is_body = l->in.moved >= TL_HEADER_BYTES;
    if (!l->address.is_unix && l->tls == NULL) {
        tl_low_water(l->fd, is_body ? l->in.bytes - l->in.moved : 0, &l->low_water);
    }
}

int link_receive(struct tl_link *l) {
    int rc = 0;
    while (rc == 0 && l->in.moved < l->in.bytes) {
        rc = l->in.moved < TL_HEADER_BYTES ? read_header(l) : read_body(l);
    }
    if (rc == 0 || rc == TL_E_BUSY) {
        set_low_water(l);
    }
    return rc == 0 ? complete(l) : rc;
}
