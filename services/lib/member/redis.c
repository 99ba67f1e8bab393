/* redis.c - one blocking connection to Redis in which no step waits for ever.
 *
 * hiredis 0.14 writes with write(), so a connection that Redis has closed raises
 * SIGPIPE; a library must not let its user's process die of that, and may not change
 * the process' handlers: the signal is held back around each exchange. */
#include "throughline/service.h"

#include "member_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHA_CHARS 40u
#define ARGS_MAX  (2u * TL_SHARDS_SEEN_MAX + 32u)

struct tl_redis {
    redisContext *context;
    struct tl_redis_counters *counters;
    char where[280];
    char sha[TL_SCRIPT_COUNT][SHA_CHARS + 1]; /* "": not loaded */
};

/* ---- SIGPIPE ------------------------------------------------------------------ */

struct pipe_guard {
    sigset_t before;
    bool was_pending;
};

static void pipe_hold(struct pipe_guard *g) {
    sigset_t pipe, pending;
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    (void)sigpending(&pending);
    g->was_pending = sigismember(&pending, SIGPIPE) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &pipe, &g->before);
}

static void pipe_release(const struct pipe_guard *g) {
    const struct timespec now = {0};
    sigset_t pipe;
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    while (!g->was_pending && sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR) {
    }
    (void)pthread_sigmask(SIG_SETMASK, &g->before, NULL);
}

/* ---- failures ----------------------------------------------------------------- */

static int fail_unavailable(const struct tl_redis *r, const char *why) {
    return tl_fail(TL_E_UNAVAILABLE, "Redis at %s: %s", r->where, why);
}

static int fail_connection(const struct tl_redis *r) {
    const redisContext *c = r->context;
    bool timed_out = c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == ETIMEDOUT);
    return fail_unavailable(r, timed_out     ? "no answer in time"
                               : c->err == 0 ? "connection lost"
                                             : c->errstr);
}

static bool starts_with_one(const char *text, const char *const *words) {
    while (*words != NULL && strncmp(text, *words, strlen(*words)) != 0) {
        words++;
    }
    return *words != NULL;
}

/* Redis' first word says whether waiting helps. */
static int fail_reply(const struct tl_redis *r, const char *error) {
    static const char *const later[] = {"LOADING",  "BUSY ",   "MASTERDOWN",
                                        "READONLY", "OOM",     "TRYAGAIN",
                                        "ERR max",  "MISCONF", NULL};
    static const char *const never[] = {"NOAUTH",
                                        "WRONGPASS",
                                        "NOPERM",
                                        "DENIED",
                                        "ERR AUTH",
                                        "ERR invalid password",
                                        "ERR Client sent AUTH",
                                        NULL};
    if (starts_with_one(error, later)) {
        return fail_unavailable(r, error);
    }
    if (starts_with_one(error, never)) {
        return tl_fail(TL_E_DENIED,
                       "Redis at %s refuses us: %s; check the URL's user "
                       "and password",
                       r->where, error);
    }
    return tl_fail(TL_E_CORRUPT,
                   "Redis at %s: %s; if a key of this run holds something "
                   "foreign, delete it",
                   r->where, error);
}

/* ---- commands ----------------------------------------------------------------- */

static redisReply *exchange(struct tl_redis *r, int argc, const char **argv,
                            const size_t *sizes) {
    struct pipe_guard guard;
    pipe_hold(&guard);
    errno = 0;
    redisReply *reply = redisCommandArgv(r->context, argc, argv, sizes);
    int saved = errno;
    pipe_release(&guard);
    errno = saved;
    return reply;
}

/* ---- what it costs -------------------------------------------------------------- */

/* Scripts write, all of them. */
static enum tl_access access_of(const char *verb) {
    static const char *const writes[] = {"EVAL", "DEL", "UNLINK", "XTRIM", "SET", NULL};
    return starts_with_one(verb, writes) ? TL_ACCESS_WRITE : TL_ACCESS_READ;
}

static uint64_t bytes_of(const redisReply *reply) {
    uint64_t bytes = reply->str != NULL ? reply->len : 0;
    for (size_t i = 0; i < reply->elements; i++) {
        bytes += bytes_of(reply->element[i]);
    }
    return bytes;
}

static void count(int argc, const char **argv, const size_t *sizes,
                  const redisReply *reply) {
    uint64_t bytes = reply != NULL ? bytes_of(reply) : 0;
    for (int i = 0; i < argc; i++) {
        bytes += sizes != NULL ? sizes[i] : strlen(argv[i]);
    }
    tl_backend_count(TL_BACKEND_REDIS, access_of(argv[0]), 1, bytes);
}

int tl_redis_command_sized(struct tl_redis *r, int argc, const char **argv,
                           const size_t *sizes, redisReply **ret_reply) {
    if (argc < 1 || (size_t)argc > ARGS_MAX) {
        return tl_fail(TL_E_TOOBIG, "Redis at %s: %d arguments in a command", r->where,
                       argc);
    }
    atomic_fetch_add(&r->counters->commands, 1);
    redisReply *reply = exchange(r, argc, argv, sizes);
    int rc = 0;
    if (reply == NULL) {
        rc = fail_connection(r);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        rc = fail_reply(r, reply->str);
    }
    count(argc, argv, sizes, reply);
    if (rc != 0) {
        atomic_fetch_add(&r->counters->failures, 1);
        freeReplyObject(reply);
        return rc;
    }
    *ret_reply = reply;
    return 0;
}

