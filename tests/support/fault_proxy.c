/* fault_proxy.c - see fault_proxy.h. One thread accepts, two relay each connection: one
 * a direction, so that a relay is a plain loop of read, spoil and write. */
#include "fault_proxy.h"

#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5      /* how soon a relay sees a new fault */
#define PIECE   65536u /* bytes moved at once, at most */

struct address {
    struct sockaddr_storage sockaddr;
    socklen_t size;
};

struct conn {
    struct fault_proxy *proxy;
    int fd[2];      /* client's end, server's end */
    unsigned users; /* threads */
    bool over;
    bool struck; /* by the present fault; then it does not strike it again */
    bool silent; /* half-open: its server is gone for good, and it does not know */
    LIST_ENTRY(conn) link;
};

struct flow {
    struct conn *conn;
    int from; /* index in conn->fd: 0 for requests */
    uint64_t generation;
    uint64_t passed; /* bytes since the fault was set */
};

struct fault_proxy {
    pthread_mutex_t lock; /* over all that follows */
    pthread_cond_t idle;
    struct address server;
    struct fault fault;
    uint64_t generation, fired, connections, open;
    bool stopping;
    LIST_HEAD(, conn) conns;

    int listener;
    pthread_t acceptor;
    char address[128];
    char unix_path[108];
    unsigned port;
};

