/* loop.c - the shard's loop: epoch, announcements, dead workers, the end.
 *
 * Everything runs on one libuv loop but three conversations with Redis, which may block
 * for a while and run on the loop's thread pool: taking an epoch, agreeing on the step
 * from which a dead worker is out, declaring the end. */
#include "server.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TICK_MS       100u
#define REDIS_WAIT_MS 5000
#define LEAVE_WAIT_MS 15000
#define PULL_WAIT_MS  1000u
#define END_LINGER_MS 500 /* time for everybody to hear of the end */

/* ---- announcements ------------------------------------------------------------ */

void server_announce(struct server *s, enum tl_member_state state) {
    uint64_t version = tl_fold_version(s->fold);
    const struct tl_member_entry *said = &s->said;
    bool changed = said->version != version || said->state != state ||
                   said->epoch != s->epoch || said->incarnation != s->self.incarnation;
    s->self.version = version;
    s->self.state = state;
    s->self.epoch = s->epoch;
    s->said = s->self;
    if (s->member != NULL && changed) {
        tl_member_announce(s->member, &s->self, true);
        server_office_announce(s);
    }
}

static void refuse_until_ready(struct server *s, const char *why) {
    tl_serve_refuse(s->serve, TL_E_BUSY);
    tl_health_ready(why);
    tl_pod_label_set(s->label, "waiting");
}

/* ---- epochs ------------------------------------------------------------------- */

/* What the last server of this shard announced that this one does not have; what of it
 * had been acknowledged is counted exactly when the workers join. */
static const char *updates_behind(const struct server *s) {
    struct tl_member_entry before;
    if (s->member == NULL || tl_member_predecessor(s->member, &before) != 0) {
        return "unknown";
    }
    uint64_t version = tl_fold_version(s->fold);
    return tl_text_u64(before.version > version ? before.version - version : 0);
}

void server_epoch_taken(struct server *s, uint64_t epoch) {
    int rc = tl_fold_take_over(s->fold, epoch);
    if (rc != 0) {
        tl_log_line(TL_ERROR, "epoch refused", "epoch", tl_text_u64(epoch), "why",
                    tl_error_string(rc), NULL);
        server_leave(s, TL_EXIT_FAILED);
        return;
    }
    s->epoch = epoch;
    tl_log_line(TL_INFO, "serving", "epoch", tl_text_u64(epoch), "version",
                tl_text_u64(tl_fold_version(s->fold)), "from",
                s->origin.from_snapshot ? "snapshot" : "seed", "updates_behind",
                updates_behind(s), "address", s->self.address, NULL);
    tl_serve_set_epoch(s->serve, epoch);
    tl_serve_refuse(s->serve, 0);
    tl_health_ready(NULL);
    tl_pod_label_set(s->label, "serving");
    server_announce(s, TL_MEMBER_SERVING);
}

static void epoch_job(uv_work_t *work) {
    struct server *s = work->data;
    s->epoch_status =
        tl_member_raise_epoch(s->member, s->service.index, s->epoch_floor,
                              tl_now_ms() + REDIS_WAIT_MS, &s->epoch_next);
    if (s->epoch_status != 0) { /* the text is this thread's */
        (void)snprintf(s->epoch_trouble, sizeof(s->epoch_trouble), "%s",
                       tl_error_text());
    }
}

static void epoch_done(uv_work_t *work, int status) {
    struct server *s = work->data;
    s->epoch_busy = false;
    if (s->finished) {
        return;
    }
    if (status == 0 && s->epoch_status == 0) {
        s->epoch_is_due = false;
        s->epoch_told[0] = '\0';
        server_epoch_taken(s, s->epoch_next);
    } else if (strcmp(s->epoch_trouble, s->epoch_told) != 0) { /* not at each tick */
        memcpy(s->epoch_told, s->epoch_trouble, sizeof(s->epoch_told));
        tl_log_line(TL_WARNING, "no epoch yet: Redis is needed to start serving",
                    "error", tl_error_name(s->epoch_status), "why", s->epoch_trouble,
                    NULL);
    }
}

