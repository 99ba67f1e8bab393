/* serve.c - the shard's loop as an object: listening, epoch, end, statistics, closing.
 */
#include "serve_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* libuv listens on only when the connection that it holds has been taken. */
static void accept_late(struct tl_serve *s) {
    s->accept_is_due = false;
    for (size_t i = 0; i < s->listener_count && !s->accept_is_due; i++) {
        union serve_stream *l = &s->listeners[i];
        serve_conn_accept(s, &l->stream, l->handle.type == UV_NAMED_PIPE);
    }
}

/* The allocator keeps what a crowd took, with TLS a quarter of a megabyte each: once
 * they have gone, nothing is to be left of them. */
static void forget_crowd(struct tl_serve *s) {
    if (s->had_crowd && s->stranger_count == 0) {
        s->had_crowd = false;
#ifdef __GLIBC__
        (void)malloc_trim(0);
#endif
    }
}

static void on_tick(uv_timer_t *timer) {
    struct tl_serve *s = timer->data;
    uint64_t now_ms = uv_now(s->config.loop);
    struct serve_conn *c = TAILQ_FIRST(&s->conns);
    while (c != NULL) {
        struct serve_conn *next = TAILQ_NEXT(c, link);
        serve_conn_check_deadline(c, now_ms);
        c = next;
    }
    s->accepts_left = SERVE_ACCEPTS_PER_TICK;
    if (!s->closing && s->accept_is_due) {
        accept_late(s);
    }
    forget_crowd(s);
    if (!s->closing) {
        s->version_is_wanted = false;
        serve_request_retry(s);
        serve_lent_ask_back(s, now_ms);
    } else if (TAILQ_EMPTY(&s->conns)) {
        uv_close((uv_handle_t *)&s->tick, NULL);
        uv_close((uv_handle_t *)&s->pace, NULL);
    }
}

int tl_serve_new(const struct tl_serve_config *config, struct tl_serve **ret_serve) {
    struct tl_serve *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return tl_fail(TL_E_NOMEM, "serve: out of memory");
    }
    s->config = *config;
    s->accepts_left = SERVE_ACCEPTS_PER_TICK;
    s->refusals = calloc(TL_WORKER_LIMIT, sizeof(*s->refusals));
    if (s->refusals == NULL) {
        free(s);
        return tl_fail(TL_E_NOMEM, "serve: out of memory");
    }
    s->fold = config->fold;
    s->slice = tl_fold_config(config->fold);
    s->epoch = tl_fold_epoch(config->fold);
    s->writer = config->writer;
    s->leads = true;
    TAILQ_INIT(&s->conns);
    TAILQ_INIT(&s->parked);
    TAILQ_INIT(&s->waiting);
    TAILQ_INIT(&s->pending);
    TAILQ_INIT(&s->stalled);
    LIST_INIT(&s->versions);
    SLIST_INIT(&s->payloads);
    if (uv_timer_init(config->loop, &s->pace) != 0 ||
        uv_timer_init(config->loop, &s->tick) != 0 ||
        uv_timer_start(&s->tick, on_tick, SERVE_TICK_MS, SERVE_TICK_MS) != 0) {
        free(s->refusals);
        free(s);
        return tl_fail(TL_E_IO, "serve: cannot start a timer");
    }
    s->tick.data = s;
    *ret_serve = s;
    return 0;
}

/* ---- listening ---------------------------------------------------------------- */

static void on_connection(uv_stream_t *listener, int status) {
    struct tl_serve *s = listener->data;
    if (status == 0 && !s->closing) {
        serve_conn_accept(s, listener, listener->type == UV_NAMED_PIPE);
    } else if (status != 0) {
        s->stats.connections_refused++;
    }
}

/* A socket file that nobody answers on is left over from a killed process. */
static int remove_dead_socket(const char *path, size_t length) {
    struct stat st;
    if (lstat(path, &st) != 0) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return tl_fail(TL_E_CONFIG, "listen: %s exists and is not a socket", path);
    }
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    memcpy(sun.sun_path, path, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return tl_fail(TL_E_IO, "listen: socket: %s", strerror(errno));
    }
    bool is_alive = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0;
    close(fd);
    if (is_alive) {
        return tl_fail(TL_E_CONFIG, "listen: another process serves %s", path);
    }
    if (unlink(path) != 0) {
        return tl_fail(TL_E_CONFIG, "listen: cannot remove the dead socket %s: %s",
                       path, strerror(errno));
    }
    return 0;
}

