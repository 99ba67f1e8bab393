/* cluster.h - a whole job of separate processes, with a bad network in the middle: a
 * test kills, stops, starves and cuts off what it likes, one at a time.
 *
 *   workers, checkpointer, monitor ──► proxy ──► server ──► store (a tmpfs, if allowed)
 *   all of them                    ──► proxy ──► Redis
 *   server, workers, checkpointer  ──► another Redis, if the job has a durable log
 *
 * There is always a secret, and TLS if the test wants it. Their wall clock is the
 * test's to set; a worker's progress is read in its ledger. */
#ifndef THROUGHLINE_TESTS_CLUSTER_H
#define THROUGHLINE_TESTS_CLUSTER_H

#include "certificates.h"
#include "fault_proxy.h"
#include "redis.h"
#include "shard_rig.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CLUSTER_WORKERS 2
#define CLUSTER_RATE    "150" /* gradients a second of each worker */

enum member { SERVER, WORKER_0, WORKER_1, CHECKPOINTER, MONITOR, MEMBERS };
static const char *const member_names[] = {"server", "worker/0", "worker/1",
                                           "checkpointer", "monitor"};

struct cluster {
    bool has_tls, has_log;
    struct test_redis redis;
    struct test_redis log; /* has_log: Redis Streams */
    struct fault_proxy *redis_network, *network;
    struct program members[MEMBERS];
    unsigned http[MEMBERS];
    unsigned port; /* the server's own */
    char redis_url[192], job[256], store[192];
    bool store_is_mounted;
    int64_t *clock; /* seconds by which wall clocks are off; NULL: they are not ours */
};

/* ---- processes --------------------------------------------------------------------
 */

#define CLUSTER_ARGS 10

static inline const char *cluster_text(char text[256], const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, 256, format, args);
    va_end(args);
    return text;
}

static inline size_t cluster_own_args(const struct cluster *c, enum member m,
                                      const char **argv, char text[][256]) {
    const char *proxy = fault_proxy_address(c->network);
    switch (m) {
    case SERVER:
        argv[0] = cluster_text(text[0], "--listen=tcp://127.0.0.1:%u", c->port);
        argv[1] = cluster_text(text[1], "--advertise=%s", proxy);
        return 2;
    case WORKER_0:
    case WORKER_1:
        argv[0] = cluster_text(text[0], "--index=%u", m - WORKER_0);
        argv[1] = cluster_text(text[1], "--ledger=%s/ledger-%u", scratch, m - WORKER_0);
        argv[2] = "--max-rate=" CLUSTER_RATE;
        return 3;
    default:
        return 0;
    }
}

static inline void cluster_start_member(struct cluster *c, enum member m) {
    static const char *const programs[] = {"tl-server", "tl-worker", "tl-worker",
                                           "tl-checkpointer", "tl-monitor"};
    char text[CLUSTER_ARGS][256];
    const char *argv[CLUSTER_ARGS] = {
        programs[m], c->job, "--run=torture",
        cluster_text(text[8], "--redis=%s", c->redis_url),
        cluster_text(text[9], "--http=127.0.0.1:%u", c->http[m])};
    (void)cluster_own_args(c, m, argv + 5, text);
    c->members[m] = program_start(argv);
}

/* SIGKILL, and the proof that it ended by it. */
static inline void cluster_kill(struct cluster *c, enum member m) {
    assert_int_equal(kill(c->members[m].pid, SIGKILL), 0);
    struct outcome o = program_end(&c->members[m], 10);
    if (o.exit_code != 128 + SIGKILL) {
        fail_msg("%s had ended before, with %d:\n%s", member_names[m], o.exit_code,
                 o.err);
    }
    (void)unlink(c->members[m].out_path);
    (void)unlink(c->members[m].err_path);
    outcome_done(&o);
}

/* By itself, in order, in time. */
static inline void cluster_expect_end(struct cluster *c, enum member m) {
    struct outcome o = program_end(&c->members[m], 30);
    c->members[m].pid = 0;
    if (o.exit_code != 0) {
        fail_msg("%s: exit %d:\n%s", member_names[m], o.exit_code, o.err);
    }
    outcome_done(&o);
}

/* ---- what they say ------------------------------------------------------------------
 */

static inline bool cluster_try_metric(const struct cluster *c, enum member m,
                                      const char *name, double *ret_v) {
    char http[64];
    (void)snprintf(http, sizeof(http), "127.0.0.1:%u", c->http[m]);
    return rig_try_metric(http, name, ret_v);
}

