/* standby.c - one of several that fold the same durable log: who serves, who is next.
 * Those that do not serve show what they have folded to readers.
 *
 * All of them follow the log; one holds the shard's office of server. The others keep a
 * connection to it, on which nothing is ever said: when it closes, or the server's
 * lease is over, or nobody is registered, the first of them raises the epoch, folds
 * what the log held at that moment, and serves. To be wrong about a death does no harm:
 * what is folded is the log's to decide, and a server that sees a higher epoch becomes
 * a standby again. So nobody asks whether it is really dead. */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REDIS_WAIT_MS 5000
#define TURN_MS       200 /* for each one that would be next before us */

struct standby {
    struct server *server;
    bool is_ready; /* what the log held at the start is folded */
    bool is_serving;
    uint64_t shown;   /* the epoch under which readers are served meanwhile; 0: none */
    uint64_t serving; /* the process that was called last */
    bool is_gone;     /* ... and that has gone */
    bool is_calling, is_watching;
    struct server_call call;
    uv_work_t call_work, take_work;
    uv_poll_t closed;
    int call_status;
    int64_t absent_ms; /* since when nobody serves; 0: somebody does */
    bool is_taking;    /* the epoch is asked for, or the log's end is to be reached */
    bool has_epoch;
    int take_status;
    char why[512];        /* its text, which is another thread's */
    uint64_t epoch, next; /* taken; the log's next position then */
};

/* ---- watching the one that serves -------------------------------------------------
 */

static void forget(struct standby *b) {
    if (b->is_watching) {
        uv_close((uv_handle_t *)&b->closed, NULL);
        (void)close(b->call.fd);
        tl_tls_free(b->call.tls);
        b->is_watching = false;
    }
}

static void look(struct standby *b);

/* It never says anything: whatever comes is its end. */
static void on_closed(uv_poll_t *poll, int status, int events) {
    struct standby *b = poll->data;
    (void)status;
    (void)events;
    forget(b);
    b->is_gone = true;
    look(b);
}

static void watch(struct standby *b) {
    b->closed.data = b;
    if (uv_poll_init(&b->server->loop, &b->closed, b->call.fd) != 0) {
        (void)close(b->call.fd);
        tl_tls_free(b->call.tls);
        return; /* its lease says it, too */
    }
    b->is_watching = true;
    (void)uv_poll_start(&b->closed, UV_READABLE | UV_DISCONNECT, on_closed);
}

static void call_job(uv_work_t *work) {
    struct standby *b = work->data;
    b->call_status = server_call(&b->call);
}

static void call_done(uv_work_t *work, int status) {
    struct standby *b = work->data;
    b->is_calling = false;
    if (status != 0 || b->server->finished) {
        return;
    }
    if (b->call_status == 0) {
        watch(b);
    } else if (b->call_status == TL_E_REFUSED) {
        b->is_gone = true;
        look(b);
    } /* else it is called again at the next tick */
}

static void call_server(struct standby *b, const struct tl_member_entry *e) {
    forget(b);
    b->serving = e->incarnation;
    b->is_gone = false;
    server_call_prepare(b->server, &b->call);
    b->is_calling =
        tl_address_parse(e->address, &b->call.address) == 0 &&
        uv_queue_work(&b->server->loop, &b->call_work, call_job, call_done) == 0;
}

/* ---- readers -----------------------------------------------------------------------
 */

/* They are told the epoch and the writer that everybody knows: what is folded here is
 * what that one folds, earlier or later. */
static void show(struct standby *b, const struct tl_member_entry *server) {
    if (server->epoch > b->shown) {
        b->shown = server->epoch;
        tl_serve_stand_by(b->server->serve, server->epoch, server->incarnation);
    }
}

bool server_standby_is_shown(const struct server *s) {
    return s->standby != NULL && s->standby->shown > 0;
}

/* ---- taking its place -------------------------------------------------------------
 */

/* The log's end as of now, and an epoch above all others. */
static void take_job(uv_work_t *work) {
    struct standby *b = work->data;
    struct server *s = b->server;
    int64_t deadline_ms = tl_now_ms() + REDIS_WAIT_MS;
    uint64_t first = 0;
    b->take_status =
        tl_log_range(s->follow.log, s->service.index, deadline_ms, &first, &b->next);
    if (b->take_status == 0) {
        b->take_status = tl_member_raise_epoch(s->office, s->service.index,
                                               s->epoch_floor, deadline_ms, &b->epoch);
    }
    (void)snprintf(b->why, sizeof(b->why), "%s",
                   b->take_status != 0 ? tl_error_text() : "");
}

