/* loop.c - one poll() over the conversations with all shards, and the wind-down. */
#include "checkpointer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TURN_MAX_MS       1000
#define LAST_SNAPSHOTS_MS 10000

/* ---- the store ---------------------------------------------------------------- */

/* Go on from the snapshots that an earlier process left. */
static void take_origins(struct checkpointer *c) {
    for (uint32_t i = 0; i < c->job.shards; i++) {
        const struct origin *o = &c->store.origins[i];
        if (o->exists) {
            tl_pace_taken(&c->shards[i].pace, tl_now_ms(), o->version, o->epoch);
            c->shards[i].taken_position = o->position;
            tl_metric_set(c->gauges.version[i], (double)o->version);
        }
    }
}

/* TL_E_CONFIG and TL_E_UNSUPPORTED will not change; the rest is tried again. */
static int look_for_store(struct checkpointer *c) {
    char why[TL_STORE_WHY_MAX];
    if (c->store_is_open) {
        return 0;
    }
    const int r = store_state(&c->store, why);
    if (r == TL_E_CONFIG || r == TL_E_UNSUPPORTED) {
        return tl_fail(r, "%s", why);
    }
    if (r == 0) {
        c->store_is_open = true;
        take_origins(c);
        tl_log_line(TL_INFO, "store opened", "store", c->job.store, NULL);
        presence_announce(c, TL_MEMBER_SERVING);
    } else if (r != TL_E_BUSY && !c->store_complained) {
        c->store_complained = true;
        tl_log_line(TL_ERROR, "store not reached", "error", tl_error_name(r), "why",
                    why, NULL);
    }
    tl_health_ready(r < 0 ? "the store is not reached" : NULL);
    return 0;
}

static void take_results(struct checkpointer *c) {
    char why[TL_STORE_WHY_MAX];
    struct upload u;
    (void)store_state(&c->store, why);
    for (uint32_t i = 0; i < c->job.shards; i++) {
        if (store_take(&c->store, i, &u)) {
            shard_stored(&c->shards[i], &u);
        }
    }
}

static void look_for_haste(struct checkpointer *c) {
    bool is_urgent = c->is_ending;
    for (uint32_t i = 0; i < c->job.shards; i++) {
        is_urgent = is_urgent || shard_is_urgent(&c->shards[i]);
    }
    atomic_store(&c->store.is_urgent, is_urgent);
}

/* ---- the end ------------------------------------------------------------------ */

static void look_for_end(struct checkpointer *c, int64_t now_ms) {
    if (c->presence.member != NULL &&
        tl_member_has_ended(c->presence.member, NULL, 0)) {
        c->job_has_ended = true;
    }
    if (c->is_ending || !(c->job_has_ended || tl_stop_requested())) {
        return;
    }
    c->is_ending = true;
    c->end_deadline_ms = now_ms + LAST_SNAPSHOTS_MS;
    tl_log_line(TL_INFO, "taking last snapshots", "because",
                c->job_has_ended ? "the job has ended" : "stopped", NULL);
    presence_announce(c, TL_MEMBER_LEAVING);
    for (uint32_t i = 0; i < c->job.shards; i++) {
        shard_want_last(&c->shards[i]);
    }
}

static bool is_over(const struct checkpointer *c, int64_t now_ms) {
    if (!c->is_ending) {
        return false;
    }
    bool is_complete = true;
    for (uint32_t i = 0; i < c->job.shards; i++) {
        is_complete =
            is_complete && !c->shards[i].wants_last && !c->shards[i].is_uploading;
    }
    if (!is_complete && now_ms >= c->end_deadline_ms) {
        tl_log_line(TL_WARNING, "last snapshots given up", "why",
                    "the store, or a server, takes too long", NULL);
        return true;
    }
    return is_complete;
}

/* ---- turns -------------------------------------------------------------------- */

static int timeout_of(const struct checkpointer *c, int64_t now_ms) {
    int64_t next_ms = now_ms + TURN_MAX_MS;
    for (uint32_t i = 0; i < c->job.shards; i++) {
        const int64_t shard_ms = shard_next_ms(&c->shards[i]);
        next_ms = shard_ms < next_ms ? shard_ms : next_ms;
    }
    return next_ms > now_ms ? (int)(next_ms - now_ms) : 0;
}

/* The descriptors that wake us: one per shard, a change of the roster, a signal, the
 * store's thread. */
static int wait_for_news(struct checkpointer *c) {
    const uint32_t n = c->job.shards;
    for (uint32_t i = 0; i < n; i++) {
        const struct shard *s = &c->shards[i];
        const bool is_busy = shard_is_busy(s);
        c->polled[i] = (struct pollfd){.fd = is_busy ? tl_link_fd(s->link) : -1,
                                       .events = is_busy ? tl_link_events(s->link) : 0};
    }
    c->polled[n] = (struct pollfd){.fd = c->presence.wake_fd, .events = POLLIN};
    c->polled[n + 1u] =
        (struct pollfd){.fd = c->is_ending ? -1 : tl_stop_fd(), .events = POLLIN};
    c->polled[n + 2u] = (struct pollfd){.fd = c->store.wake_fd, .events = POLLIN};
    if (poll(c->polled, n + 3u, timeout_of(c, tl_now_ms())) < 0 && errno != EINTR) {
        return tl_fail(TL_E_IO, "poll: %s", strerror(errno));
    }
    return 0;
}

static void take_news(struct checkpointer *c) {
    const uint32_t n = c->job.shards;
    if (c->polled[n].revents != 0) {
        presence_look(c);
    }
    if (c->polled[n + 2u].revents != 0) {
        take_results(c);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (c->polled[i].revents != 0) {
            shard_advance(&c->shards[i]);
        }
    }
}

static void show_ages(const struct checkpointer *c, int64_t now_ms) {
    for (uint32_t i = 0; i < c->job.shards; i++) {
        tl_metric_set(c->gauges.age[i],
                      (double)(now_ms - c->shards[i].pace.taken_ms) / 1000.0);
    }
}

int checkpointer_run(struct checkpointer *c) {
    step_back();
    for (;;) {
        const int64_t now_ms = tl_now_ms();
        tl_health_beat();
        int r = look_for_store(c);
        if (r < 0) {
            return r;
        }
        look_for_end(c, now_ms);
        for (uint32_t i = 0; i < c->job.shards; i++) {
            shard_turn(&c->shards[i], now_ms);
        }
        look_for_haste(c);
        if (is_over(c, now_ms)) {
            return 0;
        }
        show_ages(c, now_ms);
        r = wait_for_news(c);
        if (r < 0) {
            return r;
        }
        take_news(c);
    }
}