int tl_redis_command(struct tl_redis *r, int argc, const char **argv,
                     redisReply **ret_reply) {
    return tl_redis_command_sized(r, argc, argv, NULL, ret_reply);
}

/* For commands whose answer is only yes. */
static int order(struct tl_redis *r, int argc, const char **argv) {
    redisReply *reply;
    int rc = tl_redis_command(r, argc, argv, &reply);
    if (rc == 0) {
        freeReplyObject(reply);
    }
    return rc;
}

/* ---- opening ------------------------------------------------------------------ */

static int connect_to(struct tl_redis *r, const struct tl_redis_url *url,
                      int64_t timeout_ms) {
    struct timeval limit = {.tv_sec = timeout_ms / 1000,
                            .tv_usec = timeout_ms % 1000 * 1000};
    r->context = url->is_unix ? redisConnectUnixWithTimeout(url->host, limit)
                              : redisConnectWithTimeout(url->host, url->port, limit);
    if (r->context == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a connection to Redis");
    }
    if (r->context->err != 0 || redisSetTimeout(r->context, limit) != REDIS_OK) {
        return fail_connection(r);
    }
    (void)fcntl(r->context->fd, F_SETFD, FD_CLOEXEC); /* children have no part in it */
    return 0;
}

static int authenticate(struct tl_redis *r, const struct tl_redis_url *url) {
    if (url->password[0] == '\0') {
        return 0;
    }
    if (url->user[0] == '\0') {
        return order(r, 2, (const char *[]){"AUTH", url->password});
    }
    return order(r, 3, (const char *[]){"AUTH", url->user, url->password});
}

static int select_db(struct tl_redis *r, const struct tl_redis_url *url) {
    char db[16];
    (void)snprintf(db, sizeof(db), "%u", url->db);
    return url->db == 0 ? 0 : order(r, 2, (const char *[]){"SELECT", db});
}

int tl_redis_open(const struct tl_redis_url *url, int64_t timeout_ms,
                  struct tl_redis_counters *counters, struct tl_redis **ret_redis) {
    struct tl_redis *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a connection to Redis");
    }
    r->counters = counters;
    tl_redis_url_show(url, r->where, sizeof(r->where));
    int rc = connect_to(r, url, timeout_ms < 1 ? 1 : timeout_ms);
    if (rc != 0) {
        atomic_fetch_add(&counters->failures, 1);
    }
    if (rc == 0) {
        rc = authenticate(r, url);
    }
    if (rc == 0) {
        rc = select_db(r, url);
    }
    if (rc != 0) {
        tl_redis_close(r);
        return rc;
    }
    *ret_redis = r;
    return 0;
}

void tl_redis_close(struct tl_redis *r) {
    if (r != NULL) {
        if (r->context != NULL) {
            redisFree(r->context);
        }
        free(r);
    }
}

/* ---- scripts ------------------------------------------------------------------ */

static int load(struct tl_redis *r, enum tl_script script) {
    redisReply *reply;
    int rc = tl_redis_command(
        r, 3, (const char *[]){"SCRIPT", "LOAD", tl_script_texts[script]}, &reply);
    if (rc != 0) {
        return rc;
    }
    if (reply->type == REDIS_REPLY_STRING && reply->len == SHA_CHARS) {
        memcpy(r->sha[script], reply->str, SHA_CHARS + 1);
    } else {
        rc = fail_unavailable(r, "SCRIPT LOAD was answered by something else");
    }
    freeReplyObject(reply);
    return rc;
}

static bool is_unknown_script(int rc) {
    return rc == TL_E_CORRUPT && strstr(tl_error_text(), "NOSCRIPT") != NULL;
}

int tl_redis_script(struct tl_redis *r, enum tl_script script,
                    const struct tl_keys *keys, int argc, const char **argv,
                    redisReply **ret_reply) {
    const char *args[ARGS_MAX] = {"EVALSHA", r->sha[script], TL_KEYS_TEXT};
    int n = 3;
    for (size_t i = 0; i < TL_KEYS_COUNT; i++) {
        args[n++] = keys->names[i];
    }
    if (argc < 0 || argc > (int)ARGS_MAX - n) {
        return tl_fail(TL_E_TOOBIG, "Redis at %s: %d arguments for a script", r->where,
                       argc);
    }
    for (int i = 0; i < argc; i++) {
        args[n++] = argv[i];
    }
    int rc = r->sha[script][0] == '\0' ? load(r, script) : 0;
    if (rc != 0) {
        return rc;
    }
    rc = tl_redis_command(r, n, args, ret_reply);
    if (is_unknown_script(rc)) {
        rc = load(r, script);
        return rc != 0 ? rc : tl_redis_command(r, n, args, ret_reply);
    }
    return rc;
}

/* ---- listening ---------------------------------------------------------------- */

int tl_redis_subscribe(struct tl_redis *r, const char *channel) {
    return order(r, 2, (const char *[]){"SUBSCRIBE", channel});
}

int tl_redis_fd(const struct tl_redis *r) {
    return r->context->fd;
}

/* What was said does not matter, only that something was. */
int tl_redis_drain(struct tl_redis *r) {
    if (redisBufferRead(r->context) != REDIS_OK) {
        return fail_connection(r);
    }
    void *reply = NULL;
    do {
        freeReplyObject(reply);
        reply = NULL;
        if (redisGetReplyFromReader(r->context, &reply) != REDIS_OK) {
            return fail_connection(r);
        }
    } while (reply != NULL);
    return 0;
}