static void on_tick(uv_timer_t *timer);

/* Take an epoch above `floor` before serving (on): at the next turn of the loop, and
 * tried again at each tick. */
void server_take_epoch(struct server *s, uint64_t floor) {
    s->epoch_floor = floor > s->epoch_floor ? floor : s->epoch_floor;
    s->epoch_is_due = true;
    refuse_until_ready(s, "waiting for an epoch");
    (void)uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
}

static void epoch_tick(struct server *s) {
    if (!s->epoch_is_due || s->epoch_busy) {
        return;
    }
    if (s->member == NULL) {
        s->epoch_is_due = false;
        server_epoch_taken(s, s->epoch_floor + 1);
        return;
    }
    s->epoch_busy = uv_queue_work(&s->loop, &s->epoch_work, epoch_job, epoch_done) == 0;
}

static void on_newer_epoch(void *ctx, uint64_t epoch) {
    struct server *s = ctx;
    if (s->replica != NULL) {
        server_replica_raise(s, epoch);
        return;
    }
    if (s->standby != NULL) {
        server_standby_yield(s, epoch);
        return;
    }
    if (!s->epoch_is_due) {
        tl_log_line(TL_WARNING, "a caller knows another writer: taking a higher epoch",
                    "epoch_seen", tl_text_u64(epoch), NULL);
        server_take_epoch(s, epoch);
    }
}

static void fencing_tick(struct server *s) {
    if (s->member == NULL || s->epoch == 0 || s->epoch_is_due || s->epoch_busy ||
        s->replica != NULL) {
        return; /* a chain fences its members itself */
    }
    uint64_t newest = tl_member_newest_epoch(s->member, s->service.index);
    if (newest > s->epoch && s->standby != NULL) {
        server_standby_yield(s, newest);
    } else if (newest > s->epoch) {
        tl_log_line(TL_ERROR, "fenced: another process has taken over this shard",
                    "newest_epoch", tl_text_u64(newest), NULL);
        tl_serve_refuse(s->serve, TL_E_FENCED);
        server_leave(s, TL_EXIT_FENCED);
    }
}

/* ---- dead workers ------------------------------------------------------------- */

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
    s->retire_status =
        tl_member_retire(s->member, s->retire.worker, s->retire.incarnation,
                         s->retire.step, tl_now_ms() + REDIS_WAIT_MS, &s->retire.step);
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

