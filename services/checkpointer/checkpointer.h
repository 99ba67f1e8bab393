/* checkpointer.h - tl-checkpointer: takes snapshots of every shard and keeps the
 * newest.
 *
 *   main.c      options, start
 *   loop.c      one poll() over all shards; the wind-down
 *   shard.c     the conversation with one shard's server, a step at a time
 *   capture.c   a state on its way from the server into the spool
 *   spool.c     a file between the server's pace and the store's
 *   store.c     a thread of its own: everything that waits for the store
 *   trim.c      on it too: a durable log, below the oldest snapshot that is kept
 *   courtesy.c  both threads' priority
 *   presence.c  membership: where the servers are, what we announce
 *   gauges.c    what /metrics says
 *
 * Thread: the loop's, which never blocks, and the store's. Whatever fails, a server,
 * the store or Redis, is said once, tried again with back-off, and ends nothing. */
#ifndef CHECKPOINTER_H
#define CHECKPOINTER_H

#include "throughline/job.h"
#include "throughline/log.h"
#include "throughline/member.h"
#include "throughline/service.h"
#include "throughline/snapshot.h"
#include "throughline/wire.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

struct checkpointer;

#define TL_STORE_WHY_MAX 512u

/* ---- spool.c ------------------------------------------------------------------ */

struct spool {
    int fd; /* -1: none */
    uint64_t size;
    char directory[TL_PATH_MAX];
};
/* `directory` "": TMPDIR, or /tmp. TL_E_IO. */
TL_MUST_USE int spool_open(struct spool *s, const char *directory);
TL_MUST_USE int spool_write(struct spool *s, const void *bytes, size_t size);
TL_MUST_USE int spool_read(const struct spool *s, uint64_t at, void *bytes, size_t size,
                           size_t *ret_size);
void spool_close(struct spool *s);

/* ---- capture.c ---------------------------------------------------------------- */

struct capture {
    struct spool spool; /* from the state's first byte on */
    struct tl_manifest meta;
    int64_t started_ms;
    int failure; /* of the spool; the link only knows that the exchange ended */
    char why[TL_STORE_WHY_MAX];
};

/* ---- store.c ------------------------------------------------------------------ */

enum upload_step { UPLOAD_NONE, UPLOAD_WAITING, UPLOAD_RUNNING, UPLOAD_ENDED };

/* A shard's state, spooled, on its way to the store; and what became of it. */
struct upload {
    enum upload_step step;
    struct tl_manifest meta;
    struct spool spool;
    uint64_t turn;       /* the lower, the sooner */
    int64_t interval_ms; /* from one snapshot of the shard to the next; 0: not known */
    int result;
    char why[TL_STORE_WHY_MAX];
    uint64_t stored; /* bytes */
    uint32_t pruned;
    int64_t ended_ms;
};

/* A shard's newest snapshot when the store was opened. */
struct origin {
    bool exists;
    uint64_t version, epoch, position;
};

/* What a shard's log is still to be told; the store's thread's. */
struct trim {
    bool is_due, has_complained;
    uint64_t covered, parameters;
};

struct store_thread {
    const struct tl_job *job;
    const char *run;
    const char *redis;      /* the run's, where its log may be */
    struct trim *trims;     /* per shard; the thread's */
    bool must_trim;         /* not all of them could be done */
    struct tl_log *log;     /* NULL: none, or not needed yet */
    int wake_fd;            /* readable when there is news for the loop */
    struct origin *origins; /* per shard; the loop's once the store is open */
    /* Behind the lock. */
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool is_stopping, is_open;
    int open_error; /* of the last attempt */
    char open_why[TL_STORE_WHY_MAX];
    struct tl_store *store; /* the thread's; others may cancel it */
    struct upload *uploads; /* per shard */
    uint64_t submitted;
    /* Of both threads. */
    atomic_bool is_urgent; /* somebody waits for what is being stored */
    pthread_t thread;
    bool is_started;
};
/* All is borrowed until the end. What was begun is stopped with store_stop(), whatever
 * this returns. */
TL_MUST_USE int store_start(struct store_thread *t, const struct tl_job *job,
                            const char *run, const char *redis);
/* Give up what is under way, and end; within a second. */
void store_stop(struct store_thread *t);
/* 0 when the store is open, TL_E_BUSY before the first attempt has ended, else that
 * attempt's error. Takes what made wake_fd readable. */
int store_state(struct store_thread *t, char why[TL_STORE_WHY_MAX]);
/* Hand over a state, whose shard has none under way, and which another one follows in
 * `interval_ms` (0: not known). */
void store_submit(struct store_thread *t, const struct tl_manifest *meta,
                  struct spool *spool, int64_t interval_ms);
/* What became of it, once; false while it is not known. */
bool store_take(struct store_thread *t, uint32_t shard, struct upload *ret_upload);

/* ---- trim.c ------------------------------------------------------------------- */

/* `newest` is published: the log is to be told, and trimmed. Nothing to do with the
 * direct log. */
void trim_want(struct store_thread *t, const struct tl_manifest *newest);
/* Do what is wanted, as far as the log can be reached: t->must_trim says what is left.
 */
void trim_try(struct store_thread *t);

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
    uint64_t epoch, writer;            /* newest seen, and whose it was */
    uint64_t position, taken_position; /* of the log: seen, and in a snapshot */
    struct tl_welcome welcome;         /* the slice */
    struct tl_pace pace;
    struct capture capture;
    bool is_uploading; /* the store's thread has a state of this shard */
    bool wants_last;   /* take one more, if there is anything newer */
    bool had_last;     /* of the server that is leaving now, or of the job */
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
/* Does anybody wait for its next snapshot? */
bool shard_is_urgent(const struct shard *s);
/* Take a last snapshot as soon as possible. */
void shard_want_last(struct shard *s);
/* The store's thread is done with the shard's state. */
void shard_stored(struct shard *s, const struct upload *u);

/* capture.c: the link's sink; `ctx` is the shard. */
int capture_take(void *ctx, const void *bytes, size_t size);
void capture_begin(struct shard *s, int64_t now_ms);
void capture_abandon(struct shard *s);

/* ---- gauges.c ----------------------------------------------------------------- */

struct gauges {
    struct tl_metric *snapshots, *failures, *bytes, *held, *seconds, *pruned;
    struct tl_metric **version, **age; /* per shard */
};
TL_MUST_USE int gauges_new(struct gauges *g, uint32_t shards);
void gauges_done(struct gauges *g);

/* ---- the whole ---------------------------------------------------------------- */

struct checkpointer_options {
    char servers[TL_PATH_MAX];
    char spool[TL_PATH_MAX];
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
    struct store_thread store;
    bool store_is_open, store_complained;
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

/* ---- courtesy.c --------------------------------------------------------------- */

/* The calling thread works when others do not want to. */
void step_back(void);

/* loop.c */
int checkpointer_run(struct checkpointer *c);

#endif
