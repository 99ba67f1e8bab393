/* monitor.h - what the files of tl-monitor share.
 *
 *   main.c       settings, start, exit code
 *   loop.c       when to sample, when the job is over
 *   observe.c    the newest weights, and what they score on the test set
 *   processes.c  who is there, and what each says of itself
 *   chain.c      who has which place in a chain
 *   lag.c        how far servers are behind a durable log
 *   sample.c     all of that as one line of the timeline
 *   events.c     comings and goings as lines of the timeline
 *   timeline.c   lines on their way to the file, and from it to the dashboard
 *   site.c       the dashboard; control.c what may be asked there
 *   gauges.c     what /metrics says
 */
#ifndef THROUGHLINE_MONITOR_H
#define THROUGHLINE_MONITOR_H

#include "throughline/client.h"
#include "throughline/data.h"
#include "throughline/job.h"
#include "throughline/log.h"
#include "throughline/member.h"
#include "throughline/nn.h"
#include "throughline/page.h"
#include "throughline/service.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct monitor_options {
    char timeline[TL_PATH_MAX];
    char servers[TL_PATH_MAX * 4];
};

/* ---- observe.c --------------------------------------------------------- */

/* What one version of the weights scored; `known` is false when none could be had. */
struct monitor_score {
    bool known;
    uint64_t version;  /* lowest among the shards */
    double pulled_at;  /* tl_now_seconds() */
    double accuracy;   /* right answers / examples */
    double loss;       /* mean cross-entropy */
    uint64_t examples; /* of the test set, from its start */
    double seconds;    /* that the evaluation took */
};

struct monitor_observer;
TL_MUST_USE int monitor_observer_new(const struct tl_job *job,
                                     const struct tl_service_options *service,
                                     const char *servers,
                                     struct monitor_observer **ret_observer);
void monitor_observer_free(struct monitor_observer *o); /* NULL is legal */
/* Of the job's model. */
uint64_t monitor_observer_parameters(const struct monitor_observer *o);
/* Between two chunks of an evaluation: do what cannot wait, and tell whether to go on.
 */
struct monitor_pause {
    bool (*proceed)(void *ctx);
    void *ctx;
};

/* Pull and score. TL_E_ENDED, when the servers say so, comes with a score if there were
 * weights; TL_E_INTERRUPTED when `pause` said no; other errors leave it unknown.
 *   whole  score on the whole test set, whatever the job says */
TL_MUST_USE int monitor_observe(struct monitor_observer *o, bool whole,
                                const struct monitor_pause *pause,
                                struct monitor_score *ret_score);

/* ---- processes.c ------------------------------------------------------- */

/* "server/0", "worker/1"; of what a run has only one, "checkpointer" and "monitor". */
#define MONITOR_NAME_MAX 32u
void monitor_name(enum tl_role role, uint32_t index, char name[MONITOR_NAME_MAX]);

/* A counter over all the lives of a process that were seen: it starts again from 0 in
 * each of them. */
struct monitor_counter {
    double before; /* of former lives */
    double now;
};

/* X(field, metric): counters of workers, summed over them. */
#define MONITOR_WORKER_COUNTERS(X)                                                     \
    X(computed, "throughline_gradients_computed_total")                                \
    X(acknowledged, "throughline_gradients_acknowledged_total")                        \
    X(resent, "throughline_gradients_resent_total")                                    \
    X(refused, "throughline_gradients_refused_total")

/* X(field, metric): tallies in a shard's state; the largest among the shards counts. */
#define MONITOR_SERVER_TALLIES(X)                                                      \
    X(folded, "throughline_gradients_folded_total")                                    \
    X(lost, "throughline_gradients_lost_total")                                        \
    X(duplicated, "throughline_gradients_duplicated_total")                            \
    X(stale, "throughline_gradients_stale_total")                                      \
    X(late, "throughline_gradients_late_total")                                        \
    X(nonfinite, "throughline_gradients_nonfinite_total")                              \
    X(missing, "throughline_contributions_missing_total")

/* X(field, metric, labels): what services asked of the stores that the job lives on;
 * summed over all. */
#define MONITOR_BACKEND_COUNTERS(X)                                                    \
    MONITOR_BACKEND(X, redis)                                                          \
    MONITOR_BACKEND(X, kafka)                                                          \
    MONITOR_BACKEND(X, store)
