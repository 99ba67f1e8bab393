/* feed.c - the timeline in memory, for those who look on.
 *
 * Lines are kept in order under ascending numbers; a viewer is the number of the line
 * it wants next, so however many there are and however slow, there is one copy. Too
 * many lines are thinned: every second sample goes, and of the events the oldest. Who
 * comes late sees the whole run, coarser. */
#include "monitor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX  4096u
#define BYTES_MAX  ((size_t)2 << 20)
#define EVENTS_MAX 1024u

struct line {
    uint64_t number; /* from 1 on */
    bool is_sample;
    size_t size;
    char *text;
};

struct monitor_feed {
    pthread_mutex_t lock;
    struct line lines[LINES_MAX];
    size_t count, bytes;
    uint64_t last; /* number given last */
    char *hello;   /* what a viewer gets first */
};

int monitor_feed_new(const char *hello, struct monitor_feed **ret_feed) {
    struct monitor_feed *f = calloc(1, sizeof(*f));
    char *copy = strdup(hello);
    if (f == NULL || copy == NULL) {
        free(f);
        free(copy);
        return tl_fail(TL_E_NOMEM, "no memory for the dashboard");
    }
    (void)pthread_mutex_init(&f->lock, NULL);
    f->hello = copy;
    *ret_feed = f;
    return 0;
}

void monitor_feed_free(struct monitor_feed *f) {
    if (f == NULL) {
        return;
    }
    for (size_t i = 0; i < f->count; i++) {
        free(f->lines[i].text);
    }
    (void)pthread_mutex_destroy(&f->lock);
    free(f->hello);
    free(f);
}

/* ---- thinning ------------------------------------------------------------------- */

static size_t count_events(const struct monitor_feed *f) {
    size_t n = 0;
    for (size_t i = 0; i < f->count; i++) {
        n += !f->lines[i].is_sample;
    }
    return n;
}

/* The newest line stays: it may be the last sample of the run. */
static void thin(struct monitor_feed *f) {
    const size_t events = count_events(f);
    size_t surplus = events > EVENTS_MAX / 2 ? events - EVENTS_MAX / 2 : 0;
    size_t kept = 0;
    bool drop = false;
    f->bytes = 0;
    for (size_t i = 0; i < f->count; i++) {
        struct line l = f->lines[i];
        const bool is_surplus = !l.is_sample && surplus > 0;
        surplus -= is_surplus;
        drop = l.is_sample ? !drop : drop;
        if (i + 1 < f->count && (is_surplus || (l.is_sample && drop))) {
            free(l.text);
        } else {
            f->lines[kept++] = l;
            f->bytes += l.size;
        }
    }
    f->count = kept;
}

/* ---- one writer, many readers --------------------------------------------------- */

/* As server-sent events want it. */
static char *as_event(const char *text, size_t size, size_t *ret_size) {
    char *event = NULL;
    const int n = asprintf(&event, "data: %.*s\n\n", (int)size, text);
    if (n < 0) {
        return NULL;
    }
    *ret_size = (size_t)n;
    return event;
}

void monitor_feed_put(struct monitor_feed *f, const char *text, size_t size) {
    static const char sample[] = "\"kind\":\"sample\"";
    struct line l = {.is_sample =
                         memmem(text, size, sample, sizeof(sample) - 1) != NULL};
    l.text = as_event(text, size, &l.size);
    if (l.text == NULL) {
        return; /* it stands in the timeline; a picture may lack a point */
    }
    (void)pthread_mutex_lock(&f->lock);
    if (f->count == LINES_MAX || f->bytes + l.size > BYTES_MAX) {
        thin(f);
    }
    l.number = ++f->last;
    f->lines[f->count++] = l;
    f->bytes += l.size;
    (void)pthread_mutex_unlock(&f->lock);
}

/* Index of the first line with at least this number; f->count: none. */
static size_t find(const struct monitor_feed *f, uint64_t number) {
    size_t low = 0;
    size_t high = f->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (f->lines[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static char *copy_of(const struct line *l, size_t *ret_size) {
    char *copy = malloc(l->size);
    if (copy != NULL) {
        memcpy(copy, l->text, l->size);
        *ret_size = l->size;
    }
    return copy;
}

char *monitor_feed_next(void *ctx, uint64_t *cursor, size_t *ret_size) {
    struct monitor_feed *f = ctx;
    char *event = NULL;
    if (*cursor == 0) {
        event = as_event(f->hello, strlen(f->hello), ret_size);
        *cursor = event != NULL ? 1 : 0;
        return event;
    }
    (void)pthread_mutex_lock(&f->lock);
    const size_t i = find(f, *cursor);
    if (i < f->count) {
        event = copy_of(&f->lines[i], ret_size);
        *cursor = event != NULL ? f->lines[i].number + 1 : *cursor;
    }
    (void)pthread_mutex_unlock(&f->lock);
    return event;
}
