/* reply.c - a connection's bytes out: header, pieces of an immutable body, trailer.
 *
 * The pieces are the blocks of a view or a cut, which nobody writes while they are
 * held. Each is hashed just before the kernel copies it, so it is read from memory
 * once. */
#include "serve_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- versions being sent ------------------------------------------------------ */

static int weights_hold(struct tl_serve *s, struct serve_weights **ret_weights) {
    struct serve_weights *w = LIST_FIRST(&s->versions); /* the newest is first */
    if (w == NULL || tl_view_version(w->view) != tl_fold_version(s->fold)) {
        w = calloc(1, sizeof(*w));
        if (w == NULL) {
            return TL_E_BUSY;
        }
        if (tl_fold_view(s->fold, &w->view) != 0) {
            s->version_is_wanted = true;
            free(w);
            return TL_E_BUSY;
        }
        LIST_INSERT_HEAD(&s->versions, w, link);
    }
    w->holders++;
    *ret_weights = w;
    return 0;
}

static void weights_release(struct serve_weights *w) {
    if (--w->holders == 0) {
        LIST_REMOVE(w, link);
        tl_view_release(w->view);
        free(w);
    }
}

/* ---- sending ------------------------------------------------------------------ */

void serve_reply_drop(struct serve_conn *c) {
    struct serve_reply *r = &c->reply;
    if (r->body == BODY_WEIGHTS) {
        weights_release(r->weights);
    } else if (r->body == BODY_CUT) {
        tl_cut_release(r->cut);
        c->serve->cut = NULL;
        (void)uv_timer_stop(&c->serve->pace);
    }
    r->body = BODY_NONE;
}

static void reply_done(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    bool close_after = c->reply.close_after;
    serve_reply_drop(c);
    if (close_after || c->close_requested) {
        serve_conn_close(c);
    } else if (c->is_peer) {
        serve_conn_give_away(c);
    } else {
        serve_conn_read_next(c);
    }
    if (!s->closing) {
        serve_request_retry(s); /* what was held has been let go */
    }
}

/* Piece `i` of the body, or false past the last. */
static bool body_piece(const struct serve_reply *r, size_t i, const void **bytes,
                       size_t *size) {
    switch (r->body) {
    case BODY_BYTES:
        *bytes = r->bytes;
        *size = r->size;
        return i == 0;
    case BODY_WEIGHTS:
        if (i >= tl_view_blocks(r->weights->view)) {
            return false;
        }
        *bytes = tl_view_block(r->weights->view, i, size);
        *size *= sizeof(float);
        return true;
    case BODY_CUT:
        return tl_cut_segment(r->cut, i, bytes, size);
    case BODY_NONE:
        break;
    }
    return false;
}

/* The next bytes to send, hashed on the way; false when all have been given out. */
static bool next_piece(struct serve_conn *c, uv_buf_t *ret_buf) {
    struct serve_reply *r = &c->reply;
    const void *bytes = r->header;
    size_t size = TL_HEADER_BYTES;
    if (r->next > 0) {
        if (body_piece(r, r->next - 1, &bytes, &size)) {
            r->due_ms += size / SERVE_STATE_BYTES_PER_MS;
            if (r->checksum) {
                tl_sum_feed(c->sum, bytes, size);
            }
        } else if (r->checksum && r->length > 0 && !r->trailer_sent) {
            tl_trailer_encode(tl_sum_value(c->sum), r->trailer);
            r->trailer_sent = true;
            bytes = r->trailer;
            size = TL_TRAILER_BYTES;
        } else {
            return false;
        }
    }
    r->next++;
    *ret_buf = uv_buf_init((char *)bytes, (unsigned)size);
    return true;
}

static void on_due(uv_timer_t *timer) {
    struct serve_conn *c = timer->data;
    c->turn_bytes = 0;
    serve_reply_go_on(c);
}

/* Copying a state as fast as it goes takes memory's time from those who train: its next
 * piece waits until it is due. */
