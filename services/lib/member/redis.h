/* redis.h - one blocking connection to Redis, for membership and the Redis log.
 *
 * Thread: a connection belongs to one thread at a time; every step has a deadline. */
#ifndef MEMBER_REDIS_H
#define MEMBER_REDIS_H

#include "throughline/error.h"

#include <hiredis/hiredis.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- url.c -------------------------------------------------------------------- */

struct tl_redis_url {
    bool is_unix;
    char host[256]; /* or the path of the socket */
    uint16_t port;
    uint32_t db;
    char user[128];
    char password[256]; /* "": none */
};
/* TL_E_CONFIG says what is wrong, without the password; TL_E_UNSUPPORTED: rediss://. */
TL_MUST_USE int tl_redis_url_parse(const char *text, struct tl_redis_url *ret_url);
/* Where, for messages: "host:port/0", "unix:///path"; never who or the password. */
void tl_redis_url_show(const struct tl_redis_url *url, char *ret_text, size_t size);

/* ---- redis.c: one connection -------------------------------------------------- */

struct tl_redis_counters {
    _Atomic uint64_t commands, failures;
};

struct tl_redis;
/* Connect, authenticate, select; each step and each later command takes `timeout_ms` at
 * most. `counters` is borrowed for the connection's life. TL_E_UNAVAILABLE: try again
 * later; TL_E_DENIED: Redis knows us not. */
TL_MUST_USE int tl_redis_open(const struct tl_redis_url *url, int64_t timeout_ms,
                              struct tl_redis_counters *counters,
                              struct tl_redis **ret_redis);
void tl_redis_close(struct tl_redis *r); /* NULL is legal */
/* One command. The reply is freed with freeReplyObject().
 *   TL_E_UNAVAILABLE  the connection is of no use any more, or Redis cannot answer yet
 *   TL_E_DENIED       no right to do so
 *   TL_E_CORRUPT      any other error reply */
TL_MUST_USE int tl_redis_command(struct tl_redis *r, int argc, const char **argv,
                                 redisReply **ret_reply);
/* The same with arguments of any bytes; sizes NULL: they end with a NUL. */
TL_MUST_USE int tl_redis_command_sized(struct tl_redis *r, int argc, const char **argv,
                                       const size_t *sizes, redisReply **ret_reply);

#endif
