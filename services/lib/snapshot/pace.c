/* pace.c - when a shard is due for a snapshot, and when to look again.
 *
 * Asking for a version costs a round trip of two small frames. From the last two
 * answers it is known how fast the version rises; the next question is put for the
 * moment at which the snapshot should fall due. */
#include "throughline/snapshot.h"

#define POLL_MIN_MS     10
#define POLL_UNKNOWN_MS 100
#define POLL_MAX_MS     500
#define INTERVAL_MAX_MS 1000000000

void tl_pace_taken(struct tl_pace *p, int64_t now_ms, uint64_t version,
                   uint64_t epoch) {
    p->taken_version = version;
    p->taken_ms = now_ms;
    tl_pace_seen(p, now_ms, version, epoch);
}

/* A new epoch may have gone back to an older snapshot than the newest, or to none: what
 * it does from there is new again. */
static void enter_epoch(struct tl_pace *p, int64_t now_ms, uint64_t version,
                        uint64_t epoch) {
    if (version < p->taken_version) {
        p->taken_version = version;
        p->taken_ms = now_ms;
    }
    p->epoch = epoch;
    p->updates_per_ms = 0;
}

void tl_pace_seen(struct tl_pace *p, int64_t now_ms, uint64_t version, uint64_t epoch) {
    if (epoch != p->epoch) {
        enter_epoch(p, now_ms, version, epoch);
    } else if (version >= p->version && now_ms > p->seen_ms) {
        p->updates_per_ms =
            (double)(version - p->version) / (double)(now_ms - p->seen_ms);
    } else {
        return;
    }
    p->version = version;
    p->seen_ms = now_ms;
}

bool tl_pace_is_due(const struct tl_pace *p, int64_t now_ms) {
    if (p->version <= p->taken_version) {
        return false;
    }
    return (p->every_updates > 0 &&
            p->version - p->taken_version >= p->every_updates) ||
           (p->every_ms > 0 && now_ms - p->taken_ms >= p->every_ms);
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t tl_pace_interval_ms(const struct tl_pace *p) {
    int64_t ms = p->every_ms;
    if (p->every_updates > 0 && p->updates_per_ms > 0) {
        const double by_updates = (double)p->every_updates / p->updates_per_ms;
        if (ms == 0 || by_updates < (double)ms) {
            ms = by_updates < INTERVAL_MAX_MS ? (int64_t)by_updates : INTERVAL_MAX_MS;
        }
    }
    return ms;
}

int64_t tl_pace_next_ms(const struct tl_pace *p, int64_t now_ms) {
    int64_t wait = POLL_MAX_MS;
    if (p->every_updates > 0) {
        const uint64_t done = p->version - p->taken_version;
        const uint64_t left = done < p->every_updates ? p->every_updates - done : 0;
        wait = sooner(wait, POLL_UNKNOWN_MS);
        if (p->updates_per_ms > 0) {
            const double ms = (double)left / p->updates_per_ms;
            wait = ms < POLL_MAX_MS ? (int64_t)ms : POLL_MAX_MS;
        }
    }
    if (p->every_ms > 0) {
        wait = sooner(wait, p->taken_ms + p->every_ms - now_ms);
    }
    return now_ms + (wait > POLL_MIN_MS ? wait : POLL_MIN_MS);
}
