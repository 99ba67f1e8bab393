/* redis_log.c - Redis Streams as a log: whether it is durable, its range, trimming. */
#include "redis_log.h"

#include "throughline/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int redis_open(struct tl_log *log, const struct tl_log_config *config) {
    struct redis_log *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    int rc = tl_redis_url_parse(config->url, &d->url);
    if (rc != 0) {
        free(d);
        return rc;
    }
    log->driver = d;
    return 0;
}

static void redis_close(struct tl_log *log) {
    free(log->driver);
}

void redis_keys_of(const struct tl_log *log, uint32_t shard, struct redis_keys *ret) {
    (void)snprintf(ret->stream, sizeof(ret->stream), "tl:{%s}:log:%" PRIu32, log->name,
                   shard);
    (void)snprintf(ret->sizes, sizeof(ret->sizes), "tl:{%s}:log:%" PRIu32 ":sizes",
                   log->name, shard);
    (void)snprintf(ret->bytes, sizeof(ret->bytes), "tl:{%s}:log:%" PRIu32 ":bytes",
                   log->name, shard);
    (void)snprintf(ret->covered, sizeof(ret->covered),
                   "tl:{%s}:log:%" PRIu32 ":covered", log->name, shard);
}

int redis_position(const redisReply *id, uint64_t *ret_position) {
    char *end = NULL;
    if (id->type == REDIS_REPLY_STRING && strncmp(id->str, "0-", 2) == 0) {
        uint64_t position = strtoull(id->str + 2, &end, 10);
        if (end != id->str + 2 && *end == '\0') {
            *ret_position = position;
            return 0;
        }
    }
    return tl_fail(TL_E_MISMATCH,
                   "log: an entry of the stream has the id %.40s, which "
                   "is none of ours: somebody else writes to it",
                   id->type == REDIS_REPLY_STRING ? id->str : "?");
}

/* ---- one command, tried until a deadline ------------------------------------------
 */

static int once(struct tl_log *log, int64_t left_ms, int argc, const char **argv,
                redisReply **ret_reply) {
    struct redis_log *d = log->driver;
    struct tl_redis *r = NULL;
    int64_t step_ms = left_ms < REDIS_STEP_MS ? left_ms : REDIS_STEP_MS;
    int rc = tl_redis_open(&d->url, step_ms, &d->counters, &r);
    if (rc == 0) {
        rc = tl_redis_command(r, argc, argv, ret_reply);
    }
    tl_redis_close(r);
    return rc;
}

