/* page.h - the page that shows a run: live in the monitor, and as a report.
 *
 * Path:   beside it: timeline -> [page] -> browser
 * Pure:   no I/O; texts in, text out.
 * Thread: any. */
#ifndef THROUGHLINE_PAGE_H
#define THROUGHLINE_PAGE_H

#include "throughline/error.h"
#include "throughline/job.h"

#include <jansson.h>
#include <stddef.h>

/* One self-contained HTML page, which asks nobody but its own server for anything.
 *   report  what to show (services/lib/page/page.js says what it may hold); NULL: the
 *           page follows /events
 * malloc'ed; NULL: no memory. */
char *tl_page_html(const json_t *report, size_t *ret_size);

/* Which run this is: name, strategy, consistency, ... of its job, in the job's own
 * words. NULL: no memory. */
json_t *tl_page_run(const struct tl_job *job, const char *run);

#endif
