/* follow.c - a durable log: what it held is replayed, what comes is followed.
 *
 * The server is a reader like any other. What it has to say itself, that a worker is
 * dead, it appends, and folds when it reads it: so does whoever folds the log again. */
#include "server.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REACH_STEP_MS 1000
#define COMPLAIN_MS   5000
#define TURN_SECONDS  0.005 /* of folding, then the loop's other work */
#define APPENDS_MOST  64u

/* ---- reaching the log ----------------------------------------------------------- */

static int reach_once(struct server *s, uint64_t *ret_first, uint64_t *ret_next) {
    char note[512];
    int64_t deadline_ms = tl_now_ms() + REACH_STEP_MS;
    int rc = tl_log_create(s->follow.log, deadline_ms, note, sizeof(note));
    if (rc == 0) {
        rc = tl_log_range(s->follow.log, s->service.index, tl_now_ms() + REACH_STEP_MS,
                          ret_first, ret_next);
    }
    if (rc == 0 && note[0] != '\0') {
        tl_log_line(TL_INFO, "the log", "note", note, NULL);
    }
    return rc;
}

/* A broker may come up after us, or be coming back. */
static int reach(struct server *s, uint64_t *ret_first, uint64_t *ret_next) {
    int64_t deadline_ms = tl_now_ms() + (int64_t)s->job.patience_ms;
    for (;;) {
        int rc = reach_once(s, ret_first, ret_next);
        bool may_heal = rc == TL_E_UNAVAILABLE || rc == TL_E_NOTFOUND;
        if (!may_heal || tl_now_ms() >= deadline_ms || tl_stop_requested()) {
            return rc;
        }
        if (tl_now_ms() - s->follow.complained_ms > COMPLAIN_MS) {
            s->follow.complained_ms = tl_now_ms();
            tl_log_line(TL_WARNING, "the log is not reached", "why", tl_error_text(),
                        NULL);
        }
        (void)tl_stop_wait(100);
    }
}

/* The part of the log that this server needs must be there. */
static int check_range(const struct server *s, uint64_t first, uint64_t next) {
    uint64_t position = tl_fold_position(s->fold);
    if (position + 1 >= first && position < next) {
        return 0;
    }
    return tl_fail(position + 1 < first ? TL_E_NOTFOUND : TL_E_CORRUPT,
                   "the state is at position %" PRIu64 " of the log, which holds "
                   "%" PRIu64 " to %" PRIu64 ": %s",
                   position, first, next - 1,
                   position + 1 < first
                       ? "what lies between is gone; start a new run"
                       : "it has lost what it acknowledged; start a new run");
}

int server_follow_open(struct server *s) {
    struct server_follow *f = &s->follow;
    uint64_t first = 0;
    uint64_t next = 0;
    if (!tl_job_is_logged(&s->job)) {
        return 0;
    }
    int rc = tl_log_open_job(&s->job, s->service.run, s->service.redis, s->parameters,
                             &f->log);
    if (rc == 0) {
        rc = reach(s, &first, &next);
    }
    if (rc == 0) {
        rc = check_range(s, first, next);
    }
    if (rc == 0) {
        f->replay_until = next - 1;
        f->is_replaying = true;
        f->replay_began = tl_now_seconds();
        rc = tl_reader_new(f->log, s->service.index, tl_fold_position(s->fold),
                           tl_fold_config(s->fold)->count, &f->reader);
    }
    return rc == 0
               ? tl_appender_new(f->log, s->service.index, APPENDS_MOST, &f->appender)
               : rc;
}

/* ---- folding --------------------------------------------------------------------- */

static void end_replay(struct server *s) {
    struct server_follow *f = &s->follow;
    if (!f->is_replaying || tl_fold_position(s->fold) < f->replay_until) {
        return;
    }
    f->is_replaying = false;
    double seconds = tl_now_seconds() - f->replay_began;
    s->origin.replay_seconds = seconds;
    uint64_t from = s->origin.position;
    tl_log_line(TL_INFO, "log replayed", "from_position", tl_text_u64(from), "records",
                tl_text_u64(tl_fold_position(s->fold) - from), "bytes",
                tl_text_u64(f->replayed_bytes), "ms", tl_text_double(seconds * 1e3, 1),
                "version", tl_text_u64(tl_fold_version(s->fold)), NULL);
    if (s->standby != NULL) {
        server_standby_ready(s);
    } else {
        server_take_epoch(s, s->origin.epoch_floor);
    }
}

