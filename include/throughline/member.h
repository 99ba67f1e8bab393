/* member.h - who is there: leases, incarnations, epochs, the end of the job; in Redis.
 *
 * Path:   beside it: workers find servers, servers fence each other
 * Pure:   the roster (judging who is alive) is; the driver around it does the I/O
 * Thread: the driver is one thread of its own with blocking hiredis calls, all with
 *         deadlines; every function here may be called from any thread. The change
 *         callback runs on the driver's thread: set a flag, write an eventfd or call
 *         uv_async_send(), nothing else.
 *
 * Keys, all under one hash tag and all deleted with the run: "tl:{JOB/RUN}:" +
 *   members       hash  "role/index" -> JSON entry, rewritten by each heartbeat
 *   epochs        hash  shard -> newest epoch given out
 *   incarnations  hash  "role/index" -> last incarnation
 *   origin        hash  started: Redis time in ms of the first registration;
 *                       token: random, tells a flushed Redis from the one before
 *   end           string, JSON: why the job ended, by whom
 *   retired       hash  "worker/incarnation" -> step
 *   chains        hash  shard -> configuration of its chain, and who has shown itself
 *   news          channel
 * Heartbeats put off their expiry by a day: an abandoned run disappears by itself.
 * Liveness is judged by each observer on its own monotonic clock: an entry whose beat
 * number has not changed for lease_ms is dead. No wall clock, no Redis expiry decides.
 * Redis away: the last roster stays, nobody new is declared dead; training goes on.
 * Redis flushed: heartbeats bring back their entries and every epoch they have seen,
 * the run's age and its end; an epoch never falls, because a new one is given
 * max(Redis, floor) + 1. */
#ifndef THROUGHLINE_MEMBER_H
#define THROUGHLINE_MEMBER_H

#include "throughline/chain.h"
#include "throughline/error.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define TL_ADDRESS_MAX 300u
#define TL_MEMBERS_MAX 4096u

enum tl_member_state {
    TL_MEMBER_STARTING = 0, /* registered, not serving yet */
    TL_MEMBER_SERVING = 1,
    TL_MEMBER_LEAVING = 2, /* winding down; still answers */
};

/* One service as the others see it. */
struct tl_member_entry {
    enum tl_role role;
    uint32_t index;       /* shard of a server, number of a worker, else 0.. */
    uint64_t incarnation; /* worker: its incarnation, 0 before it has one; others:
                             random process number, chosen by tl_member_open if 0 */
    uint64_t epoch;       /* server: its epoch */
    uint64_t version;     /* server: version; worker: last acknowledged sequence;
                             checkpointer: version of the newest snapshot */
    uint64_t beat;        /* rises with every heartbeat; the driver's own */
    enum tl_member_state state;
    int32_t pid;                  /* 0 at tl_member_open: this process */
    char address[TL_ADDRESS_MAX]; /* where it serves frames; "" */
    char http[TL_ADDRESS_MAX];    /* "host:port" of its metrics; "" */
    char tail[TL_ADDRESS_MAX]; /* server of a chain: where its tail shows the weights;
                                  "" when nobody else does */
};

/* ---- roster: pure ------------------------------------------------------------ */

struct tl_roster;
enum tl_roster_event_kind {
    TL_ROSTER_UP,       /* first seen, or back after DOWN */
    TL_ROSTER_DOWN,     /* its lease is over */
    TL_ROSTER_REPLACED, /* another incarnation, or a higher epoch, has taken its place
                         */
    TL_ROSTER_GONE      /* deregistered in order */
};
struct tl_roster_event {
    enum tl_roster_event_kind kind;
    struct tl_member_entry entry; /* DOWN, GONE: as last seen */
};
TL_MUST_USE int tl_roster_new(uint32_t lease_ms, struct tl_roster **ret_roster);
void tl_roster_free(struct tl_roster *r);
/* What Redis shows at `now_ms` (monotonic). Writes what changed to `events` (capacity
 * `max_events`; what does not fit is found again at the next call). Returns how many.
 * An entry is dead when its beat has not changed for lease_ms over at least three
 * looks: between two looks at most a third of the lease counts, since an observer that
 * was stopped itself has learnt nothing meanwhile. A list that `is_complete` is false
 * for (Redis was away or has just been flushed) takes nobody down, neither for being
 * absent nor for an old beat; who is still absent from the complete lists after it goes
 * DOWN by its lease. */
size_t tl_roster_observe(struct tl_roster *r, int64_t now_ms,
                         const struct tl_member_entry *entries, size_t n,
                         bool is_complete, struct tl_roster_event *events,
                         size_t max_events);
/* Rises when an entry comes, goes or changes otherwise than by its beat or version. */
uint64_t tl_roster_revision(const struct tl_roster *r);
/* Alive entry of (role, index): TL_E_NOTFOUND. */
TL_MUST_USE int tl_roster_find(const struct tl_roster *r, enum tl_role role,
                               uint32_t index, struct tl_member_entry *ret_entry);
/* The first `max` alive entries by role and index; returns how many were copied. */
size_t tl_roster_list(const struct tl_roster *r, struct tl_member_entry *entries,
                      size_t max);

/* ---- the driver -------------------------------------------------------------------
 *
 * Every `deadline_ms` is a moment of CLOCK_MONOTONIC, as in tl_now_ms() + 5000. A call
 * that has one opens a connection of its own for itself, and tries again until then:
 *   TL_E_UNAVAILABLE  Redis was not reached by the deadline
 *   TL_E_DENIED       Redis refuses us (password, rights): said at once
 *   TL_E_CORRUPT      a key of the run holds something foreign: said at once
 * The text says which Redis and why, and never holds its password. */

