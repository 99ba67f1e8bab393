/* timeline_read.c - the lines of a timeline, also while it grows. */
#include "throughline/service.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Above what tl_timeline_write() writes. */
#define LINE_MAX_BYTES (128u << 10)

struct tl_timeline_reader {
    char *path;
    int fd; /* -1: the file was not there yet */
    size_t used, parsed;
    bool skipping; /* in a line that is too long */
    char buffer[LINE_MAX_BYTES];
};

int tl_timeline_read(const char *path, struct tl_timeline_reader **ret_reader) {
    struct tl_timeline_reader *r = malloc(sizeof(*r));
    char *copy = strdup(path);
    if (r == NULL || copy == NULL) {
        free(r);
        free(copy);
        return tl_fail(TL_E_NOMEM, "%s: no memory to read it", path);
    }
    r->path = copy;
    r->fd = -1;
    r->used = r->parsed = 0;
    r->skipping = false;
    *ret_reader = r;
    return 0;
}

void tl_timeline_reader_close(struct tl_timeline_reader *r) {
    if (r == NULL) {
        return;
    }
    if (r->fd >= 0) {
        (void)close(r->fd);
    }
    free(r->path);
    free(r);
}

/* Make room and read on; false when there is nothing more. */
static bool fill(struct tl_timeline_reader *r) {
    if (r->fd < 0) {
        r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
    }
    memmove(r->buffer, r->buffer + r->parsed, r->used - r->parsed);
    r->used -= r->parsed;
    r->parsed = 0;
    if (r->used == sizeof(r->buffer)) {
        r->skipping = true;
        r->used = 0;
    }
    const ssize_t got =
        r->fd < 0 ? 0 : read(r->fd, r->buffer + r->used, sizeof(r->buffer) - r->used);
    r->used += got > 0 ? (size_t)got : 0;
    return got > 0;
}

bool tl_timeline_next(struct tl_timeline_reader *r, const char **ret_line,
                      size_t *ret_size) {
    for (;;) {
        char *from = r->buffer + r->parsed;
        char *newline = memchr(from, '\n', r->used - r->parsed);
        if (newline == NULL) {
            if (!fill(r)) {
                return false;
            }
            continue;
        }
        r->parsed = (size_t)(newline + 1 - r->buffer);
        if (r->skipping) {
            r->skipping = false;
            continue;
        }
        *ret_line = from;
        *ret_size = (size_t)(newline - from);
        return true;
    }
}
