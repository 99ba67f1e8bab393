/* log_read.h - a shard's entries one after the other, blocking, to an end. */
#ifndef THROUGHLINE_CLI_LOG_READ_H
#define THROUGHLINE_CLI_LOG_READ_H

#include "log.h"

/* Feed the entries after `position`, up to `last`, to `each`; its nonzero return ends
 * it and comes back. TL_E_TIMEOUT: nothing came for half a minute. */
TL_MUST_USE int tl_log_read(const struct tl_log_view *v, uint32_t shard,
                            uint64_t position, uint64_t last,
                            int (*each)(void *ctx, struct tl_reader_item *item),
                            void *ctx);
/* Positions of the first entry held and of the last. */
TL_MUST_USE int tl_log_bounds(const struct tl_log_view *v, uint32_t shard,
                              uint64_t *ret_first, uint64_t *ret_last);

#endif
