/* redis_read.c - entries from a stream: a thread reads ahead, within a bound. */
#include "throughline/service.h"

#include "redis_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCHES    2u /* read, and not taken yet */
#define BATCH_MOST 64u

struct redis_reader {
    struct tl_reader *owner;
    struct redis_keys keys;
    char batch_most[8];
    struct tl_redis *redis; /* the thread's; NULL: not connected */
    uint64_t position;      /* of the last entry read */
    pthread_t thread;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t room;
    redisReply *batches[BATCHES]; /* lists of entries, oldest first */
    uint32_t count;
    bool is_stopping;
    int failure;
    char why[512];

    /* The taker's. */
    redisReply *taken; /* the batch being taken from */
    size_t next;
};

/* ---- the thread --------------------------------------------------------------------
 */

/* Somebody emptied the stream, or Redis came back with less than it had: an id that was
 * given out will be given out again. */
static int check_end(struct redis_reader *d) {
    uint64_t last = 0;
    int rc = redis_last(d->redis, &d->keys, &last);
    if (rc == 0 && last < d->position) {
        rc =
            tl_fail(TL_E_CORRUPT,
                    "log of shard %" PRIu32 ": Redis holds entries up to position "
                    "%" PRIu64 ", but %" PRIu64 " has been read or is in a checkpoint: "
                    "it has lost what it acknowledged; start a new run, and let Redis "
                    "keep an append-only file",
                    d->owner->shard, last, d->position);
    }
    return rc;
}

static int connect_redis(struct redis_reader *d) {
    if (d->redis != NULL) {
        return 0;
    }
    struct redis_log *log = d->owner->log->driver;
    int rc = tl_redis_open(&log->url, REDIS_STEP_MS, &log->counters, &d->redis);
    return rc == 0 ? check_end(d) : rc;
}

/* [[stream, [[id, fields], ...]]] -> the list of entries, taken out of the reply. */
static redisReply *entries_of(redisReply *reply) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 ||
        reply->element[0]->type != REDIS_REPLY_ARRAY ||
        reply->element[0]->elements != 2 ||
        reply->element[0]->element[1]->type != REDIS_REPLY_ARRAY) {
        return NULL;
    }
    redisReply *entries = reply->element[0]->element[1];
    reply->element[0]->element[1] = NULL;
    return entries;
}

/* *ret_entries NULL: none has come while we waited. */
static int read_batch(struct redis_reader *d, redisReply **ret_entries) {
    char after[32];
    char block[16];
    redisReply *reply = NULL;
    (void)snprintf(after, sizeof(after), "0-%" PRIu64, d->position);
    (void)snprintf(block, sizeof(block), "%d", REDIS_BLOCK_MS);
    const char *argv[] = {"XREAD", "COUNT",   d->batch_most,  "BLOCK",
                          block,   "STREAMS", d->keys.stream, after};
    int rc = tl_redis_command(d->redis, 8, argv, &reply);
    if (rc != 0) {
        return rc;
    }
    *ret_entries = entries_of(reply);
    freeReplyObject(reply);
    if (*ret_entries == NULL || (*ret_entries)->elements == 0) {
        freeReplyObject(*ret_entries);
        *ret_entries = NULL;
        return check_end(d);
    }
    const redisReply *last = (*ret_entries)->element[(*ret_entries)->elements - 1];
    rc = last->type == REDIS_REPLY_ARRAY && last->elements == 2
             ? redis_position(last->element[0], &d->position)
             : tl_fail(TL_E_CORRUPT, "log: XREAD was answered by something else");
    if (rc != 0) {
        freeReplyObject(*ret_entries);
    }
    return rc;
}

/* Wait for room; false: the reader is being closed. */
static bool hand_over(struct redis_reader *d, redisReply *entries) {
    (void)pthread_mutex_lock(&d->lock);
    while (d->count == BATCHES && !d->is_stopping) {
        (void)pthread_cond_wait(&d->room, &d->lock);
    }
    bool goes_on = !d->is_stopping;
    if (goes_on) {
        d->batches[d->count++] = entries;
    } else {
        freeReplyObject(entries);
    }
    (void)pthread_mutex_unlock(&d->lock);
    event_raise(d->owner->fd);
    return goes_on;
}

static bool pause_a_little(struct redis_reader *d) {
    const struct timespec moment = {.tv_nsec = LOG_PAUSE_MS * 1000000L};
    (void)nanosleep(&moment, NULL);
    (void)pthread_mutex_lock(&d->lock);
    bool goes_on = !d->is_stopping;
    (void)pthread_mutex_unlock(&d->lock);
    return goes_on;
}

static void fail_reader(struct redis_reader *d, int failure) {
    (void)pthread_mutex_lock(&d->lock);
    d->failure = failure;
    (void)snprintf(d->why, sizeof(d->why), "%s", tl_error_text());
    (void)pthread_mutex_unlock(&d->lock);
    event_raise(d->owner->fd);
}

