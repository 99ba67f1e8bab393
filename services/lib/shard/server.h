/* server.h - one process, one shard: what the files of this folder share.
 *
 *   program.c  settings, start, exit code
 *   recover.c  the state to start from: newest snapshot, or the job's seed
 *   loop.c     the shard's loop: epoch, announcements, and the turns of the others
 *   workers.c  dead workers, and the step from which they are out
 *   ending.c   the end of the job, and SIGTERM
 *   follow.c   a durable log: replayed, followed, appended to
 *   gauges.c   what /metrics says
 *   replica.c  one of a chain (replica.h)
 *   standby.c  one of several that follow a log: who serves, and who is next
 *   office.c   registered as the shard's server; call.c  reaching another process
 */
#ifndef THROUGHLINE_SERVER_H
#define THROUGHLINE_SERVER_H

#include "throughline/fold.h"
#include "throughline/job.h"
#include "throughline/log.h"
#include "throughline/member.h"
#include "throughline/pod_label.h"
#include "throughline/serve.h"
#include "throughline/service.h"
#include "throughline/tls.h"

#include <stdatomic.h>
#include <uv.h>

#define SERVER_REDIS_WAIT_MS 5000 /* of a conversation on the thread pool */

struct server_options {
    char listen[TL_PATH_MAX];
    char advertise[TL_ADDRESS_MAX];
    uint32_t drain_ms;
    bool without_secret;
    char role_label[TL_NAME_MAX];
};

/* Where the state came from. */
struct server_origin {
    uint64_t version, position;
    uint64_t epoch_floor; /* newest epoch that any snapshot in the store shows */
    bool from_snapshot;
    double load_seconds, replay_seconds; /* what it took to get there */
};

/* With a durable log: where its records come from. */
struct server_follow {
    struct tl_log *log; /* NULL: the direct log */
    struct tl_reader *reader;
    struct tl_appender *appender; /* of LEAVE and RATE */
    uv_poll_t readable;
    bool is_polling, has_failed;
    bool is_replaying; /* up to what the log held when we began */
    uint64_t replay_until, replayed_bytes;
    double replay_began;
    int64_t complained_ms;
};

/* Since when a worker has had no connection; whether its lease is over (set by the
 * membership's thread). */
struct server_absence {
    int64_t since_ms;
    int64_t retired_ms; /* when its LEAVE was put on its way last */
    _Atomic bool lapsed;
};

struct server {
    struct tl_service_options service;
    struct server_options options;
    struct tl_job job;
    enum tl_role role; /* SERVER or REPLICA */
    uint32_t number;   /* among its like: of a server its shard, which is also
                          service.index of both */
    uint32_t slot;     /* replica: its place in the chain's deployment */
    uint64_t parameters;
    uint64_t writer;
    struct tl_fold *fold;
    struct server_origin origin;
    struct tl_trust *trust; /* NULL: callers prove nothing */
    struct tl_serve *serve;
    struct server_follow follow;
    struct standby *standby;  /* NULL: not one of several on a log */
    struct tl_member *office; /* as the shard's server; NULL: another one is that */
    struct replica *replica;  /* NULL: not one of a chain */
    uint64_t digest;          /* of the job */
    uint64_t peer_bytes_sent, peer_bytes_received; /* to and from other replicas */
    struct tl_member *member; /* NULL: no Redis, one server for each shard by hand */
    struct tl_http *http;
    struct tl_pod_label *label; /* NULL: nobody asked for it */
    struct server_gauges *gauges;
    struct tl_member_entry self, said; /* said: what was announced last */
    uint64_t epoch;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_poll_t stop;
    uv_work_t epoch_work, retire_work, end_work;
    bool epoch_is_due, epoch_busy, retire_busy, end_busy;
    int epoch_status;
    char epoch_trouble[512]; /* why there is none yet, and what of it was logged */
    char epoch_told[512];
    uint64_t epoch_floor, epoch_next; /* of the epoch being taken */
    struct tl_record retire;          /* LEAVE being agreed upon */
    int retire_status;
    char end_reason[128];
    _Atomic bool end_declared;
    bool ending, ended; /* it takes no more; everybody is told so */
    bool draining, finished;
    int64_t leave_earliest_ms;
    int64_t leave_deadline_ms; /* when to go, whoever is still there */
    struct server_absence absence[TL_WORKER_LIMIT];
    int exit_code;
};

