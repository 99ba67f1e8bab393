/* conn.c - a connection's bytes in: header, payload, trailer, one request at a time.
 *
 * They are read straight into the header, the gradient's buffer or the trailer, so a
 * gradient is copied once, from the kernel; its checksum is fed while the rest is still
 * on its way. A connection whose stream cannot be trusted any more is told why and
 * closed; the others never notice. */
#include "serve_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool serve_conn_is_gradient(const struct serve_conn *c) {
    return c->header.kind == TL_KIND_PUSH || c->header.kind == TL_KIND_PUSH_PULL;
}

uint64_t serve_frame_allowance(const struct tl_serve *s, uint64_t bytes) {
    return s->config.frame_ms + bytes / SERVE_SLOWEST_BYTES_PER_MS;
}

void serve_conn_dequeue(struct serve_conn *c) {
    if (c->queue != NULL) {
        TAILQ_REMOVE(c->queue, c, waiting);
        c->queue = NULL;
    }
}

void serve_conn_enqueue(struct serve_conn *c, struct serve_conn_list *queue,
                        enum conn_state state) {
    serve_conn_dequeue(c);
    c->queue = queue;
    c->state = state;
    TAILQ_INSERT_TAIL(queue, c, waiting);
}

/* ---- gradient buffers ------------------------------------------------------------ */

static struct serve_payload *payload_take(struct tl_serve *s) {
    struct serve_payload *p = SLIST_FIRST(&s->payloads);
    if (p != NULL) {
        SLIST_REMOVE_HEAD(&s->payloads, link);
        return p;
    }
    if (s->payload_count == SERVE_PAYLOADS_MAX) {
        return NULL;
    }
    p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    /* On a page boundary, as the kernel's buffers are: such copies are the fastest.
     * float32 is the largest encoding, but for a few bytes of the smallest slices. */
    size_t size = s->slice->count * sizeof(float);
    p->values =
        aligned_alloc(SERVE_PAGE, (size + SERVE_PAGE - 1) / SERVE_PAGE * SERVE_PAGE);
    if (p->values == NULL) {
        free(p);
        return NULL;
    }
    s->payload_count++;
    return p;
}

void serve_conn_payload_release(struct serve_conn *c) {
    if (c->payload != NULL) {
        SLIST_INSERT_HEAD(&c->serve->payloads, c->payload, link);
        c->payload = NULL;
    }
}

/* ---- strangers ---------------------------------------------------------------- */

/* Who connects is a stranger until WELCOME. Strangers have little: a deadline for the
 * whole opening, no large socket buffers, and places of their own. When those are taken
 * the one that has had its place for longest loses it, so that neither those who say
 * nothing nor a flood of new ones keep anybody out who knows the secret, and those who
 * were welcomed never notice. They come first in the list of connections; strangers
 * follow in the order of their arrival. */

static void add_stranger(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    uint32_t ms =
        s->config.frame_ms < SERVE_OPENING_MS ? s->config.frame_ms : SERVE_OPENING_MS;
    c->greeted = false;
    c->joined = false;
    c->opening_ms = uv_now(s->config.loop) + ms;
    TAILQ_INSERT_TAIL(&s->conns, c, link);
    s->stranger_count++;
}

static void remove_conn(struct serve_conn *c) {
    TAILQ_REMOVE(&c->serve->conns, c, link);
    c->serve->stranger_count -= c->greeted ? 0 : 1;
}

static struct serve_conn *oldest_stranger(struct tl_serve *s) {
    struct serve_conn *oldest = NULL;
    struct serve_conn *c = NULL;
    TAILQ_FOREACH_REVERSE(c, &s->conns, serve_conn_list, link) {
        if (c->greeted) {
            break;
        }
        oldest = c->state == CONN_CLOSING ? oldest : c;
    }
    return oldest;
}

static void drop_stranger(struct serve_conn *c) {
    c->serve->stats.strangers_dropped++;
    serve_conn_close(c);
}