static bool is_stopping(struct redis_reader *d) {
    (void)pthread_mutex_lock(&d->lock);
    bool is = d->is_stopping;
    (void)pthread_mutex_unlock(&d->lock);
    return is;
}

static void *drive(void *ctx) {
    struct redis_reader *d = ctx;
    bool goes_on = true;
    while (goes_on) {
        redisReply *entries = NULL;
        int rc = connect_redis(d);
        if (rc == 0) {
            rc = read_batch(d, &entries);
        }
        if (rc == TL_E_UNAVAILABLE) {
            reader_trouble(d->owner, tl_error_text());
            tl_redis_close(d->redis);
            d->redis = NULL;
            goes_on = pause_a_little(d);
        } else if (rc != 0) {
            fail_reader(d, rc);
            goes_on = false;
        } else {
            reader_trouble(d->owner, "");
            goes_on = entries != NULL ? hand_over(d, entries) : !is_stopping(d);
        }
    }
    tl_redis_close(d->redis);
    return NULL;
}

/* ---- the taker ------------------------------------------------------------------- */

int redis_read_open(struct tl_reader *r) {
    struct redis_reader *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    uint64_t entry = r->log->record_bytes + TL_HEADER_BYTES + TL_TRAILER_BYTES;
    entry = entry < r->log->max_entry_bytes ? entry : r->log->max_entry_bytes;
    uint64_t most = LOG_READ_AHEAD / (BATCHES + 1) / entry;
    most = most < 1 ? 1 : most;
    most = most > BATCH_MOST ? BATCH_MOST : most;
    (void)snprintf(d->batch_most, sizeof(d->batch_most), "%" PRIu64, most);
    d->owner = r;
    d->position = r->position;
    redis_keys_of(r->log, r->shard, &d->keys);
    (void)pthread_mutex_init(&d->lock, NULL);
    (void)pthread_cond_init(&d->room, NULL);
    if (pthread_create(&d->thread, NULL, drive, d) != 0) {
        (void)pthread_cond_destroy(&d->room);
        (void)pthread_mutex_destroy(&d->lock);
        free(d);
        return tl_fail(TL_E_LIMIT, "log: no thread to read with");
    }
    r->driver = d;
    return 0;
}

void redis_read_close(struct tl_reader *r) {
    struct redis_reader *d = r->driver;
    (void)pthread_mutex_lock(&d->lock);
    d->is_stopping = true;
    (void)pthread_cond_signal(&d->room);
    (void)pthread_mutex_unlock(&d->lock);
    (void)pthread_join(d->thread, NULL);
    for (uint32_t i = 0; i < d->count; i++) {
        freeReplyObject(d->batches[i]);
    }
    freeReplyObject(d->taken);
    (void)pthread_cond_destroy(&d->room);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

/* The next batch. What was read before a failure is given out before it. */
static int next_batch(struct redis_reader *d) {
    int rc = 0;
    freeReplyObject(d->taken);
    d->taken = NULL;
    d->next = 0;
    event_clear(d->owner->fd);
    (void)pthread_mutex_lock(&d->lock);
    if (d->count > 0) {
        d->taken = d->batches[0];
        d->count--;
        for (uint32_t i = 0; i < d->count; i++) {
            d->batches[i] = d->batches[i + 1];
        }
        (void)pthread_cond_signal(&d->room);
        event_raise(d->owner->fd);
    } else {
        rc = d->failure != 0 ? tl_fail(d->failure, "%s", d->why) : TL_E_BUSY;
    }
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

int redis_read_next(struct tl_reader *r, uint64_t *ret_position,
                    const uint8_t **ret_bytes, size_t *ret_size) {
    struct redis_reader *d = r->driver;
    if (d->taken == NULL || d->next == d->taken->elements) {
        int rc = next_batch(d);
        if (rc != 0) {
            return rc;
        }
    }
    const redisReply *entry = d->taken->element[d->next++];
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2) {
        return tl_fail(TL_E_CORRUPT, "log: XREAD was answered by something else");
    }
    const redisReply *fields = entry->element[1];
    int rc = redis_position(entry->element[0], ret_position);
    if (rc != 0) {
        return rc;
    }
    if (fields->type != REDIS_REPLY_ARRAY || fields->elements != 2 ||
        fields->element[1]->type != REDIS_REPLY_STRING) {
        return tl_fail(TL_E_MISMATCH,
                       "log of shard %" PRIu32 ": the entry at position %" PRIu64
                       " is none of ours: somebody else writes to the stream",
                       r->shard, *ret_position);
    }
    *ret_bytes = (const uint8_t *)fields->element[1]->str;
    *ret_size = fields->element[1]->len;
    return 0;
}
