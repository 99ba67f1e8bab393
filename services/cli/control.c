/* control.c - what viewers of the dashboard ask of a run.
 *
 * The monitor serves the page, but the processes are this program's children. It passes
 * on what a viewer asks, one datagram each, to a socket that only this user can reach.
 * The token is in the address that is printed, behind the "#": no other page and no
 * other user of the machine knows it. */
#include "control.h"

#include "throughline/service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int tl_control_open(const struct tl_scratch *scratch, struct tl_control *ret_control) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct tl_control c = {
        .fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s/control.sock", scratch->path);
    (void)snprintf(c.token, sizeof(c.token), "%016" PRIx64 "%016" PRIx64,
                   tl_random_u64(), tl_random_u64());
    if (c.fd < 0 || bind(c.fd, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
        setenv("THROUGHLINE_CONTROL", at.sun_path, 1) != 0 ||
        setenv("THROUGHLINE_CONTROL_TOKEN", c.token, 1) != 0) {
        int rc = tl_fail(TL_E_IO, "--allow-kill: %s: %s", at.sun_path, strerror(errno));
        tl_control_close(&c);
        return rc;
    }
    *ret_control = c;
    return 0;
}

void tl_control_close(struct tl_control *c) {
    if (c->fd >= 0) {
        (void)close(c->fd);
        c->fd = -1;
    }
}

bool tl_control_next(const struct tl_control *c,
                     char ret_request[TL_CONTROL_REQUEST_MAX + 1]) {
    ssize_t n = c->fd >= 0 ? recv(c->fd, ret_request, TL_CONTROL_REQUEST_MAX, 0) : -1;
    if (n < 0) {
        return false;
    }
    ret_request[n] = '\0';
    return true;
}
