/* store.c - stores by URL, and what holds for every kind of them. */
#include "snapshot_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int open_url(const char *url, const struct tl_s3_options *s3, bool make,
                    struct tl_store **ret_store) {
    static const char scheme[] = "file://";
    if (strncmp(url, scheme, sizeof(scheme) - 1u) == 0) {
        const char *path = url + sizeof(scheme) - 1u;
        if (path[0] != '/') {
            return tl_fail(TL_E_CONFIG,
                           "store \"%s\": a directory is file:// and an absolute path, "
                           "as in file:///var/lib/throughline",
                           url);
        }
        return tl_dir_open(path, make, ret_store);
    }
    if (strncmp(url, "s3://", 5) == 0) {
        return tl_s3_open(url, s3, ret_store);
    }
    const char *colon = strstr(url, "://");
    if (colon == NULL) {
        return tl_fail(TL_E_CONFIG,
                       "store \"%s\" is not a URL: use file:///DIRECTORY or "
                       "s3://BUCKET/PREFIX",
                       url);
    }
    return tl_fail(
        TL_E_UNSUPPORTED,
        "store \"%s\": no store of the kind %.*s://; use file:///DIRECTORY or "
        "s3://BUCKET/PREFIX",
        url, (int)(colon - url), url);
}

int tl_store_open(const char *url, const struct tl_s3_options *s3,
                  struct tl_store **ret_store) {
    return open_url(url, s3, true, ret_store);
}

int tl_store_open_existing(const char *url, const struct tl_s3_options *s3,
                           struct tl_store **ret_store) {
    return open_url(url, s3, false, ret_store);
}

void tl_store_close(struct tl_store *s) {
    if (s != NULL) {
        s->ops->close(s);
    }
}

void tl_store_listen(struct tl_store *s, void (*notice)(void *ctx, const char *text),
                     void *ctx) {
    s->notice = notice;
    s->notice_ctx = ctx;
}

void tl_store_cancel(struct tl_store *s) {
    atomic_store(&s->is_cancelled, true);
}

int tl_store_settle(struct tl_store *s, bool give_up) {
    return s->ops->settle == NULL ? 0 : s->ops->settle(s, give_up);
}

static bool is_name_char(char c) {
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

int tl_store_check_name(const char *name) {
    const size_t length = strnlen(name, TL_OBJECT_NAME_MAX);
    if (length == 0 || length == TL_OBJECT_NAME_MAX) {
        return tl_fail(TL_E_INVALID, "object name of %zu characters: 1 to %u are legal",
                       length, TL_OBJECT_NAME_MAX - 1u);
    }
    bool at_start = true;
    for (size_t i = 0; i < length; i++) {
        const bool is_slash = name[i] == '/';
        if (at_start ? (is_slash || name[i] == '.' || !is_name_char(name[i]))
                     : (!is_slash && !is_name_char(name[i]))) {
            return tl_fail(TL_E_INVALID, "object name \"%s\": character %zu", name, i);
        }
        at_start = is_slash;
    }
    return at_start ? tl_fail(TL_E_INVALID, "object name \"%s\" ends in /", name) : 0;
}

int tl_sink_discard(void *ctx, const void *bytes, size_t size) {
    (void)ctx;
    (void)bytes;
    (void)size;
    return 0;
}

struct collected {
    const char *name;
    char *bytes;
    size_t size, max;
};

static int collect(void *ctx, const void *bytes, size_t size) {
    struct collected *c = ctx;
    if (size > c->max - c->size) {
        return tl_fail(TL_E_CORRUPT, "%s is longer than %zu bytes", c->name, c->max);
    }
    char *grown = realloc(c->bytes, c->size + size + 1u);
    if (grown == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to read %s", c->name);
    }
    memcpy(grown + c->size, bytes, size);
    c->bytes = grown;
    c->size += size;
    c->bytes[c->size] = '\0';
    return 0;
}

int tl_store_read_all(struct tl_store *s, const char *name, size_t max,
                      char **ret_bytes, size_t *ret_size) {
    struct collected c = {.name = name, .max = max};
    int r = s->ops->read(s, name, collect, &c);
    if (r == 0 && c.bytes == NULL) {
        r = tl_fail(TL_E_CORRUPT, "%s is empty", name);
    }
    if (r < 0) {
        free(c.bytes);
        return r;
    }
    *ret_bytes = c.bytes;
    *ret_size = c.size;
    return 0;
}
