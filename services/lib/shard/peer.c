/* peer.c - a link with another replica: messages both ways, each a frame.
 *
 * The connection was opened and proven as any other (HELLO to WELCOME); from there on
 * both ends send TL_KIND_CHAIN unasked. A frame is the fixed part of a message and, for
 * records and states, a body, whose bytes go straight from and to where they stay.
 * What is to be sent is bounded by the chain: TL_CHAIN_PENDING_MAX records and a state;
 * a neighbour that takes nothing is left. */
#include "replica.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES_MAX   1024u
#define TURN_BYTES   (4u << 20) /* of one link, then the loop's other work */
#define SOCKET_BYTES (4 << 20)

/* A message to be sent. */
struct frame {
    STAILQ_ENTRY(frame) link;
    uint8_t head[TL_HEADER_BYTES + TL_CHAIN_MESSAGE_BYTES];
    uint8_t tail[TL_TRAILER_BYTES];
    uint64_t checksum; /* of the header; 0 when there is no trailer */
    bool has_tail, tail_is_sent;
    struct body *body; /* held */
};

struct peer *peer_find(struct replica *r, struct tl_chain_node node) {
    struct peer *p = NULL;
    LIST_FOREACH(p, &r->peers, link) {
        if (tl_chain_node_is(p->node, node)) {
            return p;
        }
    }
    return NULL;
}

/* ---- closing -------------------------------------------------------------------- */

/* The first one. */
static void drop_frame(struct peer *p) {
    struct frame *f = STAILQ_FIRST(&p->frames);
    STAILQ_REMOVE_HEAD(&p->frames, link);
    p->frame_count--;
    tl_chain_body_release(f->body != NULL ? &f->body->base : NULL);
    free(f);
}

static void drop_body(struct peer *p) {
    tl_chain_body_release(p->body != NULL ? &p->body->base : NULL);
    p->body = NULL;
}

static void dispose(struct peer *p) {
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    tl_tls_free(p->tls);
    tl_sum_free(p->in_sum);
    tl_sum_free(p->out_sum);
    free(p);
}

static void on_closed(uv_handle_t *handle) {
    dispose(handle->data);
}

void peer_close(struct peer *p) {
    if (p->is_closed) {
        return;
    }
    p->is_closed = true;
    LIST_REMOVE(p, link);
    while (p->frame_count > 0) {
        drop_frame(p);
    }
    drop_body(p);
    uv_close((uv_handle_t *)&p->poll, on_closed);
}

/* The chain is told when it is done with what it is doing. */
static void break_off(struct peer *p, const char *why) {
    if (!p->is_broken) {
        p->is_broken = true;
        tl_log_line(TL_DEBUG, "link broken", "slot", tl_text_u64(p->node.slot), "why",
                    why, NULL);
    }
}

/* ---- the socket, with TLS or without --------------------------------------------- */

