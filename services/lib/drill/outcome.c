/* outcome.c - what became of each kill: how long down, how long until the work went on.
 */
#include "throughline/drill.h"

void tl_drill_killed(struct tl_drill *d, size_t slot,
                     const struct tl_drill_moment *moment) {
    d->slots[slot].state = TL_DRILL_DOWN;
    d->slots[slot].killed_ms = moment->now_ms;
    d->slots[slot].has_version = moment->has_version;
    d->slots[slot].version = moment->version;
}

void tl_drill_restarted(struct tl_drill *d, size_t slot, int64_t now_ms) {
    d->slots[slot].state = TL_DRILL_BACK;
    d->slots[slot].restarted_ms = now_ms;
}

bool tl_drill_is_place(enum tl_drill_target target) {
    return target == TL_DRILL_HEAD || target == TL_DRILL_MIDDLE ||
           target == TL_DRILL_TAIL;
}

static bool makes_progress(enum tl_drill_target target) {
    return target == TL_DRILL_SERVER || target == TL_DRILL_WORKER ||
           target == TL_DRILL_HEAD;
}

/* Another one may do the work by now. */
static bool may_show(const struct tl_drill_slot *s) {
    return s->state == TL_DRILL_BACK ||
           (s->state == TL_DRILL_DOWN && s->kill.target == TL_DRILL_HEAD);
}

bool tl_drill_seen(struct tl_drill *d, size_t slot, int64_t now_ms, uint64_t progress) {
    struct tl_drill_slot *s = &d->slots[slot];
    if (s->has_recovered || !may_show(s)) {
        return false;
    }
    if (makes_progress(s->kill.target)) {
        if (!s->has_base) {
            s->has_base = true;
            s->base = progress;
            s->seen_ms = now_ms;
        }
        if (progress <= s->base) {
            return false;
        }
    }
    s->seen_ms = s->has_base ? s->seen_ms : now_ms;
    s->has_recovered = true;
    s->recovered_ms = now_ms;
    return true;
}

double tl_drill_down_seconds(const struct tl_drill_slot *slot) {
    return slot->state >= TL_DRILL_BACK
               ? (double)(slot->restarted_ms - slot->killed_ms) / 1000
               : -1;
}

double tl_drill_recovery_seconds(const struct tl_drill_slot *slot) {
    return slot->has_recovered ? (double)(slot->recovered_ms - slot->killed_ms) / 1000
                               : -1;
}
