/* http_listen.h - a listening TCP socket from "host:port"; inside base/ only. */
#ifndef TL_BASE_HTTP_LISTEN_H
#define TL_BASE_HTTP_LISTEN_H

#include "throughline/error.h"

#include <stddef.h>

/* Host a name, IPv4 or [IPv6]; port 0: any. ret_bound gets "host:port" as bound.
 * TL_E_CONFIG  no such address, in use, not ours, not allowed */
TL_MUST_USE int tl_http_listen(const char *address, int *ret_fd, char *ret_bound,
                               size_t size);

/* Is this "host:port" with a port that can be called? Else TL_E_CONFIG. */
TL_MUST_USE int tl_http_check(const char *address);

#endif