static int socket_receive(struct peer *p, void *at, size_t size, size_t *ret_size) {
    ssize_t n = 0;
    do {
        n = recv(p->fd, at, size, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        *ret_size = (size_t)n;
        return 0;
    }
    return n < 0 && errno == EAGAIN ? TL_E_BUSY : TL_E_CLOSED;
}

static int socket_send(struct peer *p, const void *at, size_t size, size_t *ret_size) {
    ssize_t n = 0;
    do {
        n = send(p->fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *ret_size = (size_t)n;
        return 0;
    }
    return errno == EAGAIN ? TL_E_BUSY : TL_E_CLOSED;
}

static int fill_tls(struct peer *p) {
    uint8_t *where = NULL;
    size_t room = tl_tls_room(p->tls, &where);
    size_t got = 0;
    int rc = room > 0 ? socket_receive(p, where, room, &got) : 0;
    tl_tls_received(p->tls, got);
    return rc;
}

static int flush_tls(struct peer *p) {
    const uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = 0;
    while (p->tls != NULL && rc == 0 && (size = tl_tls_outgoing(p->tls, &bytes)) > 0) {
        size_t sent = 0;
        rc = socket_send(p, bytes, size, &sent);
        tl_tls_sent(p->tls, sent);
    }
    return rc;
}

static int receive(struct peer *p, void *at, size_t size, size_t *ret_size) {
    if (p->tls == NULL) {
        return socket_receive(p, at, size, ret_size);
    }
    int rc = 0;
    while (rc == 0) {
        rc = tl_tls_read(p->tls, at, size, ret_size);
        if (rc != TL_E_BUSY) {
            return rc;
        }
        rc = fill_tls(p);
    }
    return rc;
}

static int give(struct peer *p, const void *at, size_t size, size_t *ret_size) {
    if (p->tls == NULL) {
        return socket_send(p, at, size, ret_size);
    }
    int rc = flush_tls(p);
    rc = rc == 0 ? tl_tls_write(p->tls, at, size, ret_size) : rc;
    return rc;
}

/* ---- sending -------------------------------------------------------------------- */

/* The next bytes of the first frame, hashed on the way; false: that was all of it. */
static bool next_piece(struct peer *p, struct frame *f) {
    const void *bytes = f->head;
    size_t size = sizeof(f->head);
    if (p->piece == 0) {
        tl_sum_start(p->out_sum, f->checksum);
        tl_sum_feed(p->out_sum, f->head + TL_HEADER_BYTES, TL_CHAIN_MESSAGE_BYTES);
    } else if (body_piece(f->body, p->piece - 1, &bytes, &size)) {
        if (f->has_tail) {
            tl_sum_feed(p->out_sum, bytes, size);
        }
    } else if (f->has_tail && !f->tail_is_sent) {
        tl_trailer_encode(tl_sum_value(p->out_sum), f->tail);
        f->tail_is_sent = true;
        bytes = f->tail;
        size = TL_TRAILER_BYTES;
    } else {
        return false;
    }
    p->piece++;
    p->rest = bytes;
    p->rest_size = size;
    return true;
}

static int send_rest(struct peer *p, size_t *budget) {
    while (p->rest_size > 0) {
        size_t sent = 0;
        int rc = *budget > 0 ? give(p, p->rest, p->rest_size, &sent) : TL_E_BUSY;
        if (rc != 0) {
            return rc;
        }
        p->rest += sent;
        p->rest_size -= sent;
        p->replica->server->peer_bytes_sent += sent;
        *budget = sent < *budget ? *budget - sent : 0;
    }
    return 0;
}

static int send_frames(struct peer *p) {
    size_t budget = TURN_BYTES;
    int rc = send_rest(p, &budget);
    struct frame *f = NULL;
    while (rc == 0 && (f = STAILQ_FIRST(&p->frames)) != NULL) {
        if (next_piece(p, f)) {
            rc = send_rest(p, &budget);
        } else {
            drop_frame(p);
            p->piece = 0;
        }
    }
    return rc == 0 ? flush_tls(p) : rc;
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void wait_for(struct peer *p, int events) {
    if (!p->is_closed && p->events != events) {
        p->events = events;
        (void)uv_poll_start(&p->poll, events, on_ready);
    }
}

static void go_on_sending(struct peer *p) {
    int rc = send_frames(p);
    if (rc != 0 && rc != TL_E_BUSY) {
        break_off(p, tl_error_string(rc));
        return;
    }
    wait_for(p, rc == 0 ? UV_READABLE : UV_READABLE | UV_WRITABLE);
}

static bool wants_checksum(const struct peer *p) {
    return !p->is_unix || p->replica->server->job.unix_checksum;
}

static struct frame *new_frame(const struct peer *p, const struct tl_chain_message *m) {
    struct frame *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return NULL;
    }
    f->body = (struct body *)m->body;
    f->has_tail = wants_checksum(p);
    struct tl_header h = {
        .kind = TL_KIND_CHAIN,
        .flags = f->has_tail ? TL_FLAG_CHECKSUM : 0,
        .shard = p->replica->server->service.index,
        .length = TL_CHAIN_MESSAGE_BYTES + body_size(f->body),
    };
    tl_header_encode(&h, f->head);
    f->checksum = h.checksum;
    tl_chain_message_encode(m, f->head + TL_HEADER_BYTES);
    tl_chain_body_hold(m->body);
    return f;
}

void peer_send(struct peer *p, const struct tl_chain_message *m) {
    if (p->is_broken) {
        return;
    }
    struct frame *f = p->frame_count < FRAMES_MAX ? new_frame(p, m) : NULL;
    if (f == NULL) {
        break_off(p, "it takes nothing");
        return;
    }
    bool is_idle = p->frame_count == 0 && p->rest_size == 0;
    STAILQ_INSERT_TAIL(&p->frames, f, link);
    p->frame_count++;
    if (is_idle) {
        go_on_sending(p);
    }
}

/* ---- receiving ------------------------------------------------------------------ */

static bool has_tail(const struct peer *p) {
    return (p->header.flags & TL_FLAG_CHECKSUM) != 0;
}

/* The fixed part is here. What may follow it is decided before memory is taken. */
static int take_head(struct peer *p) {
    int rc = tl_header_decode(p->head, UINT64_MAX, &p->header);
    if (rc == 0 && (p->header.kind != TL_KIND_CHAIN ||
                    p->header.shard != p->replica->server->service.index ||
                    p->header.length < TL_CHAIN_MESSAGE_BYTES ||
                    (wants_checksum(p) && !has_tail(p)))) {
        rc = tl_fail(TL_E_PROTOCOL, "not a frame of this chain");
    }
    rc = rc == 0 ? tl_chain_message_decode(p->head + TL_HEADER_BYTES, &p->message) : rc;
    if (rc != 0) {
        return rc;
    }
    uint64_t size = p->header.length - TL_CHAIN_MESSAGE_BYTES;
    if (!replica_takes(p->replica, &p->message, size)) {
        return tl_fail(TL_E_TOOBIG, "a body of another size than the message has");
    }
    if (has_tail(p)) {
        tl_sum_start(p->in_sum, p->header.checksum);
        tl_sum_feed(p->in_sum, p->head + TL_HEADER_BYTES, TL_CHAIN_MESSAGE_BYTES);
    }
    if (size > 0 && (p->body = body_new(p->replica, size)) == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a body");
    }
    return 0;
}

/* A whole message: the chain's, which holds what it keeps. */
static int take_message(struct peer *p) {
    if (has_tail(p) && tl_trailer_decode(p->tail) != tl_sum_value(p->in_sum)) {
        return tl_fail(TL_E_CHECKSUM, "a message does not match its checksum");
    }
    struct tl_chain_message m = p->message;
    struct body *b = p->body;
    p->body = NULL;
    p->got = 0;
    if (b != NULL) {
        m.body = &b->base;
        m.record.values = b->bytes;
        m.record.value_bytes = b->size;
    }
    m.record.shard = p->replica->server->service.index;
    m.record.value_count = tl_fold_config(p->replica->server->fold)->count;
    tl_chain_receive(p->replica->chain, p->node, &m);
    tl_chain_body_release(m.body);
    replica_act(p->replica);
    return 0;
}

/* Where the next bytes go, and how many may. */
static size_t room(struct peer *p, uint8_t **ret_where) {
    uint64_t head = sizeof(p->head);
    uint64_t body = body_size(p->body);
    if (p->got < head) {
        *ret_where = p->head + p->got;
        return head - p->got;
    }
    if (p->got < head + body) {
        *ret_where = p->body->bytes + (p->got - head);
        return head + body - p->got;
    }
    *ret_where = p->tail + (p->got - head - body);
    return head + body + TL_TRAILER_BYTES - p->got;
}

static int take(struct peer *p, const uint8_t *bytes, size_t size) {
    uint64_t head = sizeof(p->head);
    bool is_body = p->got >= head && p->got < head + body_size(p->body);
    p->replica->server->peer_bytes_received += size;
    p->got += size;
    if (is_body && has_tail(p)) {
        tl_sum_feed(p->in_sum, bytes, size);
    }
    if (p->got < head) {
        return 0;
    }
    int rc = p->got == head && !is_body ? take_head(p) : 0;
    uint64_t whole =
        head + body_size(p->body) + (rc == 0 && has_tail(p) ? TL_TRAILER_BYTES : 0);
    return rc == 0 && p->got == whole ? take_message(p) : rc;
}

static void go_on_receiving(struct peer *p) {
    size_t turn = 0;
    int rc = 0;
    while (rc == 0 && !p->is_closed && !p->is_broken &&
           (turn < TURN_BYTES || p->tls != NULL)) {
        uint8_t *where = NULL;
        size_t size = room(p, &where);
        size_t got = 0;
        rc = receive(p, where, size, &got);
        rc = rc == 0 ? take(p, where, got) : rc;
        turn += got;
    }
    if (rc != 0 && rc != TL_E_BUSY && !p->is_closed) {
        bool is_end = rc == TL_E_CLOSED;
        if (!is_end) {
            tl_log_line(TL_WARNING, "a replica's link is not to be trusted", "slot",
                        tl_text_u64(p->node.slot), "error", tl_error_name(rc), "why",
                        tl_error_text(), NULL);
        }
        break_off(p, is_end ? "closed" : tl_error_name(rc));
    }
}

/* A break that both sides notice is one: it is told once, by replica_act(). */
static void on_ready(uv_poll_t *poll, int status, int events) {
    struct peer *p = poll->data;
    struct replica *r = p->replica;
    if (status != 0) {
        break_off(p, uv_strerror(status));
    }
    if ((events & UV_READABLE) != 0) {
        go_on_receiving(p);
    }
    if (!p->is_closed && !p->is_broken && (events & UV_WRITABLE) != 0) {
        go_on_sending(p);
    }
    replica_act(r);
}

/* ---- opening -------------------------------------------------------------------- */

static bool is_unix_socket(int fd) {
    int domain = 0;
    socklen_t size = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
           domain == AF_UNIX;
}

static struct peer *peer_new(struct replica *r, int fd, struct tl_tls *tls) {
    struct peer *p = calloc(1, sizeof(*p));
    const int size = SOCKET_BYTES;
    if (p == NULL) {
        return NULL;
    }
    p->replica = r;
    p->fd = fd;
    p->tls = tls;
    p->is_unix = is_unix_socket(fd);
    STAILQ_INIT(&p->frames);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    p->poll.data = p;
    bool ok = tl_sum_new(&p->in_sum) == 0 && tl_sum_new(&p->out_sum) == 0 &&
              uv_poll_init(&r->server->loop, &p->poll, fd) == 0;
    if (!ok) {
        tl_sum_free(p->in_sum);
        tl_sum_free(p->out_sum);
        free(p);
        return NULL;
    }
    return p;
}

void peer_open(struct replica *r, struct tl_chain_node node, bool is_dialled, int fd,
               struct tl_tls *tls) {
    struct peer *old = peer_find(r, node);
    struct peer *p = r->is_stopped ? NULL : peer_new(r, fd, tls);
    if (p == NULL) {
        (void)close(fd);
        tl_tls_free(tls);
        if (is_dialled && !r->is_stopped) {
            tl_chain_tried(r->chain, node, TL_CHAIN_SILENT);
            replica_act(r);
        }
        return;
    }
    if (old != NULL) {
        peer_close(old);
    }
    p->node = node;
    LIST_INSERT_HEAD(&r->peers, p, link);
    tl_chain_link_up(r->chain, node, is_dialled);
    wait_for(p, UV_READABLE);
    replica_act(r);
    if (p->tls != NULL && !p->is_closed) {
        go_on_receiving(p); /* what came with WELCOME lies in TLS's ring */
        replica_act(r);
    }
}
