/* driver.c - the membership's thread: heartbeat, look, tell; reconnect for ever.
 *
 * One connection carries the heartbeats, which bring back the whole picture; another
 * listens to the run's channel, where any message only means "look now". A lost message
 * thus costs a third of a lease, and nothing else. */
#include "throughline/service.h"

#include "member_internal.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_MIN_MS 50
#define PAUSE_MAX_MS 1000
#define EVENTS_MAX   16u /* at a time */

struct driver {
    struct tl_member *m;
    struct tl_redis *commands, *news;
    bool had_session;
    bool has_heard;       /* news that has not been looked at */
    int64_t exchanged_ms; /* the last exchange */
    int64_t trusted_ms;   /* from when on an absent entry means something */
    uint64_t beat;
    char token[24];         /* of the Redis we know; "": none yet */
    struct tl_epochs known; /* copy for the heartbeat under way */
};

/* ---- flags -------------------------------------------------------------------- */

static bool is_stopping(const struct tl_member *m) {
    tl_member_lock(m);
    bool is_stopping = m->is_stopping;
    tl_member_unlock(m);
    return is_stopping;
}

static void tell(const struct tl_member *m) {
    if (m->on_change != NULL) {
        m->on_change(m->ctx);
    }
}

static void lost(struct driver *d) {
    struct tl_member *m = d->m;
    tl_member_lock(m);
    bool is_news = m->is_connected;
    m->is_connected = false;
    (void)snprintf(m->trouble, sizeof(m->trouble), "%s", tl_error_text());
    tl_member_unlock(m);
    if (is_news) {
        tell(m);
    }
}

/* ---- what comes back ---------------------------------------------------------- */

static bool merge_epochs(struct tl_epochs *into, const struct tl_epochs *from) {
    bool is_news = false;
    for (size_t i = 0; i < from->count; i++) {
        const struct tl_shard_epoch *item = &from->items[i];
        is_news = tl_epochs_raise(into, item->shard, item->epoch) || is_news;
    }
    return is_news;
}

/* A start later than the known one comes from a flushed Redis, and is corrected by the
 * next heartbeats; the same start says nothing new, even if Redis' clock has jumped. */
static void keep_start(struct tl_member *m, const struct tl_look *look,
                       int64_t now_ms) {
    bool is_news = m->started_ms < 0 || look->started_ms < m->started_ms;
    if (look->started_ms >= 0 && is_news) {
        int64_t age_ms = look->now_ms - look->started_ms;
        m->started_ms = look->started_ms;
        m->born_ms = now_ms - (age_ms < 0 ? 0 : age_ms);
    }
}

static void keep_predecessor(struct tl_member *m, const struct tl_look *look) {
    if (!m->has_beaten) {
        m->has_beaten = true;
        m->has_predecessor = look->has_predecessor;
        m->predecessor = look->predecessor;
    }
}

/* Everything but the roster; whether any of it is news. */
static bool keep_facts(struct tl_member *m, const struct tl_look *look, int64_t now_ms,
                       bool has_registered) {
    tl_member_lock(m);
    bool is_news = m->has_changed || !m->is_connected;
    m->has_changed = false;
    m->is_connected = true;
    m->trouble[0] = '\0';
    is_news = merge_epochs(&m->epochs, &look->epochs) || is_news;
    is_news = tl_member_keep_end_locked(m, look->end) || is_news;
    keep_start(m, look, now_ms);
    if (has_registered) {
        keep_predecessor(m, look);
    }
    tl_member_unlock(m);
    return is_news;
}

/* Judge the list and report each event; whether the roster has changed. */
static bool keep_roster(struct driver *d, const struct tl_look *look, int64_t now_ms) {
    struct tl_member *m = d->m;
    struct tl_roster_event events[EVENTS_MAX];
    bool is_complete = now_ms >= d->trusted_ms;
    bool is_news = false;
    size_t n;
    do {
        tl_member_lock(m);
        uint64_t before = tl_roster_revision(m->roster);
        n = tl_roster_observe(m->roster, now_ms, look->entries, look->count,
                              is_complete, events, EVENTS_MAX);
        is_news = is_news || tl_roster_revision(m->roster) != before;
        tl_member_unlock(m);
        for (size_t i = 0; i < n && m->on_event != NULL; i++) {
            m->on_event(m->ctx, &events[i]);
        }
    } while (n == EVENTS_MAX);
    return is_news;
}

/* Everybody gets two leases to come back to a Redis that was away or flushed. */
static void distrust(struct driver *d, int64_t now_ms) {
    d->trusted_ms = now_ms + 2 * (int64_t)d->m->lease_ms;
}

static void absorb(struct driver *d, const struct tl_look *look, bool has_registered) {
    int64_t now_ms = tl_now_ms();
    if (d->token[0] != '\0' && strcmp(d->token, look->token) != 0) {
        distrust(d, now_ms);
    }
    memcpy(d->token, look->token, sizeof(d->token));
    bool is_news = keep_facts(d->m, look, now_ms, has_registered);
    is_news = keep_roster(d, look, now_ms) || is_news;
    if (is_news) {
        tell(d->m);
    }
}

/* ---- the exchange ------------------------------------------------------------- */

/* What the next heartbeat says, copied under the lock. */
struct draft {
    struct tl_member_entry self;
    char end[sizeof(((struct tl_member *)0)->end)];
    struct tl_beat beat;
};