static int command(struct tl_log *log, int64_t deadline_ms, int argc, const char **argv,
                   redisReply **ret_reply) {
    const struct timespec pause = {.tv_nsec = LOG_PAUSE_MS * 1000000L};
    for (;;) {
        int rc = once(log, deadline_ms - tl_now_ms(), argc, argv, ret_reply);
        if (rc != TL_E_UNAVAILABLE || tl_now_ms() >= deadline_ms) {
            return rc;
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- durability --------------------------------------------------------------------
 */

static bool is_set(struct tl_log *log, int64_t deadline_ms, const char *name,
                   const char *value) {
    redisReply *reply = NULL;
    const char *argv[] = {"CONFIG", "GET", name};
    if (command(log, deadline_ms, 3, argv, &reply) != 0) {
        return false;
    }
    bool is = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
              reply->element[1]->type == REDIS_REPLY_STRING &&
              strcmp(reply->element[1]->str, value) == 0;
    freeReplyObject(reply);
    return is;
}

static int redis_create(struct tl_log *log, int64_t deadline_ms, char *ret_note,
                        size_t size) {
    redisReply *reply = NULL;
    const char *ping[] = {"PING"};
    int rc = command(log, deadline_ms, 1, ping, &reply);
    if (rc != 0) {
        return rc;
    }
    freeReplyObject(reply);
    if (!is_set(log, deadline_ms, "appendonly", "yes")) {
        (void)snprintf(ret_note, size,
                       "this Redis is not known to keep an append-only file: what it "
                       "acknowledges dies with it; set appendonly yes");
    } else if (is_set(log, deadline_ms, "appendfsync", "everysec")) {
        (void)snprintf(ret_note, size,
                       "this Redis syncs once a second, and may then hold back what it "
                       "writes: up to two seconds of what it acknowledges can die with "
                       "it; set appendfsync always");
    } else if (!is_set(log, deadline_ms, "appendfsync", "always")) {
        (void)snprintf(ret_note, size,
                       "this Redis does not sync each append: what it acknowledges "
                       "survives its own death, not that of its machine; set "
                       "appendfsync always");
    }
    return 0;
}

/* ---- range, trimming ---------------------------------------------------------------
 */

static const redisReply *field(const redisReply *list, const char *name) {
    for (size_t i = 0; i + 1 < list->elements; i += 2) {
        if (list->element[i]->type == REDIS_REPLY_STRING &&
            strcmp(list->element[i]->str, name) == 0) {
            return list->element[i + 1];
        }
    }
    return NULL;
}

static int last_of(const redisReply *info, uint64_t *ret_last) {
    const redisReply *id =
        info->type == REDIS_REPLY_ARRAY ? field(info, "last-generated-id") : NULL;
    return id != NULL ? redis_position(id, ret_last)
                      : tl_fail(TL_E_CORRUPT, "log: XINFO STREAM says something else");
}

int redis_last(struct tl_redis *r, const struct redis_keys *keys, uint64_t *ret_last) {
    redisReply *info = NULL;
    const char *argv[] = {"XINFO", "STREAM", keys->stream};
    int rc = tl_redis_command(r, 3, argv, &info);
    if (rc == TL_E_CORRUPT && strstr(tl_error_text(), "no such key") != NULL) {
        *ret_last = 0;
        return 0;
    }
    if (rc == 0) {
        rc = last_of(info, ret_last);
        freeReplyObject(info);
    }
    return rc;
}

/* Number of entries and last id, without an entry's bytes. */
static const char *const range_script =
    "local n = redis.call('LLEN', KEYS[2]) "
    "if redis.call('EXISTS', KEYS[1]) == 0 then return {-1, '0-0'} end "
    "local i = redis.call('XINFO', 'STREAM', KEYS[1]) "
    "for k = 1, #i, 2 do if i[k] == 'last-generated-id' then return {n, i[k + 1]} end "
    "end return {n, '0-0'}";

static int redis_range(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                       uint64_t *ret_first, uint64_t *ret_next) {
    struct redis_keys k;
    redisReply *reply = NULL;
    redis_keys_of(log, shard, &k);
    const char *argv[] = {"EVAL", range_script, "2", k.stream, k.sizes};
    int rc = command(log, deadline_ms, 5, argv, &reply);
    if (rc != 0) {
        return rc;
    }
    uint64_t last = 0;
    int64_t count = -1;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[0]->type == REDIS_REPLY_INTEGER) {
        count = reply->element[0]->integer;
        rc = redis_position(reply->element[1], &last);
    }
    freeReplyObject(reply);
    if (rc == 0) {
        *ret_next = last + 1;
        *ret_first = count < 0 ? 1 : last + 1 - (uint64_t)count;
    }
    return rc;
}

/* `sizes` has a number for each entry held, so that bytes are counted without reading
 * them. The stream's positions have no gaps: how many entries are covered is known. */
static const char *const trim_script =
    "local function sum(count) "
    "  local bytes = 0 "
    "  for i = 0, count - 1, 1000 do "
    "    for _, s in ipairs(redis.call('LRANGE', KEYS[2], i, "
    "                                  math.min(count, i + 1000) - 1)) "
    "    do bytes = bytes + s end "
    "  end "
    "  return bytes "
    "end "
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end "
    "local n = redis.call('XTRIM', KEYS[1], 'MINID', '0-' .. ARGV[1]) "
    "if n > 0 then "
    "  redis.call('DECRBY', KEYS[3], sum(n)) "
    "  redis.call('LTRIM', KEYS[2], n, -1) "
    "end "
    "local held = redis.call('LLEN', KEYS[2]) "
    "local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1] "
    "local covered = 0 "
    "if first then covered = ARGV[2] - string.sub(first[1], 3) + 1 end "
    "redis.call('SET', KEYS[4], sum(math.max(0, math.min(held, covered)))) "
    "return n";

static int redis_trim(struct tl_log *log, uint32_t shard, uint64_t position,
                      uint64_t covered, int64_t deadline_ms) {
    struct redis_keys k;
    char first[24];
    char last[24];
    redisReply *reply = NULL;
    redis_keys_of(log, shard, &k);
    (void)snprintf(first, sizeof(first), "%" PRIu64, position + 1);
    (void)snprintf(last, sizeof(last), "%" PRIu64, covered);
    const char *argv[] = {"EVAL",  trim_script, "4",   k.stream, k.sizes,
                          k.bytes, k.covered,   first, last};
    int rc = command(log, deadline_ms, 9, argv, &reply);
    if (rc == 0) {
        freeReplyObject(reply);
    }
    return rc;
}

static int redis_erase(struct tl_log *log, int64_t deadline_ms) {
    int rc = 0;
    for (uint32_t s = 0; s < log->shards && rc == 0; s++) {
        struct redis_keys k;
        redisReply *reply = NULL;
        redis_keys_of(log, s, &k);
        const char *argv[] = {"DEL", k.stream, k.sizes, k.bytes, k.covered};
        rc = command(log, deadline_ms, 5, argv, &reply);
        if (rc == 0) {
            freeReplyObject(reply);
        }
    }
    return rc;
}

static int redis_bytes(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                       uint64_t *ret_bytes) {
    struct redis_keys k;
    redisReply *reply = NULL;
    redis_keys_of(log, shard, &k);
    const char *argv[] = {"GET", k.bytes};
    int rc = command(log, deadline_ms, 2, argv, &reply);
    if (rc == 0) {
        *ret_bytes =
            reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
        freeReplyObject(reply);
    }
    return rc;
}

const struct log_ops log_redis_ops = {
    .open = redis_open,
    .close = redis_close,
    .create = redis_create,
    .range = redis_range,
    .trim = redis_trim,
    .erase = redis_erase,
    .bytes = redis_bytes,
    .append_open = redis_append_open,
    .append_put = redis_append_put,
    .append_close = redis_append_close,
    .read_open = redis_read_open,
    .read_next = redis_read_next,
    .read_close = redis_read_close,
};
