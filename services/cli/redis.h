/* redis.h - a private Redis for one run: on a Unix socket, for us alone; in memory, or
 * durable when it holds the run's log. */
#ifndef THROUGHLINE_CLI_REDIS_H
#define THROUGHLINE_CLI_REDIS_H

#include "process.h"

/* Fill in how to start it with its socket in `directory` (a scratch directory) and its
 * append-only file in `data`; NULL: it keeps none.
 * TL_E_CONFIG: no redis-server in PATH; the text says what to install. */
TL_MUST_USE int tl_redis_plan(const char *directory, const char *data,
                              struct tl_process *redis);
/* The URL under which the services reach it. */
void tl_redis_url(const char *directory, char *ret_url, size_t size);
/* Does it take connections now? Does not wait. */
bool tl_redis_answers(const char *directory);
/* Wait until it does. TL_E_CONFIG: it ended; TL_E_TIMEOUT: the text names its log. */
TL_MUST_USE int tl_redis_wait(const char *directory, struct tl_process *redis,
                              int64_t timeout_ms);

#endif
