/* durable.c - a durable log by its URL, and what is the same for every kind of it. */
#include "durable.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

uint64_t tl_log_identity(const char *job, const char *run, uint64_t fold_digest) {
    char text[2 * TL_NAME_MAX + 2];
    int n = snprintf(text, sizeof(text), "%s/%s", job, run);
    uint64_t id = XXH3_64bits_withSeed(text, (size_t)n, fold_digest);
    return id != 0 ? id : 1;
}

void event_raise(int fd) {
    const uint64_t one = 1;
    (void)!write(fd, &one, sizeof(one));
}

void event_clear(int fd) {
    uint64_t count = 0;
    (void)!read(fd, &count, sizeof(count));
}

static const struct log_ops *ops_of(const char *url) {
    static const struct {
        const char *scheme;
        const struct log_ops *ops;
    } kinds[] = {{"redis://", &log_redis_ops},
                 {"unix://", &log_redis_ops},
                 {"kafka://", &log_kafka_ops}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strncmp(url, kinds[i].scheme, strlen(kinds[i].scheme)) == 0) {
            return kinds[i].ops;
        }
    }
    return NULL;
}

static int take_config(struct tl_log *log, const struct tl_log_config *c) {
    int job = snprintf(log->job, sizeof(log->job), "%s", c->job);
    int run = snprintf(log->run, sizeof(log->run), "%s", c->run);
    if (job <= 0 || run <= 0 || (size_t)job >= sizeof(log->job) ||
        (size_t)run >= sizeof(log->run)) {
        return tl_fail(TL_E_CONFIG, "log: job and run need names of at most %u letters",
                       TL_NAME_MAX - 1);
    }
    (void)snprintf(log->name, sizeof(log->name), "%s/%s", log->job, log->run);
    log->identity = c->identity;
    log->shards = c->shards;
    log->record_bytes = c->record_bytes;
    log->max_bytes = c->max_bytes;
    log->is_trimmed = !c->keeps_all;
    log->max_entry_bytes =
        c->max_entry_bytes != 0 ? c->max_entry_bytes : LOG_ENTRY_BYTES;
    if (log->max_entry_bytes < LOG_ENTRY_LEAST) {
        return tl_fail(TL_E_CONFIG,
                       "log: entries of at most %" PRIu64 " bytes are too small; at "
                       "least %u are needed",
                       log->max_entry_bytes, LOG_ENTRY_LEAST);
    }
    log->span =
        entry_span(entry_parts(log->max_entry_bytes, log->record_bytes), c->workers);
    log->replication = c->replication;
    log->min_insync = c->min_insync;
    return 0;
}

int tl_log_open(const struct tl_log_config *config, struct tl_log **ret_log) {
    const struct log_ops *ops = ops_of(config->url);
    if (ops == NULL) {
        return tl_fail(TL_E_CONFIG,
                       "log.url: right is kafka://host:port, redis://host:port, "
                       "unix:///path of a Redis, redis: (the run's own) or direct:");
    }
    struct tl_log *log = calloc(1, sizeof(*log));
    if (log == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    log->ops = ops;
    int rc = take_config(log, config);
    if (rc == 0) {
        rc = ops->open(log, config);
    }
    if (rc != 0) {
        free(log);
        return rc;
    }
    *ret_log = log;
    return 0;
}

void tl_log_close(struct tl_log *log) {
    if (log != NULL) {
        assert(atomic_load(&log->users) == 0);
        log->ops->close(log);
        free(log);
    }
}

int tl_log_create(struct tl_log *log, int64_t deadline_ms, char *ret_note,
                  size_t size) {
    ret_note[0] = '\0';
    return log->ops->create(log, deadline_ms, ret_note, size);
}

int tl_log_range(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                 uint64_t *ret_first, uint64_t *ret_next) {
    return log->ops->range(log, shard, deadline_ms, ret_first, ret_next);
}

/* Who starts after `position` may need the parts before it. */
int tl_log_trim(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t covered,
                int64_t deadline_ms) {
    uint64_t below = position > log->span ? position - log->span : 0;
    return log->ops->trim(log, shard, TL_MUTATE(trimmed_too_far) ? position + 4 : below,
                          covered, deadline_ms);
}

int tl_log_erase(struct tl_log *log, int64_t deadline_ms) {
    return log->ops->erase(log, deadline_ms);
}

int tl_log_bytes(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                 uint64_t *ret_bytes) {
    return log->ops->bytes(log, shard, deadline_ms, ret_bytes);
}
