/* redis_append.c - entries to a stream, one after the other, each until it is there.
 *
 * An append whose answer was lost is made again: the stream may then hold the entry
 * twice, which the fold removes. */
#include "throughline/service.h"

#include "redis_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct redis_appender {
    struct tl_appender *owner;
    struct redis_keys keys;
    struct tl_redis *redis; /* the thread's; NULL: not connected */
    uint64_t position;      /* of the last append; the next is higher */
    pthread_t thread;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t news;
    struct append_entry *first, *last;
    bool is_stopping;
};

/* 0: the stream holds as much as it may; else the position. */
static const char *const append_script =
    "local used = redis.call('GET', KEYS[3]) or 0 "
    "local open = used - (redis.call('GET', KEYS[4]) or 0) "
    "local size = string.len(ARGV[1]) "
    "if open > 0 and open + size > tonumber(ARGV[2]) then return 0 end "
    "local id = redis.call('XADD', KEYS[1], '0-*', 'f', ARGV[1]) "
    "redis.call('RPUSH', KEYS[2], size) "
    "redis.call('INCRBY', KEYS[3], size) "
    "return tonumber(string.sub(id, 3))";

static int connect_redis(struct redis_appender *d) {
    struct redis_log *log = d->owner->log->driver;
    return d->redis != NULL
               ? 0
               : tl_redis_open(&log->url, REDIS_STEP_MS, &log->counters, &d->redis);
}

static int send_entry(struct redis_appender *d, const struct append_entry *e,
                      uint64_t *ret_position) {
    char limit[24];
    redisReply *reply = NULL;
    size_t limit_size =
        (size_t)snprintf(limit, sizeof(limit), "%" PRIu64, d->owner->log->max_bytes);
    const char *argv[] = {"EVAL",          append_script,          "4",
                          d->keys.stream,  d->keys.sizes,          d->keys.bytes,
                          d->keys.covered, (const char *)e->bytes, limit};
    const size_t sizes[] = {4,
                            strlen(append_script),
                            1,
                            strlen(d->keys.stream),
                            strlen(d->keys.sizes),
                            strlen(d->keys.bytes),
                            strlen(d->keys.covered),
                            e->size,
                            limit_size};
    int rc = tl_redis_command_sized(d->redis, 9, argv, sizes, &reply);
    if (rc != 0) {
        return rc;
    }
    if (reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0) {
        *ret_position = (uint64_t)reply->integer;
    } else {
        rc = tl_fail(TL_E_CORRUPT, "log: XADD was answered by something else");
    }
    freeReplyObject(reply);
    return rc;
}

/* Positions rise for ever, unless the stream was deleted under us. */
static int check_position(struct redis_appender *d, uint64_t position) {
    if (position <= d->position) {
        return tl_fail(TL_E_CORRUPT,
                       "log of shard %" PRIu32 ": Redis has lost what it acknowledged "
                       "(position %" PRIu64 " was reached, now it is %" PRIu64
                       "): start a new run, and let Redis keep an append-only file",
                       d->owner->rules.shard, d->position, position);
    }
    d->position = position;
    return 0;
}

/* One attempt. TL_E_BUSY: the stream is full. */
static int attempt(struct redis_appender *d, const struct append_entry *e,
                   uint64_t *ret_position) {
    uint64_t position = 0;
    int rc = connect_redis(d);
    if (rc == 0) {
        rc = send_entry(d, e, &position);
    }
    if (rc == 0 && position == 0) {
        return TL_E_BUSY;
    }
    if (rc == 0) {
        rc = check_position(d, position);
    }
    if (rc == 0) {
        *ret_position = position;
        return 0;
    }
    tl_redis_close(d->redis);
    d->redis = NULL;
    return rc;
}

/* Whether to go on: false once the appender is being closed. */
static bool pause_a_little(struct redis_appender *d) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOG_PAUSE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    (void)pthread_mutex_lock(&d->lock);
    if (!d->is_stopping) {
        (void)pthread_cond_timedwait(&d->news, &d->lock, &until);
    }
    bool goes_on = !d->is_stopping;
    (void)pthread_mutex_unlock(&d->lock);
    return goes_on;
}

/* Until it is in the stream, or cannot be, or nobody wants it any more. */
static int bring(struct redis_appender *d, const struct append_entry *e,
                 uint64_t *ret_position) {
    for (;;) {
        int rc = attempt(d, e, ret_position);
        if (rc == 0) {
            appender_trouble(d->owner, "");
        } else if (rc == TL_E_BUSY) {
            appender_trouble(d->owner, d->owner->log->is_trimmed
                                           ? "the log holds as much beyond the newest "
                                             "checkpoint as log.max_bytes allows: it "
                                             "waits for the next one"
                                           : "the log holds log.max_bytes, and with "
                                             "log.trim off it will not shrink: start "
                                             "again with more");
        } else {
            appender_trouble(d->owner, tl_error_text());
        }
        if (rc != TL_E_BUSY && rc != TL_E_UNAVAILABLE) {
            return rc;
        }
        if (!pause_a_little(d)) {
            return TL_E_INTERRUPTED;
        }
    }
}

/* The next entry to send; NULL: the appender is being closed. */
static struct append_entry *next_entry(struct redis_appender *d) {
    (void)pthread_mutex_lock(&d->lock);
    while (d->first == NULL && !d->is_stopping) {
        (void)pthread_cond_wait(&d->news, &d->lock);
    }
    struct append_entry *e = d->is_stopping ? NULL : d->first;
    if (e != NULL) {
        d->first = e->next;
        d->last = d->first == NULL ? NULL : d->last;
        e->next = NULL;
    }
    (void)pthread_mutex_unlock(&d->lock);
    return e;
}

static void *drive(void *ctx) {
    struct redis_appender *d = ctx;
    struct append_entry *e = NULL;
    while ((e = next_entry(d)) != NULL) {
        uint64_t position = 0;
        int rc = bring(d, e, &position);
        if (rc == 0) {
            appender_settled(e, position);
            continue;
        }
        append_entry_free(e);
        if (rc != TL_E_INTERRUPTED) {
            appender_failed(d->owner, rc);
        }
        break;
    }
    tl_redis_close(d->redis);
    return NULL;
}

static void release(struct redis_appender *d) {
    (void)pthread_cond_destroy(&d->news);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

int redis_append_open(struct tl_appender *a) {
    struct redis_appender *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    d->owner = a;
    redis_keys_of(a->log, a->rules.shard, &d->keys);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&d->news, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&d->lock, NULL);
    if (pthread_create(&d->thread, NULL, drive, d) != 0) {
        release(d);
        return tl_fail(TL_E_LIMIT, "log: no thread to append with");
    }
    a->driver = d;
    return 0;
}

int redis_append_put(struct tl_appender *a, struct append_entry *entry) {
    struct redis_appender *d = a->driver;
    (void)pthread_mutex_lock(&d->lock);
    if (d->last != NULL) {
        d->last->next = entry;
    } else {
        d->first = entry;
    }
    d->last = entry;
    (void)pthread_cond_signal(&d->news);
    (void)pthread_mutex_unlock(&d->lock);
    return 0;
}

void redis_append_close(struct tl_appender *a) {
    struct redis_appender *d = a->driver;
    (void)pthread_mutex_lock(&d->lock);
    d->is_stopping = true;
    (void)pthread_cond_signal(&d->news);
    (void)pthread_mutex_unlock(&d->lock);
    (void)pthread_join(d->thread, NULL);
    while (d->first != NULL) {
        struct append_entry *next = d->first->next;
        append_entry_free(d->first);
        d->first = next;
    }
    release(d);
}
