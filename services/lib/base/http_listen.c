/* http_listen.c - the HTTP socket is opened here and handed to libmicrohttpd, because
 * only then can an error say what is wrong with the address, and port 0 be resolved. */
#include "http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG  64
#define HOST_MAX 128u

static int refuse(const char *address, const char *why) {
    return tl_fail(TL_E_CONFIG,
                   "HTTP on %s: %s; give \"host:port\", port 0 for any, or \"off\"",
                   address, why);
}

/* "[::1]:80" and "host:80" alike; the brackets are not part of the host. */
static int split(const char *address, char host[HOST_MAX], char port[8]) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address) {
        return refuse(address, "no host and port");
    }
    const bool bracket = address[0] == '[';
    const char *first = address + (bracket ? 1 : 0);
    const char *last = colon - (bracket ? 1 : 0);
    const size_t digits = strspn(colon + 1, "0123456789");
    if (last <= first || (bracket && *last != ']') ||
        (size_t)(last - first) >= HOST_MAX) {
        return refuse(address, "not a host");
    }
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' ||
        strtoul(colon + 1, NULL, 10) > 65535) {
        return refuse(address, "not a port");
    }
    (void)snprintf(host, HOST_MAX, "%.*s", (int)(last - first), first);
    (void)snprintf(port, 8, "%s", colon + 1);
    return 0;
}

int tl_http_check(const char *address) {
    char host[HOST_MAX];
    char port[8];
    const int rc = split(address, host, port);
    if (rc == 0 && strtoul(port, NULL, 10) == 0) {
        return refuse(address, "port 0 cannot be called");
    }
    return rc;
}

static int open_one(const struct addrinfo *a) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
    const int why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

static int bound_address(int fd, const char *host, char *ret_bound, size_t size) {
    struct sockaddr_storage a = {0};
    socklen_t length = sizeof(a);
    char port[8] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &length) != 0 ||
        getnameinfo((struct sockaddr *)&a, length, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV) != 0) {
        return refuse(host, "its port cannot be read back");
    }
    const bool v6 = strchr(host, ':') != NULL;
    (void)snprintf(ret_bound, size, v6 ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}

int tl_http_listen(const char *address, int *ret_fd, char *ret_bound, size_t size) {
    char host[HOST_MAX];
    char port[8];
    const int rc = split(address, host, port);
    if (rc != 0) {
        return rc;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const int resolved = getaddrinfo(host, port, &hints, &found);
    if (resolved != 0) {
        return refuse(address, gai_strerror(resolved));
    }
    int fd = -1;
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = open_one(a);
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return refuse(address, strerror(errno));
    }
    const int told = bound_address(fd, host, ret_bound, size);
    if (told != 0) {
        (void)close(fd);
        return told;
    }
    *ret_fd = fd;
    return 0;
}
