/* service.h - what every service has in common: options, log lines, metrics, health.
 *
 * Thread: metrics may be changed from any thread; the rest is the main thread's. */
#ifndef THROUGHLINE_SERVICE_H
#define THROUGHLINE_SERVICE_H

#include "throughline/config.h"
#include "throughline/error.h"
#include "throughline/job.h"
#include "throughline/trust.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes of every program; documented in docs/operations.md. */
enum tl_exit {
    TL_EXIT_OK = 0,
    TL_EXIT_FAILED = 1,    /* gave up: the last log line says why */
    TL_EXIT_CONFIG = 2,    /* one line on stderr says what to change */
    TL_EXIT_FENCED = 3,    /* a newer process has taken over */
    TL_EXIT_TIMEOUT = 4,   /* waited longer than the job allows */
    TL_EXIT_STOPPED = 143, /* SIGTERM, with "stay": not done, start it again */
};
/* Exit code for an error. */
int tl_exit_code(int error);

/* ---- settings every service has: table tl_service_table ------------------------- */

struct tl_service_options {
    char job[TL_PATH_MAX];      /* "job": the job file */
    char run[TL_NAME_MAX];      /* "run": name of this run; default "default" */
    char redis[TL_PATH_MAX];    /* "redis": URL; default redis://127.0.0.1:6379 */
    char http[TL_NAME_MAX * 4]; /* "http": "host:port" or "off"; default 127.0.0.1:0 */
    char http_advertise[TL_NAME_MAX * 4]; /* "http_advertise": announced instead */
    bool stay;      /* "stay": stopping or ending it does not make it done */
    int log_format; /* "log_format": logfmt, json */
    int log_level;  /* "log_level": debug, info, warning, error */
    uint32_t index; /* "index": shard, worker number; default: JOB_COMPLETION_INDEX, or
                       on Kubernetes the number at the end of HOSTNAME, or 0 */
    struct tl_trust_files trust; /* table tl_trust_table */
};
/* Who may talk: for services, and for commands that ask servers. */
extern const struct tl_option_table tl_trust_table;
extern const struct tl_option_table tl_service_table;

/* Parse argv of a service: --help and --version are answered (exit 0), the job (--job,
 * or the one argument without a flag) is loaded and checked, the service's own `extra`
 * table (may be NULL) fills `extra_target`, every other flag must be in one of the
 * tables (job keys included); log lines are set up. On an error: one line on stderr,
 * exit 2. Returns only when all is well. For documentation and shell completion there
 * are also
 * --help-markdown (the service's own options) and --help-flags (all, one a line). */
void tl_service_start(const char *service, const char *summary, int argc, char **argv,
                      const struct tl_option_table *extra, void *extra_target,
                      struct tl_service_options *ret_options, struct tl_job *ret_job);

/* docs/configuration.md: the tables that all services share, as Markdown. */
void tl_reference_markdown(FILE *out);

/* ---- log lines ------------------------------------------------------------------ */

enum tl_level { TL_DEBUG = 0, TL_INFO = 1, TL_WARNING = 2, TL_ERROR = 3 };

/* service, job, run and index go on every line. */
void tl_log_setup(const char *service, const char *job, const char *run, uint32_t index,
                  int format, int level);
/* So does this field from now on, until it is set anew (epoch, ...): at most 8 fields,
 * each text cut at 63 bytes. */
void tl_log_field(const char *key, const char *value);
/* One line on stderr, at most 4 KiB, written at once: time, level, service, job, run,
 * index, fields, msg, then pairs of (const char *key, const char *value), ended by
 * NULL. Texts from tl_text_*() are numbers in JSON. Any thread. */
void tl_log_line(enum tl_level level, const char *message, ...)
    __attribute__((sentinel));
/* Short-lived text of a number, good for one tl_log_line() call (a ring of 32). */
const char *tl_text_u64(uint64_t v);
const char *tl_text_i64(int64_t v);
const char *tl_text_double(double v, int decimals);