/* It may have been started a moment ago. */
static inline double cluster_metric(const struct cluster *c, enum member m,
                                    const char *name) {
    const int64_t deadline_ms = tl_now_ms() + RIG_WAIT_MS;
    double v = 0.0;
    while (!cluster_try_metric(c, m, name, &v)) {
        if (tl_now_ms() > deadline_ms) {
            fail_msg("%s does not tell %s: %s", member_names[m], name, tl_error_text());
        }
        rig_pause(20);
    }
    return v;
}

/* The last sequence that worker `w` saw acknowledged: its ledger's fourth number. */
static inline uint64_t cluster_acknowledged(unsigned w) {
    char path[256];
    uint64_t record[8] = {0};
    FILE *f = fopen(cluster_text(path, "%s/ledger-%u", scratch, w), "rb");
    if (f != NULL) {
        (void)!fread(record, sizeof(record), 1, f);
        (void)fclose(f);
    }
    return record[3];
}

/* With a durable log workers go on without a server: it has to follow all the same. */
static inline bool cluster_server_follows(const struct cluster *c,
                                          int64_t deadline_ms) {
    double first = -1.0;
    double now = -1.0;
    while (now <= first || first < 0.0) {
        if (tl_now_ms() > deadline_ms) {
            return false;
        }
        rig_pause(5);
        if (cluster_try_metric(c, SERVER, "throughline_log_position", &now) &&
            first < 0.0) {
            first = now;
        }
    }
    return true;
}

/* Each worker gets further than it was. The wait's length; -1: not by the deadline. */
static inline int64_t cluster_goes_on(const struct cluster *c, unsigned gradients,
                                      int64_t within_ms) {
    uint64_t before[CLUSTER_WORKERS];
    int64_t start_ms = tl_now_ms();
    for (unsigned w = 0; w < CLUSTER_WORKERS; w++) {
        before[w] = cluster_acknowledged(w);
    }
    for (unsigned w = 0; w < CLUSTER_WORKERS; w++) {
        while (cluster_acknowledged(w) < before[w] + gradients) {
            if (tl_now_ms() - start_ms > within_ms) {
                return -1;
            }
            rig_pause(5);
        }
    }
    return c->has_log && !cluster_server_follows(c, start_ms + within_ms)
               ? -1
               : tl_now_ms() - start_ms;
}

/* Resident memory in KiB, and what of it is the process's own: not pages of programs
 * and libraries, which the kernel shares, brings and takes as it likes. */
struct cluster_memory {
    long resident, own;
};

static inline struct cluster_memory cluster_memory(const struct cluster *c,
                                                   enum member m) {
    char path[256];
    char line[128];
    struct cluster_memory kib = {0};
    long n = 0;
    FILE *f = fopen(cluster_text(path, "/proc/%d/status", c->members[m].pid), "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &n) == 1) {
            kib.resident = n;
        } else if (sscanf(line, "RssAnon: %ld", &n) == 1 ||
                   sscanf(line, "RssShmem: %ld", &n) == 1) {
            kib.own += n;
        }
    }
    (void)fclose(f);
    assert_true(kib.own > 0 && kib.resident >= kib.own);
    return kib;
}

/* What every process has said, for a failure that nobody expected. */
static inline void cluster_tell(const struct cluster *c) {
    for (int m = 0; m < MEMBERS; m++) {
        if (c->members[m].pid != 0) {
            char *text = program_read(c->members[m].err_path);
            size_t size = strlen(text);
            print_message("---- %s\n%s\n", member_names[m],
                          text + (size > 3000 ? size - 3000 : 0));
            free(text);
        }
    }
}

/* ---- all of it ------------------------------------------------------------------- */

/* A store that can be filled and made read-only; where mounts are not allowed, a
 * directory. */
static inline void cluster_make_store(struct cluster *c) {
    (void)snprintf(c->store, sizeof(c->store), "%s/store", scratch);
    assert_int_equal(mkdir(c->store, 0700), 0);
    c->store_is_mounted = mount("tmpfs", c->store, "tmpfs", 0, "size=16m") == 0;
    if (!c->store_is_mounted) {
        print_message("NOT TESTED: full and read-only disks: no mount here: %s\n",
                      strerror(errno));
    }
}

