/* watcher.h - members in a test: open, wait for a condition, count events. */
#ifndef TEST_WATCHER_H
#define TEST_WATCHER_H

#include "throughline/member.h"
#include "throughline/service.h"

#include "redis.h"

#include <stdatomic.h>

#define TEST_LEASE_MS 300u
#define TEST_WAIT_MS  20000

/* The Redis of a test program, for the group's setup and teardown. */
static struct test_redis redis;

static inline int watcher_redis_setup(void **state) {
    (void)state;
    test_redis_start(&redis);
    return 0;
}

static inline int watcher_redis_teardown(void **state) {
    (void)state;
    test_redis_stop(&redis);
    return 0;
}

/* Counts by kind and role what a member reports. */
struct watcher {
    _Atomic int changes;
    _Atomic int events[4][TL_ROLE_CLI + 1];
};

static inline void watcher_on_change(void *ctx) {
    struct watcher *w = ctx;
    atomic_fetch_add(&w->changes, 1);
}

static inline void watcher_on_event(void *ctx, const struct tl_roster_event *event) {
    struct watcher *w = ctx;
    atomic_fetch_add(&w->events[event->kind][event->entry.role], 1);
}

static inline int watcher_count(struct watcher *w, enum tl_roster_event_kind kind,
                                enum tl_role role) {
    return atomic_load(&w->events[kind][role]);
}

/* A member of job "job", run `run`. role 0: only watches. `w` may be NULL. */
static inline struct tl_member *test_member(const char *url, const char *run,
                                            enum tl_role role, uint32_t index,
                                            struct watcher *w) {
    struct tl_member_config config = {
        .redis = url,
        .job = "job",
        .run = run,
        .lease_ms = TEST_LEASE_MS,
        .self = {.role = role, .index = index, .address = "unix:///nowhere"},
        .on_change = w == NULL ? NULL : watcher_on_change,
        .on_event = w == NULL ? NULL : watcher_on_event,
        .ctx = w,
    };
    struct tl_member *m;
    assert_int_equal(tl_member_open(&config, &m), 0);
    return m;
}

static inline bool test_sees(const struct tl_member *m, enum tl_role role,
                             uint32_t index) {
    struct tl_member_entry e;
    return tl_member_find(m, role, index, &e) == 0;
}

static inline int64_t test_deadline(void) {
    return tl_now_ms() + TEST_WAIT_MS;
}

/* Wait until `condition` holds; a test that waits in vain fails there. */
#define assert_soon(condition)                                                         \
    do {                                                                               \
        int64_t until_ = test_deadline();                                              \
        while (!(condition) && tl_now_ms() < until_) {                                 \
            test_redis_pause();                                                        \
        }                                                                              \
        assert_true(condition);                                                        \
    } while (0)

#endif
