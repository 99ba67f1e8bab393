/* page.h - the page that shows a run: live in the monitor, and as a report.
 *
 * Path:   beside it: timeline -> [page] -> browser
 * Pure:   no I/O; texts in, texts out.
 * Thread: any. */
#ifndef THROUGHLINE_PAGE_H
#define THROUGHLINE_PAGE_H

#include "throughline/error.h"
#include "throughline/job.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* ---- page.c ---------------------------------------------------------------------- */

/* One self-contained HTML page, which asks nobody but its own server for anything.
 *   report  what to show (services/lib/page/page.js says what it may hold); NULL: the
 *           page follows /events
 * malloc'ed; NULL: no memory. */
char *tl_page_html(const json_t *report, size_t *ret_size);

/* Which run this is: name, strategy, consistency, ... of its job, in the job's own
 * words. NULL: no memory. */
json_t *tl_page_run(const struct tl_job *job, const char *run);

/* ---- feed.c ---------------------------------------------------------------------- */

/* The lines of a timeline for those who look on, bounded in number and bytes; any
 * thread. */
struct tl_page_feed;
/* `hello` is the line that comes first to everybody. TL_E_NOMEM. */
TL_MUST_USE int tl_page_feed_new(const char *hello, struct tl_page_feed **ret_feed);
void tl_page_feed_free(struct tl_page_feed *f); /* NULL is legal */
/* Add a line, without its end. */
void tl_page_feed_put(struct tl_page_feed *f, const char *text, size_t size);
/* tl_http_site.next; ctx is the tl_page_feed. */
char *tl_page_feed_next(void *ctx, uint64_t *cursor, size_t *ret_size);

#endif
