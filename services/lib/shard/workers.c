/* workers.c - dead workers: who is one, and the step from which it is out.
 *
 * Other shards have to agree on that step, so Redis decides it; that conversation runs
 * on the loop's thread pool. */
#include "server.h"

static void retire_fold(struct server *s) {
    int rc = s->follow.log != NULL ? server_follow_append(s, &s->retire)
             : s->replica != NULL  ? server_replica_offer(s, &s->retire)
                                   : tl_serve_offer(s->serve, &s->retire);
    s->absence[s->retire.worker].retired_ms = tl_now_ms();
    tl_log_line(TL_WARNING, "worker retired", "worker", tl_text_u64(s->retire.worker),
                "step", tl_text_u64(s->retire.step), "status", tl_error_name(rc), NULL);
}

static void retire_job(uv_work_t *work) {
    struct server *s = work->data;
    s->retire_status = tl_member_retire(
        s->member, s->retire.worker, s->retire.incarnation, s->retire.step,
        tl_now_ms() + SERVER_REDIS_WAIT_MS, &s->retire.step);
}

static void retire_done(uv_work_t *work, int status) {
    struct server *s = work->data;
    s->retire_busy = false;
    struct tl_fold_worker w;
    bool is_current = !s->finished && status == 0 && s->retire_status == 0 &&
                      tl_fold_worker(s->fold, s->retire.worker, &w) == 0 && w.active &&
                      w.incarnation == s->retire.incarnation;
    if (is_current) {
        retire_fold(s);
    }
}

static void retire(struct server *s, const struct tl_fold_worker *w) {
    s->retire = (struct tl_record){
        .kind = TL_RECORD_LEAVE,
        .worker = w->worker,
        .incarnation = w->incarnation,
        .sequence = w->sequence,
        .step = tl_fold_version(s->fold),
    };
    if (s->member == NULL) {
        retire_fold(s);
        return;
    }
    s->retire_busy =
        uv_queue_work(&s->loop, &s->retire_work, retire_job, retire_done) == 0;
}

/* A worker is dead when its connection is gone, or silent, and so is its lease. */
static bool is_dead(struct server *s, const struct tl_fold_worker *w) {
    int64_t silent_ms = tl_serve_worker_silent_ms(s->serve, w->worker);
    struct server_absence *a = &s->absence[w->worker];
    int64_t now_ms = tl_now_ms();
    if (silent_ms >= 0) {
        a->since_ms = 0;
        return atomic_load(&a->lapsed) && silent_ms > (int64_t)s->job.lease_ms;
    }
    if (a->since_ms == 0) {
        a->since_ms = now_ms;
    }
    struct tl_member_entry entry;
    bool has_lease = s->member != NULL &&
                     tl_member_find(s->member, TL_ROLE_WORKER, w->worker, &entry) == 0;
    return !has_lease && now_ms - a->since_ms > (int64_t)s->job.lease_ms;
}

/* With a log an async worker is nobody's burden, and may be computing for long. */
static bool waits_for_workers(const struct server *s) {
    bool is_served_elsewhere = s->replica != NULL && !server_replica_leads(s);
    return !is_served_elsewhere &&
           (s->follow.log == NULL || s->job.consistency != TL_ASYNC);
}

/* Its LEAVE is on its way through the log, or down the chain. */
static bool is_being_retired(const struct server *s, uint32_t worker) {
    return tl_now_ms() - s->absence[worker].retired_ms < (int64_t)s->job.lease_ms;
}

void server_workers_tick(struct server *s) {
    if (!waits_for_workers(s)) {
        return;
    }
    bool can_agree = s->member == NULL || tl_member_is_connected(s->member);
    for (uint32_t i = 0; can_agree && i < TL_WORKER_LIMIT && !s->retire_busy; i++) {
        struct tl_fold_worker w;
        if (tl_fold_worker(s->fold, i, &w) == 0 && w.active && is_dead(s, &w) &&
            !is_being_retired(s, i)) {
            retire(s, &w);
        }
    }
}

void server_workers_event(void *ctx, const struct tl_roster_event *event) {
    struct server *s = ctx;
    if (event->entry.role == TL_ROLE_WORKER && event->entry.index < TL_WORKER_LIMIT) {
        atomic_store(&s->absence[event->entry.index].lapsed,
                     event->kind == TL_ROSTER_DOWN);
    }
}
