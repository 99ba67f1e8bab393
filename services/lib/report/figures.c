/* figures.c - a run's timeline, added up to the numbers by which runs are compared.
 *
 * A timeline is read as a stranger's: whatever is missing or of another type counts as
 * not known. */
#include "throughline/report.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define KILLS_MAX    512u
#define SERVICES_MAX 1024u
#define UNKNOWN      NAN

struct point {
    double t, accuracy;
};

/* A kill and what followed; times are "t" of events. */
struct failure {
    char service[32];
    double pid; /* of the process that was killed */
    double killed, detected, restarted, recovered, version, resumed_from,
        restore_seconds, resume_seconds, load_seconds, replay_seconds;
};

struct service {
    char name[32];
    double cpu_seconds, resident_bytes, sent_bytes, received_bytes, compute_seconds,
        wait_seconds; /* resident: the most that was seen */
};

struct tl_figures {
    struct point *points; /* every evaluation */
    size_t point_count, point_capacity;
    struct failure failures[KILLS_MAX];
    size_t failure_count;
    struct service *services;
    size_t service_count;
    json_t *last;                 /* the newest sample */
    double last_t;                /* of samples */
    double gigabyte_seconds;      /* of all services' memory */
    double held_gigabyte_seconds; /* of snapshots in the store */
    double snapshots, loss, samples;
};

int tl_figures_new(struct tl_figures **ret_figures) {
    struct tl_figures *f = calloc(1, sizeof(*f));
    struct service *services = calloc(SERVICES_MAX, sizeof(*services));
    if (f == NULL || services == NULL) {
        free(f);
        free(services);
        return tl_fail(TL_E_NOMEM, "no memory for a run's figures");
    }
    f->services = services;
    f->loss = UNKNOWN;
    *ret_figures = f;
    return 0;
}

void tl_figures_free(struct tl_figures *f) {
    if (f != NULL) {
        json_decref(f->last);
        free(f->points);
        free(f->services);
        free(f);
    }
}

static double value(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : UNKNOWN;
}

static double or_zero(double v) {
    return isnan(v) ? 0.0 : v;
}

/* ---- events --------------------------------------------------------------------- */

/* The failure of this service that is not over yet, else NULL. */
static struct failure *open_failure(struct tl_figures *f, const char *service) {
    for (size_t i = f->failure_count; i > 0; i--) {
        struct failure *x = &f->failures[i - 1];
        if (strcmp(x->service, service) == 0) {
            return isnan(x->recovered) ? x : NULL;
        }
    }
    return NULL;
}

static void add_failure(struct tl_figures *f, const char *service, const json_t *line) {
    if (f->failure_count == KILLS_MAX) {
        return;
    }
    struct failure *x = &f->failures[f->failure_count++];
    *x = (struct failure){.pid = value(line, "pid"),
                          .killed = value(line, "t"),
                          .detected = UNKNOWN,
                          .restarted = UNKNOWN,
                          .recovered = UNKNOWN,
                          .version = value(line, "version"),
                          .resumed_from = UNKNOWN,
                          .restore_seconds = UNKNOWN,
                          .resume_seconds = UNKNOWN,
                          .load_seconds = UNKNOWN,
                          .replay_seconds = UNKNOWN};
    (void)snprintf(x->service, sizeof(x->service), "%s", service);
}

/* A chain's head is replaced before it is started again. */
static void note_restart(struct tl_figures *f, const char *service, double t) {
    for (size_t i = f->failure_count; i > 0; i--) {
        struct failure *x = &f->failures[i - 1];
        if (strcmp(x->service, service) == 0) {
            x->restarted = isnan(x->restarted) ? t : x->restarted;
            return;
        }
    }
}

/* Is it about the process that was killed, or about who serves in its place? */
static bool concerns(const struct failure *x, const char *service) {
    return strcmp(x->service, service) == 0 ||
           (strncmp(x->service, "replica/", 8) == 0 &&
            strncmp(service, "server/", 7) == 0);
}

/* A lease was over, or another process has come: lines may come late. */
static void detect(struct tl_figures *f, const char *service, double t) {
    for (size_t i = 0; i < f->failure_count; i++) {
        struct failure *x = &f->failures[i];
        if (isnan(x->detected) && concerns(x, service) && t >= x->killed &&
            (isnan(x->recovered) || t <= x->recovered)) {
            x->detected = t;
        }
    }
}

