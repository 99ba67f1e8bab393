/* address.c - "tcp://host:port" and "unix:///path", taken apart and checked. */
#include "throughline/wire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int parse_unix(const char *text, const char *path,
                      struct tl_address *ret_address) {
    const size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (path[0] != '/') {
        return tl_fail(TL_E_CONFIG,
                       "address \"%s\": a Unix socket needs an absolute path, "
                       "unix:///dir/name",
                       text);
    }
    size_t length = strlen(path);
    if (length > longest) {
        return tl_fail(
            TL_E_CONFIG,
            "address \"%s\": the path has %zu bytes, a Unix socket's at most %zu", text,
            length, longest);
    }
    struct tl_address a = {.is_unix = true};
    memcpy(a.host, path, length + 1);
    *ret_address = a;
    return 0;
}

/* "host:port" or "[v6]:port" as the two ranges of bytes, or false. */
static bool split_host(const char *rest, const char **ret_host, size_t *ret_length,
                       const char **ret_port) {
    const char *end = NULL;
    if (rest[0] == '[') {
        rest++;
        end = strchr(rest, ']');
        if (end == NULL || end[1] != ':') {
            return false;
        }
        *ret_port = end + 2;
    } else {
        end = strchr(rest, ':');
        if (end == NULL || strchr(end + 1, ':') != NULL) {
            return false;
        }
        *ret_port = end + 1;
    }
    *ret_host = rest;
    *ret_length = (size_t)(end - rest);
    return *ret_length > 0;
}

static bool port_is_valid(const char *port) {
    size_t digits = strspn(port, "0123456789");
    return digits >= 1 && digits <= 5 && port[digits] == '\0' &&
           strtoul(port, NULL, 10) <= UINT16_MAX;
}

static int parse_tcp(const char *text, const char *rest,
                     struct tl_address *ret_address) {
    const char *host = NULL;
    const char *port = NULL;
    size_t length = 0;
    struct tl_address a = {.is_unix = false};
    if (!split_host(rest, &host, &length, &port)) {
        return tl_fail(TL_E_CONFIG,
                       "address \"%s\": expected tcp://host:port, with [ ] "
                       "around an IPv6 address",
                       text);
    }
    if (length >= sizeof(a.host)) {
        return tl_fail(TL_E_CONFIG,
                       "address \"%.60s...\": the host has more than %zu bytes", text,
                       sizeof(a.host) - 1);
    }
    if (!port_is_valid(port)) {
        return tl_fail(TL_E_CONFIG,
                       "address \"%s\": the port is not a number from 0 to 65535",
                       text);
    }
    memcpy(a.host, host, length);
    memcpy(a.port, port, strlen(port) + 1);
    *ret_address = a;
    return 0;
}

int tl_address_parse(const char *text, struct tl_address *ret_address) {
    if (strncmp(text, "unix://", 7) == 0) {
        return parse_unix(text, text + 7, ret_address);
    }
    if (strncmp(text, "tcp://", 6) == 0) {
        return parse_tcp(text, text + 6, ret_address);
    }
    return tl_fail(TL_E_CONFIG,
                   "address \"%.200s\": expected tcp://host:port or unix:///path",
                   text);
}