/* recover.c: job, shard -> fold and where it came from. */
TL_MUST_USE int server_recover(struct server *s);
/* The state that the job's seed gives. */
TL_MUST_USE int server_fresh_fold(const struct server *s, struct tl_fold **ret_fold);

/* loop.c: everything after recovery; returns the exit code. */
int server_run(struct server *s);

/* Tell the membership, if there is news. */
void server_announce(struct server *s, enum tl_member_state state);
/* It is taken: serve. */
void server_epoch_taken(struct server *s, uint64_t epoch);
/* Take an epoch above `floor` before serving (on). */
void server_take_epoch(struct server *s, uint64_t floor);
/* Leave the loop with `exit_code`. */
void server_leave(struct server *s, int exit_code);

/* workers.c */
void server_workers_tick(struct server *s);
/* For the membership's thread, which only sets flags; ctx is a struct server. */
void server_workers_event(void *ctx, const struct tl_roster_event *event);

/* ending.c: at each tick, the job's end and, once SIGTERM has come, the way out. */
void server_end_tick(struct server *s);
void server_drain_tick(struct server *s);
/* SIGTERM has come. */
void server_on_stop(uv_poll_t *poll, int status, int events);

/* follow.c: nothing to do with the direct log.
 * open: reach the log, make it if need be, and find its end; blocks, within the
 * worker's patience. start: read it on the loop; when what it held has been folded an
 * epoch is taken. */
TL_MUST_USE int server_follow_open(struct server *s);
TL_MUST_USE int server_follow_start(struct server *s);
void server_follow_stop(struct server *s); /* before the loop ends */
void server_follow_close(struct server *s);
void server_follow_tick(struct server *s);
/* Append a record of our own; it is folded when it comes back. */
TL_MUST_USE int server_follow_append(void *ctx, const struct tl_record *r);

/* replica.c: nothing to do for a server.
 * open: before serving; fills in what serving a chain needs. start: its clock, on the
 * loop. stop: before the loop ends; close: after it. */
TL_MUST_USE int server_replica_open(struct server *s, struct tl_serve_config *config);
TL_MUST_USE int server_replica_start(struct server *s);
void server_replica_stop(struct server *s);
void server_replica_close(struct server *s);
bool server_replica_leads(const struct server *s);
/* Where the chain's tail shows what it has folded; "" unless it is another one. */
void server_replica_tail(const struct server *s, char ret_address[TL_ADDRESS_MAX]);
void server_replica_gauges(const struct server *s);
/* Put a record of our own on its way: as tl_chain_append(). */
TL_MUST_USE int server_replica_offer(struct server *s, struct tl_record *record);
/* A caller has seen `epoch`. */
void server_replica_raise(struct server *s, uint64_t epoch);

/* office.c: hold the shard's office of server, beside being one of several replicas. */
/* What its holder is called, under `epoch`. */
struct tl_member_entry server_office_entry(const struct server *s, uint64_t epoch);
TL_MUST_USE int server_office_take(struct server *s);
void server_office_announce(struct server *s);
void server_office_leave(struct server *s); /* on the loop */
void server_office_close(struct server *s); /* after it; waits */

/* call.c: prepare fills in all but the address; the call blocks. 0: welcomed, and the
 * connection (fd, tls) is the caller's. TL_E_REFUSED, TL_E_FENCED: nobody, or somebody
 * else, is there. */
struct server_call {
    struct tl_address address;
    struct tl_header header;
    struct tl_hello hello;
    const struct tl_trust *trust;
    int64_t wait_ms;
    int fd;
    struct tl_tls *tls;
};
void server_call_prepare(const struct server *s, struct server_call *c);
TL_MUST_USE int server_call(struct server_call *c);

/* standby.c: nothing to do but with the strategy hybrid. */
TL_MUST_USE int server_standby_open(struct server *s);
/* What the log held at the start has been folded; some more has been. */
void server_standby_ready(struct server *s);
void server_standby_folded(struct server *s);
void server_standby_tick(struct server *s);
/* Does it serve readers while it stands by? */
bool server_standby_is_shown(const struct server *s);
/* Somebody has a higher epoch: serve no more, and see what is to be done. */
void server_standby_yield(struct server *s, uint64_t epoch);
void server_standby_stop(struct server *s);  /* before the loop ends */
void server_standby_close(struct server *s); /* after it */

/* gauges.c */
TL_MUST_USE int server_gauges_new(struct server *s);
void server_gauges_record(struct server *s, int status, const struct tl_record *r,
                          const struct tl_fold_effect *effect);
void server_gauges_refresh(struct server *s);

#endif