static void add_event(struct tl_figures *f, const json_t *line) {
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *service = json_string_value(json_object_get(line, "service"));
    if (event == NULL || service == NULL) {
        return;
    }
    struct failure *open = open_failure(f, service);
    if (strcmp(event, "kill") == 0) {
        add_failure(f, service, line);
    } else if (strcmp(event, "snapshot") == 0) {
        f->snapshots++;
    } else if (strcmp(event, "epoch") == 0 || strcmp(event, "down") == 0 ||
               strcmp(event, "back") == 0) {
        detect(f, service, value(line, "t"));
    } else if (strcmp(event, "restart") == 0) {
        note_restart(f, service, value(line, "t"));
    } else if (open != NULL && strcmp(event, "recovered") == 0) {
        open->recovered = value(line, "t");
        open->resumed_from = value(line, "resumed_from");
        open->restore_seconds = value(line, "restore_seconds");
        open->resume_seconds = value(line, "resume_seconds");
    }
}

/* ---- samples -------------------------------------------------------------------- */

static int add_point(struct tl_figures *f, double t, double accuracy) {
    if (f->point_count == f->point_capacity) {
        size_t capacity = f->point_capacity == 0 ? 256 : 2 * f->point_capacity;
        struct point *points = realloc(f->points, capacity * sizeof(*points));
        if (points == NULL) {
            return tl_fail(TL_E_NOMEM, "no memory for a run's evaluations");
        }
        f->points = points;
        f->point_capacity = capacity;
    }
    f->points[f->point_count++] = (struct point){t, accuracy};
    return 0;
}

static struct service *find_service(struct tl_figures *f, const char *name) {
    for (size_t i = 0; i < f->service_count; i++) {
        if (strcmp(f->services[i].name, name) == 0) {
            return &f->services[i];
        }
    }
    if (f->service_count == SERVICES_MAX) {
        return NULL;
    }
    struct service *s = &f->services[f->service_count++];
    (void)snprintf(s->name, sizeof(s->name), "%s", name);
    return s;
}

/* What a server says of its own start, once it is over: the one after the kill. */
static void add_start(struct tl_figures *f, const char *name, const json_t *p) {
    const char *state = json_string_value(json_object_get(p, "state"));
    if (state == NULL || strcmp(state, "serving") != 0) {
        return;
    }
    for (size_t i = f->failure_count; i > 0; i--) {
        struct failure *x = &f->failures[i - 1];
        if (strcmp(x->service, name) != 0) {
            continue;
        }
        const double pid = value(p, "pid");
        const bool is_needed = isnan(x->recovered) || x->restarted < x->recovered;
        if (isnan(x->load_seconds) && !isnan(x->restarted) && is_needed &&
            pid != x->pid) {
            x->load_seconds = value(p, "load_seconds");
            x->replay_seconds = value(p, "replay_seconds");
        }
        return;
    }
}

/* Returns its resident bytes now. */
static double add_process(struct tl_figures *f, const json_t *p) {
    const char *name = json_string_value(json_object_get(p, "service"));
    struct service *s = name != NULL ? find_service(f, name) : NULL;
    if (s == NULL) {
        return 0.0;
    }
    const double resident = or_zero(value(p, "resident_bytes"));
    s->resident_bytes = resident > s->resident_bytes ? resident : s->resident_bytes;
    s->cpu_seconds = or_zero(value(p, "cpu_seconds"));
    s->sent_bytes = or_zero(value(p, "sent_bytes"));
    s->received_bytes = or_zero(value(p, "received_bytes"));
    s->compute_seconds = or_zero(value(p, "compute_seconds"));
    s->wait_seconds = or_zero(value(p, "wait_seconds"));
    add_start(f, name, p);
    return resident;
}

static int add_sample(struct tl_figures *f, const json_t *line) {
    const double t = or_zero(value(line, "t"));
    const double accuracy = value(line, "accuracy");
    double resident = 0.0;
    size_t i = 0;
    const json_t *p = NULL;
    json_array_foreach(json_object_get(line, "processes"), i, p) {
        resident += add_process(f, p);
    }
    if (f->samples > 0 && t > f->last_t) {
        const double held =
            value(json_object_get(line, "backends"), "store_held_bytes");
        f->gigabyte_seconds += resident / 1e9 * (t - f->last_t);
        f->held_gigabyte_seconds += or_zero(held) / 1e9 * (t - f->last_t);
    }
    f->last_t = t > f->last_t ? t : f->last_t;
    f->samples++;
    json_decref(f->last);
    f->last = json_deep_copy(line);
    if (isnan(accuracy)) {
        return 0;
    }
    f->loss = value(line, "loss");
    return add_point(f, t, accuracy);
}