static void draft_beat(struct driver *d, struct draft *draft) {
    struct tl_member *m = d->m;
    tl_member_lock(m);
    (void)merge_epochs(&d->known, &m->epochs);
    draft->self = m->self;
    memcpy(draft->end, m->end, sizeof(draft->end));
    draft->beat = (struct tl_beat){
        .self = m->role == 0 || m->is_erased ? NULL : &draft->self,
        .is_news = m->is_news,
        .token = tl_random_u64(), /* another one each time: no flush goes unseen */
        .age_ms = tl_member_age_locked(m),
        .end = draft->end,
        .epochs = &d->known,
    };
    m->is_due = false;
    m->is_news = false;
    m->is_exchanging = true;
    tl_member_unlock(m);
    draft->self.beat = ++d->beat;
}

static void exchange_is_over(struct tl_member *m, bool has_told) {
    tl_member_lock(m);
    m->is_exchanging = false;
    m->is_news = m->is_news || !has_told;
    (void)pthread_cond_broadcast(&m->idle);
    tl_member_unlock(m);
}

static int exchange(struct driver *d) {
    struct draft draft;
    struct tl_look look;
    d->has_heard = false;
    d->exchanged_ms = tl_now_ms();
    draft_beat(d, &draft);
    int rc = tl_script_beat(d->commands, &d->m->keys, &draft.beat, &look);
    exchange_is_over(d->m, rc == 0 || !draft.beat.is_news);
    if (rc == 0) {
        absorb(d, &look, draft.beat.self != NULL);
        tl_look_done(&look);
    }
    return rc;
}

/* ---- waiting ------------------------------------------------------------------ */

static void drain_wake(int fd) {
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n; /* it does not block, and how often it was woken does not matter */
}

static int64_t next_exchange_ms(const struct driver *d) {
    const struct tl_member *m = d->m;
    tl_member_lock(m);
    bool is_now = m->is_stopping || m->is_due || m->has_changed || d->has_heard;
    tl_member_unlock(m);
    return d->exchanged_ms + (is_now ? TL_QUIET_MS : (int64_t)m->lease_ms / 3);
}

/* Until the next exchange is due, or stopping. */
static int wait_for_turn(struct driver *d) {
    while (!is_stopping(d->m)) {
        int64_t left_ms = next_exchange_ms(d) - tl_now_ms();
        if (left_ms <= 0) {
            return 0;
        }
        struct pollfd fds[] = {
            {.fd = d->m->wake_fd, .events = POLLIN},
            {.fd = d->has_heard ? -1 : tl_redis_fd(d->news), .events = POLLIN},
        };
        (void)poll(fds, 2, (int)left_ms);
        if (fds[0].revents != 0) {
            drain_wake(d->m->wake_fd);
        }
        if (fds[1].revents != 0) {
            d->has_heard = true;
            int rc = tl_redis_drain(d->news);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

/* With jitter, so that a restarted Redis is not met by everybody at once. */
static void pause_before_retry(const struct tl_member *m, int64_t pause_ms) {
    int64_t jitter_ms = (int64_t)(tl_random_u64() % (uint64_t)(pause_ms / 2 + 1));
    int64_t until_ms = tl_now_ms() + pause_ms / 2 + jitter_ms;
    for (int64_t left_ms; !is_stopping(m) && (left_ms = until_ms - tl_now_ms()) > 0;) {
        struct pollfd fd = {.fd = m->wake_fd, .events = POLLIN};
        (void)poll(&fd, 1, (int)left_ms);
        drain_wake(m->wake_fd);
    }
}

/* ---- a session: both connections, from opening to the first failure ----------- */

static int session_open(struct driver *d) {
    struct tl_member *m = d->m;
    int rc = tl_redis_open(&m->url, TL_STEP_MS, &m->counters, &d->commands);
    if (rc == 0 && !is_stopping(m)) {
        rc = tl_redis_open(&m->url, TL_STEP_MS, &m->counters, &d->news);
    }
    if (rc == 0 && !is_stopping(m)) {
        rc = tl_redis_subscribe(d->news, m->keys.names[TL_KEY_NEWS]);
    }
    return rc;
}

static void session_close(struct driver *d) {
    tl_redis_close(d->commands);
    tl_redis_close(d->news);
    d->commands = NULL;
    d->news = NULL;
}

static int session_run(struct driver *d) {
    int rc = 0;
    if (d->had_session) {
        distrust(d, tl_now_ms());
    }
    while (rc == 0 && !is_stopping(d->m)) {
        rc = exchange(d);
        if (rc == 0) {
            d->had_session = true;
            rc = wait_for_turn(d);
        }
    }
    return rc;
}

/* In order, while the connection still holds. */
static void deregister(struct driver *d) {
    struct tl_member *m = d->m;
    tl_member_lock(m);
    struct tl_member_entry self = m->self;
    bool is_registered = m->has_beaten && !m->is_erased;
    tl_member_unlock(m);
    if (is_registered) {
        int rc = tl_script_leave(d->commands, &m->keys, &self);
        (void)rc; /* then our lease says it */
    }
}

void *tl_member_drive(void *arg) {
    struct driver d = {.m = arg};
    int64_t most_ms = d.m->lease_ms < PAUSE_MAX_MS ? d.m->lease_ms : PAUSE_MAX_MS;
    int64_t pause_ms = PAUSE_MIN_MS;
    while (!is_stopping(d.m)) {
        uint64_t beats = d.beat;
        int rc = session_open(&d);
        if (rc == 0) {
            rc = session_run(&d);
        }
        if (rc == 0) {
            deregister(&d);
        } else {
            lost(&d);
            pause_ms = d.beat > beats + 1 ? PAUSE_MIN_MS : pause_ms;
            session_close(&d);
            pause_before_retry(d.m, pause_ms);
            pause_ms = 2 * pause_ms < most_ms ? 2 * pause_ms : most_ms;
        }
        session_close(&d);
    }
    tl_epochs_done(&d.known);
    return NULL;
}
