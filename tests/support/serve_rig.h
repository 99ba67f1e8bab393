/* serve_rig.h - a shard as tests want it: a real loop on a thread, real sockets, a real
 * fold; and callers that speak frames to it. */
#ifndef TL_TESTS_SERVE_RIG_H
#define TL_TESTS_SERVE_RIG_H

#include "throughline/fold.h"
#include "throughline/serve.h"
#include "throughline/wire.h"

#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define COUNT       70000u /* two blocks: one whole, one not */
#define FRAME_MS    1000
#define WAIT_MS     200
#define DEADLINE_MS 5000

/* ---- the shard under test ----------------------------------------------------- */

struct shard {
    uv_loop_t loop;
    uv_async_t stop;
    uv_async_t order;
    void (*todo)(struct shard *);
    pthread_t thread;
    struct tl_fold *fold;
    struct tl_serve *serve;
    char address[128];
    _Atomic uint64_t newer_epoch;
    struct tl_serve_stats stats;
    pthread_barrier_t done;
};

/* What tests may want otherwise than usual. */
struct shard_options {
    uint32_t max_connections;
    const struct tl_trust *trust; /* of the server */
    bool tcp;                     /* listen on TCP, not on a Unix socket */
    bool follows_log;
    uint32_t frame_ms; /* 0: longer than any machine stands still */
    uint32_t wait_ms;  /* 0: WAIT_MS */
    size_t count;      /* 0: COUNT */
};

static inline void on_newer_epoch(void *ctx, uint64_t epoch) {
    atomic_store(&((struct shard *)ctx)->newer_epoch, epoch);
}

static inline void on_stop(uv_async_t *async) {
    struct shard *s = async->data;
    tl_serve_close(s->serve);
    uv_close((uv_handle_t *)&s->stop, NULL);
    uv_close((uv_handle_t *)&s->order, NULL);
}

static inline void on_order(uv_async_t *async) {
    struct shard *s = async->data;
    s->todo(s);
    pthread_barrier_wait(&s->done);
}

/* Run `todo` on the loop's thread and wait for it. */
static inline void on_loop(struct shard *s, void (*todo)(struct shard *)) {
    s->todo = todo;
    assert_int_equal(uv_async_send(&s->order), 0);
    pthread_barrier_wait(&s->done);
}

static inline void *run_loop(void *arg) {
    struct shard *s = arg;
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

static inline struct tl_fold_config fold_config(void) {
    return (struct tl_fold_config){
        .shards = 1,
        .count = COUNT,
        .consistency = TL_ASYNC,
        .start_workers = 1,
        .spare_copies = 4,
        .refuse_nonfinite = true,
        .optimizer = {.kind = TL_SGD, .learning_rate = 0.5},
        .schedule = {.factor = 1.0},
    };
}

static inline void shard_start_with(struct shard *s,
                                    const struct tl_fold_config *config,
                                    const struct shard_options *options) {
    memset(s, 0, sizeof(*s));
    (void)signal(SIGPIPE, SIG_IGN); /* as every service does */
    const size_t count = options->count > 0 ? options->count : COUNT;
    float *zeros = calloc(count, sizeof(float));
    assert_int_equal(tl_fold_new(config, zeros, &s->fold), 0);
    free(zeros);
    assert_int_equal(tl_fold_take_over(s->fold, 7), 0);
    assert_int_equal(uv_loop_init(&s->loop), 0);
    struct tl_serve_config serve = {
        .loop = &s->loop,
        .fold = s->fold,
        .job = "job",
        .run = "run",
        .job_digest = 99,
        .parameters = count,
        .writer = 1234,
        .trust = options->trust,
        .max_connections = options->max_connections,
        .frame_ms = options->frame_ms > 0 ? options->frame_ms : 4 * DEADLINE_MS,
        .wait_ms = options->wait_ms > 0 ? options->wait_ms : WAIT_MS,
        .unix_checksum = true,
        .follows_log = options->follows_log,
        .on_newer_epoch = on_newer_epoch,
        .ctx = s,
    };
    assert_int_equal(tl_serve_new(&serve, &s->serve), 0);
    char wanted[128];
    (void)snprintf(wanted, sizeof(wanted), "unix:///tmp/tl-serve-test-%d.sock",
                   (int)getpid());
    assert_int_equal(tl_serve_listen(s->serve,
                                     options->tcp ? "tcp://127.0.0.1:0" : wanted,
                                     s->address, sizeof(s->address)),
                     0);
    assert_true(options->tcp || strcmp(wanted, s->address) == 0);
    assert_int_equal(uv_async_init(&s->loop, &s->stop, on_stop), 0);
    assert_int_equal(uv_async_init(&s->loop, &s->order, on_order), 0);
    s->stop.data = s->order.data = s;
    assert_int_equal(pthread_barrier_init(&s->done, NULL, 2), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, run_loop, s), 0);
}

