/* ending.c - the ways out: the end of the job, and SIGTERM. Both hand over what was
 * acknowledged before they go.
 *
 * Declaring the end to Redis runs on the loop's thread pool. */
#include "server.h"

#include <inttypes.h>
#include <stdio.h>

#define LEAVE_WAIT_MS 15000
#define END_LINGER_MS 500 /* time for everybody to hear of the end */

/* ---- the last state ----------------------------------------------------------- */

/* Would the next server of this shard have all that was acknowledged here? Without
 * anybody who keeps snapshots the answer does not change by waiting. */
static bool state_is_kept(const struct server *s) {
    struct tl_serve_stats stats;
    struct tl_member_entry checkpointer;
    uint64_t version = tl_fold_version(s->fold);
    bool is_watched =
        tl_job_has_store(&s->job) && s->follow.log == NULL && s->member != NULL &&
        tl_member_find(s->member, TL_ROLE_CHECKPOINTER, 0, &checkpointer) == 0;
    tl_serve_stats(s->serve, &stats);
    return !is_watched || stats.kept_version >= version ||
           (s->origin.from_snapshot && s->origin.version == version);
}

/* Take no more, so that there is a last state, and ask for it to be kept. */
static void hand_over(struct server *s, int64_t within_ms) {
    s->leave_deadline_ms = tl_now_ms() + within_ms;
    tl_serve_drain(s->serve);
    server_announce(s, TL_MEMBER_LEAVING);
}

/* ---- the end ------------------------------------------------------------------ */

static void end_job(uv_work_t *work) {
    struct server *s = work->data;
    int rc = tl_member_declare_end(s->member, s->end_reason,
                                   tl_now_ms() + SERVER_REDIS_WAIT_MS);
    s->end_declared = rc == 0;
}

static void end_done(uv_work_t *work, int status) {
    struct server *s = work->data;
    (void)status;
    s->end_busy = false;
    if (!s->finished) {
        server_end_tick(s);
    }
}

/* Workers leave when they hear of the end, and nobody is left to make good what dies
 * with this process: they hear of it when the last state is kept and Redis knows. Till
 * then a death is a death like any other. */
static void begin_end(struct server *s) {
    s->ending = true;
    hand_over(s, LEAVE_WAIT_MS);
}

static bool end_is_safe(const struct server *s) {
    bool can_declare = s->member != NULL && tl_member_is_connected(s->member);
    return tl_now_ms() >= s->leave_deadline_ms ||
           (state_is_kept(s) && (s->end_declared || !can_declare));
}

static void end(struct server *s) {
    s->ended = true;
    s->leave_deadline_ms = tl_now_ms() + LEAVE_WAIT_MS;
    s->leave_earliest_ms = tl_now_ms() + END_LINGER_MS;
    tl_serve_set_ended(s->serve);
    tl_log_line(TL_INFO, "the job has ended", "reason", s->end_reason, "version",
                tl_text_u64(tl_fold_version(s->fold)), NULL);
}

/* Whether, and why, the job is over as far as this shard can see. */
static bool end_is_reached(struct server *s) {
    uint64_t version = tl_fold_version(s->fold);
    if (s->member != NULL &&
        tl_member_has_ended(s->member, s->end_reason, sizeof(s->end_reason))) {
        s->end_declared = true;
        return true;
    }
    if (s->job.until_updates > 0 && version >= s->job.until_updates) {
        (void)snprintf(s->end_reason, sizeof(s->end_reason), "updates=%" PRIu64,
                       version);
        return true;
    }
    if (s->job.until_seconds > 0.0 && s->service.index == 0 && s->member != NULL &&
        (double)tl_member_run_age_ms(s->member) >= s->job.until_seconds * 1000.0) {
        (void)snprintf(s->end_reason, sizeof(s->end_reason), "seconds=%.0f",
                       s->job.until_seconds);
        return true;
    }
    return false;
}

static bool somebody_is_left(const struct server *s) {
    if (tl_serve_connected(s->serve, TL_ROLE_WORKER) > 0 ||
        tl_serve_connected(s->serve, TL_ROLE_CHECKPOINTER) > 0 ||
        tl_serve_connected(s->serve, TL_ROLE_MONITOR) > 0) {
        return true;
    }
    if (s->member == NULL || !tl_member_is_connected(s->member)) {
        return false;
    }
    struct tl_member_entry e;
    bool follows = s->replica != NULL && !server_replica_leads(s);
    if (follows &&
        tl_member_find(s->member, TL_ROLE_SERVER, s->service.index, &e) == 0) {
        return true; /* the head, which may still need us */
    }
    for (uint32_t i = 0; i < s->job.workers; i++) {
        if (tl_member_find(s->member, TL_ROLE_WORKER, i, &e) == 0) {
            return true;
        }
    }
    return tl_member_find(s->member, TL_ROLE_CHECKPOINTER, 0, &e) == 0 ||
           tl_member_find(s->member, TL_ROLE_MONITOR, 0, &e) == 0;
}

void server_end_tick(struct server *s) {
    bool has_place = s->epoch > 0 || s->role == TL_ROLE_REPLICA;
    if (!s->ending && has_place && end_is_reached(s)) {
        begin_end(s);
    }
    if (!s->ending) {
        return;
    }
    bool is_kept = s->ended || state_is_kept(s);
    if (is_kept && s->member != NULL && !s->end_declared && !s->end_busy) {
        s->end_busy = uv_queue_work(&s->loop, &s->end_work, end_job, end_done) == 0;
    }
    if (!s->ended && end_is_safe(s)) {
        end(s);
    }
    if (!s->ended || s->service.stay) {
        return;
    }
    int64_t now_ms = tl_now_ms();
    bool all_gone = !somebody_is_left(s) && now_ms >= s->leave_earliest_ms;
    if (all_gone || now_ms >= s->leave_deadline_ms) {
        server_leave(s, TL_EXIT_OK);
    }
}

/* ---- SIGTERM: hand over what was acknowledged, then go ------------------------ */

void server_drain_tick(struct server *s) {
    if (state_is_kept(s) || tl_now_ms() >= s->leave_deadline_ms) {
        server_leave(s, TL_EXIT_OK);
    }
}

void server_on_stop(uv_poll_t *poll, int status, int events) {
    struct server *s = poll->data;
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    s->draining = true;
    tl_log_line(TL_INFO, "stopping", "version", tl_text_u64(tl_fold_version(s->fold)),
                NULL);
    tl_health_ready("stopping");
    hand_over(s, s->options.drain_ms);
}