static bool is_early(struct serve_conn *c) {
    struct serve_reply *r = &c->reply;
    const uint64_t now_ms = uv_now(c->serve->config.loop);
    if (r->body != BODY_CUT || now_ms - c->serve->folded_ms > SERVE_REST_MS) {
        return false;
    }
    if (r->due_ms + SERVE_STATE_BURST_MS < now_ms) {
        r->due_ms = now_ms - SERVE_STATE_BURST_MS;
    }
    return r->due_ms > now_ms;
}

static void wait_until_due(struct serve_conn *c) {
    const uint64_t now_ms = uv_now(c->serve->config.loop);
    c->serve->pace.data = c;
    (void)uv_timer_start(&c->serve->pace, on_due, c->reply.due_ms - now_ms, 0);
}

/* Send until everything is out, the socket is full, or the next piece is not due; then
 * this is called again. */
void serve_reply_go_on(struct serve_conn *c) {
    uv_buf_t *rest = &c->reply.rest;
    bool early = false;
    int rc = 0;
    while (rc == 0 &&
           (rest->len > 0 || (!(early = is_early(c)) && next_piece(c, rest)))) {
        rc = serve_stream_write(c, rest);
    }
    rc = rc == 0 ? serve_stream_flush(c) : rc;
    if (rc == 0 && early) {
        wait_until_due(c);
    } else if (rc == 0) {
        reply_done(c);
    } else if (rc != TL_E_BUSY) {
        serve_conn_close(c);
    }
}

static void begin(struct serve_conn *c, struct tl_header *header,
                  enum reply_body body) {
    struct tl_serve *s = c->serve;
    struct serve_reply *r = &c->reply;
    serve_conn_dequeue(c);
    serve_conn_payload_release(c);
    r->body = body;
    r->next = 0;
    r->rest.len = 0;
    r->trailer_sent = false;
    r->length = header->length;
    r->checksum = header->length > 0 && (header->flags & TL_FLAG_SHARED) == 0 &&
                  (c->is_unix ? s->config.unix_checksum : !s->config.tcp_unchecked);
    header->flags |= (uint16_t)((r->checksum ? TL_FLAG_CHECKSUM : 0u) |
                                (s->ended ? TL_FLAG_ENDED : 0u));
    tl_header_encode(header, r->header);
    tl_sum_start(c->sum, header->checksum);
    c->state = CONN_REPLYING;
    c->lent_ms = uv_now(s->config.loop);
    r->due_ms = c->lent_ms;
    c->deadline_ms = c->lent_ms + serve_frame_allowance(s, header->length);
    uv_read_stop(&c->io.stream);
    serve_reply_go_on(c);
}

/* The reply's header: who asked, and where this shard stands. Those who still have to
 * prove something are not told the latter. */
static struct tl_header answer(const struct serve_conn *c, enum tl_kind kind,
                               int status) {
    const struct tl_serve *s = c->serve;
    if (!c->greeted && tl_trust_secret(s->config.trust) != NULL) {
        return (struct tl_header){
            .kind = (uint8_t)kind,
            .shard = c->header.shard,
            .worker = c->header.worker,
            .status = status,
            .incarnation = c->header.incarnation,
            .sequence = c->header.sequence,
        };
    }
    return (struct tl_header){
        .kind = (uint8_t)kind,
        .shard = s->slice->shard,
        .worker = c->header.worker,
        .status = status,
        .epoch = s->epoch,
        .incarnation = c->header.incarnation,
        .sequence = c->header.sequence,
        .read_version = tl_fold_version(s->fold),
        .position = tl_fold_position(s->fold),
    };
}

void serve_reply_status(struct serve_conn *c, enum tl_kind kind, int status) {
    struct tl_header h = answer(c, kind, status);
    c->reply.close_after = false;
    begin(c, &h, BODY_NONE);
}

