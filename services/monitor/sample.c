/* sample.c - one line of the timeline: everything that is known at this moment.
 *
 * The fields are documented in docs/timeline.md. What is not known is null, never a
 * guess; tallies keep the last value that was read. */
#include "monitor.h"

/* Services listed in one line, which the timeline bounds to 64 KiB. */
#define LISTED_MAX 150u

static double total(const struct monitor_counter *c) {
    return c->before + c->now;
}

/* Whole numbers as such: a reader need not guess whether 3.0 is a count. */
static json_t *whole(double v) {
    return json_integer((json_int_t)v);
}

#define ALL_SHARDS UINT32_MAX

/* What one shard, or the largest of all, has counted. */
static void add_tallies(const struct monitor *m, uint32_t shard, json_t *o) {
    const struct monitor_processes *p = &m->processes;
#define LARGEST(field, metric)                                                         \
    {                                                                                  \
        double most = 0.0;                                                             \
        for (size_t i = 0; i < p->count; i++) {                                        \
            bool counts =                                                              \
                shard == ALL_SHARDS || monitor_holds_shard(m, &p->list[i], shard);     \
            most = counts && p->list[i].field > most ? p->list[i].field : most;        \
        }                                                                              \
        (void)json_object_set_new(o, #field, whole(most));                             \
    }
    MONITOR_SERVER_TALLIES(LARGEST)
#undef LARGEST
}

static json_t *gradients(const struct monitor *m) {
    const struct monitor_processes *p = &m->processes;
    json_t *o = json_object();
    json_t *shards = json_array();
#define SUM(field, metric)                                                             \
    {                                                                                  \
        double sum = 0.0;                                                              \
        for (size_t i = 0; i < p->count; i++) {                                        \
            sum += total(&p->list[i].field);                                           \
        }                                                                              \
        (void)json_object_set_new(o, #field, whole(sum));                              \
    }
    MONITOR_WORKER_COUNTERS(SUM)
#undef SUM
    add_tallies(m, ALL_SHARDS, o);
    for (uint32_t i = 0; i < m->job.shards; i++) {
        json_t *one = json_object();
        add_tallies(m, i, one);
        (void)json_array_append_new(shards, one);
    }
    (void)json_object_set_new(o, "shards", shards);
    return o;
}

/* What all services together asked of Redis, Kafka and the store. */
static json_t *backends(const struct monitor_processes *p) {
    json_t *o = json_object();
    double held = 0.0;
#define SUM(field, metric, labels)                                                     \
    {                                                                                  \
        double sum = 0.0;                                                              \
        for (size_t i = 0; i < p->count; i++) {                                        \
            sum += total(&p->list[i].field);                                           \
        }                                                                              \
        (void)json_object_set_new(o, #field, whole(sum));                              \
    }
    MONITOR_BACKEND_COUNTERS(SUM)
#undef SUM
    for (size_t i = 0; i < p->count; i++) {
        held += p->list[i].held_bytes;
    }
    (void)json_object_set_new(o, "store_held_bytes", whole(held));
    return o;
}

/* Who has folded most of shard 0; NULL: nobody was seen. */
static const struct monitor_process *first_server(const struct monitor *m) {
    const struct monitor_processes *p = &m->processes;
    const struct monitor_process *most = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const struct monitor_process *s = &p->list[i];
        if (monitor_holds_shard(m, s, 0) &&
            (most == NULL || total(&s->staleness[MONITOR_STALENESS_BOUNDS]) >
                                 total(&most->staleness[MONITOR_STALENESS_BOUNDS]))) {
            most = s;
        }
    }
    return most;
}

/* Shard 0's: the shards fold the same gradients. From cumulative counts to one count
 * for each range. */
static json_t *staleness(const struct monitor *m) {
    const struct monitor_process *server = first_server(m);
    if (server == NULL) {
        return json_null();
    }
    json_t *bounds = json_array();
    json_t *counts = json_array();
    double below = 0.0;
    for (size_t i = 0; i <= MONITOR_STALENESS_BOUNDS; i++) {
        double up_to = total(&server->staleness[i]);
        (void)json_array_append_new(counts, whole(up_to - below));
        below = up_to;
        if (i < MONITOR_STALENESS_BOUNDS) {
            (void)json_array_append_new(bounds,
                                        whole((double)monitor_staleness_bounds[i]));
        }
    }
    return json_pack("{s:o, s:o}", "up_to", bounds, "count", counts);
}

static const char *state_name(const struct monitor_process *s) {
    static const char *const names[] = {"starting", "serving", "leaving"};
    if (!s->is_alive) {
        return s->has_left ? "gone" : "down";
    }
    return names[s->entry.state <= TL_MEMBER_LEAVING ? s->entry.state : 0];
}

/* What only who holds a shard has to say. */
static void add_shard(const struct monitor *m, const struct monitor_process *s,
                      json_t *o) {
    const uint32_t replicas = tl_job_replicas(&m->job);
    if (s->role == TL_ROLE_REPLICA && replicas > 0) {
        (void)json_object_set_new(o, "shard",
                                  json_integer((json_int_t)(s->index / replicas)));
        (void)json_object_set_new(o, "position",
                                  s->position != NULL ? json_string(s->position)
                                                      : json_null());
        (void)json_object_set_new(o, "place", json_integer((json_int_t)s->place));
    }
    if ((s->role == TL_ROLE_SERVER || s->role == TL_ROLE_REPLICA) && s->is_measured) {
        (void)json_object_set_new(o, "load_seconds", json_real(s->load_seconds));
        (void)json_object_set_new(o, "replay_seconds", json_real(s->replay_seconds));
    }
    if (s->has_lag) {
        (void)json_object_set_new(o, "lag", whole(s->lag));
    }
}

static json_t *process(const struct monitor *m, const struct monitor_process *s) {
    char service[MONITOR_NAME_MAX];
    monitor_name(s->role, s->index, service);
    json_t *o =
        json_pack("{s:s, s:s, s:i, s:I, s:I, s:f, s:o, s:o, s:o}", "service", service,
                  "state", state_name(s), "pid", (int)s->entry.pid, "version",
                  (json_int_t)s->entry.version, "epoch", (json_int_t)s->entry.epoch,
                  "cpu_seconds", total(&s->cpu_seconds), "resident_bytes",
                  s->is_measured ? whole(s->resident_bytes) : json_null(), "sent_bytes",
                  whole(total(&s->sent_bytes)), "received_bytes",
                  whole(total(&s->received_bytes)));
    add_shard(m, s, o);
    if (s->role == TL_ROLE_WORKER) {
        (void)json_object_set_new(o, "compute_seconds",
                                  json_real(total(&s->compute_seconds)));
        (void)json_object_set_new(o, "wait_seconds",
                                  json_real(total(&s->wait_seconds)));
    }
    return o;
}

/* Our own are those of this moment, an evaluation after the others'. */
static void measure_self(struct monitor *m) {
    struct monitor_process *self =
        monitor_processes_find(&m->processes, TL_ROLE_MONITOR, m->service.index);
    uint64_t resident = 0;
    if (self != NULL) {
        tl_process_usage(&self->cpu_seconds.now, &resident);
        self->resident_bytes = (double)resident;
    }
}

static json_t *processes(const struct monitor *m) {
    const struct monitor_processes *p = &m->processes;
    json_t *list = json_array();
    for (size_t i = 0; i < p->count && json_array_size(list) < LISTED_MAX; i++) {
        if (!monitor_is_double(m, p->list[i].role)) {
            (void)json_array_append_new(list, process(m, &p->list[i]));
        }
    }
    return list;
}

/* Takes ownership of `value`, and replaces it by null when it is not known. */
static json_t *known(bool is_known, json_t *value) {
    if (is_known) {
        return value;
    }
    json_decref(value);
    return json_null();
}

/* What the evaluation found; null throughout when there was none. */
static json_t *evaluation(const struct monitor *m, const struct monitor_score *score) {
    bool k = score->known;
    return json_pack(
        "{s:o, s:o, s:o, s:f, s:f}", "accuracy", known(k, json_real(score->accuracy)),
        "loss", known(k, json_real(score->loss)), "examples",
        known(k, json_integer((json_int_t)score->examples)), "evaluate_seconds",
        score->seconds, "evaluate_cpu_seconds", m->evaluate_cpu_seconds);
}

/* What the services announced and said of themselves. */
static json_t *measurement(const struct monitor *m) {
    const struct monitor_processes *p = &m->processes;
    size_t omitted = p->count > LISTED_MAX ? p->count - LISTED_MAX : 0;
    bool has_redis = m->member != NULL && tl_member_is_connected(m->member);
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:I}", "redis", has_redis, "gradients",
                     gradients(m), "backends", backends(p), "staleness", staleness(m),
                     "processes", processes(m), "processes_omitted",
                     (json_int_t)omitted);
}

void monitor_sample_write(struct monitor *m, const struct monitor_score *score,
                          bool is_final) {
    uint64_t version = score->known ? score->version : m->announced;
    measure_self(m);
    json_t *line = json_pack(
        "{s:s, s:b, s:o, s:o}", "kind", "sample", "final", is_final, "version",
        known(score->known || m->is_announced, json_integer((json_int_t)version)),
        "announced_version",
        known(m->is_announced, json_integer((json_int_t)m->announced)));
    json_t *parts[] = {evaluation(m, score), measurement(m)};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        (void)json_object_update(line, parts[i]);
        json_decref(parts[i]);
    }
    monitor_write(m, score->known ? score->pulled_at : m->measured_at, line);
}