static int bind_unix(struct tl_serve *s, union serve_stream *l, const char *path,
                     char *ret_bound, size_t size) {
    size_t length = strlen(path);
    if (length >= sizeof(s->unix_paths[0])) {
        return tl_fail(TL_E_CONFIG, "listen: path %s is longer than %zu bytes", path,
                       sizeof(s->unix_paths[0]) - 1);
    }
    int rc = remove_dead_socket(path, length);
    if (rc != 0) {
        return rc;
    }
    (void)uv_pipe_init(s->config.loop, &l->pipe, 0);
    rc = uv_pipe_bind(&l->pipe, path);
    if (rc != 0) {
        return tl_fail(TL_E_CONFIG, "listen: unix://%s: %s", path, uv_strerror(rc));
    }
    memcpy(s->unix_paths[s->listener_count], path, length + 1);
    (void)snprintf(ret_bound, size, "unix://%s", path);
    return 0;
}

/* The port that the kernel gave, under the host's name as it was written. */
static int describe_tcp(const uv_tcp_t *tcp, const char *host, char *ret_bound,
                        size_t size) {
    struct sockaddr_storage ss;
    int length = sizeof(ss);
    int rc = uv_tcp_getsockname(tcp, (struct sockaddr *)&ss, &length);
    if (rc != 0) {
        return rc;
    }
    uint16_t port = ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                             : ((struct sockaddr_in *)&ss)->sin_port;
    bool is_v6 = strchr(host, ':') != NULL;
    (void)snprintf(ret_bound, size, "tcp://%s%s%s:%u", is_v6 ? "[" : "", host,
                   is_v6 ? "]" : "", ntohs(port));
    return 0;
}

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* Whoever can connect to a server that asks for nothing can train, read and spoil what
 * it holds: on this machine that is the user's choice, beyond it only an explicit one.
 */
static int check_reach(const struct tl_serve *s, const struct tl_address *address,
                       const struct sockaddr *where) {
    const struct tl_trust *trust = s->config.trust;
    if (tl_trust_secret(trust) != NULL || tl_trust_has_tls(trust) ||
        s->config.without_secret || is_loopback(where)) {
        return 0;
    }
    return tl_fail(TL_E_CONFIG,
                   "listen: tcp://%s:%s can be reached from other machines: give "
                   "--secret-file (`throughline secret FILE` makes one), or "
                   "--without-secret to serve everybody",
                   address->host, address->port);
}

static int bind_tcp(struct tl_serve *s, union serve_stream *l,
                    const struct tl_address *address, char *ret_bound, size_t size) {
    (void)uv_tcp_init(s->config.loop, &l->tcp);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t req;
    int rc = uv_getaddrinfo(s->config.loop, &req, NULL, address->host, address->port,
                            &hints);
    if (rc == 0) {
        int refused = check_reach(s, address, req.addrinfo->ai_addr);
        rc = refused != 0 ? 0 : uv_tcp_bind(&l->tcp, req.addrinfo->ai_addr, 0);
        uv_freeaddrinfo(req.addrinfo);
        if (refused != 0) {
            return refused;
        }
    }
    if (rc == 0) {
        rc = describe_tcp(&l->tcp, address->host, ret_bound, size);
    }
    return rc == 0 ? 0
                   : tl_fail(TL_E_CONFIG, "listen: tcp://%s:%s: %s", address->host,
                             address->port, uv_strerror(rc));
}

int tl_serve_listen(struct tl_serve *s, const char *address, char *ret_bound,
                    size_t size) {
    struct tl_address parsed;
    int rc = tl_address_parse(address, &parsed);
    if (rc != 0) {
        return rc;
    }
    if (s->listener_count == SERVE_LISTENERS_MAX) {
        return tl_fail(TL_E_CONFIG, "listen: at most %u addresses",
                       SERVE_LISTENERS_MAX);
    }
    union serve_stream *l = &s->listeners[s->listener_count];
    rc = parsed.is_unix ? bind_unix(s, l, parsed.host, ret_bound, size)
                        : bind_tcp(s, l, &parsed, ret_bound, size);
    if (l->handle.loop != NULL) {
        l->handle.data = s;
        s->listener_count++; /* closed with the others from here on */
    }
    if (rc != 0) {
        return rc;
    }
    rc = uv_listen(&l->stream, SERVE_BACKLOG, on_connection);
    return rc == 0 ? 0
                   : tl_fail(TL_E_CONFIG, "listen: %s: %s", address, uv_strerror(rc));
}