#define MONITOR_BACKEND(X, name)                                                       \
    X(name##_reads, "throughline_backend_requests_total",                              \
      "backend=\"" #name "\",op=\"read\"")                                             \
    X(name##_writes, "throughline_backend_requests_total",                             \
      "backend=\"" #name "\",op=\"write\"")                                            \
    X(name##_read_bytes, "throughline_backend_bytes_total",                            \
      "backend=\"" #name "\",op=\"read\"")                                             \
    X(name##_write_bytes, "throughline_backend_bytes_total",                           \
      "backend=\"" #name "\",op=\"write\"")

/* Upper bounds of the servers' histogram of staleness. */
#define MONITOR_STALENESS_BOUNDS 11u
extern const unsigned monitor_staleness_bounds[MONITOR_STALENESS_BOUNDS];

/* A service, as far as it is known: alive or not, its last numbers stay. */
struct monitor_process {
    enum tl_role role;
    uint32_t index;
    bool has_started; /* an event has told of it */
    bool is_up;       /* by that event; and which life that was about: */
    int32_t pid;
    uint64_t incarnation;
    bool is_alive;
    bool has_left;    /* deregistered in order */
    bool is_measured; /* answered at the last sample */
    struct tl_member_entry entry;
    struct monitor_counter cpu_seconds, sent_bytes, received_bytes, wait_seconds,
        compute_seconds;
    double resident_bytes;
    double held_bytes;                   /* a checkpointer's, in the store */
    double load_seconds, replay_seconds; /* a server's, at its start */
    double log_position;                 /* a server's */
    const char *position; /* a replica's, in its chain: "head", ...; NULL: none */
    uint32_t place;       /* ... counted from the head */
    bool has_lag;
    double lag; /* a server's: records in its log that it has not folded */
#define FIELD(field, metric) struct monitor_counter field;
    MONITOR_WORKER_COUNTERS(FIELD)
#undef FIELD
#define FIELD(field, metric, labels) struct monitor_counter field;
    MONITOR_BACKEND_COUNTERS(FIELD)
#undef FIELD
#define FIELD(field, metric) double field;
    MONITOR_SERVER_TALLIES(FIELD)
#undef FIELD
    struct monitor_counter staleness[MONITOR_STALENESS_BOUNDS + 1]; /* cumulative */
};

struct monitor_processes {
    struct monitor_process *list; /* in order of appearance */
    size_t count, capacity;
    struct tl_member_entry *roster; /* scratch */
};

TL_MUST_USE int monitor_processes_init(struct monitor_processes *p);
void monitor_processes_done(struct monitor_processes *p);
/* The entry of (role, index), added when new; NULL: no room. */
struct monitor_process *monitor_processes_find(struct monitor_processes *p,
                                               enum tl_role role, uint32_t index);

/* ---- events.c ---------------------------------------------------------- */

/* Roster events on their way from the membership's thread to the timeline. */
struct monitor_events;
TL_MUST_USE int monitor_events_new(struct monitor_events **ret_events);
void monitor_events_free(struct monitor_events *e); /* NULL is legal */
/* tl_member_config.on_event; ctx is the monitor_events. */
void monitor_events_put(void *ctx, const struct tl_roster_event *event);

/* ---- control.c --------------------------------------------------------- */

/* May a viewer ask for anything? */
bool monitor_control_open(void);
/* tl_http_site.post: pass "/control/kill/server/0" on to the run. */
unsigned monitor_control_post(void *ctx, const char *path, const char *token);

/* ---- everything -------------------------------------------------------- */

struct monitor_gauges;

struct monitor {
    struct tl_service_options service;
    struct monitor_options options;
    struct tl_job job;
    struct monitor_observer *observer;
    struct tl_member *member; /* NULL: no Redis */
    struct tl_log *log;       /* NULL: no durable one, or not opened */
    bool has_tried_log;
    struct monitor_events *events;
    struct monitor_processes processes;
    struct monitor_gauges *gauges;
    struct tl_timeline *timeline;      /* /dev/null when none is to be kept */
    struct tl_timeline_reader *reader; /* what all write there; NULL: none is kept */
    struct tl_page_feed *feed;
    struct tl_http *http; /* NULL: off */
    double woken_at;      /* tl_now_seconds() when viewers were woken last */
    bool is_timeline_failing;
    double measured_at; /* tl_now_seconds() of the last monitor_measure() */
    bool is_announced;  /* and what the servers announced then */
    uint64_t announced;
    int observed; /* outcome of the last monitor_observe(); logged when it changes */
    struct monitor_score score;  /* the last known */
    double started_at;           /* tl_now_seconds() */
    double evaluate_cpu_seconds; /* of all evaluations, pulling included */
    uint64_t snapshot_version;   /* the newest announced */
    bool is_over;                /* the job */
    bool is_finishing;           /* the last evaluation is on */
};

/* events.c: write what has come since the last call, snapshots included. */
void monitor_events_write(struct monitor *m);
/* processes.c: look at the roster, and ask every service in it for its metrics, within
 * 2 s; remember when that was. */
void monitor_measure(struct monitor *m);
/* chain.c: is this entry another name of a process that has an entry of its own? */
bool monitor_is_double(const struct monitor *m, enum tl_role role);
/* Does it hold the shard's state, as its server or one of its replicas? */
bool monitor_holds_shard(const struct monitor *m, const struct monitor_process *s,
                         uint32_t shard);
/* ... and ask Redis for the chains' configurations. */
void monitor_chain_measure(struct monitor *m);
/* lag.c: ask the log, if there is a durable one, how long it is. */
void monitor_lag_measure(struct monitor *m);
/* Lowest version that the shards' servers announce; false while one is not there. */
bool monitor_announced_version(const struct monitor *m, uint64_t *ret_version);

/* sample.c: write what was measured last, and what the weights scored then. */
void monitor_sample_write(struct monitor *m, const struct monitor_score *score,
                          bool is_final);

/* timeline.c: open it. */
TL_MUST_USE int monitor_timeline_open(struct monitor *m);
/* Append what happened at `at` (tl_now_seconds()); takes ownership. */
void monitor_write(struct monitor *m, double at, json_t *line);
/* Show what has been written since, by whomever, to those who look on. */
void monitor_timeline_show(struct monitor *m);

/* site.c: start HTTP, with the dashboard. */
TL_MUST_USE int monitor_site_start(struct monitor *m,
                                   char ret_address[TL_NAME_MAX * 4]);

/* gauges.c */
TL_MUST_USE int monitor_gauges_new(struct monitor_gauges **ret_gauges);
void monitor_gauges_scored(struct monitor_gauges *g, const struct monitor_score *score);

/* loop.c: until the job is over or stop is requested. */
void monitor_run(struct monitor *m);

#endif
