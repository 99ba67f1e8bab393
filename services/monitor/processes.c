/* processes.c - who is there, and what each says of itself.
 *
 * The roster tells who is alive and where its metrics are. Services come back under the
 * same role and index with counters that start again from nothing: what their former
 * lives had counted is kept here. A service that does not answer costs half a second at
 * most, and all of them together a bounded time. */
#include "monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MS 500
#define TOTAL_MS  2000

const unsigned monitor_staleness_bounds[MONITOR_STALENESS_BOUNDS] = {
    0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};

void monitor_name(enum tl_role role, uint32_t index, char name[MONITOR_NAME_MAX]) {
    bool is_one_of_many = role == TL_ROLE_SERVER || role == TL_ROLE_REPLICA ||
                          role == TL_ROLE_WORKER || index > 0;
    (void)snprintf(name, MONITOR_NAME_MAX, is_one_of_many ? "%s/%u" : "%s",
                   tl_role_name(role), index);
}

int monitor_processes_init(struct monitor_processes *p) {
    *p = (struct monitor_processes){0};
    p->roster = calloc(TL_MEMBERS_MAX, sizeof(*p->roster));
    return p->roster != NULL ? 0 : tl_fail(TL_E_NOMEM, "no memory for a roster");
}

void monitor_processes_done(struct monitor_processes *p) {
    free(p->list);
    free(p->roster);
}

static struct monitor_process *append(struct monitor_processes *p) {
    if (p->count == p->capacity) {
        size_t capacity = p->capacity == 0 ? 16 : 2 * p->capacity;
        struct monitor_process *list = p->count < TL_MEMBERS_MAX
                                           ? realloc(p->list, capacity * sizeof(*list))
                                           : NULL;
        if (list == NULL) {
            return NULL;
        }
        p->list = list;
        p->capacity = capacity;
    }
    return &p->list[p->count++];
}

struct monitor_process *monitor_processes_find(struct monitor_processes *p,
                                               enum tl_role role, uint32_t index) {
    for (size_t i = 0; i < p->count; i++) {
        if (p->list[i].role == role && p->list[i].index == index) {
            return &p->list[i];
        }
    }
    struct monitor_process *s = append(p);
    if (s != NULL) {
        *s = (struct monitor_process){.role = role, .index = index};
    }
    return s;
}

static void count(struct monitor_counter *c, const char *text, const char *metric,
                  const char *labels) {
    double v = 0.0;
    if (!tl_metrics_find(text, metric, labels, &v)) {
        return;
    }
    if (v < c->now) {
        c->before += c->now;
    }
    c->now = v;
}

static void count_staleness(struct monitor_process *s, const char *text) {
    for (size_t i = 0; i < MONITOR_STALENESS_BOUNDS; i++) {
        char label[32];
        (void)snprintf(label, sizeof(label), "le=\"%u\"", monitor_staleness_bounds[i]);
        count(&s->staleness[i], text, "throughline_gradient_staleness_bucket", label);
    }
    count(&s->staleness[MONITOR_STALENESS_BOUNDS], text,
          "throughline_gradient_staleness_count", NULL);
}

static void read_metrics(struct monitor_process *s, const char *text) {
    count(&s->cpu_seconds, text, "process_cpu_seconds_total", NULL);
    (void)tl_metrics_find(text, "process_resident_memory_bytes", NULL,
                          &s->resident_bytes);
    count(&s->sent_bytes, text, "throughline_sent_bytes_total", NULL);
    count(&s->received_bytes, text, "throughline_received_bytes_total", NULL);
    (void)tl_metrics_find(text, "throughline_snapshot_held_bytes", NULL,
                          &s->held_bytes);
    (void)tl_metrics_find(text, "throughline_log_position", NULL, &s->log_position);
    (void)tl_metrics_find(text, "throughline_load_seconds", NULL, &s->load_seconds);
    (void)tl_metrics_find(text, "throughline_replay_seconds", NULL, &s->replay_seconds);
    count(&s->wait_seconds, text, "throughline_worker_wait_seconds_total", NULL);
    count(&s->compute_seconds, text, "throughline_worker_compute_seconds_total", NULL);
#define READ(field, metric) count(&s->field, text, metric, NULL);
    MONITOR_WORKER_COUNTERS(READ)
#undef READ
#define READ(field, metric, labels) count(&s->field, text, metric, labels);
    MONITOR_BACKEND_COUNTERS(READ)
#undef READ
#define READ(field, metric) (void)tl_metrics_find(text, metric, NULL, &s->field);
    MONITOR_SERVER_TALLIES(READ)
#undef READ
    count_staleness(s, text);
}

static void measure(struct monitor_process *s, int64_t deadline_ms) {
    int64_t now_ms = tl_now_ms();
    if (s->entry.http[0] == '\0' || now_ms >= deadline_ms) {
        return;
    }
    int64_t answer_ms = now_ms + ANSWER_MS;
    char *text = NULL;
    if (tl_metrics_fetch(s->entry.http,
                         answer_ms < deadline_ms ? answer_ms : deadline_ms,
                         &text) == 0) {
        s->is_measured = true;
        read_metrics(s, text);
        free(text);
    }
}

static void measure_all(struct monitor *m) {
    struct monitor_processes *p = &m->processes;
    size_t n =
        m->member != NULL ? tl_member_list(m->member, p->roster, TL_MEMBERS_MAX) : 0;
    int64_t deadline_ms = tl_now_ms() + TOTAL_MS;
    for (size_t i = 0; i < p->count; i++) {
        p->list[i].is_alive = false;
        p->list[i].is_measured = false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct tl_member_entry *e = &p->roster[i];
        struct monitor_process *s = e->role != TL_ROLE_CLI
                                        ? monitor_processes_find(p, e->role, e->index)
                                        : NULL;
        if (s != NULL) {
            s->entry = *e;
            s->is_alive = true;
            s->has_left = false;
        }
        if (s != NULL && !monitor_is_double(m, e->role)) {
            measure(s, deadline_ms);
        }
    }
}

bool monitor_announced_version(const struct monitor *m, uint64_t *ret_version) {
    uint64_t lowest = UINT64_MAX;
    for (uint32_t s = 0; s < m->job.shards; s++) {
        struct tl_member_entry e;
        if (m->member == NULL ||
            tl_member_find(m->member, TL_ROLE_SERVER, s, &e) != 0) {
            return false;
        }
        lowest = e.version < lowest ? e.version : lowest;
    }
    *ret_version = lowest;
    return true;
}

void monitor_measure(struct monitor *m) {
    tl_health_beat();
    measure_all(m);
    monitor_chain_measure(m);
    monitor_lag_measure(m);
    m->measured_at = tl_now_seconds();
    m->is_announced = monitor_announced_version(m, &m->announced);
}