static void fold_item(struct server *s, struct tl_reader_item *item) {
    s->follow.replayed_bytes += item->bytes;
    if (item->has_record) {
        (void)tl_serve_fold(s->serve, &item->record);
    } else {
        tl_fold_pass(s->fold);
    }
}

/* Nothing after it can be folded: what was is served no longer. */
static void fail(struct server *s, int rc) {
    s->follow.has_failed = true;
    tl_log_line(TL_ERROR, "the log cannot be followed", "error", tl_error_name(rc),
                "why", tl_error_text(), NULL);
    tl_serve_refuse(s->serve, TL_E_UNAVAILABLE);
    tl_health_ready("the log cannot be followed");
    server_leave(s, TL_EXIT_FAILED);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct server *s = poll->data;
    struct tl_reader_item item;
    double began = tl_now_seconds();
    int rc = 0;
    (void)status;
    (void)events;
    while (rc == 0 && tl_now_seconds() - began < TURN_SECONDS) {
        rc = tl_reader_next(s->follow.reader, &item);
        if (rc == 0) {
            fold_item(s, &item);
        }
    }
    if (rc != 0 && rc != TL_E_BUSY) {
        fail(s, rc);
        return;
    }
    tl_serve_folded(s->serve);
    end_replay(s);
    server_standby_folded(s);
}

int server_follow_start(struct server *s) {
    struct server_follow *f = &s->follow;
    if (f->log == NULL) {
        return 0;
    }
    f->readable.data = s;
    if (uv_poll_init(&s->loop, &f->readable, tl_reader_fd(f->reader)) != 0 ||
        uv_poll_start(&f->readable, UV_READABLE, on_readable) != 0) {
        return tl_fail(TL_E_IO, "cannot watch the log");
    }
    f->is_polling = true;
    tl_health_ready("replaying the log");
    end_replay(s); /* there may be nothing to replay */
    return 0;
}

/* ---- appending ------------------------------------------------------------------- */

int server_follow_append(void *ctx, const struct tl_record *r) {
    struct server *s = ctx;
    struct tl_header h = {
        .worker = r->worker,
        .incarnation = r->incarnation,
        .sequence = r->sequence,
        .position = r->step,
    };
    if (s->follow.appender == NULL) {
        return TL_E_UNSUPPORTED;
    }
    if (r->kind == TL_RECORD_RATE) {
        h.kind = TL_KIND_RATE;
        h.length = sizeof(r->rate);
        return tl_appender_put(s->follow.appender, &h, &r->rate);
    }
    h.kind = TL_KIND_LEAVE;
    return tl_appender_put(s->follow.appender, &h, NULL);
}

/* ---- the loop's other moments ------------------------------------------------------
 */

void server_follow_tick(struct server *s) {
    struct server_follow *f = &s->follow;
    char why[256];
    if (f->log == NULL || f->has_failed) {
        return;
    }
    int rc = tl_appender_failure(f->appender);
    if (rc != 0) {
        fail(s, rc);
        return;
    }
    tl_reader_trouble(f->reader, why, sizeof(why));
    if (why[0] != '\0' && tl_now_ms() - f->complained_ms > COMPLAIN_MS) {
        f->complained_ms = tl_now_ms();
        tl_log_line(TL_WARNING, "the log is not reached", "why", why, NULL);
    }
}

void server_follow_stop(struct server *s) {
    if (s->follow.is_polling) {
        uv_close((uv_handle_t *)&s->follow.readable, NULL);
        s->follow.is_polling = false;
    }
}

void server_follow_close(struct server *s) {
    tl_reader_free(s->follow.reader);
    tl_appender_free(s->follow.appender);
    tl_log_close(s->follow.log);
}
