/* control.c - what a viewer may ask for in a local run: kill and revive a service.
 *
 * The processes belong to `throughline run`: it says where to send what a viewer asks
 * (a datagram socket in a directory of its own) and which token a viewer must know,
 * both by environment, which others cannot see. Without them nothing can be asked. */
#include "monitor.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MAX 64u

struct control {
    int fd; /* -1: nothing may be asked */
    char token[64];
};
static struct control control = {.fd = -1};

static int dial(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(to.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(to.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

bool monitor_control_open(void) {
    const char *path = getenv("THROUGHLINE_CONTROL");
    const char *token = getenv("THROUGHLINE_CONTROL_TOKEN");
    if (path == NULL || token == NULL || strlen(token) < 16 ||
        strlen(token) >= sizeof(control.token)) {
        return false;
    }
    memcpy(control.token, token, strlen(token) + 1);
    control.fd = dial(path);
    if (control.fd < 0) {
        tl_log_line(TL_WARNING, "no control of the run's processes", "why",
                    strerror(errno), NULL);
    }
    return control.fd >= 0;
}

/* Takes as long whether it is nearly right or not at all. */
static bool is_token(const char *given) {
    const size_t n = strlen(control.token);
    if (strlen(given) != n) {
        return false;
    }
    return CRYPTO_memcmp(given, control.token, n) == 0;
}

unsigned monitor_control_post(void *ctx, const char *path, const char *token) {
    static const char prefix[] = "/control/";
    (void)ctx;
    if (strncmp(path, prefix, sizeof(prefix) - 1) != 0) {
        return 404;
    }
    if (!is_token(token)) {
        return 403;
    }
    const char *request = path + sizeof(prefix) - 1;
    const size_t size = strlen(request);
    if (size == 0 || size > REQUEST_MAX) {
        return 400;
    }
    return send(control.fd, request, size, MSG_NOSIGNAL) == (ssize_t)size ? 202 : 503;
}
