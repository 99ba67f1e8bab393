/* shard_rig.h - one tl-server and some workers as processes, without Redis, and what
 * they say of themselves; for tests that need no whole job. */
#ifndef THROUGHLINE_TESTS_SHARD_RIG_H
#define THROUGHLINE_TESTS_SHARD_RIG_H

#include "throughline/service.h"

#include "program.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <sys/socket.h>

#define RIG_WORKERS 2
#define RIG_WAIT_MS 20000

struct rig {
    struct program server, workers[RIG_WORKERS];
    char http[64];
    char address[128]; /* tcp://127.0.0.1:port */
    struct sockaddr_in sockaddr;
};

/* A TCP port that was free a moment ago. */
static inline unsigned rig_free_port(void) {
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof(any);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
    (void)close(fd);
    return ntohs(any.sin_port);
}

static inline void rig_pause(int ms) {
    (void)poll(NULL, 0, ms);
}

/* ---- what the server says of itself ---------------------------------------------- */

static inline bool rig_try_metric(const char *http, const char *name, double *ret_v) {
    char *text = NULL;
    bool found = tl_metrics_fetch(http, tl_now_ms() + 5000, &text) == 0 &&
                 tl_metrics_find(text, name, NULL, ret_v);
    free(text);
    return found;
}

static inline double rig_metric(const struct rig *rig, const char *name) {
    double v = 0.0;
    if (!rig_try_metric(rig->http, name, &v)) {
        fail_msg("%s: no %s: %s", rig->http, name, tl_error_text());
    }
    return v;
}

/* Wait until a metric is at least (at most) this; false at the deadline. */
static inline bool rig_reaches(const struct rig *rig, const char *name, double least) {
    int64_t deadline_ms = tl_now_ms() + RIG_WAIT_MS;
    double v = 0.0;
    while ((!rig_try_metric(rig->http, name, &v) || v < least) &&
           tl_now_ms() < deadline_ms) {
        rig_pause(20);
    }
    return v >= least;
}

static inline bool rig_falls(const struct rig *rig, const char *name, double most) {
    int64_t deadline_ms = tl_now_ms() + RIG_WAIT_MS;
    double v = most + 1;
    while ((!rig_try_metric(rig->http, name, &v) || v > most) &&
           tl_now_ms() < deadline_ms) {
        rig_pause(20);
    }
    return v <= most;
}

/* It becomes `expected`, and not more. The server counts at once and shows it within
 * 100 ms. */
static inline void rig_expect(const struct rig *rig, const char *name,
                              double expected) {
    (void)rig_reaches(rig, name, expected);
    double v = rig_metric(rig, name);
    if (v != expected) {
        fail_msg("%s is %.0f, not %.0f", name, v, expected);
    }
}

/* ---- starting and stopping --------------------------------------------------------
 */

/* A job whose end does not come, of a small model. `more` is JSON: further keys, each
 * with a comma before it. */
static inline const char *rig_job(const char *more, const char *strategy) {
    char text[4096];
    (void)snprintf(
        text, sizeof(text),
        "{\"name\": \"rig\", \"model\": {\"input\": [1, 28, 28], \"classes\": 10, "
        "\"layers\": [{\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 32}, "
        "{\"type\": \"relu\"}, {\"type\": \"dense\", \"units\": 10}]}, \"data\": {"
        "\"train_images\": \"%1$s/train-images-idx3-ubyte.gz\", "
        "\"train_labels\": \"%1$s/train-labels-idx1-ubyte.gz\", "
        "\"test_images\": \"%1$s/t10k-images-idx3-ubyte.gz\", "
        "\"test_labels\": \"%1$s/t10k-labels-idx1-ubyte.gz\"}, "
        "\"strategy\": \"%3$s\", \"batch\": 8, \"until\": {\"updates\": "
        "1000000000}%2$s}",
        TL_SOURCE_DIR "/datasets/fashion-mnist-subset", more, strategy);
    return scratch_write("rig.json", text);
}

static inline void rig_start_server(struct rig *rig, const char *job) {
    unsigned port = rig_free_port();
    char listen[160];
    char http[80];
    *rig = (struct rig){
        .sockaddr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    rig->sockaddr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)snprintf(rig->address, sizeof(rig->address), "tcp://127.0.0.1:%u", port);
    (void)snprintf(rig->http, sizeof(rig->http), "127.0.0.1:%u", rig_free_port());
    (void)snprintf(listen, sizeof(listen), "--listen=%s", rig->address);
    (void)snprintf(http, sizeof(http), "--http=%s", rig->http);
    const char *argv[] = {"tl-server", job, "--redis=off", listen, http, NULL};
    rig->server = program_start(argv);
    assert_true(rig_reaches(rig, "throughline_epoch", 1));
}

/* Worker `i`, at most `rate` gradients a second. */
static inline void rig_start_worker(struct rig *rig, unsigned i, const char *job,
                                    const char *servers, const char *rate) {
    char index[32];
    char to[160];
    char max_rate[64];
    (void)snprintf(index, sizeof(index), "--index=%u", i);
    (void)snprintf(to, sizeof(to), "--servers=%s", servers);
    (void)snprintf(max_rate, sizeof(max_rate), "--max-rate=%s", rate);
    const char *argv[] = {"tl-worker", job, "--redis=off", "--http=off",
                          index,       to,  max_rate,      NULL};
    rig->workers[i] = program_start(argv);
}

/* SIGTERM; it must end in order. Returns what it said; the caller's: outcome_done(). */
static inline struct outcome rig_end(struct program *p) {
    assert_int_equal(kill(p->pid, SIGTERM), 0);
    struct outcome o = program_end(p, 20);
    p->pid = 0;
    return o;
}

static inline void rig_expect_end(struct program *p) {
    if (p->pid == 0) {
        return;
    }
    struct outcome o = rig_end(p);
    if (o.exit_code != 0) {
        size_t size = strlen(o.err); /* its last words count */
        fail_msg("exit %d:\n%s", o.exit_code, o.err + (size > 800 ? size - 800 : 0));
    }
    outcome_done(&o);
}

static inline void rig_stop(struct rig *rig) {
    for (unsigned i = 0; i < RIG_WORKERS; i++) {
        rig_expect_end(&rig->workers[i]);
    }
    rig_expect_end(&rig->server);
}

#endif
