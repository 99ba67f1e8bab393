/* url.c - where Redis is, from a URL, without ever repeating the password. */
#include "member_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 6379u
#define DB_MAX       65535u

static int bad(const char *what) {
    return tl_fail(TL_E_CONFIG,
                   "redis URL: %s; write redis://[[user]:password@]host[:port][/db] or "
                   "unix:///path[?db=N]",
                   what);
}

static int hex(char c) {
    const char *digits = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c | 0x20);
    return at == NULL ? -1 : (int)(at - digits);
}

/* Decode the percent-encoding of text[0, size) into `out`; false when it does not fit
 * or is no encoding of a text. */
static bool decode(const char *text, size_t size, char *out, size_t capacity) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < size ? hex(text[i + 1]) : -1;
            int low = i + 2 < size ? hex(text[i + 2]) : -1;
            c = high < 0 || low < 0 ? 0 : 16 * high + low;
            i += 2;
        }
        if (c == 0 || n + 1 >= capacity) {
            return false;
        }
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

static bool number(const char *text, size_t size, uint32_t max, uint32_t *ret_number) {
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || i > 5) {
            return false;
        }
        n = 10 * n + (uint32_t)(text[i] - '0');
    }
    *ret_number = n;
    return size > 0 && n <= max;
}

static int parse_credentials(const char *text, size_t size, struct tl_redis_url *url) {
    const char *colon = memchr(text, ':', size);
    if (colon == NULL) {
        return bad("a user without a password before '@'");
    }
    size_t user = (size_t)(colon - text);
    if (!decode(text, user, url->user, sizeof(url->user)) ||
        !decode(colon + 1, size - user - 1, url->password, sizeof(url->password))) {
        return bad("user or password is too long or badly percent-encoded");
    }
    return 0;
}

/* host, host:port, [v6], [v6]:port */
static int parse_host(const char *text, size_t size, struct tl_redis_url *url) {
    const char *end = text + size;
    const char *close = size > 0 && *text == '[' ? memchr(text, ']', size) : NULL;
    const char *host = close == NULL ? text : text + 1;
    const char *after = close == NULL ? memchr(text, ':', size) : close + 1;
    after = after == NULL ? end : after;
    size_t host_size = (size_t)((close == NULL ? after : close) - host);
    if (host_size == 0 || host_size >= sizeof(url->host)) {
        return bad("the host is missing or too long");
    }
    memcpy(url->host, host, host_size);
    uint32_t port = DEFAULT_PORT;
    bool is_good = after == end ||
                   (*after == ':' &&
                    number(after + 1, (size_t)(end - after - 1), UINT16_MAX, &port));
    if (!is_good || port == 0) {
        return bad("the port is not a number from 1 to 65535");
    }
    url->port = (uint16_t)port;
    return 0;
}

static int parse_tcp(const char *text, struct tl_redis_url *url) {
    const char *at = strrchr(text, '@');
    if (at != NULL) {
        int rc = parse_credentials(text, (size_t)(at - text), url);
        if (rc != 0) {
            return rc;
        }
        text = at + 1;
    }
    size_t host = strcspn(text, "/");
    const char *db = text + host;
    if (*db == '/' && db[1] != '\0' &&
        !number(db + 1, strlen(db + 1), DB_MAX, &url->db)) {
        return bad("the database after '/' is not a number");
    }
    return parse_host(text, host, url);
}

static int parse_unix(const char *text, struct tl_redis_url *url) {
    size_t path = strcspn(text, "?");
    const char *query = text + path;
    url->is_unix = true;
    if (path < 2 || *text != '/' ||
        path >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return bad("the socket's path is not absolute, or longer than 107 bytes");
    }
    memcpy(url->host, text, path);
    if (*query != '\0' && (strncmp(query, "?db=", 4) != 0 ||
                           !number(query + 4, strlen(query + 4), DB_MAX, &url->db))) {
        return bad("only ?db=N may follow the path");
    }
    return 0;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int tl_redis_url_parse(const char *text, struct tl_redis_url *ret_url) {
    struct tl_redis_url url = {.port = DEFAULT_PORT};
    if (text == NULL) {
        return bad("there is none");
    }
    int rc;
    if (starts_with(text, "redis://")) {
        rc = parse_tcp(text + strlen("redis://"), &url);
    } else if (starts_with(text, "unix://")) {
        rc = parse_unix(text + strlen("unix://"), &url);
    } else if (starts_with(text, "rediss://")) {
        rc = tl_fail(TL_E_UNSUPPORTED,
                     "redis URL: TLS (rediss://) is not built in; use redis:// through "
                     "a TLS tunnel such as stunnel");
    } else {
        rc = bad("it starts with neither redis:// nor unix://");
    }
    if (rc == 0) {
        *ret_url = url;
    }
    return rc;
}

void tl_redis_url_show(const struct tl_redis_url *url, char *ret_text, size_t size) {
    if (url->is_unix) {
        (void)snprintf(ret_text, size, "unix://%s", url->host);
    } else {
        (void)snprintf(ret_text, size, "%s:%u/%u", url->host, url->port, url->db);
    }
}