static inline void shard_start(struct shard *s, const struct tl_fold_config *config,
                               uint32_t max_connections) {
    const struct shard_options options = {.max_connections = max_connections};
    shard_start_with(s, config, &options);
}

static inline void read_stats(struct shard *s) {
    tl_serve_stats(s->serve, &s->stats);
}

static inline void shard_stop(struct shard *s) {
    assert_int_equal(uv_async_send(&s->stop), 0);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(uv_loop_close(&s->loop), 0); /* nothing was left open */
    tl_serve_free(s->serve);
    tl_fold_free(s->fold);
    pthread_barrier_destroy(&s->done);
}

/* ---- a caller ----------------------------------------------------------------- */

struct caller {
    struct tl_link *link;
    float weights[COUNT];
    uint8_t welcome[TL_WELCOME_BYTES];
    uint64_t epoch;
};

static inline int64_t now_ms(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* What becomes of the exchange that was begun. */
static inline int outcome(struct caller *c) {
    int status = 0;
    struct tl_link *links[] = {c->link};
    (void)!tl_links_wait(links, 1, now_ms() + DEADLINE_MS, -1, &status);
    return status;
}

static inline int ask(struct caller *c, struct tl_header h, const void *payload) {
    h.epoch = c->epoch;
    assert_int_equal(
        tl_link_request(c->link, &h, payload, c->weights, sizeof(c->weights), true), 0);
    return outcome(c);
}

static inline struct caller *caller_connect(const struct shard *s) {
    struct caller *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->epoch = 7;
    assert_int_equal(tl_link_new(&c->link), 0);
    struct tl_address a;
    assert_int_equal(tl_address_parse(s->address, &a), 0);
    assert_int_equal(tl_link_connect(c->link, &a), 0);
    return c;
}

static inline int hello_as(struct caller *c, struct tl_hello hello, uint32_t shard) {
    const struct tl_header header = {.shard = shard, .epoch = c->epoch};
    int rc = tl_link_hello(c->link, &header, &hello, c->welcome);
    return rc == 0 ? outcome(c) : rc;
}

static inline struct tl_hello proper_hello(enum tl_role role) {
    struct tl_hello h = {.role = role, .job_digest = 99, .writer = 1234};
    (void)snprintf(h.job, sizeof(h.job), "job");
    (void)snprintf(h.run, sizeof(h.run), "run");
    return h;
}

static inline struct caller *caller_greet(const struct shard *s, enum tl_role role) {
    struct caller *c = caller_connect(s);
    assert_int_equal(hello_as(c, proper_hello(role), 0), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_WELCOME);
    return c;
}

static inline struct caller *caller_join(const struct shard *s, uint32_t worker) {
    struct caller *c = caller_greet(s, TL_ROLE_WORKER);
    struct tl_header join = {.kind = TL_KIND_JOIN, .worker = worker, .incarnation = 1};
    assert_int_equal(ask(c, join, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_JOINED);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    return c;
}

static inline void caller_free(struct caller *c) {
    tl_link_free(c->link);
    free(c);
}

static inline float *gradient_of(float value) {
    float *g = malloc(COUNT * sizeof(float));
    assert_non_null(g);
    for (size_t i = 0; i < COUNT; i++) {
        g[i] = value;
    }
    return g;
}

static inline int push(struct caller *c, uint8_t kind, uint32_t worker,
                       uint64_t sequence, uint64_t read_version, float value) {
    float *g = gradient_of(value);
    struct tl_header h = {
        .kind = kind,
        .worker = worker,
        .incarnation = 1,
        .sequence = sequence,
        .read_version = read_version,
        .norm = 1.0F,
        .length = COUNT * sizeof(float),
    };
    int rc = ask(c, h, g);
    free(g);
    return rc;
}

static inline void assert_weights(const struct caller *c, float expected) {
    assert_int_equal(tl_link_reply(c->link)->length, COUNT * sizeof(float));
    for (size_t i = 0; i < COUNT; i++) {
        if (c->weights[i] != expected) {
            fail_msg("weight %zu is %g, not %g", i, (double)c->weights[i],
                     (double)expected);
        }
    }
}

/* A connection without a link around it. */
static inline int raw_connect(const struct shard *s) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s",
                   s->address + strlen("unix://"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* Read until the other end closes; false when it does not within the deadline. */
static inline bool is_closed_by_peer(int fd) {
    int64_t deadline = now_ms() + DEADLINE_MS;
    char bytes[256];
    while (now_ms() < deadline) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) == 1 && recv(fd, bytes, sizeof(bytes), 0) <= 0) {
            return true;
        }
    }
    return false;
}

#endif
