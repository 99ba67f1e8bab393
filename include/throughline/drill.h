/* drill.h - failures on schedule: whom to kill, when, and when to bring it back.
 *
 * Path:   beside it: `throughline run --kill ...` practises failures on a whole job
 * Pure:   no I/O, no clock: it is given the time and the version, and says what is due.
 * Thread: whoever owns the drill. */
#ifndef THROUGHLINE_DRILL_H
#define THROUGHLINE_DRILL_H

#include "throughline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TL_DRILL_MAX      256u /* kills in one run */
#define TL_DRILL_TEXT_MAX 96u  /* one --kill, with its final NUL */
#define TL_DRILL_FOREVER  (-1) /* down_ms: never brought back */

enum tl_drill_target {
    TL_DRILL_SERVER = 0,
    TL_DRILL_WORKER = 1,
    TL_DRILL_CHECKPOINTER = 2,
    TL_DRILL_MONITOR = 3,
    TL_DRILL_REDIS = 4,
    TL_DRILL_REPLICA = 5,
    /* Whoever has that place in the chain when the time has come. */
    TL_DRILL_HEAD = 6,
    TL_DRILL_MIDDLE = 7,
    TL_DRILL_TAIL = 8,
};
const char *tl_drill_target_name(enum tl_drill_target target); /* "server", ... */

enum tl_drill_trigger {
    TL_DRILL_AT_VERSION = 0, /* the job has made so many updates */
    TL_DRILL_AT_TIME = 1,    /* so long after the run's start */
};

struct tl_drill_kill {
    char text[TL_DRILL_TEXT_MAX]; /* as it was given */
    enum tl_drill_target target;
    uint32_t index; /* shard of a server, head, middle or tail; number of a worker or
                       replica; else 0 */
    enum tl_drill_trigger trigger;
    uint64_t version; /* AT_VERSION */
    int64_t at_ms;    /* AT_TIME */
    int64_t down_ms;  /* from the kill to the restart, or TL_DRILL_FOREVER */
};

/* Read "WHO[/N]@WHEN[,down=D]": WHO server, worker, checkpointer, monitor, redis,
 * replica, head, middle or tail; WHEN updates=N, version=N (the same) or seconds=T; D
 * and T in seconds, or with a unit, "s" or "ms"; D also "forever", and 0 when it is
 * left out. TL_E_CONFIG  one line: the text, what is wrong with it, what is right */
TL_MUST_USE int tl_drill_parse(const char *text, struct tl_drill_kill *ret_kill);

/* What a kill needs to know of the job to be possible at all. */
struct tl_drill_limits {
    uint32_t servers, workers;
    uint32_t replicas;      /* of each shard; 0: it has a server instead */
    bool checkpointer;      /* one is started */
    uint64_t until_updates; /* 0: no such end */
    double until_seconds;   /* 0: no such end */
};

/* Can this ever happen? TL_E_CONFIG: no such service, or at or beyond the end. */
TL_MUST_USE int tl_drill_check(const struct tl_drill_kill *kill,
                               const struct tl_drill_limits *limits);

/* ---- a schedule in progress ------------------------------------------------------ */

enum tl_drill_state {
    TL_DRILL_WAITING = 0, /* has not happened yet */
    TL_DRILL_DOWN = 1,    /* killed, not brought back */
    TL_DRILL_BACK = 2,    /* brought back */
};

/* One kill, and what became of it. Times are ms since the run's start. */
struct tl_drill_slot {
    struct tl_drill_kill kill;
    enum tl_drill_state state;
    bool has_recovered;                                     /* the work goes on */
    int64_t killed_ms, restarted_ms, seen_ms, recovered_ms; /* seen: first, anew */
    bool has_version;
    uint64_t version; /* of the job at the kill */
    bool has_base;
    uint64_t base; /* how far the replacement was when it was first seen */
};

struct tl_drill {
    struct tl_drill_slot slots[TL_DRILL_MAX];
    size_t count;
};

void tl_drill_init(struct tl_drill *d);
/* TL_E_LIMIT: more than TL_DRILL_MAX. */
TL_MUST_USE int tl_drill_add(struct tl_drill *d, const struct tl_drill_kill *kill);

/* The run as of now. */
struct tl_drill_moment {
    int64_t now_ms;
    bool has_version;
    uint64_t version; /* updates made */
};

enum tl_drill_action_kind { TL_DRILL_KILL, TL_DRILL_RESTART };
struct tl_drill_action {
    enum tl_drill_action_kind kind;
    size_t slot;
};

/* Everything that is due, restarts before kills, each in the order of the schedule.
 * Nothing is marked: an action is due until tl_drill_killed() or tl_drill_restarted()
 * says that it was done, so one that is impossible now (its target is down already)
 * comes again. Returns how many; at most `max`. */
size_t tl_drill_due(const struct tl_drill *d, const struct tl_drill_moment *moment,
                    struct tl_drill_action *actions, size_t max);

/* What was done. */
void tl_drill_killed(struct tl_drill *d, size_t slot,
                     const struct tl_drill_moment *moment);
void tl_drill_restarted(struct tl_drill *d, size_t slot, int64_t now_ms);

/* Something of the replacement was seen: `progress` is a server's version, a worker's
 * last acknowledged batch, and means nothing for others. A server or worker has
 * recovered when it has gone beyond where it was first seen: the first update that it
 * folded, the first batch that was acknowledged to it. A head is replaced by another
 * replica, whether or not it is started again. Of the others being seen is enough. True
 * when this was its recovery. */
bool tl_drill_seen(struct tl_drill *d, size_t slot, int64_t now_ms, uint64_t progress);

/* Is it a replica's place, and not a process of its own? */
bool tl_drill_is_place(enum tl_drill_target target);

/* Seconds from the kill to the restart, and to the recovery; negative: not (yet). */
double tl_drill_down_seconds(const struct tl_drill_slot *slot);
double tl_drill_recovery_seconds(const struct tl_drill_slot *slot);

#endif
