/* calls.c - the blocking calls: each on a connection of its own, up to its deadline.
 *
 * They are rare (a start, a death, the end), so a connect for each costs nothing, and
 * none ever waits behind a heartbeat or another call. */
#include "throughline/service.h"

#include "member_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAUSE_MIN_MS 20
#define PAUSE_MAX_MS 500
#define FLOOR_MAX    (UINT64_MAX / 2 - 1)

/* One try of a call: `ctx` holds its arguments and results. */
typedef int (*call_fn)(struct tl_redis *r, struct tl_member *m, void *ctx);

static int try_once(struct tl_member *m, int64_t left_ms, call_fn call, void *ctx) {
    int64_t step_ms = left_ms / 3 < TL_STEP_MS ? left_ms / 3 : TL_STEP_MS;
    struct tl_redis *redis;
    int rc = tl_redis_open(&m->url, step_ms, &m->counters, &redis);
    if (rc == 0) {
        rc = call(redis, m, ctx);
        tl_redis_close(redis);
    }
    return rc;
}

static void pause_for(int64_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

int tl_member_until(struct tl_member *m, int64_t deadline_ms, call_fn call, void *ctx) {
    int64_t pause_ms = PAUSE_MIN_MS;
    int64_t left_ms = deadline_ms - tl_now_ms();
    if (left_ms <= 0) {
        return tl_fail(TL_E_UNAVAILABLE, "Redis: the deadline had passed already");
    }
    for (;;) {
        int rc = try_once(m, left_ms, call, ctx);
        left_ms = deadline_ms - tl_now_ms();
        if (rc != TL_E_UNAVAILABLE || left_ms <= pause_ms) {
            return rc;
        }
        pause_for(pause_ms);
        left_ms -= pause_ms;
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
}

static int check_floor(const char *what, uint64_t floor) {
    return floor <= FLOOR_MAX
               ? 0
               : tl_fail(TL_E_INVALID, "membership: %s beyond 2^63 - 2", what);
}

/* ---- epochs ------------------------------------------------------------------- */

struct raise_call {
    uint32_t shard;
    uint64_t floor, epoch;
    const struct tl_member_entry *self;
};

static int raise_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct raise_call *c = ctx;
    return tl_script_raise_epoch(r, &m->keys, c->shard, c->floor, c->self, &c->epoch);
}

int tl_member_raise_epoch(struct tl_member *m, uint32_t shard, uint64_t floor,
                          int64_t deadline_ms, uint64_t *ret_epoch) {
    bool is_ours = m->role == TL_ROLE_SERVER && m->index == shard;
    tl_member_lock(m);
    struct tl_member_entry self = m->self;
    tl_member_unlock(m);
    struct raise_call c = {shard, floor, 0, is_ours ? &self : NULL};
    int rc = check_floor("an epoch", floor);
    if (rc == 0) {
        rc = tl_member_until(m, deadline_ms, raise_once, &c);
    }
    if (rc != 0) {
        return rc;
    }
    tl_member_lock(m);
    m->has_changed = tl_epochs_raise(&m->epochs, shard, c.epoch) || m->has_changed;
    if (is_ours && m->self.epoch < c.epoch) {
        m->self.epoch = c.epoch;
        m->is_due = true; /* one that was under way may have said the old epoch */
    }
    tl_member_unlock(m);
    tl_member_wake(m);
    *ret_epoch = c.epoch;
    return 0;
}

/* ---- incarnations ------------------------------------------------------------- */

struct incarnation_call {
    enum tl_role role;
    uint32_t index;
    uint64_t floor, incarnation;
};

static int incarnation_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct incarnation_call *c = ctx;
    return tl_script_next_incarnation(r, &m->keys, c->role, c->index, c->floor,
                                      &c->incarnation);
}

int tl_member_next_incarnation(struct tl_member *m, enum tl_role role, uint32_t index,
                               uint64_t floor, int64_t deadline_ms,
                               uint64_t *ret_incarnation) {
    struct incarnation_call c = {role, index, floor, 0};
    int rc = check_floor("an incarnation", floor);
    if (rc == 0) {
        rc = tl_member_until(m, deadline_ms, incarnation_once, &c);
    }
    if (rc == 0) {
        *ret_incarnation = c.incarnation;
    }
    return rc;
}

/* ---- dead workers ------------------------------------------------------------- */

struct retire_call {
    uint32_t worker;
    uint64_t incarnation, step, given;
};

static int retire_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct retire_call *c = ctx;
    return tl_script_retire(r, &m->keys, c->worker, c->incarnation, c->step, &c->given);
}

int tl_member_retire(struct tl_member *m, uint32_t worker, uint64_t incarnation,
                     uint64_t step, int64_t deadline_ms, uint64_t *ret_step) {
    struct retire_call c = {worker, incarnation, step, 0};
    int rc = check_floor("a step", step);
    if (rc == 0) {
        rc = tl_member_until(m, deadline_ms, retire_once, &c);
    }
    if (rc == 0) {
        *ret_step = c.given;
    }
    return rc;
}

/* ---- the end ------------------------------------------------------------------ */

struct declare_call {
    const char *ours;
    char stands[sizeof(((struct tl_member *)0)->end)];
};

static int declare_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct declare_call *c = ctx;
    return tl_script_declare(r, &m->keys, c->ours, c->stands, sizeof(c->stands));
}

static int encode_end(const struct tl_member *m, const char *reason, char **ret_text) {
    char by[TL_FIELD_MAX] = "watcher";
    if (m->role != 0) {
        tl_entry_field(m->role, m->index, by);
    }
    char *text;
    int rc = tl_end_encode(reason, by, &text);
    if (rc != 0) {
        return rc;
    }
    if (strlen(text) >= sizeof(m->end)) {
        free(text);
        return tl_fail(TL_E_INVALID, "membership: the reason of the end is too long");
    }
    *ret_text = text;
    return 0;
}

int tl_member_declare_end(struct tl_member *m, const char *reason,
                          int64_t deadline_ms) {
    struct declare_call c = {0};
    char *text = NULL;
    int rc = encode_end(m, reason, &text);
    if (rc != 0) {
        return rc;
    }
    c.ours = text;
    rc = tl_member_until(m, deadline_ms, declare_once, &c);
    free(text);
    if (rc != 0) {
        return rc;
    }
    tl_member_lock(m);
    m->has_changed = tl_member_keep_end_locked(m, c.stands) || m->has_changed;
    tl_member_unlock(m);
    tl_member_wake(m);
    return 0;
}

/* ---- the run's keys ----------------------------------------------------------- */

static int erase_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    (void)ctx;
    return tl_script_erase(r, &m->keys);
}

/* A heartbeat that is under way would bring our entry back: wait until it is done. */
static void stop_registering(struct tl_member *m, int64_t deadline_ms) {
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = deadline_ms % 1000 * 1000000};
    tl_member_lock(m);
    m->is_erased = true;
    int error = 0;
    while (m->is_exchanging && error == 0) {
        error = pthread_cond_timedwait(&m->idle, &m->lock, &until);
    }
    tl_member_unlock(m);
}

int tl_member_erase_run(struct tl_member *m, int64_t deadline_ms) {
    stop_registering(m, deadline_ms);
    return tl_member_until(m, deadline_ms, erase_once, NULL);
}