static void serve(struct standby *b) {
    b->is_taking = false;
    b->has_epoch = false;
    b->is_serving = true;
    b->absent_ms = 0;
    b->shown = 0;
    forget(b);
    tl_serve_set_leading(b->server->serve, true);
    server_epoch_taken(b->server, b->epoch);
}

void server_standby_folded(struct server *s) {
    struct standby *b = s->standby;
    if (b != NULL && b->has_epoch && tl_fold_position(s->fold) + 1 >= b->next) {
        serve(b);
    }
}

static void take_done(uv_work_t *work, int status) {
    struct standby *b = work->data;
    if (b->server->finished) {
        return;
    }
    b->has_epoch = status == 0 && b->take_status == 0;
    b->is_taking = b->has_epoch; /* if not, the next tick tries again */
    if (!b->has_epoch) {
        tl_log_line(TL_WARNING, "this standby cannot take over yet", "error",
                    tl_error_name(b->take_status), "why", b->why, NULL);
    }
    server_standby_folded(b->server);
}

static void take(struct standby *b) {
    struct server *s = b->server;
    tl_log_line(TL_INFO, "taking over", "because",
                b->is_gone ? "the connection to the server was closed"
                           : "nobody serves this shard",
                NULL);
    if (server_office_take(s) == 0) {
        b->is_taking = uv_queue_work(&s->loop, &b->take_work, take_job, take_done) == 0;
    }
}

/* How many standbys come before us; the one that has gone is none. */
static uint32_t rank(const struct standby *b) {
    const struct server *s = b->server;
    uint32_t before = 0;
    for (uint32_t number = s->number - s->slot; number < s->number; number++) {
        struct tl_member_entry e;
        bool is_there = tl_member_find(s->member, TL_ROLE_REPLICA, number, &e) == 0;
        before += is_there && !(b->is_gone && e.incarnation == b->serving);
    }
    return before;
}

/* Who serves, as the roster says; false: nobody, or one that is known to be gone. */
static bool find_server(const struct standby *b, struct tl_member_entry *ret) {
    const struct server *s = b->server;
    return tl_member_find(s->member, TL_ROLE_SERVER, s->service.index, ret) == 0 &&
           ret->incarnation != s->writer &&
           !(b->is_gone && ret->incarnation == b->serving);
}

static void look(struct standby *b) {
    struct tl_member_entry e;
    int64_t now_ms = tl_now_ms();
    if (!b->is_ready || b->is_serving || b->is_taking || b->is_calling ||
        b->server->draining || b->server->ending) {
        return;
    }
    if (find_server(b, &e)) {
        b->absent_ms = 0;
        show(b, &e);
        if (e.incarnation != b->serving || !b->is_watching) {
            call_server(b, &e);
        }
        return;
    }
    b->absent_ms = b->absent_ms == 0 ? now_ms : b->absent_ms;
    if (now_ms - b->absent_ms >= (int64_t)rank(b) * TURN_MS) {
        take(b);
    }
}

/* ---- from the loop -----------------------------------------------------------------
 */

void server_standby_ready(struct server *s) {
    s->standby->is_ready = true;
    s->epoch_floor = s->origin.epoch_floor;
    tl_health_ready(NULL);
    look(s->standby);
}

void server_standby_tick(struct server *s) {
    if (s->standby != NULL) {
        look(s->standby);
    }
}

void server_standby_yield(struct server *s, uint64_t epoch) {
    struct standby *b = s->standby;
    s->epoch_floor = epoch > s->epoch_floor ? epoch : s->epoch_floor;
    if (!b->is_serving) {
        return;
    }
    tl_log_line(TL_WARNING, "another process serves this shard: standing by", "epoch",
                tl_text_u64(epoch), NULL);
    b->is_serving = false;
    s->epoch = 0;
    tl_serve_refuse(s->serve, TL_E_BUSY);
    tl_pod_label_set(s->label, "waiting");
    server_office_leave(s);
}

int server_standby_open(struct server *s) {
    if (s->job.strategy != TL_STRATEGY_HYBRID) {
        return 0;
    }
    if (s->member == NULL) {
        return tl_fail(TL_E_CONFIG, "standbys need Redis: --redis");
    }
    struct standby *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a standby");
    }
    b->server = s;
    b->call_work.data = b->take_work.data = b;
    s->standby = b;
    return 0;
}

void server_standby_stop(struct server *s) {
    if (s->standby != NULL) {
        forget(s->standby);
    }
}

void server_standby_close(struct server *s) {
    free(s->standby);
    s->standby = NULL;
}
