/* feed.c - the timeline in memory, for those who look on.
 *
 * Lines are kept in order under ascending numbers; a viewer is the number of the line
 * it wants next, so however many there are and however slow, there is one copy. Too
 * many lines are thinned: every second sample goes, and of the events the oldest. Who
 * comes late sees the whole run, coarser. */
#include "throughline/page.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 4096u
#define BYTES_MAX ((size_t)2 << 20)

struct line {
    uint64_t number; /* from 1 on */
    uint64_t sample; /* among the samples, from 1 on; 0: an event */
    size_t size;
    char *text;
};

struct tl_page_feed {
    pthread_mutex_t lock;
    struct line lines[LINES_MAX];
    size_t count, bytes;
    uint64_t last;    /* number given last */
    uint64_t samples; /* there were */
    uint64_t stride;  /* of the samples one of so many is kept */
    size_t surplus;   /* events still to be dropped, while thinning */
    char *hello;      /* what a viewer gets first */
};

int tl_page_feed_new(const char *hello, struct tl_page_feed **ret_feed) {
    struct tl_page_feed *f = calloc(1, sizeof(*f));
    char *copy = strdup(hello);
    if (f == NULL || copy == NULL) {
        free(f);
        free(copy);
        return tl_fail(TL_E_NOMEM, "no memory for the dashboard");
    }
    (void)pthread_mutex_init(&f->lock, NULL);
    f->hello = copy;
    f->stride = 1;
    *ret_feed = f;
    return 0;
}

void tl_page_feed_free(struct tl_page_feed *f) {
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

/* Keep the lines for which `is_kept` holds. */
static void keep(struct tl_page_feed *f,
                 bool (*is_kept)(struct tl_page_feed *f, const struct line *l)) {
    size_t kept = 0;
    f->bytes = 0;
    for (size_t i = 0; i < f->count; i++) {
        if (is_kept(f, &f->lines[i])) {
            f->bytes += f->lines[i].size;
            f->lines[kept++] = f->lines[i];
        } else {
            free(f->lines[i].text);
        }
    }
    f->count = kept;
}

/* The newest sample is shown whatever its number: until the next one comes. */
static bool is_not_passing(struct tl_page_feed *f, const struct line *l) {
    return l->sample == 0 || (l->sample - 1) % f->stride == 0;
}

static bool is_no_old_event(struct tl_page_feed *f, const struct line *l) {
    const bool is_old = l->sample == 0 && f->surplus > 0;
    f->surplus -= is_old;
    return !is_old;
}

/* Events go when they take up half of the room: the older half of them. Else samples.
 */
static void thin(struct tl_page_feed *f) {
    size_t events = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < f->count; i++) {
        events += f->lines[i].sample == 0;
        bytes += f->lines[i].sample == 0 ? f->lines[i].size : 0;
    }
    if (events > LINES_MAX / 2 || bytes > BYTES_MAX / 2) {
        f->surplus = events / 2 + 1;
        keep(f, is_no_old_event);
    } else {
        f->stride *= 2;
        keep(f, is_not_passing);
    }
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

/* The sample before the one that comes now. */
static void drop_passing(struct tl_page_feed *f) {
    size_t i = f->count;
    while (i > 0 && f->lines[i - 1].sample == 0) {
        i--;
    }
    if (i > 0 && !is_not_passing(f, &f->lines[i - 1])) {
        f->bytes -= f->lines[i - 1].size;
        free(f->lines[i - 1].text);
        memmove(&f->lines[i - 1], &f->lines[i], (f->count - i) * sizeof(f->lines[0]));
        f->count--;
    }
}

/* Takes ownership of l.text. */
static void append(struct tl_page_feed *f, struct line l, bool is_sample) {
    if (is_sample) {
        drop_passing(f);
        l.sample = ++f->samples;
    }
    while (f->count > 0 && (f->count == LINES_MAX || f->bytes + l.size > BYTES_MAX)) {
        thin(f);
    }
    l.number = ++f->last;
    f->lines[f->count++] = l;
    f->bytes += l.size;
}

void tl_page_feed_put(struct tl_page_feed *f, const char *text, size_t size) {
    static const char sample[] = "\"kind\":\"sample\"";
    struct line l = {0};
    l.text = as_event(text, size, &l.size);
    if (l.text == NULL) {
        return; /* it stands in the timeline; a picture may lack a point */
    }
    (void)pthread_mutex_lock(&f->lock);
    append(f, l, memmem(text, size, sample, sizeof(sample) - 1) != NULL);
    (void)pthread_mutex_unlock(&f->lock);
}

/* Index of the first line with at least this number; f->count: none. */
static size_t find(const struct tl_page_feed *f, uint64_t number) {
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

char *tl_page_feed_next(void *ctx, uint64_t *cursor, size_t *ret_size) {
    struct tl_page_feed *f = ctx;
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
