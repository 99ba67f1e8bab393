/* run_options.h - the arguments of `throughline run`, checked. */
#ifndef THROUGHLINE_CLI_RUN_OPTIONS_H
#define THROUGHLINE_CLI_RUN_OPTIONS_H

#include "throughline/drill.h"
#include "throughline/job.h"

#include <stdbool.h>
#include <stdio.h>

struct tl_run_options {
    char out[TL_PATH_MAX];   /* absolute; does not exist yet, or is empty */
    char run[TL_NAME_MAX];   /* name of the run */
    char store[TL_PATH_MAX]; /* as given, "" when it was not */
    char log[TL_PATH_MAX];   /* likewise */
    uint32_t standbys;       /* of each shard; 0: as the job file says */
    uint32_t chain;          /* replicas of each shard; 0: as the job file says */
    char replication[64];    /* as given, "" when it was not */
    bool json, quiet;
    char dashboard[TL_NAME_MAX * 4]; /* where the monitor listens */
    bool allow_kill;                 /* viewers may kill and revive services */
    int log_level;                   /* index in tl_log_level_names */
    struct tl_drill drill;           /* the kills, none done yet */
};
extern const struct tl_option_table tl_run_table;
extern const char *const tl_log_level_names[];
/* Flags that may be given several times: --kill, --until. NULL-terminated. */
extern const char *const tl_run_repeated[];

/* Read argv[1..]: the job with all flags on top, completed for a local run (its store,
 * the run's name, the output directory) and checked. TL_E_CONFIG. */
TL_MUST_USE int tl_run_options_read(int argc, char **argv,
                                    struct tl_run_options *ret_options,
                                    struct tl_job *ret_job);
void tl_run_options_help(FILE *out);

#endif