static void tune_socket(struct serve_conn *c) {
    int size = SERVE_SOCKET_BUFFER;
    (void)uv_send_buffer_size(&c->io.handle, &size);
    size = SERVE_SOCKET_BUFFER;
    (void)uv_recv_buffer_size(&c->io.handle, &size);
}

bool serve_conn_welcome(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    if (!c->greeted && s->conn_count - s->stranger_count >= s->config.max_connections) {
        s->stats.connections_refused++;
        return false;
    }
    remove_conn(c);
    c->greeted = true;
    TAILQ_INSERT_HEAD(&s->conns, c, link);
    tune_socket(c);
    return true;
}

void serve_conn_estrange(struct serve_conn *c) {
    remove_conn(c);
    add_stranger(c);
}

/* ---- closing ------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle) {
    struct serve_conn *c = handle->data;
    struct tl_serve *s = c->serve;
    remove_conn(c);
    s->conn_count--;
    s->shared_bytes -= 2 * c->shared.area;
    tl_shared_done(&c->shared);
    tl_tls_free(c->tls);
    tl_sum_free(c->sum);
    explicit_bzero(&c->auth, sizeof(c->auth));
    free(c);
}

/* Its socket goes on under another descriptor; ours is closed as always. */
void serve_conn_give_away(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    uv_os_fd_t ours = -1;
    int fd =
        uv_fileno(&c->io.handle, &ours) == 0 ? fcntl(ours, F_DUPFD_CLOEXEC, 3) : -1;
    struct tl_tls *tls = c->tls;
    struct tl_header opening = c->opening;
    if (fd >= 0) {
        c->tls = NULL;
    }
    serve_conn_close(c);
    if (fd >= 0) {
        s->config.take_peer(s->config.ctx, &opening, fd, tls);
    }
}

void serve_conn_close(struct serve_conn *c) {
    if (c->state == CONN_CLOSING) {
        return;
    }
    serve_conn_dequeue(c);
    serve_conn_payload_release(c);
    serve_reply_drop(c);
    c->state = CONN_CLOSING;
    uv_close(&c->io.handle, on_closed);
}

/* The stream is out of step: say why, then close. */
static void refuse_frame(struct serve_conn *c, int status, const char *what) {
    c->serve->stats.bad_frames++;
    serve_reply_error(c, status, true, "%s", what);
}

/* ---- reading ------------------------------------------------------------------ */

void serve_conn_read_next(struct serve_conn *c) {
    c->state = CONN_HEADER;
    c->got = 0;
    c->deadline_ms = 0;
    serve_stream_read(c);
}

static uint64_t trailer_bytes(const struct serve_conn *c) {
    return c->header.length > 0 && (c->header.flags & TL_FLAG_CHECKSUM) != 0
               ? TL_TRAILER_BYTES
               : 0;
}

static uint8_t *payload_bytes(struct serve_conn *c) {
    return c->payload != NULL ? (uint8_t *)c->payload->values : c->small;
}

size_t serve_conn_room(struct serve_conn *c, uint8_t **ret_where) {
    if (c->state == CONN_PAYLOAD && c->got < c->header.length) {
        *ret_where = payload_bytes(c) + c->got;
        return c->header.length - c->got;
    }
    if (c->state == CONN_PAYLOAD) {
        *ret_where = c->trailer + (c->got - c->header.length);
        return TL_TRAILER_BYTES - (c->got - c->header.length);
    }
    size_t got = c->state == CONN_HEADER ? c->got : 0;
    *ret_where = c->header_bytes + got;
    return TL_HEADER_BYTES - got;
}

static void request_complete(struct serve_conn *c) {
    uv_read_stop(&c->io.stream);
    c->deadline_ms = 0;
    if (trailer_bytes(c) != 0 &&
        tl_trailer_decode(c->trailer) != tl_sum_value(c->sum)) {
        refuse_frame(c, TL_E_CHECKSUM, "the payload does not match its checksum");
        return;
    }
    serve_request(c);
}

