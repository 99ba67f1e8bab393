/* roster.c - judging who is alive from what Redis shows, and from nothing else.
 *
 * Pure: time is what the caller says. A slot remembers one (role, index), also while it
 * is dead, so that a left-over entry of a dead process does not come up again. Silence
 * is counted in the observer's own waking time: an observer that was stopped for
 * minutes sees only old beats when it wakes, and must not take everybody for dead. */
#include "throughline/member.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    struct tl_member_entry entry;
    int64_t silent_ms; /* observed without a new beat */
    bool is_alive;
    bool is_listed; /* in the list being observed */
    bool is_missed; /* was absent from an incomplete list and is not back yet */
};

struct tl_roster {
    uint32_t lease_ms;
    bool has_looked;
    int64_t looked_ms;
    uint64_t revision;
    struct slot *slots; /* by role, then index */
    size_t count, capacity;
};

/* One call of tl_roster_observe(). */
struct look {
    int64_t elapsed_ms;
    bool is_complete;
    struct tl_roster_event *events;
    size_t count, max;
};

int tl_roster_new(uint32_t lease_ms, struct tl_roster **ret_roster) {
    if (lease_ms == 0) {
        return tl_fail(TL_E_INVALID, "a lease of 0 ms: nobody could hold it");
    }
    struct tl_roster *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a roster");
    }
    r->lease_ms = lease_ms;
    *ret_roster = r;
    return 0;
}

void tl_roster_free(struct tl_roster *r) {
    if (r != NULL) {
        free(r->slots);
        free(r);
    }
}

/* ---- slots, sorted ------------------------------------------------------------ */

static int compare(const struct slot *s, enum tl_role role, uint32_t index) {
    if (s->entry.role != role) {
        return s->entry.role < role ? -1 : 1;
    }
    return s->entry.index == index ? 0 : s->entry.index < index ? -1 : 1;
}

/* Position of (role, index), or the one where it belongs. */
static size_t position(const struct tl_roster *r, enum tl_role role, uint32_t index) {
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&r->slots[middle], role, index) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct slot *slot_at(const struct tl_roster *r, enum tl_role role,
                            uint32_t index) {
    size_t at = position(r, role, index);
    return at < r->count && compare(&r->slots[at], role, index) == 0 ? &r->slots[at]
                                                                     : NULL;
}

/* NULL: no room, no memory; the entry will be seen again at the next look. */
static struct slot *slot_add(struct tl_roster *r, const struct tl_member_entry *entry) {
    if (r->count == r->capacity) {
        size_t capacity = r->capacity == 0 ? 16 : 2 * r->capacity;
        struct slot *slots = r->count < TL_MEMBERS_MAX
                                 ? realloc(r->slots, capacity * sizeof(*slots))
                                 : NULL;
        if (slots == NULL) {
            return NULL;
        }
        r->slots = slots;
        r->capacity = capacity;
    }
    size_t at = position(r, entry->role, entry->index);
    memmove(&r->slots[at + 1], &r->slots[at], (r->count - at) * sizeof(*r->slots));
    r->count++;
    r->slots[at] = (struct slot){.entry = *entry};
    return &r->slots[at];
}

static void slot_remove(struct tl_roster *r, size_t at) {
    r->count--;
    memmove(&r->slots[at], &r->slots[at + 1], (r->count - at) * sizeof(*r->slots));
}

/* ---- judging ------------------------------------------------------------------ */

/* False when there is no room for the event: then nothing may change either. */
static bool report(struct tl_roster *r, struct look *look,
                   enum tl_roster_event_kind kind,
                   const struct tl_member_entry *entry) {
    if (look->count == look->max) {
        return false;
    }
    look->events[look->count].kind = kind;
    look->events[look->count].entry = *entry;
    look->count++;
    r->revision++;
    return true;
}

/* A worker that takes its first incarnation, or a server its first epoch, is the same
 * process as before. */
static bool is_replaced(const struct tl_member_entry *old,
                        const struct tl_member_entry *new) {
    bool other_life = old->incarnation != 0 && new->incarnation != old->incarnation;
    return other_life || (old->epoch != 0 && new->epoch > old->epoch);
}

static bool shows_life(const struct tl_member_entry *old,
                       const struct tl_member_entry *new) {
    return new->beat != old->beat || new->incarnation != old->incarnation ||
           new->epoch != old->epoch;
}

