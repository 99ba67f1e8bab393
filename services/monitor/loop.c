/* loop.c - when to sample, and when the job is over.
 *
 * Nothing that dies makes the monitor stop: a sample without weights has null for an
 * accuracy, one without Redis shows the last roster. It ends with the job, or when it
 * is asked to. */
#include "monitor.h"

#include <stdio.h>
#include <time.h>

#define TICK_MS          100
#define DECLARE_MS       5000
#define LEAVE_WORKERS_MS 5000 /* for workers to leave before the last evaluation */
#define FINAL_PULL_MS    5000
#define LEAVE_SAVERS_MS  5000 /* for a last snapshot to be announced */

static bool is_over(struct monitor *m) {
    if (m->member != NULL && tl_member_has_ended(m->member, NULL, 0)) {
        m->is_over = true;
    }
    return m->is_over;
}

/* ---- samples ----------------------------------------------------------- */

/* One line when observing begins to fail, and one when it works again. */
static void log_outcome(struct monitor *m, int rc) {
    if (rc == m->observed || rc == TL_E_ENDED || rc == TL_E_INTERRUPTED) {
        return;
    }
    m->observed = rc;
    if (rc == 0) {
        tl_log_line(TL_INFO, "observing", "version", tl_text_u64(m->score.version),
                    NULL);
    } else {
        tl_log_line(TL_WARNING, "no weights to evaluate", "error", tl_error_name(rc),
                    "why", tl_error_text(), NULL);
    }
}

/* Comings and goings do not wait for an evaluation; the end of the job, and of this
 * process, is worth giving one up. */
static bool proceed(void *ctx) {
    struct monitor *m = ctx;
    tl_health_beat();
    monitor_events_write(m);
    return !tl_stop_requested() && (m->is_finishing || !is_over(m));
}

/* Of this thread, which evaluates alone. */
static double cpu_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int observe(struct monitor *m, bool whole, struct monitor_score *ret_score) {
    const struct monitor_pause pause = {proceed, m};
    const double begin = cpu_seconds();
    tl_health_beat();
    int rc = monitor_observe(m->observer, whole, &pause, ret_score);
    m->evaluate_cpu_seconds += cpu_seconds() - begin;
    if (rc == TL_E_ENDED) {
        m->is_over = true;
    }
    if (ret_score->known) {
        m->score = *ret_score;
        monitor_gauges_scored(m->gauges, ret_score);
    }
    log_outcome(m, rc);
    return rc;
}

static bool is_accurate(const struct monitor *m, const struct monitor_score *score) {
    return m->job.until_accuracy > 0.0 && score->known &&
           score->accuracy >= m->job.until_accuracy;
}

/* The job's accuracy is one on the whole test set: a part of it that looks good enough
 * is only a reason to look at the whole. */
static void declare_when_accurate(struct monitor *m, struct monitor_score score) {
    if (m->is_over || m->member == NULL || !is_accurate(m, &score)) {
        return;
    }
    if (m->job.evaluate_examples > 0 && observe(m, true, &score) != 0) {
        return;
    }
    if (!is_accurate(m, &score)) {
        return;
    }
    char reason[64];
    (void)snprintf(reason, sizeof(reason), "accuracy=%.4f", score.accuracy);
    tl_health_beat();
    if (tl_member_declare_end(m->member, reason, tl_now_ms() + DECLARE_MS) != 0) {
        tl_log_line(TL_WARNING, "the end cannot be declared yet", "why",
                    tl_error_text(), NULL);
    }
}

/* Are evaluations within their share of a core? */
static bool may_evaluate(const struct monitor *m) {
    return m->evaluate_cpu_seconds <=
           m->job.evaluate_share * (tl_now_seconds() - m->started_at);
}

static void sample(struct monitor *m) {
    struct monitor_score score = {0};
    monitor_measure(m);
    if (may_evaluate(m) && observe(m, false, &score) == TL_E_INTERRUPTED) {
        return; /* given up for what matters more */
    }
    monitor_sample_write(m, &score, false);
    declare_when_accurate(m, score);
}

/* By time, or by what the servers announce: also when a recovery took it back. */
static bool is_due(const struct monitor *m, double last) {
    const struct tl_job *job = &m->job;
    if (job->evaluate_seconds > 0.0 &&
        tl_now_seconds() - last >= job->evaluate_seconds) {
        return true;
    }
    uint64_t announced = 0;
    return job->evaluate_versions > 0 && may_evaluate(m) &&
           monitor_announced_version(m, &announced) &&
           (!m->score.known || announced < m->score.version ||
            announced - m->score.version >= job->evaluate_versions);
}

/* ---- the end ----------------------------------------------------------- */

static bool is_somebody_there(struct monitor *m, enum tl_role role) {
    if (m->member == NULL || !tl_member_is_connected(m->member)) {
        return false;
    }
    struct monitor_processes *p = &m->processes;
    size_t n = tl_member_list(m->member, p->roster, TL_MEMBERS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (p->roster[i].role == role) {
            return true;
        }
    }
    return false;
}

/* Whoever leaves shows its last counters for a moment: they are read until it is gone.
 */
static void see_off(struct monitor *m, enum tl_role role, int64_t timeout_ms) {
    int64_t deadline_ms = tl_now_ms() + timeout_ms;
    while (is_somebody_there(m, role) && tl_now_ms() < deadline_ms &&
           !tl_stop_wait(TICK_MS)) {
        monitor_measure(m);
        monitor_events_write(m);
    }
}

static void write_end(struct monitor *m) {
    char reason[128];
    if (m->member == NULL || !tl_member_has_ended(m->member, reason, sizeof(reason))) {
        (void)snprintf(reason, sizeof(reason), "said by the servers");
    }
    tl_log_line(TL_INFO, "the job has ended", "reason", reason, NULL);
    monitor_write(m, tl_now_seconds(),
                  json_pack("{s:s, s:s, s:s}", "kind", "event", "event", "end",
                            "reason", reason));
}

static void sample_last(struct monitor *m) {
    int64_t deadline_ms = tl_now_ms() + FINAL_PULL_MS;
    struct monitor_score score;
    do {
        monitor_measure(m);
        (void)!observe(m, true, &score); /* logged there */
    } while (!score.known && tl_now_ms() < deadline_ms && !tl_stop_wait(TICK_MS));
    monitor_sample_write(m, &score, true);
    monitor_timeline_show(m);
    if (score.known) {
        tl_log_line(TL_INFO, "last evaluation", "version", tl_text_u64(score.version),
                    "accuracy", tl_text_double(score.accuracy, 4), "loss",
                    tl_text_double(score.loss, 4), "examples",
                    tl_text_u64(score.examples), NULL);
    }
}

/* The servers wait for us, so the last weights can still be had, once nobody adds to
 * them any more. */
static void finish(struct monitor *m) {
    m->is_finishing = true;
    write_end(m);
    see_off(m, TL_ROLE_WORKER, LEAVE_WORKERS_MS);
    sample_last(m);
    see_off(m, TL_ROLE_CHECKPOINTER, LEAVE_SAVERS_MS);
    monitor_events_write(m);
}

void monitor_run(struct monitor *m) {
    double last = -m->job.evaluate_seconds;
    m->started_at = tl_now_seconds();
    while (!tl_stop_requested()) {
        tl_health_beat();
        monitor_events_write(m);
        if (is_over(m)) {
            finish(m);
            return;
        }
        if (is_due(m, last)) {
            last = tl_now_seconds();
            sample(m);
        }
        (void)tl_stop_wait(TICK_MS);
    }
}
