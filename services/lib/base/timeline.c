/* timeline.c - what happened when, as JSON lines that several processes append to. */
#include "throughline/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES ((size_t)64 << 10)

struct tl_timeline {
    int fd;
    double offset; /* "t" of the monotonic clock's zero */
    bool torn;     /* the last line was cut short: begin a new one */
};

/* Shared by all processes of a run, so that their times can be compared. */
static int started_ms(uint64_t *ret_ms) {
    const char *text = getenv("THROUGHLINE_RUN_STARTED_MS");
    if (text == NULL || text[0] == '\0') {
        *ret_ms = tl_unix_ms();
        return 0;
    }
    if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 15) {
        return tl_fail(TL_E_CONFIG,
                       "THROUGHLINE_RUN_STARTED_MS must be Unix time in milliseconds, "
                       "not \"%.32s\"",
                       text);
    }
    *ret_ms = strtoull(text, NULL, 10);
    return 0;
}

int tl_timeline_open(const char *path, struct tl_timeline **ret_timeline) {
    uint64_t started = 0;
    const int rc = started_ms(&started);
    if (rc != 0) {
        return rc;
    }
    struct tl_timeline *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: out of memory", path);
    }
    t->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (t->fd < 0) {
        free(t);
        return tl_fail(TL_E_CONFIG, "timeline %s: %s", path, strerror(errno));
    }
    t->offset = ((double)tl_unix_ms() - (double)started) / 1000.0 - tl_now_seconds();
    *ret_timeline = t;
    return 0;
}

/* Milliseconds are what clocks of several processes can promise. */
static double to_ms(double seconds) {
    return (double)(int64_t)(seconds * 1000.0) / 1000.0;
}

double tl_timeline_now(const struct tl_timeline *t) {
    return tl_now_seconds() + t->offset;
}

/* The times come first, so that the file can be read by eye. */
static json_t *stamp(const struct tl_timeline *t, json_t *object) {
    json_t *line = json_pack("{s:f, s:f}", "time", (double)tl_unix_ms() / 1000.0, "t",
                             to_ms(tl_timeline_now(t)));
    if (line != NULL && json_object_update(line, object) != 0) {
        json_decref(line);
        line = NULL;
    }
    json_decref(object);
    return line;
}

/* One write() under O_APPEND: whole lines, whoever else writes. */
static int append(struct tl_timeline *t, const char *text, size_t size) {
    const ssize_t n = write(t->fd, text, size);
    if (n == (ssize_t)size) {
        t->torn = false;
        return 0;
    }
    t->torn = t->torn || n > 0;
    return tl_fail(TL_E_IO, "the timeline cannot be written: %s",
                   n < 0 ? strerror(errno) : "no space left for a whole line");
}

int tl_timeline_write(struct tl_timeline *t, json_t *object) {
    json_t *line = stamp(t, object);
    char *text =
        line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(line);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "the timeline: out of memory");
    }
    char *whole = NULL;
    const int n = asprintf(&whole, "%s%s\n", t->torn ? "\n" : "", text);
    free(text);
    if (n < 0) {
        return tl_fail(TL_E_NOMEM, "the timeline: out of memory");
    }
    const int rc = (size_t)n <= LINE_MAX_BYTES
                       ? append(t, whole, (size_t)n)
                       : tl_fail(TL_E_TOOBIG,
                                 "a timeline's line has %d bytes, more than "
                                 "64 KiB",
                                 n);
    free(whole);
    return rc;
}

void tl_timeline_close(struct tl_timeline *t) {
    if (t != NULL) {
        (void)close(t->fd);
        free(t);
    }
}
