/* stream.c - a connection's bytes, as they are or through TLS.
 *
 * Without TLS libuv reads straight to where the frame's bytes go. With it, libuv fills
 * TLS's ring, and what can be read from there is handed on as long as it is wanted. */
#include "serve_internal.h"

#include <string.h>

static void on_written(uv_write_t *req, int status);

/* ---- reading ------------------------------------------------------------------ */

static bool wants_bytes(const struct serve_conn *c) {
    return c->state == CONN_HEADER || c->state == CONN_PAYLOAD ||
           c->state == CONN_WAITING || c->state == CONN_PENDING;
}

/* Take what TLS has. A byte may complete a request, whose reply may be sent at once and
 * reading begin again: one loop sees to it, not a recursion. */
static int drain(struct serve_conn *c) {
    int rc = 0;
    c->draining = true;
    while (rc == 0 && wants_bytes(c)) {
        uint8_t *where = NULL;
        size_t room = serve_conn_room(c, &where);
        size_t size = 0;
        rc = tl_tls_read(c->tls, where, room, &size);
        if (rc == 0) {
            serve_conn_take(c, where, size);
        }
    }
    c->draining = false;
    return rc == TL_E_BUSY ? 0 : rc;
}

/* Read on, and send what TLS has to say for itself. */
static void turn(struct serve_conn *c) {
    if (c->draining || c->state == CONN_CLOSING) {
        return;
    }
    int rc = drain(c);
    if (c->state == CONN_CLOSING) {
        return;
    }
    int flushed = serve_stream_flush(c);
    if (rc != 0) {
        c->serve->stats.auth_failures += rc == TL_E_AUTH ? 1 : 0;
        c->serve->stats.bad_frames += rc == TL_E_PROTOCOL ? 1 : 0;
    }
    if (rc != 0 || (flushed != 0 && flushed != TL_E_BUSY)) {
        serve_conn_close(c);
    }
}

/* Frames begin with the T of our magic, TLS with 0x16: somebody without TLS is told so
 * in the clear. */
static bool is_plain(struct serve_conn *c, const uint8_t *bytes) {
    bool is_first = !c->heard_tls;
    c->heard_tls = true;
    return is_first && bytes[0] == (TL_MAGIC & 0xff);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct serve_conn *c = handle->data;
    uint8_t *where = NULL;
    (void)suggested;
    size_t size =
        c->tls != NULL ? tl_tls_room(c->tls, &where) : serve_conn_room(c, &where);
    *buf = uv_buf_init((char *)where, (unsigned)(size > INT32_MAX ? INT32_MAX : size));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct serve_conn *c = stream->data;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        c->serve->stats.bad_frames += c->got > 0; /* it ended in the middle of one */
        serve_conn_close(c);
        return;
    }
    c->moved += (uint64_t)n;
    c->serve->stats.bytes_received += (uint64_t)n;
    if (c->tls == NULL) {
        serve_conn_take(c, (const uint8_t *)buf->base, (size_t)n);
    } else if (is_plain(c, (const uint8_t *)buf->base)) {
        tl_tls_free(c->tls);
        c->tls = NULL;
        c->serve->stats.auth_failures++;
        serve_reply_error(c, TL_E_AUTH, true,
                          "this server speaks TLS: give --tls-cert, --tls-key and "
                          "--tls-ca");
    } else {
        tl_tls_received(c->tls, (size_t)n);
        turn(c);
    }
}

void serve_stream_read(struct serve_conn *c) {
    int rc = uv_read_start(&c->io.stream, on_alloc, on_read);
    if (rc != 0 && rc != UV_EALREADY) {
        serve_conn_close(c);
    } else if (c->tls != NULL) {
        turn(c);
    }
}

/* ---- writing ------------------------------------------------------------------ */

/* A state can be larger than all that is asked for in a second, and its reader as fast
 * as we are: after each of these others get their turn. */
static bool has_had_its_turn(const struct serve_conn *c) {
    return c->reply.body == BODY_CUT && c->turn_bytes >= SERVE_TURN_BYTES;
}

/* Give `buf` to the socket. 0: it took all; TL_E_BUSY: libuv has the rest, which must
 * stay where it is until on_written(), in a later turn of the loop. */
static int socket_write(struct serve_conn *c, uv_buf_t buf) {
    int sent = has_had_its_turn(c) ? 0 : uv_try_write(&c->io.stream, &buf, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        return TL_E_IO;
    }
    sent = sent < 0 ? 0 : sent;
    c->turn_bytes += (size_t)sent;
    c->moved += (uint64_t)sent;
    if (sent == (int)buf.len) {
        return 0;
    }
    buf.base += sent;
    buf.len -= (size_t)sent;
    c->write.data = c;
    c->writing = buf.len;
    c->is_writing = uv_write(&c->write, &c->io.stream, &buf, 1, on_written) == 0;
    return c->is_writing ? TL_E_BUSY : TL_E_IO;
}

int serve_stream_flush(struct serve_conn *c) {
    const uint8_t *bytes = NULL;
    int rc = c->is_writing ? TL_E_BUSY : 0;
    while (c->tls != NULL && rc == 0 &&
           (c->outgoing = tl_tls_outgoing(c->tls, &bytes)) > 0) {
        c->serve->stats.bytes_sent += c->outgoing;
        rc = socket_write(c, uv_buf_init((char *)bytes, (unsigned)c->outgoing));
        if (rc == 0) {
            tl_tls_sent(c->tls, c->outgoing);
        }
    }
    return rc;
}

static int plain_write(struct serve_conn *c, uv_buf_t *buf) {
    uv_buf_t all = *buf;
    c->serve->stats.bytes_sent += buf->len;
    buf->len = 0;
    return socket_write(c, all);
}

/* TLS takes a piece in several goes, each when the ring before it is gone. */
static int tls_write(struct serve_conn *c, uv_buf_t *buf) {
    int rc = 0;
    while (rc == 0 && buf->len > 0) {
        size_t size = 0;
        rc = tl_tls_write(c->tls, buf->base, buf->len, &size);
        if (rc != 0 && rc != TL_E_BUSY) {
            return rc;
        }
        buf->base += size;
        buf->len -= size;
        rc = serve_stream_flush(c);
    }
    return rc;
}

int serve_stream_write(struct serve_conn *c, uv_buf_t *buf) {
    return c->tls != NULL ? tls_write(c, buf) : plain_write(c, buf);
}

static void on_written(uv_write_t *req, int status) {
    struct serve_conn *c = req->data;
    c->is_writing = false;
    c->moved += c->writing;
    c->turn_bytes = 0;
    if (c->state == CONN_CLOSING) {
        return;
    }
    if (status != 0) {
        serve_conn_close(c);
        return;
    }
    if (c->tls != NULL) {
        tl_tls_sent(c->tls, c->outgoing);
    }
    if (c->state == CONN_REPLYING) {
        serve_reply_go_on(c);
    } else if (c->tls != NULL) {
        turn(c);
    }
}
