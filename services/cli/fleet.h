/* fleet.h - all processes of a run: which there are, and finding one. */
#ifndef THROUGHLINE_CLI_FLEET_H
#define THROUGHLINE_CLI_FLEET_H

#include "throughline/job.h"

#include "process.h"

/* What the services of a run are told. */
struct tl_fleet_plan {
    const struct tl_job *job;
    const char *out;     /* output directory, absolute */
    const char *scratch; /* directory of sockets */
    const char *run;     /* the run's name */
    const char *log_level;
    const char *dashboard; /* where the monitor listens for HTTP */
};

struct tl_fleet {
    struct tl_process
        *items; /* redis, servers or replicas, workers, checkpointer, monitor */
    size_t count;
};

/* Does this job take checkpoints by itself? */
bool tl_fleet_has_checkpointer(const struct tl_job *job);

/* Decide what is started and how; starts nothing. TL_E_CONFIG: a program is missing. */
TL_MUST_USE int tl_fleet_new(const struct tl_fleet_plan *plan,
                             struct tl_fleet *ret_fleet);
void tl_fleet_done(struct tl_fleet *f);

/* In its next life this service listens for HTTP where it did in this one. */
void tl_fleet_keep_http(struct tl_process *p, const char *address);

/* NULL when there is none. */
struct tl_process *tl_fleet_find(const struct tl_fleet *f, enum tl_drill_target kind,
                                 uint32_t index);

#endif