static void begin_payload(struct serve_conn *c) {
    c->state = CONN_PAYLOAD;
    c->got = 0;
    c->lent_ms = uv_now(c->serve->config.loop);
    c->deadline_ms = c->lent_ms + serve_frame_allowance(c->serve, c->header.length);
    tl_sum_start(c->sum, c->header.checksum);
    serve_stream_read(c);
}

/* Gradients are read only into a buffer of the pool: when all are lent, the connection
 * is not read until one comes back, and the sender waits in its own kernel. */
static void park_or_read(struct serve_conn *c) {
    if (serve_conn_is_gradient(c)) {
        c->payload = payload_take(c->serve);
        if (c->payload == NULL) {
            uv_read_stop(&c->io.stream);
            c->deadline_ms = 0;
            serve_conn_enqueue(c, &c->serve->parked, CONN_PARKED);
            return;
        }
    }
    begin_payload(c);
}

void serve_conn_unpark(struct tl_serve *s) {
    struct serve_conn *c = TAILQ_FIRST(&s->parked);
    while (c != NULL && (c->payload = payload_take(s)) != NULL) {
        serve_conn_dequeue(c);
        begin_payload(c);
        c = TAILQ_FIRST(&s->parked);
    }
}

bool serve_conn_is_shared(const struct serve_conn *c) {
    return (c->header.flags & TL_FLAG_SHARED) != 0;
}

static bool may_be_shared(const struct serve_conn *c) {
    return c->shared.bytes != NULL && c->header.length <= c->shared.area &&
           serve_conn_is_gradient(c) && (c->header.flags & TL_FLAG_CHECKSUM) == 0;
}

/* A payload may come without its checksum only on Unix sockets of a job that says so.
 */
static bool checksum_is_missing(const struct serve_conn *c) {
    return c->header.length > 0 && !serve_conn_is_shared(c) &&
           (c->header.flags & TL_FLAG_CHECKSUM) == 0 &&
           (c->is_unix ? c->serve->config.unix_checksum
                       : !c->serve->config.tcp_unchecked);
}

static void header_complete(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    s->stats.frames++;
    c->heard_ms = uv_now(s->config.loop);
    int rc = tl_header_decode(c->header_bytes, UINT64_MAX, &c->header);
    if (rc != 0) {
        memset(&c->header, 0, sizeof(c->header));
        refuse_frame(c, rc, "not a frame of this protocol");
        return;
    }
    int64_t expected = serve_request_payload(c, &c->header);
    if (expected < 0) {
        refuse_frame(c, (int)expected, tl_error_string((int)expected));
        return;
    }
    if (c->header.length != (uint64_t)expected) {
        refuse_frame(c,
                     c->header.length > (uint64_t)expected ? TL_E_TOOBIG : TL_E_SHAPE,
                     "the payload's length is not the one this request has here");
        return;
    }
    if (serve_conn_is_shared(c) && !may_be_shared(c)) {
        refuse_frame(c, TL_E_PROTOCOL, "a payload in shared memory that is not there");
        return;
    }
    if (checksum_is_missing(c)) {
        refuse_frame(c, TL_E_PROTOCOL, "the payload has no checksum");
        return;
    }
    if (c->header.length == 0 || serve_conn_is_shared(c)) {
        request_complete(c);
        return;
    }
    park_or_read(c);
}

static void header_progress(struct serve_conn *c, size_t n) {
    if (c->got == 0) {
        c->deadline_ms = uv_now(c->serve->config.loop) + c->serve->config.frame_ms;
    }
    c->got += n;
    if (c->got == TL_HEADER_BYTES) {
        header_complete(c);
    }
}

/* Wake up for a piece of the payload, and for the next request's header. */
static void set_low_water(struct serve_conn *c, uint64_t left) {
    uv_os_fd_t socket = -1;
    if (!c->is_unix && c->tls == NULL && uv_fileno(&c->io.handle, &socket) == 0) {
        tl_low_water(socket, left, &c->low_water);
    }
}

