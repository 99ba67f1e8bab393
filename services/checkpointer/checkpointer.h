/* checkpointer.h - tl-checkpointer: takes snapshots of every shard and keeps the
 * newest.
 *
 *   main.c      options, start
 *   loop.c      one poll() over all shards; the wind-down
 *   shard.c     the conversation with one shard's server, a step at a time
 *   capture.c   a state on its way from the server to the store
 *   presence.c  membership: where the servers are, what we announce
 *   gauges.c    what /metrics says
 *
 * Thread: one, blocking only in the store. Whatever fails, a server, the store or
 * Redis, is said once, tried again with back-off, and ends nothing. */
#ifndef CHECKPOINTER_H
#define CHECKPOINTER_H

#include "throughline/job.h"
#include "throughline/member.h"
#include "throughline/service.h"
#include "throughline/snapshot.h"
#include "throughline/wire.h"

#include <poll.h>

struct checkpointer;

/* ---- capture.c ---------------------------------------------------------------- */

struct capture {
    struct tl_snapshot_writer *writer; /* from the state's first byte on */
    struct tl_manifest meta;
    int64_t started_ms;
    int failure; /* of the store; the link only knows that the exchange ended */
    char why[512];
};

/* ---- shard.c ------------------------------------------------------------------ */

enum shard_step {
    SHARD_AWAY,     /* no connection */
    SHARD_GREETING, /* HELLO is out */
    SHARD_IDLE,
    SHARD_ASKING,  /* PING is out */
    SHARD_FETCHING /* SNAPSHOT is out */
};

struct shard {
    struct checkpointer *owner;
    uint32_t number;
    struct tl_link *link;
    enum shard_step step;
    bool checksum;           /* payload checksums on this connection */
    int64_t act_ms;          /* AWAY, IDLE: when to do something next */
    int64_t deadline_ms;     /* otherwise: when the server has been silent too long */
    uint64_t bytes_received; /* as of the last look at the deadline */
    uint32_t failures;       /* of the server, in a row */
    uint32_t store_failures; /* likewise */
    int64_t store_retry_ms;
    uint64_t epoch, writer;    /* newest seen, and whose it was */
    struct tl_welcome welcome; /* the slice */
    struct tl_pace pace;
    struct capture capture;
    bool wants_last; /* take one more, if there is anything newer */
    bool had_last;   /* of the server that is leaving now, or of the job */
    uint8_t reply[TL_WELCOME_BYTES];
};

/* Start what is due at `now_ms`, and give up what takes too long. */
void shard_turn(struct shard *s, int64_t now_ms);
/* The link's descriptor is ready. */
void shard_advance(struct shard *s);
/* When shard_turn() is needed at the latest. */
int64_t shard_next_ms(const struct shard *s);
/* Is something under way that poll() has to watch? */
bool shard_is_busy(const struct shard *s);
/* Take a last snapshot as soon as possible. */
void shard_want_last(struct shard *s);

/* capture.c: the link's sink; `ctx` is the shard. */
int capture_take(void *ctx, const void *bytes, size_t size);
void capture_begin(struct shard *s, int64_t now_ms);
/* The whole state has come: verify, publish, prune. 0, or the store's error. */
TL_MUST_USE int capture_finish(struct shard *s);
void capture_abandon(struct shard *s);

/* ---- gauges.c ----------------------------------------------------------------- */

struct gauges {
    struct tl_metric *snapshots, *failures, *bytes, *seconds, *pruned;
    struct tl_metric **version, **age; /* per shard */
};
TL_MUST_USE int gauges_new(struct gauges *g, uint32_t shards);
void gauges_done(struct gauges *g);

/* ---- the whole ---------------------------------------------------------------- */

struct checkpointer_options {
    char servers[TL_PATH_MAX];
};

struct presence {
    struct tl_member *member; /* NULL: no Redis */
    struct tl_member_entry self;
    int wake_fd; /* readable when the roster has changed */
    bool was_connected, complained;
};

struct checkpointer {
    struct checkpointer_options options;
    struct tl_service_options service;
    struct tl_job job;
    uint64_t job_digest, fold_digest;
    struct tl_trust *trust; /* NULL: the servers prove nothing */
    struct tl_store *store; /* NULL: not reached yet */
    int64_t store_retry_ms;
    bool store_complained;
    struct presence presence;
    struct gauges gauges;
    struct tl_address *servers; /* from --servers, one per shard; NULL: ask Redis */
    struct shard *shards;
    struct pollfd *polled;
    bool is_ending;     /* last snapshots are being taken */
    bool job_has_ended; /* not only our process */
    int64_t end_deadline_ms;
};

/* presence.c */
TL_MUST_USE int presence_open(struct checkpointer *c, const char *http);
void presence_close(struct checkpointer *c);
TL_MUST_USE int presence_find(struct checkpointer *c, uint32_t shard,
                              struct tl_address *ret_address);
/* Is this shard's server about to leave, and worth a last snapshot? */
bool presence_is_leaving(const struct checkpointer *c, uint32_t shard);
void presence_announce(struct checkpointer *c, enum tl_member_state state);
/* Say once that Redis went away or came back; take what made wake_fd readable. */
void presence_look(struct checkpointer *c);

/* loop.c */
int checkpointer_run(struct checkpointer *c);

#endif
