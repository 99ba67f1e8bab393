/* lent.c - what is lent at a caller's pace, and when it is asked back.
 *
 * A gradient's buffer is lent while its bytes arrive, a version of the weights while it
 * is being sent. There are only so many of each, and how long they are away is up to
 * the other end: a client with sixteen half-sent gradients, or one that stops reading,
 * would hold everybody else up until its frames are late. So once somebody has waited
 * for a whole lap, those who moved less in it than the slowest line that we serve are
 * closed. It costs them a connection and no gradient: what was not acknowledged is sent
 * again. */
#include "serve_internal.h"

#include <poll.h>
#include <sys/ioctl.h>

static bool has_buffer(const struct serve_conn *c) {
    return c->state == CONN_PAYLOAD && c->payload != NULL;
}

static bool has_version(const struct serve_conn *c) {
    return c->state == CONN_REPLYING && c->reply.body == BODY_WEIGHTS;
}

static bool is_buffer_wanted(const struct tl_serve *s) {
    return !TAILQ_EMPTY(&s->parked);
}

static bool is_wanted(const struct serve_conn *c) {
    return (has_buffer(c) && is_buffer_wanted(c->serve)) ||
           (has_version(c) && c->serve->version_is_wanted);
}

static int socket_of(const struct serve_conn *c) {
    uv_os_fd_t fd = -1;
    return uv_fileno(&c->io.handle, &fd) == 0 ? fd : -1;
}

/* How far the other end has come: what it has sent, or taken. What libuv has given to
 * the kernel and not told us of yet is taken too, once it is out of the kernel. */
static uint64_t progress(const struct serve_conn *c) {
    const uint64_t untold =
        c->is_writing ? c->writing - c->io.stream.write_queue_size : 0;
    int queued = 0;
    const bool sends = has_buffer(c);
    if (ioctl(socket_of(c), sends ? FIONREAD : TIOCOUTQ, &queued) != 0 || queued < 0) {
        queued = 0;
    }
    return sends ? c->moved + (uint64_t)queued : c->moved + untold - (uint64_t)queued;
}

/* Not while there is something to be done by us: then it may be us who are slow. */
static bool waits_for_its_end(const struct serve_conn *c) {
    struct pollfd p = {.fd = socket_of(c),
                       .events = (short)(has_buffer(c) ? POLLIN : POLLOUT)};
    return poll(&p, 1, 0) == 0;
}

/* They may all share one line: each has its part of what that has to move. */
static bool is_too_slow(const struct serve_conn *c, uint64_t lap_ms, uint64_t lent) {
    const uint64_t least = (uint64_t)SERVE_LAP_MS * SERVE_SLOWEST_BYTES_PER_MS / lent;
    return c->lent_ms <= lap_ms && progress(c) - c->lap_start < least &&
           waits_for_its_end(c);
}

static void close_the_slow(struct tl_serve *s) {
    struct serve_conn *c = NULL;
    uint64_t lent = 0;
    TAILQ_FOREACH(c, &s->conns, link) {
        lent += has_buffer(c) || has_version(c);
    }
    TAILQ_FOREACH(c, &s->conns, link) {
        if (is_wanted(c) && is_too_slow(c, s->lap_ms, lent)) {
            s->stats.bad_frames++;
            serve_conn_close(c);
        }
    }
}

static void begin_lap(struct tl_serve *s, uint64_t now_ms) {
    struct serve_conn *c = NULL;
    s->lap_ms = now_ms;
    TAILQ_FOREACH(c, &s->conns, link) {
        if (has_buffer(c) || has_version(c)) {
            c->lap_start = progress(c);
        }
    }
}

void serve_lent_ask_back(struct tl_serve *s, uint64_t now_ms) {
    if (!is_buffer_wanted(s) && !s->version_is_wanted) {
        s->lap_ms = 0;
    } else if (s->lap_ms == 0 || now_ms - s->lap_ms >= UINT64_C(2) * SERVE_LAP_MS) {
        begin_lap(s, now_ms); /* the first, or we stood still ourselves */
    } else if (now_ms - s->lap_ms >= SERVE_LAP_MS) {
        close_the_slow(s);
        begin_lap(s, now_ms);
        serve_request_retry(s);
    }
}