int tl_figures_add(struct tl_figures *f, const json_t *line) {
    const char *kind = json_string_value(json_object_get(line, "kind"));
    if (kind != NULL && strcmp(kind, "sample") == 0) {
        return add_sample(f, line);
    }
    if (kind != NULL && strcmp(kind, "event") == 0) {
        add_event(f, line);
    }
    return 0;
}

/* ---- what it comes to ------------------------------------------------------------ */

static void put(json_t *object, const char *key, double v) {
    (void)json_object_set_new(object, key, isfinite(v) ? json_real(v) : json_null());
}

static double accuracy_before(const struct tl_figures *f, double t) {
    double accuracy = UNKNOWN;
    for (size_t i = 0; i < f->point_count && f->points[i].t <= t; i++) {
        accuracy = f->points[i].accuracy;
    }
    return accuracy;
}

/* After a kill: the lowest accuracy until it is regained, and when that was. */
static void put_dip(json_t *object, const struct tl_figures *f, double killed) {
    const double before = accuracy_before(f, killed);
    double lowest = before;
    double regained = UNKNOWN;
    for (size_t i = 0; i < f->point_count && isnan(regained); i++) {
        const struct point *p = &f->points[i];
        if (p->t > killed) {
            lowest = p->accuracy < lowest ? p->accuracy : lowest;
            regained = p->accuracy >= before ? p->t : UNKNOWN;
        }
    }
    put(object, "accuracy_before", before);
    put(object, "accuracy_lost", before - lowest);
    put(object, "regain_seconds", regained - killed);
}

/* From the restart until it serves: its process and membership, the snapshot, the log.
 */
static void put_restore(json_t *o, const struct failure *x) {
    put(o, "start_seconds", x->restore_seconds - x->load_seconds - x->replay_seconds);
    put(o, "load_seconds", x->load_seconds);
    put(o, "replay_seconds", x->replay_seconds);
    put(o, "restore_seconds", x->restore_seconds);
}

static json_t *failure_json(const struct tl_figures *f, const struct failure *x) {
    json_t *o = json_pack("{s:s}", "service", x->service);
    put(o, "seconds", x->killed);
    put(o, "version", x->version);
    put(o, "resumed_from", x->resumed_from);
    put(o, "down_seconds", x->restarted - x->killed);
    put(o, "detection_seconds", x->detected - x->killed);
    put_restore(o, x);
    put(o, "resume_seconds", x->resume_seconds);
    put(o, "recovery_seconds", x->recovered - x->killed);
    put_dip(o, f, x->killed);
    return o;
}

static double mean_of(const json_t *kills, const char *key) {
    double sum = 0.0;
    size_t i = 0;
    const json_t *kill = NULL;
    json_array_foreach(kills, i, kill) {
        sum += value(kill, key);
    }
    return i > 0 ? sum / (double)i : UNKNOWN;
}

/* Over a run's kills: the mean times, the most accuracy lost. */
static void put_failures(json_t *o, const struct tl_figures *f) {
    static const char *const times[] = {
        "recovery_seconds", "down_seconds",   "detection_seconds", "start_seconds",
        "load_seconds",     "replay_seconds", "resume_seconds",    "regain_seconds"};
    json_t *kills = json_array();
    double lost = f->failure_count > 0 ? 0.0 : UNKNOWN;
    for (size_t i = 0; i < f->failure_count; i++) {
        json_t *kill = failure_json(f, &f->failures[i]);
        const double dip = value(kill, "accuracy_lost");
        lost = dip > lost ? dip : lost;
        (void)json_array_append_new(kills, kill);
    }
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        put(o, times[i], mean_of(kills, times[i]));
    }
    put(o, "accuracy_lost", lost);
    (void)json_object_set_new(o, "kills", kills);
}