static void pause_ms(uint64_t ms) {
    const struct timespec t = {.tv_sec = (time_t)(ms / 1000),
                               .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

static void parse(const char *text, struct address *ret_address) {
    *ret_address = (struct address){0};
    if (strncmp(text, "unix://", 7) == 0) {
        struct sockaddr_un *sun = (struct sockaddr_un *)&ret_address->sockaddr;
        sun->sun_family = AF_UNIX;
        assert_true(strlen(text + 7) < sizeof(sun->sun_path));
        memcpy(sun->sun_path, text + 7, strlen(text + 7) + 1);
        ret_address->size = sizeof(*sun);
        return;
    }
    struct sockaddr_in *sin = (struct sockaddr_in *)&ret_address->sockaddr;
    unsigned port = 0;
    assert_int_equal(sscanf(text, "tcp://127.0.0.1:%u", &port), 1);
    sin->sin_family = AF_INET;
    sin->sin_port = htons((uint16_t)port);
    sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ret_address->size = sizeof(*sin);
}

/* ---- a connection's end ---------------------------------------------------------- */

/* Both directions come to their end; the relays see it and leave. */
static void conn_cut(struct conn *c, bool reset) {
    const struct linger at_once = {.l_onoff = 1};
    for (int i = 0; i < 2; i++) {
        if (reset) {
            (void)setsockopt(c->fd[i], SOL_SOCKET, SO_LINGER, &at_once,
                             sizeof(at_once));
        } else {
            (void)shutdown(c->fd[i], SHUT_RDWR);
        }
    }
    c->over = true;
}

/* The last thread to leave closes; with SO_LINGER set, that is the reset. */
static void conn_leave(struct conn *c) {
    struct fault_proxy *p = c->proxy;
    pthread_mutex_lock(&p->lock);
    if (--c->users == 0) {
        (void)close(c->fd[0]);
        (void)close(c->fd[1]);
        LIST_REMOVE(c, link);
        free(c);
        p->open--;
        pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
}

/* ---- the fault ----------------------------------------------------------------------
 */

static bool concerns(const struct fault *fault, const struct flow *f) {
    return fault->direction == FAULT_BOTH ||
           (fault->direction == FAULT_REQUESTS) == (f->from == 0);
}

/* May the fault strike (once more)? Counts it. With the lock held. */
static bool strike(struct fault_proxy *p, struct conn *c) {
    if ((c != NULL && c->struck) ||
        (p->fault.times != 0 && p->fired >= p->fault.times)) {
        return false;
    }
    p->fired++;
    if (c != NULL) {
        c->struck = true;
    }
    return true;
}

/* What a flow has to do now. */
struct order {
    bool over;           /* leave */
    bool hold;           /* move nothing */
    size_t most;         /* bytes to be read at most */
    uint64_t delay_ms;   /* before they are passed on */
    uint64_t per_second; /* 0: no limit */
};

static void fault_cut(struct conn *c, enum fault_kind kind) {
    if (kind == FAULT_HALF_OPEN) {
        (void)shutdown(c->fd[1], SHUT_RDWR);
        c->silent = true;
    } else {
        conn_cut(c, kind == FAULT_RESET);
    }
}

/* A fault that comes after so many bytes: read up to there, then strike. */
static void order_at_byte(struct flow *f, const struct fault *fault, struct order *o) {
    if (f->passed < fault->after) {
        uint64_t left = fault->after - f->passed;
        o->most = left < o->most ? (size_t)left : o->most;
    } else if (fault->kind != FAULT_FLIP && strike(f->conn->proxy, f->conn)) {
        fault_cut(f->conn, fault->kind);
    }
}

static struct order look(struct flow *f) {
    struct fault_proxy *p = f->conn->proxy;
    struct order o = {.most = PIECE};
    pthread_mutex_lock(&p->lock);
    const struct fault *fault = &p->fault;
    if (f->generation != p->generation) {
        f->generation = p->generation;
        f->passed = 0;
    }
    if (concerns(fault, f)) {
        switch (fault->kind) {
        case FAULT_DELAY:
            o.delay_ms = fault->amount;
            break;
        case FAULT_THROTTLE:
            o.per_second = fault->amount;
            o.most = (size_t)(fault->amount / 50 + 1);
            break;
        case FAULT_STALL:
            o.hold = true;
            (void)strike(p, f->conn);
            break;
        case FAULT_HALF_OPEN:
        case FAULT_RESET:
        case FAULT_TRUNCATE:
        case FAULT_FLIP:
            order_at_byte(f, fault, &o);
            break;
        default:
            break;
        }
    }
    o.hold = o.hold || f->conn->silent;
    o.over = p->stopping || f->conn->over;
    pthread_mutex_unlock(&p->lock);
    return o;
}

/* What becomes of the bytes that were read. False: they are not passed on. */
static bool spoil(struct flow *f, char *bytes, size_t size, const char **ret_answer) {
    struct fault_proxy *p = f->conn->proxy;
    bool pass = true;
    pthread_mutex_lock(&p->lock);
    const struct fault *fault = &p->fault;
    bool here = f->generation == p->generation && concerns(fault, f);
    if (here && fault->kind == FAULT_FLIP && f->passed + size > fault->after &&
        strike(p, f->conn)) {
        bytes[fault->after > f->passed ? fault->after - f->passed : 0] ^= 0x10;
    } else if (here && fault->kind == FAULT_ANSWER && f->from == 0 &&
               strike(p, f->conn)) {
        *ret_answer = fault->answer;
        pass = false;
    } else if (here && (fault->kind == FAULT_DELAY || fault->kind == FAULT_THROTTLE)) {
        (void)strike(p, f->conn);
    }
    f->passed += size;
    pthread_mutex_unlock(&p->lock);
    return pass;
}

/* ---- a relay ------------------------------------------------------------------------
 */

static bool write_all(struct flow *f, int fd, const char *bytes, size_t size) {
    while (size > 0) {
        struct pollfd out = {.fd = fd, .events = POLLOUT};
        struct order o = look(f);
        if (o.over) {
            return false;
        }
        if (o.hold || poll(&out, 1, LOOK_MS) <= 0) {
            pause_ms(o.hold ? LOOK_MS : 0);
            continue;
        }
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return false;
        }
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* The client's request ends here, with an answer that no server gave. The rest of what
 * it says is read: closing before that would be a reset, which overtakes the answer. */
static void answer(struct flow *f, const char *text, char *bytes) {
    (void)write_all(f, f->conn->fd[0], text, strlen(text));
    (void)shutdown(f->conn->fd[0], SHUT_WR);
    (void)shutdown(f->conn->fd[1], SHUT_RDWR);
    struct pollfd in = {.fd = f->conn->fd[0], .events = POLLIN};
    while (!look(f).over &&
           (poll(&in, 1, LOOK_MS) <= 0 || recv(in.fd, bytes, PIECE, 0) > 0)) {
    }
}

static bool move_on(struct flow *f, const struct order *o, char *bytes, size_t size) {
    const char *text = NULL;
    if (!spoil(f, bytes, size, &text)) {
        answer(f, text, bytes);
        return false;
    }
    pause_ms(o->delay_ms + (o->per_second > 0 ? size * 1000 / o->per_second : 0));
    return write_all(f, f->conn->fd[!f->from], bytes, size);
}

static bool relay_once(struct flow *f, char *bytes) {
    struct order o = look(f);
    if (o.over) {
        return false;
    }
    struct pollfd in = {.fd = f->conn->fd[f->from], .events = POLLIN};
    if (o.hold || poll(&in, 1, LOOK_MS) <= 0) {
        pause_ms(o.hold ? LOOK_MS : 0);
        return true;
    }
    o = look(f);
    if (o.over || o.hold) {
        return !o.over;
    }
    ssize_t n = recv(in.fd, bytes, o.most, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    return n > 0 && move_on(f, &o, bytes, (size_t)n);
}

/* An end that was reached in order is passed on; one by an error cuts both ways. */
static void relay_end(struct flow *f) {
    struct fault_proxy *p = f->conn->proxy;
    int error = 0;
    socklen_t size = sizeof(error);
    (void)getsockopt(f->conn->fd[f->from], SOL_SOCKET, SO_ERROR, &error, &size);
    pthread_mutex_lock(&p->lock);
    if (error != 0) {
        conn_cut(f->conn, true);
    } else if (!f->conn->over) {
        (void)shutdown(f->conn->fd[!f->from], SHUT_WR);
    }
    pthread_mutex_unlock(&p->lock);
}

static void *relay(void *arg) {
    struct flow f = *(struct flow *)arg;
    free(arg);
    char *bytes = malloc(PIECE);
    while (bytes != NULL && relay_once(&f, bytes)) {
    }
    free(bytes);
    relay_end(&f);
    conn_leave(f.conn);
    return NULL;
}

/* ---- accepting ----------------------------------------------------------------------
 */

static int dial(const struct address *a) {
    int fd = socket(a->sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a->sockaddr, a->size) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Not in the test's thread: what cannot be had ends the test program. */
static void must(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "fault_proxy: %s\n", what);
        abort();
    }
}

static void start_relay(struct conn *c, int from, uint64_t generation) {
    struct flow *f = malloc(sizeof(*f));
    pthread_t thread;
    must(f != NULL, "no memory");
    *f = (struct flow){.conn = c, .from = from, .generation = generation};
    must(pthread_create(&thread, NULL, relay, f) == 0, "no thread");
    (void)pthread_detach(thread);
}

static void start_conn(struct fault_proxy *p, int client, int server) {
    const int on = 1;
    struct conn *c = calloc(1, sizeof(*c));
    must(c != NULL, "no memory");
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    *c = (struct conn){.proxy = p, .fd = {client, server}, .users = 2};
    pthread_mutex_lock(&p->lock);
    LIST_INSERT_HEAD(&p->conns, c, link);
    p->open++;
    uint64_t generation = p->generation;
    pthread_mutex_unlock(&p->lock);
    start_relay(c, 0, generation);
    start_relay(c, 1, generation);
}

/* A partition holds back connections too: the client's is made, the server's is not. */
static bool hold_new(struct fault_proxy *p, bool *ret_refuse, struct address *ret_to) {
    pthread_mutex_lock(&p->lock);
    bool hold = p->fault.kind == FAULT_STALL && p->fault.direction == FAULT_BOTH;
    *ret_refuse = p->stopping || (p->fault.kind == FAULT_REFUSE && strike(p, NULL));
    *ret_to = p->server;
    bool stopping = p->stopping;
    pthread_mutex_unlock(&p->lock);
    return hold && !stopping;
}

static void *accept_all(void *arg) {
    struct fault_proxy *p = arg;
    int client = -1;
    while ((client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        bool refuse = false;
        struct address to;
        pthread_mutex_lock(&p->lock);
        p->connections++;
        pthread_mutex_unlock(&p->lock);
        while (hold_new(p, &refuse, &to)) {
            pause_ms(LOOK_MS);
        }
        int server = refuse ? -1 : dial(&to);
        if (server < 0) {
            (void)close(client);
        } else {
            start_conn(p, client, server);
        }
    }
    return NULL;
}

/* ---- the object ---------------------------------------------------------------------
 */

static void listen_on(struct fault_proxy *p, const char *text) {
    struct address a;
    parse(text != NULL ? text : "tcp://127.0.0.1:0", &a);
    p->listener = socket(a.sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&a.sockaddr, a.size), 0);
    assert_int_equal(listen(p->listener, 1024), 0);
    if (a.sockaddr.ss_family == AF_UNIX) {
        (void)snprintf(p->unix_path, sizeof(p->unix_path), "%s", text + 7);
        (void)snprintf(p->address, sizeof(p->address), "%s", text);
        return;
    }
    struct sockaddr_in sin = {0};
    socklen_t size = sizeof(sin);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&sin, &size), 0);
    p->port = ntohs(sin.sin_port);
    (void)snprintf(p->address, sizeof(p->address), "tcp://127.0.0.1:%u", p->port);
}

struct fault_proxy *fault_proxy_start(const char *listen, const char *server) {
    struct fault_proxy *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->idle, NULL);
    LIST_INIT(&p->conns);
    parse(server, &p->server);
    listen_on(p, listen);
    assert_int_equal(pthread_create(&p->acceptor, NULL, accept_all, p), 0);
    return p;
}

void fault_proxy_stop(struct fault_proxy *p) {
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_mutex_unlock(&p->lock);
    (void)shutdown(p->listener, SHUT_RDWR);
    (void)pthread_join(p->acceptor, NULL);
    pthread_mutex_lock(&p->lock);
    while (p->open > 0) {
        pthread_cond_wait(&p->idle, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    (void)close(p->listener);
    if (p->unix_path[0] != '\0') {
        (void)unlink(p->unix_path);
    }
    (void)pthread_cond_destroy(&p->idle);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

const char *fault_proxy_address(const struct fault_proxy *p) {
    return p->address;
}

unsigned fault_proxy_port(const struct fault_proxy *p) {
    return p->port;
}

void fault_proxy_set(struct fault_proxy *p, const struct fault *fault) {
    const struct fault none = {.kind = FAULT_NONE};
    struct conn *c = NULL;
    pthread_mutex_lock(&p->lock);
    p->fault = fault != NULL ? *fault : none;
    p->generation++;
    p->fired = fault != NULL ? 0 : p->fired;
    LIST_FOREACH(c, &p->conns, link) {
        c->struck = false;
    }
    pthread_mutex_unlock(&p->lock);
}

void fault_proxy_redirect(struct fault_proxy *p, const char *server) {
    struct address a;
    parse(server, &a);
    pthread_mutex_lock(&p->lock);
    p->server = a;
    pthread_mutex_unlock(&p->lock);
}

static uint64_t read_locked(struct fault_proxy *p, const uint64_t *value) {
    pthread_mutex_lock(&p->lock);
    uint64_t v = *value;
    pthread_mutex_unlock(&p->lock);
    return v;
}

uint64_t fault_proxy_fired(struct fault_proxy *p) {
    return read_locked(p, &p->fired);
}

uint64_t fault_proxy_connections(struct fault_proxy *p) {
    return read_locked(p, &p->connections);
}

uint64_t fault_proxy_open(struct fault_proxy *p) {
    return read_locked(p, &p->open);
}
