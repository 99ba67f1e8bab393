/* events.c - comings and goings as lines of the timeline.
 *
 * The membership's thread sees them first and must not wait for a disk: it leaves them
 * in a ring, from which the main thread writes. */
#include "monitor.h"

#include <pthread.h>
#include <stdlib.h>

#define RING 1024u /* events between two looks of the main thread */

struct monitor_events {
    pthread_mutex_t lock;
    struct happening {
        struct tl_roster_event event;
        double at; /* tl_now_seconds() */
    } ring[RING];
    size_t first, count;
    uint64_t missed; /* the ring was full */
};

int monitor_events_new(struct monitor_events **ret_events) {
    struct monitor_events *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for events");
    }
    (void)pthread_mutex_init(&e->lock, NULL);
    *ret_events = e;
    return 0;
}

void monitor_events_free(struct monitor_events *e) {
    if (e != NULL) {
        (void)pthread_mutex_destroy(&e->lock);
        free(e);
    }
}

void monitor_events_put(void *ctx, const struct tl_roster_event *event) {
    struct monitor_events *e = ctx;
    (void)pthread_mutex_lock(&e->lock);
    if (e->count < RING) {
        e->ring[(e->first + e->count++) % RING] =
            (struct happening){*event, tl_now_seconds()};
    } else {
        e->missed++;
    }
    (void)pthread_mutex_unlock(&e->lock);
}

static bool take(struct monitor_events *e, struct happening *ret_next,
                 uint64_t *ret_missed) {
    (void)pthread_mutex_lock(&e->lock);
    bool has_one = e->count > 0;
    if (has_one) {
        *ret_next = e->ring[e->first];
        e->first = (e->first + 1) % RING;
        e->count--;
    }
    *ret_missed = e->missed;
    e->missed = 0;
    (void)pthread_mutex_unlock(&e->lock);
    return has_one;
}

static json_t *line(const char *event, const struct tl_member_entry *e) {
    char service[MONITOR_NAME_MAX];
    monitor_name(e->role, e->index, service);
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I}", "kind", "event", "event", event,
                     "service", service, "pid", (int)e->pid, "version",
                     (json_int_t)e->version, "epoch", (json_int_t)e->epoch);
}

/* The roster calls it a replacement when an epoch has changed; what a live process has
 * done is no coming. */
static bool is_same_life(const struct monitor_process *s,
                         const struct tl_member_entry *e) {
    return s->has_started && s->is_up && e->incarnation != 0 &&
           s->incarnation == e->incarnation && s->pid == e->pid;
}

/* What the roster saw, in the words of the timeline; NULL: nothing to tell. The process
 * table is brought up to date on the way. */
static const char *name_of(struct monitor_process *s,
                           const struct tl_roster_event *event) {
    const struct tl_member_entry *e = &event->entry;
    bool is_up = event->kind == TL_ROSTER_UP || event->kind == TL_ROSTER_REPLACED;
    bool is_same = is_up && is_same_life(s, e);
    bool is_first = !s->has_started;
    s->entry = *e;
    s->is_alive = s->is_up = is_up;
    s->has_left = event->kind == TL_ROSTER_GONE;
    s->has_started = true;
    s->pid = e->pid;
    s->incarnation = e->incarnation;
    if (is_same) {
        return e->role == TL_ROLE_SERVER ? "epoch" : NULL;
    }
    if (is_up) {
        return is_first ? "started" : "back";
    }
    return s->has_left ? "gone" : "down";
}

static void write_roster_event(struct monitor *m, const struct happening *h) {
    const struct tl_member_entry *e = &h->event.entry;
    struct monitor_process *s =
        e->role != TL_ROLE_CLI
            ? monitor_processes_find(&m->processes, e->role, e->index)
            : NULL;
    const char *name = s != NULL ? name_of(s, &h->event) : NULL;
    if (name != NULL) {
        monitor_write(m, h->at, line(name, e));
    }
}

static void write_roster_events(struct monitor *m) {
    struct happening next;
    uint64_t missed = 0;
    while (take(m->events, &next, &missed)) {
        write_roster_event(m, &next);
        if (missed > 0) {
            tl_log_line(TL_WARNING, "events came faster than they could be written",
                        "missed", tl_text_u64(missed), NULL);
        }
    }
}

/* The checkpointer announces the version of its newest snapshot. */
static void write_snapshot(struct monitor *m) {
    struct tl_member_entry e;
    if (m->member != NULL &&
        tl_member_find(m->member, TL_ROLE_CHECKPOINTER, 0, &e) == 0 && e.version > 0 &&
        e.version != m->snapshot_version) {
        m->snapshot_version = e.version;
        monitor_write(m, tl_now_seconds(), line("snapshot", &e));
    }
}

void monitor_events_write(struct monitor *m) {
    write_roster_events(m);
    write_snapshot(m);
    monitor_timeline_show(m);
}
