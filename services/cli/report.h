/* report.h - what the files of `throughline report` and `experiment` share.
 *
 *   report.c        the command
 *   report_read.c   a run's directory as JSON
 *   report_model.c  a run, or an experiment, as the page and the tables want it
 *   report_write.c  that as HTML, CSV, JSON or Markdown
 *   machine.c       where it ran
 */
#ifndef THROUGHLINE_CLI_REPORT_H
#define THROUGHLINE_CLI_REPORT_H

#include "throughline/config.h"
#include "throughline/error.h"
#include "throughline/job.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum tl_report_format {
    TL_REPORT_HTML = 0,
    TL_REPORT_CSV,
    TL_REPORT_JSON,
    TL_REPORT_MARKDOWN,
};

struct tl_report_options {
    int format;
    char output[TL_PATH_MAX];
    char prices[TL_PATH_MAX];
};
extern const struct tl_option_table tl_report_table;

/* The run in `directory`: {name, run, figures, curve, bands, lines, command, machine}.
 *   is_slim  lines without services, for a page that holds many runs
 * TL_E_NOTFOUND  no timeline there */
TL_MUST_USE int tl_report_read_run(const char *directory, bool is_slim,
                                   json_t **ret_run);
/* A JSON file. TL_E_NOTFOUND, TL_E_CONFIG: the text names it. */
TL_MUST_USE int tl_report_read_json(const char *path, json_t **ret_json);

/* What page.js shows, of a run's or an experiment's directory. `prices` may be NULL. */
TL_MUST_USE int tl_report_model(const char *directory, const json_t *prices,
                                json_t **ret_model);

/* Write the report of `directory` to DIRECTORY/report.html. */
TL_MUST_USE int tl_report_html(const char *directory);
/* Write a model; "-" is standard output. TL_E_IO. */
TL_MUST_USE int tl_report_write(const json_t *model, int format, const char *path);

/* The machine that this runs on: {what: text}. */
json_t *tl_machine(void);

#endif