static void payload_progress(struct serve_conn *c, const void *bytes, size_t n) {
    const uint64_t total = c->header.length + trailer_bytes(c);
    if (c->got < c->header.length && trailer_bytes(c) != 0) {
        tl_sum_feed(c->sum, bytes, n);
    }
    c->got += n;
    set_low_water(c, total - c->got);
    if (c->got == total) {
        request_complete(c);
    }
}

void serve_conn_take(struct serve_conn *c, const uint8_t *bytes, size_t size) {
    switch (c->state) {
    case CONN_HEADER:
        header_progress(c, size);
        break;
    case CONN_PAYLOAD:
        payload_progress(c, bytes, size);
        break;
    default: /* one request at a time: nothing may come while one is being answered */
        c->serve->stats.bad_frames++;
        serve_conn_close(c);
        break;
    }
}

/* ---- accepting ---------------------------------------------------------------- */

static int open_stream(struct serve_conn *c) {
    uv_loop_t *loop = c->serve->config.loop;
    int rc =
        c->is_unix ? uv_pipe_init(loop, &c->io.pipe, 0) : uv_tcp_init(loop, &c->io.tcp);
    c->io.handle.data = c;
    return rc;
}

static struct serve_conn *conn_new(struct tl_serve *s, bool is_unix) {
    struct serve_conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->serve = s;
    c->is_unix = is_unix;
    c->low_water = 1;
    bool has_tls = !is_unix && tl_trust_has_tls(s->config.trust);
    if (tl_sum_new(&c->sum) != 0 ||
        (has_tls && tl_tls_new(s->config.trust, NULL, &c->tls) != 0) ||
        open_stream(c) != 0) {
        tl_tls_free(c->tls);
        tl_sum_free(c->sum);
        free(c);
        return NULL;
    }
    add_stranger(c);
    s->conn_count++;
    return c;
}

/* Those who are closing still count, and may be all but the newcomer: it stays. */
static void make_room_for(const struct serve_conn *newcomer) {
    struct tl_serve *s = newcomer->serve;
    struct serve_conn *oldest = oldest_stranger(s);
    s->had_crowd = s->had_crowd || s->stranger_count > SERVE_STRANGERS_MAX / 2;
    if (s->stranger_count > SERVE_STRANGERS_MAX && oldest != newcomer) {
        drop_stranger(oldest);
    }
}

/* A flood from the network is taken in at a pace that those who are served do not
 * notice; the rest of it waits in the kernel, as it does while there is no memory. */
void serve_conn_accept(struct tl_serve *s, uv_stream_t *listener, bool is_unix) {
    const bool has_turn = is_unix || s->accepts_left > 0;
    struct serve_conn *c = has_turn ? conn_new(s, is_unix) : NULL;
    if (c == NULL) {
        s->accept_is_due = true;
        return;
    }
    s->accepts_left -= is_unix ? 0 : 1;
    if (uv_accept(listener, &c->io.stream) != 0) {
        serve_conn_close(c);
        return;
    }
    s->stats.connections++;
    if (!is_unix) {
        (void)uv_tcp_nodelay(&c->io.tcp, 1);
        (void)uv_tcp_keepalive(&c->io.tcp, 1, 30);
    }
    c->heard_ms = uv_now(s->config.loop);
    make_room_for(c);
    serve_conn_read_next(c);
}

void serve_conn_check_deadline(struct serve_conn *c, uint64_t now_ms) {
    if (!c->greeted && c->state != CONN_CLOSING && now_ms >= c->opening_ms) {
        drop_stranger(c);
        return;
    }
    if (c->deadline_ms == 0 || now_ms < c->deadline_ms) {
        return;
    }
    if (c->state == CONN_WAITING) {
        serve_pull_wait_over(c);
        return;
    }
    if (c->state == CONN_PENDING) {
        serve_request_pending_over(c);
        return;
    }
    c->serve->stats.bad_frames++;
    serve_conn_close(c);
}
