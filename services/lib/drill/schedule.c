/* schedule.c - what of a drill is due at a moment.
 *
 * The schedule only says what should happen; whoever owns the processes says what did.
 * A kill whose target is down already is therefore not lost, but waits for it. */
#include "throughline/drill.h"

void tl_drill_init(struct tl_drill *d) {
    d->count = 0;
}

int tl_drill_add(struct tl_drill *d, const struct tl_drill_kill *kill) {
    if (d->count == TL_DRILL_MAX) {
        return tl_fail(TL_E_LIMIT, "--kill %s: more than %u kills in one run",
                       kill->text, TL_DRILL_MAX);
    }
    d->slots[d->count++] = (struct tl_drill_slot){.kill = *kill};
    return 0;
}

static bool restart_is_due(const struct tl_drill *d, size_t i, int64_t now_ms) {
    int64_t down_ms = d->slots[i].kill.down_ms;
    return d->slots[i].state == TL_DRILL_DOWN && down_ms != TL_DRILL_FOREVER &&
           now_ms - d->slots[i].killed_ms >= down_ms;
}

static bool kill_is_due(const struct tl_drill *d, size_t i,
                        const struct tl_drill_moment *moment) {
    const struct tl_drill_kill *kill = &d->slots[i].kill;
    if (d->slots[i].state != TL_DRILL_WAITING) {
        return false;
    }
    if (kill->trigger == TL_DRILL_AT_TIME) {
        return moment->now_ms >= kill->at_ms;
    }
    return moment->has_version && moment->version >= kill->version;
}

size_t tl_drill_due(const struct tl_drill *d, const struct tl_drill_moment *moment,
                    struct tl_drill_action *actions, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < d->count && n < max; i++) {
        if (restart_is_due(d, i, moment->now_ms)) {
            actions[n++] = (struct tl_drill_action){TL_DRILL_RESTART, i};
        }
    }
    for (size_t i = 0; i < d->count && n < max; i++) {
        if (kill_is_due(d, i, moment)) {
            actions[n++] = (struct tl_drill_action){TL_DRILL_KILL, i};
        }
    }
    return n;
}
