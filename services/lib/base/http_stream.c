/* http_stream.c - server-sent events: one long response for each viewer.
 *
 * libmicrohttpd asks a viewer for bytes whenever its socket takes some. One that has
 * seen everything is suspended, which costs nothing, until it is woken. */
#include "http_stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES     16384u
#define HEARTBEAT_MS    3000 /* below what closes an idle connection */
#define SEE_OFF_STEP_US 5000

struct tl_viewer {
    struct tl_viewers *all;
    struct MHD_Connection *connection;
    uint64_t cursor;
    char *event; /* being sent; NULL: none */
    size_t size, sent;
    int64_t sent_ms; /* when something was sent last */
    bool is_suspended;
};

void tl_viewers_init(struct tl_viewers *v, const struct tl_http_site *site) {
    *v = (struct tl_viewers){.site = site};
    (void)pthread_mutex_init(&v->lock, NULL);
}

void tl_viewers_done(struct tl_viewers *v) {
    (void)pthread_mutex_destroy(&v->lock);
}

/* The next event; a comment when there has been none for long, so that a viewer who has
 * gone is found out. */
static void take_event(struct tl_viewer *w) {
    w->sent = 0;
    w->event = w->all->site->next(w->all->site->ctx, &w->cursor, &w->size);
    if (w->event == NULL && tl_now_ms() - w->sent_ms >= HEARTBEAT_MS) {
        w->event = strdup(":\n\n");
        w->size = 3;
    }
}

static size_t give_piece(struct tl_viewer *w, char *buffer, size_t max) {
    const size_t left = w->size - w->sent;
    const size_t n = left < max ? left : max;
    memcpy(buffer, w->event + w->sent, n);
    w->sent += n;
    w->sent_ms = tl_now_ms();
    if (w->sent == w->size) {
        free(w->event);
        w->event = NULL;
    }
    return n;
}

static ssize_t on_room(void *ctx, uint64_t position, char *buffer, size_t max) {
    struct tl_viewer *w = ctx;
    (void)position;
    ssize_t n = 0;
    (void)pthread_mutex_lock(&w->all->lock);
    if (w->event == NULL) {
        take_event(w);
    }
    if (w->event != NULL) {
        n = (ssize_t)give_piece(w, buffer, max);
    } else if (w->all->stopping) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        w->is_suspended = true;
        MHD_suspend_connection(w->connection);
    }
    (void)pthread_mutex_unlock(&w->all->lock);
    return n;
}

static void on_gone(void *ctx) {
    struct tl_viewer *w = ctx;
    (void)pthread_mutex_lock(&w->all->lock);
    for (size_t i = 0; i < TL_VIEWERS_MAX; i++) {
        if (w->all->slots[i] == w) {
            w->all->slots[i] = NULL;
        }
    }
    (void)pthread_mutex_unlock(&w->all->lock);
    free(w->event);
    free(w);
}

static bool take_slot(struct tl_viewers *v, struct tl_viewer *w) {
    bool has_slot = false;
    (void)pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < TL_VIEWERS_MAX && !has_slot && !v->stopping; i++) {
        if (v->slots[i] == NULL) {
            v->slots[i] = w;
            has_slot = true;
        }
    }
    (void)pthread_mutex_unlock(&v->lock);
    return has_slot;
}

struct MHD_Response *tl_viewers_add(struct tl_viewers *v,
                                    struct MHD_Connection *connection) {
    struct tl_viewer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    w->all = v;
    w->connection = connection;
    w->sent_ms = tl_now_ms();
    struct MHD_Response *response =
        take_slot(v, w) ? MHD_create_response_from_callback(
                              MHD_SIZE_UNKNOWN, PIECE_BYTES, on_room, w, on_gone)
                        : NULL;
    if (response == NULL) {
        on_gone(w);
    }
    return response;
}

void tl_viewers_wake(struct tl_viewers *v) {
    (void)pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < TL_VIEWERS_MAX; i++) {
        struct tl_viewer *w = v->slots[i];
        if (w != NULL && w->is_suspended) {
            w->is_suspended = false;
            MHD_resume_connection(w->connection);
        }
    }
    (void)pthread_mutex_unlock(&v->lock);
}

static bool is_anybody_there(struct tl_viewers *v) {
    bool found = false;
    (void)pthread_mutex_lock(&v->lock);
    for (size_t i = 0; i < TL_VIEWERS_MAX; i++) {
        found = found || v->slots[i] != NULL;
    }
    (void)pthread_mutex_unlock(&v->lock);
    return found;
}

void tl_viewers_see_off(struct tl_viewers *v, int64_t timeout_ms) {
    const int64_t deadline_ms = tl_now_ms() + timeout_ms;
    (void)pthread_mutex_lock(&v->lock);
    v->stopping = true;
    (void)pthread_mutex_unlock(&v->lock);
    tl_viewers_wake(v);
    while (is_anybody_there(v) && tl_now_ms() < deadline_ms) {
        (void)usleep(SEE_OFF_STEP_US);
    }
}
