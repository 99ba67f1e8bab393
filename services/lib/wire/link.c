/* link.c - the client's end of a connection: one request, one reply, never blocking. */
#include "link.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int tl_link_new(struct tl_link **ret_link) {
    struct tl_link *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return tl_fail(TL_E_NOMEM, "link: out of memory");
    }
    int rc = tl_sum_new(&l->sum);
    if (rc != 0) {
        free(l);
        return rc;
    }
    l->fd = -1;
    l->shared_fd = -1;
    *ret_link = l;
    return 0;
}

void tl_link_free(struct tl_link *l) {
    if (l == NULL) {
        return;
    }
    tl_link_close(l);
    tl_sum_free(l->sum);
    explicit_bzero(&l->auth, sizeof(l->auth));
    free(l);
}

void tl_link_set_trust(struct tl_link *l, const struct tl_trust *trust) {
    l->trust = trust;
}

static void forget_addresses(struct tl_link *l) {
    if (l->found != NULL) {
        freeaddrinfo(l->found);
    }
    l->found = NULL;
    l->next = NULL;
}

void tl_link_close(struct tl_link *l) {
    link_socket_close(l);
    tl_tls_free(l->tls);
    l->tls = NULL;
    forget_addresses(l);
    l->state = LINK_CLOSED;
    l->payload = NULL;
    l->into = NULL;
    l->sink = NULL;
    l->welcome = NULL;
}

void tl_link_detach(struct tl_link *l, int *ret_fd, struct tl_tls **ret_tls) {
    *ret_fd = l->fd;
    *ret_tls = l->tls;
    l->fd = -1;
    l->tls = NULL;
    tl_link_close(l);
}

bool tl_link_is_open(const struct tl_link *l) {
    return l->fd >= 0;
}

static void name_link(struct tl_link *l) {
    const struct tl_address *a = &l->address;
    bool is_v6 = strchr(a->host, ':') != NULL;
    if (a->is_unix) {
        (void)snprintf(l->name, sizeof(l->name), "unix://%s", a->host);
    } else {
        (void)snprintf(l->name, sizeof(l->name),
                       is_v6 ? "tcp://[%s]:%s" : "tcp://%s:%s", a->host, a->port);
    }
}

int tl_link_connect(struct tl_link *l, const struct tl_address *address) {
    tl_link_close(l);
    l->address = *address;
    name_link(l);
    int rc = link_stream_start(l);
    rc = rc == 0 ? link_connect_start(l) : rc;
    if (rc != 0 && rc != TL_E_BUSY) {
        tl_link_close(l);
        return rc;
    }
    l->state = LINK_IDLE;
    return 0;
}

int tl_link_request(struct tl_link *l, const struct tl_header *header,
                    const void *payload, void *reply, size_t reply_size,
                    bool checksum) {
    if (l->state != LINK_IDLE && l->state != LINK_COMPLETE) {
        return tl_fail(TL_E_INVALID, "link: a request on a link that is %s",
                       l->state == LINK_BUSY ? "busy with another" : "closed");
    }
    l->request = *header;
    l->payload = payload;
    l->into = reply;
    l->into_size = reply_size;
    l->sink = NULL;
    l->welcome = NULL;
    link_send_start(l, checksum);
    link_receive_start(l);
    l->state = LINK_BUSY;
    return 0;
}

void tl_link_set_sink(struct tl_link *l,
                      int (*sink)(void *ctx, const void *bytes, size_t n), void *ctx) {
    l->sink = sink;
    l->sink_ctx = ctx;
}

int tl_link_fd(const struct tl_link *l) {
    return l->fd;
}

short tl_link_events(const struct tl_link *l) {
    if (l->connecting) {
        return POLLOUT;
    }
    return link_stream_events(l, l->state == LINK_BUSY && !link_send_is_done(l));
}

static int fail(struct tl_link *l, int rc) {
    tl_link_close(l);
    return rc;
}

/* A server that refuses a request early says why and closes; its word is worth more
 * than our broken pipe, so it is read even when sending has failed. */
static int exchange(struct tl_link *l) {
    int sent = link_send(l);
    if (sent != 0 && sent != TL_E_BUSY && sent != TL_E_CLOSED) {
        return sent;
    }
    int received = link_receive(l);
    return received == TL_E_BUSY && sent == TL_E_CLOSED ? sent : received;
}

/* An exchange; HELLO's may be followed by another before WELCOME. */
static int converse(struct tl_link *l) {
    int rc = exchange(l);
    while (rc == 0 && l->welcome != NULL) {
        rc = link_greet(l);
        rc = rc == TL_E_BUSY ? exchange(l) : rc;
    }
    return rc;
}

int tl_link_advance(struct tl_link *l) {
    if (l->state == LINK_COMPLETE) {
        return 0;
    }
    if (l->state != LINK_BUSY || l->fd < 0) {
        return fail(l, tl_fail(TL_E_CLOSED, "%s: the connection is closed", l->name));
    }
    if (l->connecting) {
        int rc = link_connect_finish(l);
        if (rc != 0) {
            return rc == TL_E_BUSY ? rc : fail(l, rc);
        }
    }
    int rc = converse(l);
    if (rc != 0) {
        return rc == TL_E_BUSY ? rc : fail(l, rc);
    }
    if (!link_send_is_done(l)) {
        link_socket_close(
            l); /* an early ERROR: the rest of the request is not wanted */
    }
    l->state = LINK_COMPLETE;
    return 0;
}

const struct tl_header *tl_link_reply(const struct tl_link *l) {
    return &l->reply;
}

const char *tl_link_error_text(const struct tl_link *l) {
    return l->text;
}

uint64_t tl_link_bytes_sent(const struct tl_link *l) {
    return l->bytes_sent;
}

uint64_t tl_link_bytes_received(const struct tl_link *l) {
    return l->bytes_received;
}
