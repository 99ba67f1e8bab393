/* conduct.c - the loop of a run: what is seen, what is due, when it is over.
 *
 * One thread, one poll(): signals, the probe's sockets, and a tick for everything that
 * is looked at rather than told. */
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define POLL_MAX 256u

static const int tick_ms = 5;
static const int64_t rate_over_ms = 2000;
/* Services wind down by themselves within 15 s of the end; a last evaluation and a last
 * snapshot may come before it. */
static const int64_t ending_within_ms = 60000;

int64_t tl_run_now(const struct tl_run *run) {
    return tl_now_ms() - run->origin_ms;
}

void tl_run_enter(struct tl_run *run, enum tl_run_phase phase) {
    if (phase > run->phase) {
        run->phase_ms = tl_run_now(run);
        if (run->phase == TL_RUN_TRAINING) {
            run->ended_ms = run->phase_ms;
        }
        run->phase = phase;
    }
}

void tl_run_fail(struct tl_run *run, int exit_code, const char *fmt, ...) {
    if (run->verdict == TL_RUN_COMPLETED) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(run->reason, sizeof(run->reason), fmt, args);
        va_end(args);
        run->verdict = TL_RUN_FAILED;
        run->exit_code = exit_code;
    }
    tl_run_enter(run, TL_RUN_STOPPING);
}

void tl_run_event(struct tl_run *run, const char *event, const struct tl_process *p,
                  json_t *fields) {
    json_t *line = json_pack("{s:s, s:s, s:s, s:i}", "kind", "event", "event", event,
                             "service", p->name, "pid", (int)p->pid);
    if (line && fields) {
        (void)json_object_update(line, fields);
    }
    json_decref(fields);
    if (line && tl_timeline_write(run->timeline, line) != 0) {
        tl_live_news(run, "the timeline cannot be written: %s", tl_error_text());
    }
}

/* The head of each chain, which serves as the shard's server. */
static void look_for_heads(struct tl_run *run) {
    bool has_chains = tl_job_replicas(&run->job) > 0;
    for (uint32_t i = 0; i < run->job.shards && has_chains; i++) {
        struct tl_member_entry head;
        if (tl_member_find(run->member, TL_ROLE_SERVER, i, &head) == 0) {
            tl_probe_aim(run->probe, i, head.address);
        }
    }
}

static void look_at_versions(struct tl_run *run) {
    int64_t now_ms = tl_run_now(run);
    uint64_t before = run->version;
    look_for_heads(run);
    tl_probe_advance(run->probe, tl_now_ms());
    run->has_version = tl_probe_version(run->probe, &run->version);
    if (!run->has_version) {
        return;
    }
    if (!run->has_first && (run->version == 0 || run->first_ms == 0)) {
        run->first_ms = now_ms;
    }
    if (run->version != before) {
        run->has_first = true;
        run->last_ms = now_ms;
    }
}

/* Gradients a second over the last few seconds; a version that has gone back, after a
 * recovery, starts a new span. */
static void look_at_rate(struct tl_run *run) {
    int64_t span_ms = tl_run_now(run) - run->rate_ms;
    if (!run->has_version ||
        (span_ms < rate_over_ms && run->version >= run->rate_version)) {
        return;
    }
    bool is_sync = run->job.consistency == TL_SYNC;
    uint64_t updates =
        run->version >= run->rate_version ? run->version - run->rate_version : 0;
    run->rate = (double)(updates * (is_sync ? run->job.workers : 1)) * 1000 /
                (double)(span_ms > 0 ? span_ms : 1);
    run->rate_ms += span_ms;
    run->rate_version = run->version;
}

static void look_at_samples(struct tl_run *run) {
    while (tl_samples_next(run->samples, &run->sample)) {
        if (run->sample.has_evaluation) {
            run->evaluated = run->sample;
        }
    }
}

static void look_for_stop(struct tl_run *run) {
    tl_signals_read(&run->signals);
    if (run->signals.stops > 0 && run->verdict != TL_RUN_INTERRUPTED &&
        run->phase < TL_RUN_OVER) {
        run->verdict = TL_RUN_INTERRUPTED;
        run->exit_code = 128 + run->signals.first_stop;
        (void)snprintf(run->reason, sizeof(run->reason), "interrupted by SIG%s",
                       sigabbrev_np(run->signals.first_stop));
        tl_live_news(run, "stopping; once more to kill at once");
        tl_run_enter(run, TL_RUN_STOPPING);
    }
}

/* The job's end is known from a server, from Redis, or because every worker has left in
 * order. */
static void look_for_end(struct tl_run *run) {
    bool declared =
        tl_member_has_ended(run->member, run->end_reason, sizeof(run->end_reason));
    bool all_left = true;
    for (size_t i = 0; i < run->fleet.count; i++) {
        const struct tl_process *p = &run->fleet.items[i];
        all_left =
            all_left && (p->kind != TL_DRILL_WORKER || p->state == TL_PROCESS_DONE);
    }
    if (declared || all_left || tl_probe_has_ended(run->probe)) {
        tl_run_enter(run, TL_RUN_ENDING);
    }
}

/* Everybody but Redis has gone and is not to come back. */
static void look_for_last_exit(struct tl_run *run) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        const struct tl_process *p = &run->fleet.items[i];
        if (p->kind == TL_DRILL_REDIS ||
            (!tl_process_is_alive(p) && p->state != TL_PROCESS_CRASHED)) {
            continue;
        }
        if (tl_run_now(run) - run->phase_ms > ending_within_ms) {
            tl_run_fail(run, TL_EXIT_FAILED,
                        "the job has ended, but %s has not within %d s: see %s",
                        p->name, (int)(ending_within_ms / 1000), p->log);
        }
        return;
    }
    tl_run_enter(run, TL_RUN_STOPPING);
}

static void step(struct tl_run *run) {
    look_for_stop(run);
    tl_run_reap(run);
    look_at_versions(run);
    look_at_rate(run);
    look_at_samples(run);
    if (run->phase < TL_RUN_STOPPING) {
        tl_run_announce_dashboard(run);
        tl_run_obey(run);
        tl_run_drill(run);
        tl_run_revive(run);
        look_for_end(run);
    }
    tl_run_watch_recovery(run);
    if (run->phase == TL_RUN_ENDING) {
        look_for_last_exit(run);
    }
    if (run->phase == TL_RUN_STOPPING) {
        tl_run_stop_step(run);
    }
    tl_live_show(run);
}

void tl_run_conduct(struct tl_run *run) {
    struct pollfd fds[POLL_MAX];
    while (run->phase != TL_RUN_OVER) {
        fds[0] = (struct pollfd){.fd = run->signals.fd, .events = POLLIN};
        size_t n = 1 + tl_probe_poll(run->probe, fds + 1, POLL_MAX - 1);
        (void)poll(fds, n, tick_ms);
        step(run);
    }
    look_at_samples(run);
    tl_live_clear(run);
}