/* ---- metrics -------------------------------------------------------------------- */

enum tl_metric_type { TL_COUNTER, TL_GAUGE, TL_HISTOGRAM };
struct tl_metric;

/* Register (once, at start). Names "throughline_*", base units, counters "_total";
 * `labels` is the inside of the braces or NULL. Histograms: upper bounds, ascending.
 * Registering the same name and labels again gives the same metric. The result lives
 * for the process; NULL only when memory ran out. */
struct tl_metric *tl_metric_new(enum tl_metric_type type, const char *name,
                                const char *labels, const char *help,
                                const double *bounds, size_t bound_count);
void tl_metric_add(struct tl_metric *m, double v);
/* A counter may be set too: to a total that is counted elsewhere. */
void tl_metric_set(struct tl_metric *m, double v);
void tl_metric_observe(struct tl_metric *m, double v);
/* Of a histogram: the sum of what was observed. */
double tl_metric_value(const struct tl_metric *m);
/* Everything, process CPU seconds, resident bytes and open descriptors included;
 * malloc'ed, NULL-terminated; NULL: no memory. */
enum tl_metrics_format {
    TL_METRICS_PROMETHEUS, /* text format 0.0.4 */
    TL_METRICS_OPEN,       /* OpenMetrics 1.0.0 */
};
char *tl_metrics_text(enum tl_metrics_format format, size_t *ret_size);
/* Count what was asked of the stores that the job lives on: metrics
 * throughline_backend_requests_total and _bytes_total. Whatever changes something is a
 * write. Any thread. */
enum tl_backend {
    TL_BACKEND_REDIS, /* commands; bytes of arguments and answers */
    TL_BACKEND_KAFKA, /* entries of the log, and their bytes */
    TL_BACKEND_STORE, /* S3: requests, each attempt one, as they are billed; a
                         directory: objects. Bytes of what they hold */
};
enum tl_access { TL_ACCESS_READ, TL_ACCESS_WRITE };
void tl_backend_count(enum tl_backend backend, enum tl_access access, uint64_t requests,
                      uint64_t bytes);
/* CPU seconds (user + system) and resident bytes of this process. */
void tl_process_usage(double *ret_cpu_seconds, uint64_t *ret_resident_bytes);

/* Read http://HTTP/PATH, `http` being "host:port", until deadline_ms (CLOCK_MONOTONIC,
 * as tl_now_ms()): malloc'ed text of at most 4 MiB.
 *   TL_E_TIMEOUT, _REFUSED, _PROTOCOL (not a 200), _TOOBIG, _UNAVAILABLE */
TL_MUST_USE int tl_http_get(const char *http, const char *path, int64_t deadline_ms,
                            char **ret_text);
/* The same of /metrics. */
TL_MUST_USE int tl_metrics_fetch(const char *http, int64_t deadline_ms,
                                 char **ret_text);
/* Value of a sample in such a text by name and (sub)string of labels (NULL: any,
 * summed); false when there is none. */
bool tl_metrics_find(const char *text, const char *name, const char *labels,
                     double *ret_v);

/* ---- health --------------------------------------------------------------------- */

/* /healthz (the loop turned within the last 10 s: tl_health_beat), /readyz
 * (tl_health_ready), /metrics, on libmicrohttpd's own thread. "off": none. ret_address
 * gets "host:port" as bound. TL_E_CONFIG  the address cannot be used (in use, not
 * ours): says which */