static void workers_tick(struct server *s) {
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

/* On the membership's thread: only flags. */
static void on_event(void *ctx, const struct tl_roster_event *event) {
    struct server *s = ctx;
    if (event->entry.role == TL_ROLE_WORKER && event->entry.index < TL_WORKER_LIMIT) {
        atomic_store(&s->absence[event->entry.index].lapsed,
                     event->kind == TL_ROSTER_DOWN);
    }
}

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

static void end_tick(struct server *s);

static void end_job(uv_work_t *work) {
    struct server *s = work->data;
    int rc =
        tl_member_declare_end(s->member, s->end_reason, tl_now_ms() + REDIS_WAIT_MS);
    s->end_declared = rc == 0;
}

static void end_done(uv_work_t *work, int status) {
    struct server *s = work->data;
    (void)status;
    s->end_busy = false;
    if (!s->finished) {
        end_tick(s);
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

static void end_tick(struct server *s) {
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

static bool drain_is_over(const struct server *s) {
    return state_is_kept(s) || tl_now_ms() >= s->leave_deadline_ms;
}

static void on_stop(uv_poll_t *poll, int status, int events) {
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

/* ---- the loop ----------------------------------------------------------------- */

static void on_record(void *ctx, const struct tl_record *r, int status,
                      const struct tl_fold_effect *effect) {
    struct server *s = ctx;
    server_gauges_record(s, status, r, effect);
    if (r->kind == TL_RECORD_JOIN && status == 0) {
        tl_log_line(effect->lost > 0 ? TL_WARNING : TL_INFO, "worker joined", "worker",
                    tl_text_u64(r->worker), "incarnation", tl_text_u64(r->incarnation),
                    "from_step", tl_text_u64(r->step), "gradients_lost",
                    tl_text_u64(effect->lost), "gradients_lost_in_all",
                    tl_text_u64(tl_fold_counters(s->fold).lost), NULL);
    } else if (r->kind == TL_RECORD_RATE && status == 0) {
        tl_log_line(TL_INFO, "base learning rate changed", "rate",
                    tl_text_double(r->rate, 6), NULL);
    }
}

static void on_tick(uv_timer_t *timer) {
    struct server *s = timer->data;
    tl_health_beat();
    server_follow_tick(s);
    if (s->finished) {
        return;
    }
    server_standby_tick(s);
    epoch_tick(s);
    fencing_tick(s);
    if (s->finished) {
        return;
    }
    if (s->draining) {
        if (drain_is_over(s)) {
            server_leave(s, TL_EXIT_OK);
        }
        return;
    }
    end_tick(s);
    if (s->finished) {
        return;
    }
    if (s->epoch > 0 && !s->epoch_is_due) {
        workers_tick(s);
        server_announce(s, s->ending ? TL_MEMBER_LEAVING : TL_MEMBER_SERVING);
    } else if (s->standby != NULL) {
        server_announce(s, server_standby_is_shown(s) ? TL_MEMBER_SERVING
                                                      : TL_MEMBER_STARTING);
    }
    server_gauges_refresh(s);
}

void server_leave(struct server *s, int exit_code) {
    if (s->finished) {
        return;
    }
    s->finished = true;
    s->exit_code = exit_code;
    server_gauges_refresh(s);
    server_follow_stop(s);
    server_replica_stop(s);
    server_standby_stop(s);
    tl_serve_close(s->serve);
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->stop, NULL);
}

static int open_member(struct server *s) {
    s->self = (struct tl_member_entry){
        .role = s->role,
        .index = s->number,
        .incarnation = s->writer,
        .version = tl_fold_version(s->fold),
        .state = TL_MEMBER_STARTING,
    };
    if (strcmp(s->service.redis, "off") == 0) {
        return 0;
    }
    struct tl_member_config config = {
        .redis = s->service.redis,
        .job = s->job.name,
        .run = s->service.run,
        .lease_ms = s->job.lease_ms,
        .self = s->self,
        .on_event = on_event,
        .ctx = s,
    };
    return tl_member_open(&config, &s->member);
}

static int listen_all(struct server *s) {
    char list[TL_PATH_MAX];
    struct tl_address called;
    if (s->options.advertise[0] != '\0') {
        int wrong = tl_address_parse(s->options.advertise, &called);
        if (wrong != 0) {
            return wrong;
        }
    }
    (void)snprintf(list, sizeof(list), "%s", s->options.listen);
    char *rest = NULL;
    for (char *one = strtok_r(list, ",", &rest); one != NULL;
         one = strtok_r(NULL, ",", &rest)) {
        char bound[TL_ADDRESS_MAX];
        int rc = tl_serve_listen(s->serve, one, bound, sizeof(bound));
        if (rc != 0) {
            return rc;
        }
        if (s->self.address[0] == '\0') {
            (void)snprintf(s->self.address, sizeof(s->self.address), "%s",
                           s->options.advertise[0] != '\0' ? s->options.advertise
                                                           : bound);
        }
        tl_log_line(TL_INFO, "listening", "address", bound, NULL);
    }
    return s->self.address[0] != '\0'
               ? 0
               : tl_fail(TL_E_CONFIG, "listen: no address in \"%s\"",
                         s->options.listen);
}

/* How long a pull may wait here: a second keeps polling cheap, and is what a worker
 * loses at most that waits at one shard while another one needs it to compute again. */
static uint32_t wait_ms(const struct tl_job *job) {
    return job->request_ms / 2 < PULL_WAIT_MS ? job->request_ms / 2 : PULL_WAIT_MS;
}

static int open_serve(struct server *s) {
    int rc = tl_job_digest(&s->job, &s->digest);
    if (rc != 0) {
        return rc;
    }
    struct tl_serve_config config = {
        .loop = &s->loop,
        .fold = s->fold,
        .job = s->job.name,
        .run = s->service.run,
        .job_digest = s->digest,
        .parameters = s->parameters,
        .writer = s->writer,
        .trust = s->trust,
        .without_secret = s->options.without_secret,
        .max_connections = s->job.max_connections,
        .frame_ms = s->job.idle_ms,
        .wait_ms = wait_ms(&s->job),
        .unix_checksum = s->job.unix_checksum,
        .follows_log = s->follow.log != NULL,
        .append = server_follow_append,
        .on_newer_epoch = on_newer_epoch,
        .on_record = on_record,
        .ctx = s,
    };
    rc = server_replica_open(s, &config);
    rc = rc == 0 ? server_standby_open(s) : rc;
    rc = rc == 0 ? tl_serve_new(&config, &s->serve) : rc;
    if (rc == 0) {
        refuse_until_ready(s, "starting");
        rc = listen_all(s);
    }
    return rc;
}

static int start_timers(struct server *s) {
    s->tick.data = s->stop.data = s;
    s->epoch_work.data = s->retire_work.data = s->end_work.data = s;
    bool ok = uv_timer_init(&s->loop, &s->tick) == 0 &&
              uv_timer_start(&s->tick, on_tick, 0, TICK_MS) == 0 &&
              uv_poll_init(&s->loop, &s->stop, tl_stop_fd()) == 0 &&
              uv_poll_start(&s->stop, UV_READABLE, on_stop) == 0;
    return ok ? 0 : tl_fail(TL_E_IO, "cannot start the loop's timers");
}

static int start(struct server *s) {
    int rc = open_member(s);
    if (rc == 0) {
        rc = server_follow_open(s);
    }
    if (rc == 0) {
        rc = open_serve(s);
    }
    if (rc == 0) {
        rc = tl_service_http(&s->service, NULL, &s->http, s->self.http);
    }
    if (rc == 0) {
        rc = start_timers(s);
    }
    if (rc == 0) {
        if (s->member != NULL) {
            tl_member_announce(s->member, &s->self, true);
        }
        rc = server_follow_start(s);
    }
    if (rc == 0) {
        rc = server_replica_start(s);
    }
    if (rc == 0 && !s->follow.is_replaying && s->role == TL_ROLE_SERVER) {
        server_take_epoch(s, s->origin.epoch_floor);
    }
    return rc;
}

int server_run(struct server *s) {
    if (uv_loop_init(&s->loop) != 0) {
        tl_log_line(TL_ERROR, "cannot start", "why", "no event loop", NULL);
        return TL_EXIT_FAILED;
    }
    int rc = start(s);
    if (rc != 0) {
        tl_log_line(TL_ERROR, "cannot start", "error", tl_error_name(rc), "why",
                    tl_error_text(), NULL);
        return tl_exit_code(rc); /* the process ends: what was opened goes with it */
    }
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    struct tl_serve_stats stats;
    tl_serve_stats(s->serve, &stats);
    tl_http_stop(s->http);
    server_follow_close(s);
    server_office_close(s);
    server_standby_close(s);
    server_replica_close(s);
    tl_member_close(s->member);
    tl_serve_free(s->serve);
    (void)uv_loop_close(&s->loop);
    tl_log_line(TL_INFO, "stopped", "version", tl_text_u64(tl_fold_version(s->fold)),
                "snapshot_stall_ms",
                tl_text_double(stats.fold_stall_seconds_max * 1e3, 3), "exit",
                tl_text_i64(s->exit_code), NULL);
    return s->exit_code;
}