static bool is_news(const struct tl_member_entry *old,
                    const struct tl_member_entry *new) {
    return new->state != old->state || new->epoch != old->epoch ||
           new->incarnation != old->incarnation || new->pid != old->pid ||
           strcmp(new->address, old->address) != 0 ||
           strcmp(new->http, old->http) != 0 || strcmp(new->tail, old->tail) != 0;
}

static void grow_silent(struct tl_roster *r, struct look *look, struct slot *s) {
    if (!look->is_complete) {
        return;
    }
    s->silent_ms += look->elapsed_ms;
    if (s->is_alive && s->silent_ms >= (int64_t)r->lease_ms) {
        s->is_alive = !report(r, look, TL_ROSTER_DOWN, &s->entry);
    }
}

static void judge(struct tl_roster *r, struct look *look, struct slot *s,
                  const struct tl_member_entry *entry) {
    s->is_listed = true;
    s->is_missed = false;
    if (!shows_life(&s->entry, entry)) {
        grow_silent(r, look, s);
        return;
    }
    bool is_reported = true;
    if (!s->is_alive) {
        is_reported = report(r, look, TL_ROSTER_UP, entry);
    } else if (is_replaced(&s->entry, entry)) {
        is_reported = report(r, look, TL_ROSTER_REPLACED, entry);
    } else if (is_news(&s->entry, entry)) {
        r->revision++;
    }
    if (is_reported) {
        s->entry = *entry;
        s->is_alive = true;
        s->silent_ms = 0;
    }
}

static void welcome(struct tl_roster *r, struct look *look,
                    const struct tl_member_entry *entry) {
    struct slot *s = look->count < look->max ? slot_add(r, entry) : NULL;
    if (s != NULL) {
        s->is_listed = true;
        s->is_alive = report(r, look, TL_ROSTER_UP, entry);
    }
}

/* Whether the slot of an entry that is not listed any more may be forgotten. */
static bool miss(struct tl_roster *r, struct look *look, struct slot *s) {
    if (!look->is_complete) {
        s->is_missed = true;
        return false;
    }
    if (!s->is_alive) {
        return true;
    }
    if (s->is_missed) {
        grow_silent(r, look, s);
        return false;
    }
    return report(r, look, TL_ROSTER_GONE, &s->entry);
}

/* Rounded up, so that three looks can make a lease. */
static int64_t count_elapsed(const struct tl_roster *r, int64_t now_ms) {
    int64_t most = ((int64_t)r->lease_ms + 2) / 3;
    int64_t elapsed = r->has_looked ? now_ms - r->looked_ms : 0;
    return elapsed < 0 ? 0 : elapsed > most ? most : elapsed;
}

size_t tl_roster_observe(struct tl_roster *r, int64_t now_ms,
                         const struct tl_member_entry *entries, size_t n,
                         bool is_complete, struct tl_roster_event *events,
                         size_t max_events) {
    struct look look = {.elapsed_ms = count_elapsed(r, now_ms),
                        .is_complete = is_complete,
                        .events = events,
                        .max = max_events};
    r->has_looked = true;
    r->looked_ms = now_ms;
    for (size_t i = 0; i < r->count; i++) {
        r->slots[i].is_listed = false;
    }
    for (size_t i = 0; i < n; i++) {
        struct slot *s = slot_at(r, entries[i].role, entries[i].index);
        if (s == NULL) {
            welcome(r, &look, &entries[i]);
        } else {
            judge(r, &look, s, &entries[i]);
        }
    }
    for (size_t i = r->count; i > 0; i--) {
        if (!r->slots[i - 1].is_listed && miss(r, &look, &r->slots[i - 1])) {
            slot_remove(r, i - 1);
        }
    }
    return look.count;
}

/* ---- reading ------------------------------------------------------------------ */

uint64_t tl_roster_revision(const struct tl_roster *r) {
    return r->revision;
}

int tl_roster_find(const struct tl_roster *r, enum tl_role role, uint32_t index,
                   struct tl_member_entry *ret_entry) {
    const struct slot *s = slot_at(r, role, index);
    if (s == NULL || !s->is_alive) {
        return TL_E_NOTFOUND;
    }
    *ret_entry = s->entry;
    return 0;
}

size_t tl_roster_list(const struct tl_roster *r, struct tl_member_entry *entries,
                      size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < r->count && n < max; i++) {
        if (r->slots[i].is_alive) {
            entries[n++] = r->slots[i].entry;
        }
    }
    return n;
}
