/* control.h - what viewers of the dashboard ask of a run: kill and revive services. */
#ifndef THROUGHLINE_CLI_CONTROL_H
#define THROUGHLINE_CLI_CONTROL_H

#include "throughline/error.h"

#include "scratch.h"

#include <stdbool.h>
#include <stddef.h>

#define TL_CONTROL_REQUEST_MAX 64u

struct tl_control {
    int fd;         /* -1: nothing may be asked */
    char token[33]; /* that a viewer must know; "" without a socket */
};

/* A datagram socket in the run's own directory, and a token; both are left in the
 * environment for the monitor. TL_E_IO. */
TL_MUST_USE int tl_control_open(const struct tl_scratch *scratch,
                                struct tl_control *ret_control);
void tl_control_close(struct tl_control *c);

/* The next request, as in "kill/server/0"; false: none. Does not wait. */
bool tl_control_next(const struct tl_control *c,
                     char ret_request[TL_CONTROL_REQUEST_MAX + 1]);

#endif