struct tl_http;
/* What a service shows beside these. Everything is called on the HTTP thread. */
struct tl_http_site {
    void *ctx;
    /* GET: malloc'ed body and its type, or NULL for 404. */
    char *(*page)(void *ctx, const char *path, const char **ret_type, size_t *ret_size);
    /* Server-sent events at this path; NULL: none. A viewer is a cursor, 0 at first:
     * next() moves it on and returns one whole event, malloc'ed, or NULL when there is
     * none yet. So nothing is queued for a viewer that is slow; one that takes nothing
     * for 10 s is dropped. 32 viewers at most. */
    const char *stream;
    char *(*next)(void *ctx, uint64_t *cursor, size_t *ret_size);
    /* POST without a body, from pages of this very address alone; `token` is the
     * header X-Throughline-Token ("" when there is none). The reply's status; NULL:
     * 405.
     */
    unsigned (*post)(void *ctx, const char *path, const char *token);
};
/* `site` may be NULL, and is copied. */
TL_MUST_USE int tl_http_start(const char *address, const struct tl_http_site *site,
                              struct tl_http **ret_http,
                              char ret_address[TL_NAME_MAX * 4]);
/* Viewers have something new to read; call it now and then even if not, so that those
 * who have gone are noticed. NULL is legal. */
void tl_http_wake(struct tl_http *h);
void tl_http_stop(struct tl_http *h); /* NULL is legal */
/* tl_http_start() on "http"; ret_address gets what to announce: "http_advertise", else
 * the address as bound. */
TL_MUST_USE int tl_service_http(const struct tl_service_options *options,
                                const struct tl_http_site *site,
                                struct tl_http **ret_http,
                                char ret_address[TL_NAME_MAX * 4]);
/* The job has ended: with "stay", keep the heart beating until SIGTERM; else return. */
void tl_service_stay(const struct tl_service_options *options);
void tl_health_beat(void);
/* `why_not` is NULL when ready, else a short static text shown by /readyz with 503. */
void tl_health_ready(const char *why_not);

/* ---- time, signals -------------------------------------------------------------- */

int64_t tl_now_ms(void);     /* CLOCK_MONOTONIC */
double tl_now_seconds(void); /* CLOCK_MONOTONIC */
uint64_t tl_unix_ms(void);
/* SIGTERM and SIGINT set a flag and make a descriptor readable (also SIGPIPE is
 * ignored). */
TL_MUST_USE int tl_stop_setup(void);
bool tl_stop_requested(void);
int tl_stop_fd(void); /* readable once stop is requested; poll it beside your own */
/* Run on_stop (async-signal-safe) too, at once if stop was requested before; NULL:
 * none. */
void tl_stop_hook(void (*on_stop)(void *), void *ctx);
/* Wait up to timeout_ms, or until stop is requested (true). */
bool tl_stop_wait(int64_t timeout_ms);
/* A random number from the kernel, never 0. */
uint64_t tl_random_u64(void);

/* ---- timeline ------------------------------------------------------------------- */

/* One JSON object a line, appended with a single write(): several processes of one
 * machine may write to one file. Adds "time" (Unix seconds) and "t" (seconds since the
 * run's start, from THROUGHLINE_RUN_STARTED_MS or the first open). docs/timeline.md
 * lists the kinds. */
struct tl_timeline;
TL_MUST_USE int tl_timeline_open(const char *path, struct tl_timeline **ret_timeline);
/* Takes ownership of `object`.
 *   TL_E_IO  disk full, ...: the line is lost, the next one begins anew
 *   TL_E_TOOBIG  more than 64 KiB */
TL_MUST_USE int tl_timeline_write(struct tl_timeline *t, json_t *object);
double tl_timeline_now(const struct tl_timeline *t); /* "t" of this moment */
void tl_timeline_close(struct tl_timeline *t);

/* Reading one, also while it grows: a line that is half written comes later, one that
 * is too long to be ours is passed over. */
struct tl_timeline_reader;
/* The file need not exist yet. */
TL_MUST_USE int tl_timeline_read(const char *path,
                                 struct tl_timeline_reader **ret_reader);
/* The next whole line, without its end; false: none so far. Borrowed until the next
 * call. */
bool tl_timeline_next(struct tl_timeline_reader *r, const char **ret_line,
                      size_t *ret_size);
void tl_timeline_reader_close(struct tl_timeline_reader *r); /* NULL is legal */

#endif
