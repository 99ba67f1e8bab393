/* experiment.h - what the files of `throughline experiment` share.
 *
 *   experiment.c          the command: options, the loop over runs, progress
 *   experiment_files.c    the experiment's directory: its plan, how each run ended
 *   experiment_run.c      one run, as a process of its own
 */
#ifndef THROUGHLINE_CLI_EXPERIMENT_H
#define THROUGHLINE_CLI_EXPERIMENT_H

#include "throughline/config.h"
#include "throughline/job.h"

#include <jansson.h>
#include <stdbool.h>

struct tl_experiment_options {
    char out[TL_PATH_MAX];
    char only[TL_NAME_MAX];
    double scale;
    uint32_t seeds; /* 0: all that the file names */
};
extern const struct tl_option_table tl_experiment_table;

struct tl_experiment {
    struct tl_experiment_options options;
    const char *file;
    char job[2 * TL_PATH_MAX]; /* the job file */
    json_t *definition;        /* the file */
    json_t *plan;              /* runs */
    json_t *extra;             /* settings of the job from the command line, as flags */
    json_t *results;           /* name -> {state, reason, exit_code, seconds} */
};

/* ---- experiment_files.c -----------------------------------------------------------
 */

/* Read and plan the file; the directory, made when it is new, with what is done
 * already. TL_E_CONFIG  also: it holds another experiment */
TL_MUST_USE int tl_experiment_open(struct tl_experiment *e);
void tl_experiment_close(struct tl_experiment *e);
/* Keep how a run ended; takes ownership of `result`. */
TL_MUST_USE int tl_experiment_keep(struct tl_experiment *e, const char *name,
                                   json_t *result);

/* ---- experiment_run.c -------------------------------------------------------------
 */

/* Run an entry of the plan to its end: {state, reason, exit_code, seconds}; state is
 * "completed", "failed", "not available" (the job was refused) or "interrupted". */
TL_MUST_USE int tl_experiment_run(const struct tl_experiment *e, const json_t *entry,
                                  json_t **ret_result);

#endif
