/* run.h - one local run, shared by the files that carry it out.
 *
 *   run.c          tl_cli_run: prepare, conduct, report
 *   run_options.c  the arguments
 *   fleet.c        which processes, with which arguments; process.c, redis.c,
 * programs.c conduct.c      the loop: what is seen, what is due, when it is over
 *   exits.c        what the end of a process means
 *   drill.c        kills and restarts on schedule, and what became of them
 *   stop.c         winding down, in order
 *   verify.c       a durable log, folded again
 *   live.c         the status line
 *   dashboard.c    where the run can be looked at; control.c what is asked there
 *   summary.c      the table, or the JSON object
 */
#ifndef THROUGHLINE_CLI_RUN_H
#define THROUGHLINE_CLI_RUN_H

#include "throughline/member.h"
#include "throughline/service.h"

#include "control.h"
#include "fleet.h"
#include "probe.h"
#include "run_options.h"
#include "samples.h"
#include "scratch.h"
#include "signals.h"

enum tl_run_phase {
    TL_RUN_TRAINING = 0,
    TL_RUN_ENDING,   /* the end is declared: services wind down by themselves */
    TL_RUN_STOPPING, /* we stop what is left */
    TL_RUN_OVER,
};

enum tl_run_verdict { TL_RUN_COMPLETED = 0, TL_RUN_FAILED, TL_RUN_INTERRUPTED };
const char *tl_run_verdict_name(enum tl_run_verdict verdict);

struct tl_run {
    int argc; /* as given */
    char **argv;
    struct tl_run_options options;
    struct tl_job job;
    struct tl_scratch scratch;
    bool has_log;           /* its Redis keeps one in the output directory */
    struct tl_trust *trust; /* the secret made for this run */
    struct tl_signals signals;
    struct tl_control control;
    struct tl_fleet fleet;
    struct tl_probe *probe;
    struct tl_member *member;
    struct tl_timeline *timeline;
    struct tl_timeline_reader *samples;

    int64_t origin_ms; /* CLOCK_MONOTONIC at the run's start */
    enum tl_run_phase phase;
    int64_t phase_ms;       /* since the run's start: when the phase began */
    int64_t ended_ms;       /* ... when training ended */
    unsigned int stop_rank; /* STOPPING: the group of services being stopped */
    bool stop_sent;         /* ... has been asked to */
    bool stop_forced;       /* SIGKILL has been sent to all */

    bool has_version;
    uint64_t version;      /* updates made, lowest over the shards */
    bool has_first;        /* an update has been seen */
    int64_t first_ms;      /* the last moment before the first update */
    int64_t last_ms;       /* when the newest was seen */
    double rate;           /* gradients a second of late */
    int64_t rate_ms;       /* ... since then */
    uint64_t rate_version; /* ... and from this version on */

    struct tl_sample sample;        /* the newest */
    struct tl_sample evaluated;     /* the newest with an accuracy */
    uint32_t crashes;               /* services that had to be started again unasked */
    uint64_t victims[TL_DRILL_MAX]; /* by slot of the drill: a killed server's writer */
    struct tl_process *killed[TL_DRILL_MAX]; /* likewise: whom; NULL: not yet */

    char dashboard[TL_NAME_MAX * 4]; /* "host:port"; "": not known yet */
    char *verified; /* what the log's verification printed; NULL: none */
    bool verified_good;

    enum tl_run_verdict verdict;
    int exit_code;
    char reason[512];     /* why it failed; "" */
    char end_reason[256]; /* why the job ended; "" */

    bool live_is_tty, live_is_drawn;
    int64_t live_ms; /* when the status was shown last */
};

int64_t tl_run_now(const struct tl_run *run); /* ms since the run's start */
void tl_run_enter(struct tl_run *run, enum tl_run_phase phase);
/* The run fails with `exit_code`; what is running is stopped. The first failure counts.
 */
void tl_run_fail(struct tl_run *run, int exit_code, const char *fmt, ...)
    TL_PRINTF(3, 4);
/* Note an event in the timeline; takes ownership of `fields` (may be NULL). */
void tl_run_event(struct tl_run *run, const char *event, const struct tl_process *p,
                  json_t *fields);

/* The loop, until everything has ended. */
void tl_run_conduct(struct tl_run *run);
/* Reap what has ended and decide what it means. */
void tl_run_reap(struct tl_run *run);
/* Start again what crashed, when it is time. */
void tl_run_revive(struct tl_run *run);
/* Kill and restart what is due. */
void tl_run_drill(struct tl_run *run);
/* Whom a kill of the drill concerns; NULL: who has that place will be seen. */
struct tl_process *tl_run_target(const struct tl_run *run, size_t slot);
/* "server/0", "head: replica/2"; good until the next call. */
const char *tl_run_target_name(const struct tl_run *run, size_t slot);
/* Look for signs of life of what was killed. */
void tl_run_watch_recovery(struct tl_run *run);
/* Start again what a kill left down; false: there is nothing to start. */
bool tl_run_bring_back(struct tl_run *run, const struct tl_process *p);
/* At the end: a kill that never happened is a failure. */
void tl_run_judge_drill(struct tl_run *run);
/* A run with a durable log folds it again, once its services have gone and while Redis
 * is still there. */
void tl_run_verify(struct tl_run *run);
/* STOPPING: ask, group by group, then force. */
void tl_run_stop_step(struct tl_run *run);

/* Say once where the dashboard is. */
void tl_run_announce_dashboard(struct tl_run *run);
/* Do what viewers have asked for. */
void tl_run_obey(struct tl_run *run);

/* Show the status when it is time to; a line of news above it. */
void tl_live_show(struct tl_run *run);
void tl_live_news(struct tl_run *run, const char *fmt, ...) TL_PRINTF(2, 3);
void tl_live_clear(struct tl_run *run);

/* ---- afterwards ------------------------------------------------------------------ */

void tl_summary_print(const struct tl_run *run, FILE *out);
json_t *tl_summary_json(const struct tl_run *run); /* NULL: no memory */
/* OUT/summary.json: the same, with how it was asked for and where it ran. TL_E_IO. */
TL_MUST_USE int tl_summary_save(const struct tl_run *run, const json_t *summary);

#endif
