/* redis_log.h - what the files of the Redis log share.
 *
 * A shard's log is a stream with the ids 0-1, 0-2, ..., the list of its entries' sizes,
 * their sum, and how much of that a checkpoint covers. All change together with it, in
 * one script. What no checkpoint covers is bounded, and not the whole: a log that an
 * outage has filled may hold nothing that could be trimmed, and a new checkpoint must
 * let the workers go on all the same. */
#ifndef TL_LOG_REDIS_LOG_H
#define TL_LOG_REDIS_LOG_H

#include "../member/redis.h"
#include "durable.h"

#define REDIS_STEP_MS  3000 /* bound of one connect or command */
#define REDIS_KEY_MAX  192u
#define REDIS_BLOCK_MS 250 /* how long a read waits for an entry at a time */

struct redis_keys {
    char stream[REDIS_KEY_MAX], sizes[REDIS_KEY_MAX], bytes[REDIS_KEY_MAX];
    char covered[REDIS_KEY_MAX];
};

struct redis_log {
    struct tl_redis_url url;
    struct tl_redis_counters counters;
};

void redis_keys_of(const struct tl_log *log, uint32_t shard, struct redis_keys *ret);
/* "0-N" as N. TL_E_CORRUPT: an id that is not ours. */
TL_MUST_USE int redis_position(const redisReply *id, uint64_t *ret_position);
/* Position of the last entry that was ever appended; 0: none. */
TL_MUST_USE int redis_last(struct tl_redis *r, const struct redis_keys *keys,
                           uint64_t *ret_last);

int redis_append_open(struct tl_appender *a);
int redis_append_put(struct tl_appender *a, struct append_entry *entry);
void redis_append_close(struct tl_appender *a);
int redis_read_open(struct tl_reader *r);
int redis_read_next(struct tl_reader *r, uint64_t *ret_position,
                    const uint8_t **ret_bytes, size_t *ret_size);
void redis_read_close(struct tl_reader *r);

#endif
