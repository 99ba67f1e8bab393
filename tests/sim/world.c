/* world.c - time, events, random numbers, the trace. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers ---------------------------------------------------------------
 */

uint64_t sim_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *s, uint64_t n) {
    return sim_random(&s->random) % n;
}

bool sim_chance(struct sim *s, uint64_t percent) {
    return sim_below(s, 100) < percent;
}

/* Mostly quick, sometimes a quarter of a lease. */
int64_t sim_delay(struct sim *s) {
    return 1 +
           (int64_t)(sim_chance(s, 95) ? sim_below(s, 4) : sim_below(s, SIM_LEASE / 4));
}

/* ---- events: a heap by time, then by the order in which they were made --------------
 */

static bool is_before(const struct sim_event *a, const struct sim_event *b) {
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct sim *s, struct sim_event event) {
    if (s->heap_count == s->heap_capacity) {
        s->heap_capacity = s->heap_capacity == 0 ? 256 : 2 * s->heap_capacity;
        s->heap = realloc(s->heap, s->heap_capacity * sizeof(*s->heap));
        if (s->heap == NULL) {
            abort();
        }
    }
    size_t i = s->heap_count++;
    while (i > 0 && is_before(&event, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = event;
}

void sim_at(struct sim *s, int64_t delay, struct sim_event event) {
    event.at = s->now + delay;
    event.order = s->order++;
    push(s, event);
}

void sim_put_off(struct sim *s, int64_t until, struct sim_event event) {
    event.at = until;
    push(s, event);
}

bool sim_pop(struct sim *s, struct sim_event *ret) {
    if (s->heap_count == 0) {
        return false;
    }
    *ret = s->heap[0];
    struct sim_event last = s->heap[--s->heap_count];
    size_t i = 0;
    for (size_t child = 1; child < s->heap_count; child = 2 * i + 1) {
        if (child + 1 < s->heap_count &&
            is_before(&s->heap[child + 1], &s->heap[child])) {
            child++;
        }
        if (!is_before(&s->heap[child], &last)) {
            break;
        }
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return true;
}

/* ---- the trace
 * ------------------------------------------------------------------------ */

static void keep(struct sim *s, const char *line) {
    size_t length = strlen(line);
    if (s->trace != NULL && s->trace_size + length + 1 < SIM_TRACE_MAX * 16) {
        memcpy(s->trace + s->trace_size, line, length + 1);
        s->trace_size += length;
    }
}

void sim_trace(struct sim *s, const char *fmt, ...) {
    for (const char *p = fmt; !s->is_told && *p != '\0'; p++) {
        s->trace_hash = (s->trace_hash ^ (uint64_t)(unsigned char)*p) * 1099511628211u;
    }
    if (!s->is_told) {
        s->trace_hash = (s->trace_hash ^ (uint64_t)s->now) * 1099511628211u;
        return;
    }
    char text[400], line[440];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)snprintf(line, sizeof(line), "%6lld  %s\n", (long long)s->now, text);
    keep(s, line);
    for (const char *p = line; *p != '\0'; p++) {
        s->trace_hash = (s->trace_hash ^ (uint64_t)(unsigned char)*p) * 1099511628211u;
    }
}

void sim_fail(struct sim *s, const char *invariant, const char *fmt, ...) {
    char text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sim_trace(s, "BROKEN %s: %s", invariant, text);
    if (!s->has_failed) {
        s->has_failed = true;
        (void)snprintf(s->invariant, sizeof(s->invariant), "%s", invariant);
        (void)snprintf(s->verdict, sizeof(s->verdict), "%s: %s", invariant, text);
    }
}