#define FIELD(field)                                                                   \
    { #field, offsetof(struct service, field) }
static const struct {
    const char *key;
    size_t offset;
} service_fields[] = {
    FIELD(cpu_seconds),    FIELD(resident_bytes),  FIELD(sent_bytes),
    FIELD(received_bytes), FIELD(compute_seconds), FIELD(wait_seconds),
};
#undef FIELD

static double field_of(const struct service *s, size_t offset) {
    return *(const double *)(const void *)((const char *)s + offset);
}

static json_t *service_json(const struct service *s) {
    json_t *row = json_pack("{s:s}", "service", s->name);
    for (size_t i = 0; i < sizeof(service_fields) / sizeof(service_fields[0]); i++) {
        put(row, service_fields[i].key, field_of(s, service_fields[i].offset));
    }
    return row;
}

static double sum_of(const struct tl_figures *f, size_t offset) {
    double sum = f->service_count > 0 ? 0.0 : UNKNOWN;
    for (size_t i = 0; i < f->service_count; i++) {
        sum += field_of(&f->services[i], offset);
    }
    return sum;
}

static void put_services(json_t *o, const struct tl_figures *f) {
    json_t *services = json_array();
    for (size_t i = 0; i < f->service_count; i++) {
        (void)json_array_append_new(services, service_json(&f->services[i]));
    }
    for (size_t i = 0; i < sizeof(service_fields) / sizeof(service_fields[0]); i++) {
        put(o, service_fields[i].key, sum_of(f, service_fields[i].offset));
    }
    const double waited = sum_of(f, offsetof(struct service, wait_seconds));
    const double computed = sum_of(f, offsetof(struct service, compute_seconds));
    put(o, "idle_share", waited / (waited + computed));
    (void)json_object_set_new(o, "services", services);
}

static double cpu_of(const struct tl_figures *f, const char *name) {
    for (size_t i = 0; i < f->service_count; i++) {
        if (strcmp(f->services[i].name, name) == 0) {
            return f->services[i].cpu_seconds;
        }
    }
    return UNKNOWN;
}

static double seconds_to(const struct tl_figures *f, double accuracy) {
    for (size_t i = 0; i < f->point_count; i++) {
        if (f->points[i].accuracy >= accuracy) {
            return f->points[i].t;
        }
    }
    return UNKNOWN;
}

static void put_learning(json_t *o, const struct tl_figures *f) {
    static const struct {
        const char *key;
        double accuracy;
    } goals[] = {{"seconds_to_70", .7},
                 {"seconds_to_80", .8},
                 {"seconds_to_85", .85},
                 {"seconds_to_90", .9}};
    const size_t n = f->point_count;
    put(o, "accuracy", n > 0 ? f->points[n - 1].accuracy : UNKNOWN);
    put(o, "loss", f->loss);
    for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
        put(o, goals[i].key, seconds_to(f, goals[i].accuracy));
    }
}

/* The counters of the last sample's `group`, under their own names. */
static void put_counters(json_t *o, const struct tl_figures *f, const char *group) {
    const char *key = NULL;
    json_t *count = NULL;
    json_object_foreach(json_object_get(f->last, group), key, count) {
        (void)json_object_set(o, key, count);
    }
}

static void put_gradients(json_t *o, const struct tl_figures *f) {
    const json_t *gradients = json_object_get(f->last, "gradients");
    put_counters(o, f, "gradients");
    json_t *staleness = json_object_get(f->last, "staleness");
    if (staleness != NULL) {
        (void)json_object_set(o, "staleness", staleness);
    }
    put(o, "gradients_per_second", value(gradients, "acknowledged") / f->last_t);
}

/* Of one core: what evaluating took, and what the monitor does besides. */
static void put_monitor(json_t *o, const struct tl_figures *f) {
    const double evaluated = value(f->last, "evaluate_cpu_seconds");
    put(o, "evaluate_share", evaluated / f->last_t);
    put(o, "watch_share", (cpu_of(f, "monitor") - evaluated) / f->last_t);
}

json_t *tl_figures_json(const struct tl_figures *f) {
    json_t *o = json_object();
    put_learning(o, f);
    put_gradients(o, f);
    put_counters(o, f, "backends");
    put_services(o, f);
    put_failures(o, f);
    put(o, "seconds", f->samples > 0 ? f->last_t : UNKNOWN);
    put(o, "updates", value(f->last, "version"));
    put(o, "snapshots", f->snapshots);
    put(o, "gigabyte_seconds", f->gigabyte_seconds);
    put(o, "held_gigabyte_seconds", f->held_gigabyte_seconds);
    put_monitor(o, f);
    return o;
}
