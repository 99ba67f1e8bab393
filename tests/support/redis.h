/* redis.h - a private redis-server for a test, on a Unix socket in a directory of its
 * own.
 *
 * It keeps an append-only file, so that it can be killed and come back with its data or
 * without. It dies with the test, whatever happens to that. */
#ifndef TEST_REDIS_H
#define TEST_REDIS_H

#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct test_redis {
    pid_t pid; /* 0: not running */
    char directory[64];
    char socket[96];
    char url[128]; /* unix:///... */
    char password[32];
    char port[8]; /* "0": no TCP */
};

static inline int64_t test_redis_now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void test_redis_pause(void) {
    const struct timespec moment = {.tv_nsec = 2000000};
    (void)nanosleep(&moment, NULL);
}

static inline void test_redis_exec(const struct test_redis *r) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)execlp("redis-server", "redis-server", "--port", r->port, "--bind",
                 "127.0.0.1", "--unixsocket", r->socket, "--dir", r->directory,
                 "--save", "", "--appendonly", "yes", "--appendfsync", "no",
                 "--requirepass", r->password, "--enable-debug-command", "yes",
                 (char *)NULL);
    _exit(127);
}

/* One command over a fresh connection; NULL when there is none or Redis objects. */
static inline redisReply *test_redis_try(const struct test_redis *r, const char *format,
                                         ...) {
    redisContext *c = redisConnectUnix(r->socket);
    redisReply *reply = NULL;
    if (c != NULL && c->err == 0) {
        if (r->password[0] != '\0') {
            freeReplyObject(redisCommand(c, "AUTH %s", r->password));
        }
        va_list args;
        va_start(args, format);
        reply = redisvCommand(c, format, args);
        va_end(args);
    }
    if (c != NULL) {
        redisFree(c);
    }
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
        freeReplyObject(reply);
        reply = NULL;
    }
    return reply;
}

/* The same, where it has to work and the reply does not matter. */
#define test_redis_do(r, ...)                                                          \
    do {                                                                               \
        redisReply *reply_ = test_redis_try(r, __VA_ARGS__);                           \
        assert_non_null(reply_);                                                       \
        freeReplyObject(reply_);                                                       \
    } while (0)

/* Start, or start again; returns when it answers. */
static inline void test_redis_run(struct test_redis *r) {
    (void)unlink(r->socket);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        test_redis_exec(r);
    }
    int64_t deadline_ms = test_redis_now_ms() + 20000;
    redisReply *pong = NULL;
    while (pong == NULL && test_redis_now_ms() < deadline_ms) {
        assert_int_equal(waitpid(r->pid, NULL, WNOHANG),
                         0); /* it must not have ended */
        pong = test_redis_try(r, "PING");
        test_redis_pause();
    }
    assert_non_null(pong);
    freeReplyObject(pong);
}

static inline void test_redis_prepare(struct test_redis *r, const char *password,
                                      const char *port) {
    *r = (struct test_redis){.directory = "/tmp/throughline-redis-XXXXXX"};
    assert_non_null(mkdtemp(r->directory));
    (void)snprintf(r->socket, sizeof(r->socket), "%s/redis.sock", r->directory);
    (void)snprintf(r->url, sizeof(r->url), "unix://%s", r->socket);
    (void)snprintf(r->password, sizeof(r->password), "%s", password);
    (void)snprintf(r->port, sizeof(r->port), "%s", port);
}

static inline void test_redis_start(struct test_redis *r) {
    test_redis_prepare(r, "", "0");
    test_redis_run(r);
}

/* SIGKILL, and the proof that it has ended by it. */
static inline void test_redis_kill(struct test_redis *r) {
    int status;
    assert_int_equal(kill(r->pid, SIGKILL), 0);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    r->pid = 0;
}

static inline void test_redis_wipe(const struct test_redis *r, const char *what) {
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s%s'", r->directory, what);
    assert_int_equal(system(command), 0); /* NOLINT: our own directory's name */
}

/* After test_redis_kill(). */
static inline void test_redis_restart(struct test_redis *r, bool with_data) {
    if (!with_data) {
        test_redis_wipe(r, "/appendonlydir");
    }
    test_redis_run(r);
}

static inline void test_redis_flush(const struct test_redis *r) {
    test_redis_do(r, "FLUSHALL");
}

static inline void test_redis_stop(struct test_redis *r) {
    if (r->pid != 0) {
        test_redis_kill(r);
    }
    test_redis_wipe(r, "");
}

/* A TCP port that was free a moment ago. */
static inline void test_free_port(char ret_port[8]) {
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof(any);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
    (void)snprintf(ret_port, 8, "%u", ntohs(any.sin_port));
    (void)close(fd);
}

#endif
