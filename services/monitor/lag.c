/* lag.c - how far each shard's server is behind the end of its durable log.
 *
 * The log is asked itself, so that what piles up while a server is away is seen. */
#include "monitor.h"

#include <inttypes.h>
#include <stdio.h>

#define ASK_MS 200 /* a log that is slower is not known at this moment */

static struct tl_log *open_log(const struct monitor *m) {
    struct tl_log *log = NULL;
    const int rc = tl_log_open_job(&m->job, m->service.run, m->service.redis,
                                   monitor_observer_parameters(m->observer), &log);
    if (rc != 0) {
        tl_log_line(TL_WARNING, "the log's length is not watched", "why",
                    tl_error_text(), NULL);
    }
    return log;
}

static void show(uint32_t shard, double lag) {
    char labels[32];
    (void)snprintf(labels, sizeof(labels), "shard=\"%" PRIu32 "\"", shard);
    struct tl_metric *m = tl_metric_new(
        TL_GAUGE, "throughline_log_lag", labels,
        "Records in the log that the shard's server has not folded.", NULL, 0);
    if (m != NULL) {
        tl_metric_set(m, lag);
    }
}

/* The log of `shard` ends at `end`: how far is each that holds the shard? The nearest
 * counts as the shard's, since it is the one that serves, or can at once. */
static void note(struct monitor *m, uint32_t shard, double end) {
    double least = end;
    for (size_t i = 0; i < m->processes.count; i++) {
        struct monitor_process *s = &m->processes.list[i];
        if (monitor_holds_shard(m, s, shard)) {
            s->has_lag = end >= s->log_position;
            s->lag = s->has_lag ? end - s->log_position : 0.0;
            least = s->has_lag && s->lag < least ? s->lag : least;
        }
    }
    show(shard, least);
}

/* False: the log does not answer, and others need not be asked for now. */
static bool measure(struct monitor *m, uint32_t shard) {
    uint64_t first = 0;
    uint64_t next = 0;
    if (tl_log_range(m->log, shard, tl_now_ms() + ASK_MS, &first, &next) != 0) {
        return false;
    }
    if (next > 0) {
        note(m, shard, (double)(next - 1));
    }
    return true;
}

void monitor_lag_measure(struct monitor *m) {
    if (!tl_job_is_logged(&m->job)) {
        return;
    }
    if (!m->has_tried_log) {
        m->has_tried_log = true;
        m->log = open_log(m);
    }
    for (size_t i = 0; i < m->processes.count; i++) {
        m->processes.list[i].has_lag = false;
    }
    bool answers = m->log != NULL;
    for (uint32_t shard = 0; answers && shard < m->job.shards; shard++) {
        answers = measure(m, shard);
    }
}
