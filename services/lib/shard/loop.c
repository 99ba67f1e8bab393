/* loop.c - the shard's loop: epoch, announcements, and the turns of the others.
 *
 * Everything runs on one libuv loop but three conversations with Redis, which may block
 * for a while and run on the loop's thread pool: taking an epoch, agreeing on the step
 * from which a dead worker is out (workers.c), declaring the end (ending.c). */
#include "server.h"

#include <stdio.h>
#include <string.h>

#define TICK_MS      100u
#define PULL_WAIT_MS 1000u

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
                              tl_now_ms() + SERVER_REDIS_WAIT_MS, &s->epoch_next);
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
        server_drain_tick(s);
        return;
    }
    server_end_tick(s);
    if (s->finished) {
        return;
    }
    if (s->epoch > 0 && !s->epoch_is_due) {
        server_workers_tick(s);
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
        .on_event = server_workers_event,
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
              uv_poll_start(&s->stop, UV_READABLE, server_on_stop) == 0;
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