void serve_reply_header(struct serve_conn *c, const struct tl_header *header) {
    struct tl_header h = answer(c, (enum tl_kind)header->kind, header->status);
    h.incarnation = header->incarnation;
    h.sequence = header->sequence;
    h.position = header->position;
    c->reply.close_after = false;
    begin(c, &h, BODY_NONE);
}

void serve_reply_bytes(struct serve_conn *c, enum tl_kind kind, const void *bytes,
                       size_t size) {
    struct tl_header h = answer(c, kind, 0);
    memcpy(c->reply.bytes, bytes, size);
    c->reply.size = size;
    c->reply.close_after = false;
    h.length = size;
    begin(c, &h, BODY_BYTES);
}

void serve_reply_error(struct serve_conn *c, int status, bool close_after,
                       const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf((char *)c->reply.bytes, sizeof(c->reply.bytes), fmt, args);
    va_end(args);
    struct tl_header h = answer(c, TL_KIND_ERROR, status);
    c->reply.size = n < 0                                 ? 0
                    : (size_t)n >= sizeof(c->reply.bytes) ? sizeof(c->reply.bytes) - 1
                                                          : (size_t)n;
    c->reply.close_after = close_after;
    h.length = c->reply.size;
    begin(c, &h, BODY_BYTES);
}

void serve_reply_refusal(struct serve_conn *c, int status) {
    serve_reply_error(c, status, false, "shard %" PRIu32 ": %s", c->serve->slice->shard,
                      tl_error_string(status));
}

static void copy_weights(const struct tl_view *v, uint8_t *to) {
    for (size_t i = 0; i < tl_view_blocks(v); i++) {
        size_t count = 0;
        const float *values = tl_view_block(v, i, &count);
        memcpy(to, values, count * sizeof(float));
        to += count * sizeof(float);
    }
}

/* Into the shared memory, or piece by piece through the socket. */
int serve_reply_weights(struct serve_conn *c, int status) {
    struct serve_reply *r = &c->reply;
    int rc = weights_hold(c->serve, &r->weights);
    if (rc != 0) {
        return rc;
    }
    struct tl_header h = answer(c, TL_KIND_WEIGHTS, status);
    h.length = c->serve->slice->count * sizeof(float);
    r->close_after = false;
    if (c->shared.bytes == NULL) {
        begin(c, &h, BODY_WEIGHTS);
        return 0;
    }
    copy_weights(r->weights->view, tl_shared_reply(&c->shared));
    weights_release(r->weights);
    h.flags = TL_FLAG_SHARED;
    begin(c, &h, BODY_NONE);
    return 0;
}

/* Nothing else is on its way on this connection, so the socket has room for a header.
 */
void serve_reply_shared(struct serve_conn *c, int fd) {
    struct tl_header h = answer(c, TL_KIND_SHARED, 0);
    uint8_t bytes[TL_HEADER_BYTES];
    uv_os_fd_t socket = -1;
    h.position = c->shared.area;
    h.flags = c->serve->ended ? TL_FLAG_ENDED : 0u;
    tl_header_encode(&h, bytes);
    if (uv_fileno(&c->io.handle, &socket) != 0 ||
        tl_shared_send(socket, bytes, fd) != 0) {
        serve_conn_close(c);
        return;
    }
    c->serve->stats.bytes_sent += sizeof(bytes);
    c->reply.close_after = false;
    reply_done(c);
}

int serve_reply_cut(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    if (s->cut != NULL) {
        return TL_E_BUSY;
    }
    uint64_t start = uv_hrtime();
    int rc = tl_fold_cut(s->fold, &s->cut);
    double held = (double)(uv_hrtime() - start) * 1e-9;
    if (held > s->stats.fold_stall_seconds_max) {
        s->stats.fold_stall_seconds_max = held;
    }
    if (rc != 0) {
        return rc;
    }
    s->stats.snapshots++;
    struct tl_header h = answer(c, TL_KIND_STATE, 0);
    h.length = tl_cut_bytes(s->cut);
    c->reply.cut = s->cut;
    c->reply.close_after = false;
    begin(c, &h, BODY_CUT);
    return 0;
}