/* ---- state -------------------------------------------------------------------- */

void tl_serve_set_epoch(struct tl_serve *s, uint64_t epoch) {
    s->epoch = epoch;
    s->writer = s->config.writer;
}

void tl_serve_refuse(struct tl_serve *s, int status) {
    s->refusal = status;
    serve_request_retry(s);
}

void tl_serve_set_ended(struct tl_serve *s) {
    s->ended = true;
    s->draining = false;
    serve_request_retry(s);
}

static bool is_of_worker(const struct serve_conn *c) {
    return c->state == CONN_PENDING ||
           (c->greeted && c->role == TL_ROLE_WORKER && !c->only_reads);
}

static bool is_answered(const struct serve_conn *c) {
    return c->greeted;
}

static void drop(struct tl_serve *s, bool (*is_concerned)(const struct serve_conn *c)) {
    struct serve_conn *c = TAILQ_FIRST(&s->conns);
    while (c != NULL) {
        struct serve_conn *next = TAILQ_NEXT(c, link);
        if (is_concerned(c)) {
            serve_conn_close(c);
        }
        c = next;
    }
}

void tl_serve_set_leading(struct tl_serve *s, bool leads) {
    s->leads = leads;
    if (!leads) {
        drop(s, is_of_worker);
    }
}

void tl_serve_stand_by(struct tl_serve *s, uint64_t epoch, uint64_t writer) {
    s->epoch = epoch;
    s->writer = writer;
    tl_serve_set_leading(s, false);
    tl_serve_refuse(s, 0);
}

void tl_serve_replace_fold(struct tl_serve *s, struct tl_fold *fold) {
    drop(s, is_answered);
    s->fold = fold;
    s->slice = tl_fold_config(fold);
}

void tl_serve_drain(struct tl_serve *s) {
    s->draining = true;
}

void tl_serve_stats(const struct tl_serve *s, struct tl_serve_stats *ret_stats) {
    *ret_stats = s->stats;
    ret_stats->connections_open = s->conn_count;
    ret_stats->strangers_open = s->stranger_count;
}

uint32_t tl_serve_connected(const struct tl_serve *s, enum tl_role role) {
    uint32_t count = 0;
    const struct serve_conn *c = NULL;
    TAILQ_FOREACH(c, &s->conns, link) {
        count += c->greeted && c->role == role;
    }
    return count;
}

int64_t tl_serve_worker_silent_ms(const struct tl_serve *s, uint32_t worker) {
    const struct serve_conn *c = NULL;
    TAILQ_FOREACH(c, &s->conns, link) {
        if (c->joined && c->worker == worker && c->state != CONN_CLOSING) {
            /* One that waits for us is not silent. */
            return c->state == CONN_WAITING || c->state == CONN_PARKED ||
                           c->state == CONN_PENDING
                       ? 0
                       : (int64_t)(uv_now(s->config.loop) - c->heard_ms);
        }
    }
    return -1;
}

/* ---- closing ------------------------------------------------------------------ */

void tl_serve_close(struct tl_serve *s) {
    if (s->closing) {
        return;
    }
    s->closing = true;
    for (size_t i = 0; i < s->listener_count; i++) {
        uv_close(&s->listeners[i].handle, NULL);
        if (s->unix_paths[i][0] != '\0') {
            (void)unlink(s->unix_paths[i]);
        }
    }
    struct serve_conn *c = TAILQ_FIRST(&s->conns);
    while (c != NULL) {
        struct serve_conn *next = TAILQ_NEXT(c, link);
        if (c->state == CONN_REPLYING) {
            c->close_requested = true; /* closed once its reply is out, or too late */
        } else {
            serve_conn_close(c);
        }
        c = next;
    }
}

void tl_serve_free(struct tl_serve *s) {
    if (s == NULL) {
        return;
    }
    struct serve_payload *p = NULL;
    while ((p = SLIST_FIRST(&s->payloads)) != NULL) {
        SLIST_REMOVE_HEAD(&s->payloads, link);
        free(p->values);
        free(p);
    }
    free(s->refusals);
    free(s);
}