/* Every process started from here on reads the clock that the test sets. */
static inline void cluster_make_clock(struct cluster *c) {
#ifdef __SANITIZE_ADDRESS__
    (void)c; /* nothing may be loaded before the sanitizer */
#else
    const char *path = scratch_path("clock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, sizeof(*c->clock)) == 0);
    void *map =
        mmap(NULL, sizeof(*c->clock), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    (void)close(fd);
    c->clock = map;
    (void)setenv("TL_TEST_CLOCK", path, 1);
    (void)setenv("LD_PRELOAD", TL_CLOCK_JUMP, 1);
#endif
}

static const char *const cluster_variables[] = {
    "THROUGHLINE_SECRET_FILE", "THROUGHLINE_TLS_CERT", "THROUGHLINE_TLS_KEY",
    "THROUGHLINE_TLS_CA", "LD_PRELOAD"};

/* What every process is given to prove who it is. */
static inline void cluster_make_trust(const struct cluster *c) {
    (void)setenv("THROUGHLINE_SECRET_FILE",
                 scratch_write("secret", "a secret that a test knows\n"), 1);
    if (c->has_tls) {
        certificates_make();
        const struct tl_trust_files f = certificate_files("node", "ca", NULL);
        (void)setenv("THROUGHLINE_TLS_CERT", f.tls_cert, 1);
        (void)setenv("THROUGHLINE_TLS_KEY", f.tls_key, 1);
        (void)setenv("THROUGHLINE_TLS_CA", f.tls_ca, 1);
    }
}

static inline void cluster_make_job(struct cluster *c) {
    char more[768];
    char log[192] = "";
    if (c->has_log) {
        test_redis_start(&c->log);
        (void)snprintf(log, sizeof(log),
                       ", \"log\": {\"url\": \"%s\", \"max_bytes\": 268435456}",
                       c->log.url);
    }
    (void)snprintf(more, sizeof(more),
                   ", \"optimizer\": {\"learning_rate\": 0.02, \"momentum\": 0.5}, "
                   "\"server\": {\"idle_ms\": 1000}, \"membership\": {\"lease_ms\": "
                   "1000}, \"worker\": {\"request_ms\": 2000, \"patience_ms\": 60000}, "
                   "\"monitor\": {\"every_seconds\": 1}, \"checkpoint\": {\"store\": "
                   "\"file://%s\", \"every_updates\": 50}%s",
                   c->store, log);
    (void)snprintf(c->job, sizeof(c->job), "%s",
                   rig_job(more, c->has_log ? "stateless" : "checkpoint"));
}

static inline void cluster_start(struct cluster *c, bool has_tls, bool has_log) {
    char redis_socket[256];
    char server[64];
    *c = (struct cluster){.has_tls = has_tls, .has_log = has_log};
    cluster_make_store(c);
    cluster_make_trust(c);
    cluster_make_clock(c);
    test_redis_start(&c->redis);
    c->redis_network = fault_proxy_start(
        cluster_text(redis_socket, "unix://%s/redis.sock", scratch), c->redis.url);
    (void)snprintf(c->redis_url, sizeof(c->redis_url), "%s",
                   fault_proxy_address(c->redis_network));
    c->port = rig_free_port();
    (void)snprintf(server, sizeof(server), "tcp://127.0.0.1:%u", c->port);
    c->network = fault_proxy_start(NULL, server);
    cluster_make_job(c);
    for (int m = 0; m < MEMBERS; m++) {
        c->http[m] = rig_free_port();
        cluster_start_member(c, (enum member)m);
    }
    if (cluster_goes_on(c, 50, 30000) < 0) {
        cluster_tell(c);
        fail_msg("the job does not start");
    }
}

static inline void cluster_stop(struct cluster *c) {
    for (int m = 0; m < MEMBERS; m++) {
        if (c->members[m].pid != 0) {
            (void)kill(c->members[m].pid, SIGKILL);
            (void)waitpid(c->members[m].pid, NULL, 0);
        }
    }
    for (size_t i = 0; i < sizeof(cluster_variables) / sizeof(*cluster_variables);
         i++) {
        (void)unsetenv(cluster_variables[i]);
    }
    fault_proxy_stop(c->network);
    fault_proxy_stop(c->redis_network);
    test_redis_stop(&c->redis);
    if (c->has_log) {
        test_redis_stop(&c->log);
    }
    if (c->store_is_mounted) {
        (void)umount2(c->store, MNT_DETACH);
    }
}

#endif
