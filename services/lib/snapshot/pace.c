/* pace.c - when a shard is due for a snapshot, when to look again, and how fast it is
 * to be stored.
 *
 * Asking for a version costs a round trip of two small frames. From the last two
 * answers it is known how fast the version rises; the next question is put for the
 * moment at which the snapshot should fall due. */
#include "throughline/snapshot.h"

#include <math.h>

#define POLL_MIN_MS     10
#define POLL_UNKNOWN_MS 100
#define POLL_MAX_MS     500
#define INTERVAL_MAX_MS 1000000000

#define LARGE_BYTES      (8u << 20)
#define WALK_BYTES_PER_S (32.0 * 1048576.0)
#define CATCH_UP_S       0.032

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

/* By updates: from the time and the updates since the cut before. */
int64_t tl_pace_cut(struct tl_pace *p, int64_t now_ms, uint64_t version,
                    uint64_t epoch) {
    int64_t interval = p->every_ms;
    if (p->every_updates > 0 && p->cut_epoch == epoch && version > p->cut_version &&
        now_ms > p->cut_ms) {
        const double ms = (double)(now_ms - p->cut_ms) * (double)p->every_updates /
                          (double)(version - p->cut_version);
        const int64_t by_updates = ms < 1.0               ? 1
                                   : ms < INTERVAL_MAX_MS ? (int64_t)ms
                                                          : INTERVAL_MAX_MS;
        interval = interval == 0 ? by_updates : sooner(interval, by_updates);
    }
    p->cut_version = version;
    p->cut_epoch = epoch;
    p->cut_ms = now_ms;
    return interval;
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

/* ---- tempo ---------------------------------------------------------------------- */

static double larger(double a, double b) {
    return a > b ? a : b;
}

struct tl_tempo tl_tempo_of(double now_s, uint64_t bytes, uint32_t shards,
                            int64_t interval_ms) {
    struct tl_tempo t = {.bytes_per_s = WALK_BYTES_PER_S, .due_s = now_s};
    if (bytes < LARGE_BYTES) {
        t.bytes_per_s = INFINITY;
    } else if (interval_ms > 0) {
        const double quarter_s = (double)interval_ms / 4000.0 / shards;
        t.bytes_per_s = larger(t.bytes_per_s, (double)bytes / quarter_s);
    }
    return t;
}

double tl_tempo_rest_s(struct tl_tempo *t, double now_s, uint64_t bytes) {
    t->due_s = larger(t->due_s + (double)bytes / t->bytes_per_s, now_s - CATCH_UP_S);
    return larger(t->due_s - now_s, 0.0);
}
