/* samples.c - the monitor's samples, read from the timeline as it grows.
 *
 * The file is read as a stranger's: a line may be half written (then it is read again
 * later), of a kind not known here, or damaged. */
#include "samples.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Above what tl_timeline_write() writes. */
#define LINE_MAX_BYTES (128u << 10)

struct tl_samples {
    char *path;
    int fd; /* -1: the file was not there yet */
    size_t used, parsed;
    bool skipping; /* in a line that is too long */
    char buffer[LINE_MAX_BYTES];
};

int tl_samples_open(const char *path, struct tl_samples **ret_samples) {
    struct tl_samples *s = malloc(sizeof(*s));
    char *copy = strdup(path);
    if (!s || !copy) {
        free(s);
        free(copy);
        return tl_fail(TL_E_NOMEM, "%s: no memory to read it", path);
    }
    s->path = copy;
    s->fd = -1;
    s->used = s->parsed = 0;
    s->skipping = false;
    *ret_samples = s;
    return 0;
}

void tl_samples_close(struct tl_samples *s) {
    if (!s) {
        return;
    }
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    free(s->path);
    free(s);
}

/* Make room and read on; false when there is nothing more. */
static bool fill(struct tl_samples *s) {
    if (s->fd < 0) {
        s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    }
    memmove(s->buffer, s->buffer + s->parsed, s->used - s->parsed);
    s->used -= s->parsed;
    s->parsed = 0;
    if (s->used == sizeof(s->buffer)) {
        s->skipping = true;
        s->used = 0;
    }
    ssize_t got =
        s->fd < 0 ? 0 : read(s->fd, s->buffer + s->used, sizeof(s->buffer) - s->used);
    s->used += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* The next whole line; false: none yet. Borrowed until the next call. */
static bool next_line(struct tl_samples *s, const char **ret_line, size_t *ret_size) {
    for (;;) {
        char *from = s->buffer + s->parsed;
        char *newline = memchr(from, '\n', s->used - s->parsed);
        if (!newline) {
            if (!fill(s)) {
                return false;
            }
            continue;
        }
        s->parsed = (size_t)(newline + 1 - s->buffer);
        if (s->skipping) {
            s->skipping = false;
            continue;
        }
        *ret_line = from;
        *ret_size = (size_t)(newline - from);
        return true;
    }
}

static uint64_t count_of(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static bool parse(const char *line, size_t size, struct tl_sample *ret_sample) {
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(json, "kind"));
    bool is_sample = kind && strcmp(kind, "sample") == 0;
    if (is_sample) {
        const json_t *accuracy = json_object_get(json, "accuracy");
        const json_t *gradients = json_object_get(json, "gradients");
        *ret_sample = (struct tl_sample){
            .t = json_number_value(json_object_get(json, "t")),
            .final = json_is_true(json_object_get(json, "final")),
            .has_evaluation = json_is_number(accuracy),
            .version = count_of(json, "version"),
            .accuracy = json_number_value(accuracy),
            .loss = json_number_value(json_object_get(json, "loss")),
            .has_gradients = json_is_integer(json_object_get(gradients, "folded")),
            .folded = count_of(gradients, "folded"),
            .lost = count_of(gradients, "lost"),
            .duplicated = count_of(gradients, "duplicated"),
        };
    }
    json_decref(json);
    return is_sample;
}

bool tl_samples_next(struct tl_samples *s, struct tl_sample *ret_sample) {
    const char *line;
    size_t size;
    while (next_line(s, &line, &size)) {
        if (parse(line, size, ret_sample)) {
            return true;
        }
    }
    return false;
}