struct tl_member;
struct tl_member_config {
    const char *redis; /* redis://[[user]:password@]host[:port][/db], percent-encoded,
                          or unix:///path[?db=N] */
    const char *job;
    const char *run;
    uint32_t lease_ms;           /* default 3000; heartbeats every third of it */
    struct tl_member_entry self; /* role, index, address, http; role 0: only watch */
    /* Both may be NULL. on_change: roster, end, epochs or connection changed. */
    void (*on_change)(void *ctx);
    void (*on_event)(void *ctx, const struct tl_roster_event *event);
    void *ctx;
};

/* Start the thread. Redis need not be up: it is tried again with back-off, for ever,
 * and tl_member_is_connected() tells. TL_E_CONFIG: the URL or a name cannot be used. */
TL_MUST_USE int tl_member_open(const struct tl_member_config *config,
                               struct tl_member **ret_member);
/* Deregister (when Redis answers within a second) and stop. NULL is legal. */
void tl_member_close(struct tl_member *m);

/* Whether the last exchange with Redis succeeded. */
bool tl_member_is_connected(const struct tl_member *m);
/* Why not: one line, "" while connected or before the first attempt has ended. */
void tl_member_trouble(const struct tl_member *m, char *ret_text, size_t size);

/* Set what the next heartbeat says of us; `now`: send it at once (every 20 ms at most).
 * Role and index stay those of tl_member_open. */
void tl_member_announce(struct tl_member *m, const struct tl_member_entry *self,
                        bool now);

/* The entry that was registered under our role and index before our first heartbeat: a
 * restarted server learns from it what version had been announced. TL_E_NOTFOUND: there
 * was none; TL_E_BUSY: there has been no heartbeat yet. */
TL_MUST_USE int tl_member_predecessor(const struct tl_member *m,
                                      struct tl_member_entry *ret_entry);

/* Raise shard's epoch: max(what Redis knows, floor) + 1. If we are that shard's server,
 * the same script registers it as ours. TL_E_INVALID: floor is beyond 2^63 - 2. */
TL_MUST_USE int tl_member_raise_epoch(struct tl_member *m, uint32_t shard,
                                      uint64_t floor, int64_t deadline_ms,
                                      uint64_t *ret_epoch);
/* Newest epoch of `shard` that Redis has ever shown; above ours means: fenced. */
uint64_t tl_member_newest_epoch(const struct tl_member *m, uint32_t shard);

/* Next incarnation of (role, index): max(what Redis knows, floor) + 1. */
TL_MUST_USE int tl_member_next_incarnation(struct tl_member *m, enum tl_role role,
                                           uint32_t index, uint64_t floor,
                                           int64_t deadline_ms,
                                           uint64_t *ret_incarnation);

/* The step from which a dead worker contributes nothing, the same for all shards: the
 * first caller's max(step, steps announced by the servers) is kept, and later callers
 * are given it. */
TL_MUST_USE int tl_member_retire(struct tl_member *m, uint32_t worker,
                                 uint64_t incarnation, uint64_t step,
                                 int64_t deadline_ms, uint64_t *ret_step);

/* ---- chains: chain.h's arbiter, in Redis ---- */

struct tl_chain_place {
    uint32_t shard;
    uint32_t length; /* slots of its chain */
    /* decide: who leads from then on, to be registered as the shard's server by the
     * same script, so that everybody is told at once. NULL: whoever is it already */
    const struct tl_member_entry *head;
};
/* As tl_chain_arbiter_show(), and what it says now. TL_E_CORRUPT: see above. */
TL_MUST_USE int tl_member_chain_show(struct tl_member *m,
                                     const struct tl_chain_place *place,
                                     struct tl_chain_node node,
                                     const struct tl_chain_config *known, uint64_t seen,
                                     int64_t deadline_ms,
                                     struct tl_chain_look *ret_look);
/* Who is in the chain of `shard`; number 0: nobody yet. */
TL_MUST_USE int tl_member_chain_config(struct tl_member *m, uint32_t shard,
                                       int64_t deadline_ms,
                                       struct tl_chain_config *ret_config);
/* As tl_chain_arbiter_decide(): whether it was decided is what the look shows. After
 * TL_E_UNAVAILABLE nobody knows. The epoch that newest_epoch() shows is raised too. */
TL_MUST_USE int
tl_member_chain_decide(struct tl_member *m, const struct tl_chain_place *place,
                       uint64_t expected, const struct tl_chain_config *next,
                       bool forms, int64_t deadline_ms, struct tl_chain_look *ret_look);

/* Declare the end; the first declaration stands. */
TL_MUST_USE int tl_member_declare_end(struct tl_member *m, const char *reason,
                                      int64_t deadline_ms);
/* Whether the end is declared; `reason` (may be NULL) gets its text. */
bool tl_member_has_ended(const struct tl_member *m, char *reason, size_t size);

/* Milliseconds since the run's first registration, by Redis' clock when we first saw it
 * and by the monotonic one since: does not depend on any one process, goes on while
 * Redis is away; -1 while unknown. */
int64_t tl_member_run_age_ms(const struct tl_member *m);

/* Copies from the roster, as of the last look. */
TL_MUST_USE int tl_member_find(const struct tl_member *m, enum tl_role role,
                               uint32_t index, struct tl_member_entry *ret_entry);
size_t tl_member_list(const struct tl_member *m, struct tl_member_entry *entries,
                      size_t max);

/* Counters for metrics: commands sent, failures. */
void tl_member_stats(const struct tl_member *m, uint64_t *ret_commands,
                     uint64_t *ret_failures);

/* Delete every key of the run (whoever ends a local run). From here on this member only
 * watches; other live members would bring their entries back, so it comes last. */
TL_MUST_USE int tl_member_erase_run(struct tl_member *m, int64_t deadline_ms);

#endif
