/* sim.h - the real protocol, fold and state code in a world made of a seed.
 *
 *   world.c     time, events, random numbers, the trace
 *   network.c   links between replicas: delay, loss of connection, partition, half-open
 *   redis.c     the arbiter behind a slow and mortal Redis
 *   replica.c   a process: chain and fold, and what the driver does with its actions
 *   worker.c    the client: joins, pushes, resends, restarts
 *   faults.c    what goes wrong, and when
 *   check.c     what must hold after every step
 *   schedule.c  one run from its seed to its verdict; smaller ones that fail alike
 *   store.c     snapshots in a store that fails
 *   log.c       a durable log, who appends to it and who folds it
 *   main.c      many runs, or one told in full
 */
#ifndef TL_SIM_H
#define TL_SIM_H

#include "throughline/chain.h"
#include "throughline/fold.h"
#include "throughline/mutant.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_NODES      5u
#define SIM_WORKERS    3u
#define SIM_FLOATS     3u
#define SIM_LEASE      INT64_C(60) /* ms of virtual time */
#define SIM_TROUBLE    500
#define SIM_HISTORY    4096u
#define SIM_FAULTS     10u
#define SIM_REPLIES    128u
#define SIM_TRACE_MAX  UINT64_C(65536)
#define SIM_REDIS      SIM_NODES /* as an end of a partition */
#define SIM_ENDS       (SIM_NODES + 1)
#define SIM_EVENTS_MAX 200000u

struct sim;

/* ---- world.c ----------------------------------------------------------------------
 */

enum sim_event_kind {
    EVENT_TICK,
    EVENT_DIALLED, /* at the one who is dialled */
    EVENT_LINKED,  /* back at the one who dialled */
    EVENT_TRIED,   /* the same, in vain, or of a probe */
    EVENT_BROKEN,  /* a link's end learns that it is down */
    EVENT_MESSAGE,
    EVENT_CUT,
    EVENT_ASK,      /* a request at Redis */
    EVENT_ANSWER,   /* and its reply */
    EVENT_ASK_LOST, /* nobody waits for it any more */
    EVENT_REQUEST,  /* a worker's at a replica */
    EVENT_REPLY,
    EVENT_WORKER, /* a worker's next step */
    EVENT_FAULT,
    EVENT_FAULT_OVER,
};

/* `end` is whose event it is: a replica, or SIM_REDIS, or -1: the world's or a
 * worker's. `life` is the end's process when it was made. */
struct sim_event {
    int64_t at;
    uint64_t order;
    enum sim_event_kind kind;
    int end;
    uint32_t life;
    uint64_t a, b;
    void *data;
};

void sim_at(struct sim *s, int64_t delay, struct sim_event event);
/* Later, and still before what was made after it. */
void sim_put_off(struct sim *s, int64_t until, struct sim_event event);
bool sim_pop(struct sim *s, struct sim_event *ret);
uint64_t sim_random(uint64_t *state);
uint64_t sim_below(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, uint64_t percent);
int64_t sim_delay(struct sim *s); /* of a message */
void sim_trace(struct sim *s, const char *fmt, ...) TL_PRINTF(2, 3);
/* An invariant is broken; the first one is the run's verdict. */
void sim_fail(struct sim *s, const char *invariant, const char *fmt, ...)
    TL_PRINTF(3, 4);

/* ---- network.c ----------------------------------------------------------------------
 */

#define SIM_LINKS 128u
struct sim_link {
    bool used;
    uint64_t id;
    struct tl_chain_node ends[2];
    int at[2]; /* replicas */
    uint32_t lives[2];
    bool up[2];         /* as each end believes */
    bool is_dead;       /* half-open: nothing arrives, nobody is told */
    int64_t arrival[2]; /* in order: no message before the one before */
};
struct sim_flight {
    uint64_t link;
    int to; /* 0, 1 */
    struct tl_chain_message message;
};
void sim_dial(struct sim *s, int from, struct tl_chain_node node, bool is_probe);
void sim_send(struct sim *s, int from, const struct tl_chain_action *a);
void sim_close(struct sim *s, int from, struct tl_chain_node node);
/* Both ends, or those that live, learn of it; what is on its way is lost. */
void sim_break(struct sim *s, struct sim_link *l);
void sim_break_all(struct sim *s, int replica);
void sim_partition(struct sim *s, int a, int b, bool is_on);
void sim_network_event(struct sim *s, struct sim_event *e);
void sim_event_drop(struct sim *s, struct sim_event *e);

/* ---- redis.c
 * -------------------------------------------------------------------------- */

struct sim_ask {
    uint64_t id;
    bool proposes;
    struct tl_chain_node node;
    struct tl_chain_config config; /* known, or proposed */
    uint64_t expected, seen;
    bool forms;
    struct tl_chain_look look; /* the reply */
};
struct sim_redis {
    bool is_down;
    struct tl_chain_arbiter arbiter;
};
void sim_redis_ask(struct sim *s, int replica, const struct tl_chain_action *proposal);
void sim_redis_event(struct sim *s, struct sim_event *e);

/* ---- replica.c
 * ------------------------------------------------------------------------- */

struct sim_body {
    struct tl_chain_body base;
    struct tl_cut *cut; /* read when somebody needs the bytes */
    struct sim_body **holder;
    uint8_t *bytes;
    size_t size;
    float values[SIM_FLOATS];
};
/* Who waits for a record's outcome. */
struct sim_waiting {
    uint64_t position;
    uint32_t worker;
    uint64_t attempt;
};
struct sim_replica {
    bool is_alive, is_paused;
    uint32_t life;
    int64_t paused_until;
    struct tl_chain *chain;
    struct tl_fold *fold;
    struct sim_body *cut;
    uint64_t ask_id; /* 0: none under way */
    bool has_proposal;
    struct tl_chain_action proposal;
    struct sim_waiting waiting[SIM_REPLIES];
    uint32_t waiting_count;
};
void sim_replica_start(struct sim *s, int i);
void sim_replica_crash(struct sim *s, int i);
void sim_replica_event(struct sim *s, struct sim_event *e);
void sim_replica_act(struct sim *s, int i);
void sim_body_bytes(struct sim *s, struct sim_body *b);
uint64_t sim_fold_digest(struct tl_fold *f); /* 0: cannot be had now */

/* ---- worker.c
 * -------------------------------------------------------------------------- */

enum sim_request_kind { REQUEST_JOIN, REQUEST_PUSH, REQUEST_PULL, REQUEST_READ };
struct sim_request {
    enum sim_request_kind kind;
    uint32_t worker;
    uint64_t attempt, incarnation, sequence, read_version;
    uint64_t epoch, writer; /* newest seen, and whose; of a reply: the head's */
    int status;             /* of the reply */
    uint64_t version, settled;
    bool has_weights;
    int from; /* replica that answers */
};
struct sim_worker {
    bool is_alive, is_joined;
    uint64_t incarnation, attempt;
    uint64_t acknowledged; /* in its ledger */
    uint64_t sequence;     /* being pushed; 0: none */
    bool is_pulling;
    uint64_t epoch, writer, version;
    bool has_version;
    int replica; /* where it believes the head to be */
    uint64_t acknowledged_at_heal;
    bool pushed_after_heal;
};
void sim_worker_start(struct sim *s, uint32_t w);
void sim_worker_crash(struct sim *s, uint32_t w);
void sim_worker_event(struct sim *s, struct sim_event *e);
void sim_reply(struct sim *s, int replica, const struct sim_request *r);

/* ---- faults.c
 * -------------------------------------------------------------------------- */

enum sim_fault_kind {
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_BREAK,
    FAULT_PARTITION,
    FAULT_REDIS_CRASH,
    FAULT_REDIS_FLUSH,
    FAULT_WORKER,
    FAULT_KINDS
};
struct sim_fault {
    enum sim_fault_kind kind;
    int64_t at, lasts;
    int a, b;
    bool forgets; /* Redis comes back empty */
};
void sim_faults_plan(struct sim *s);
void sim_faults_event(struct sim *s, struct sim_event *e);
void sim_heal(struct sim *s);

/* ---- check.c
 * --------------------------------------------------------------------------- */

struct sim_settled {
    uint64_t incarnation[SIM_WORKERS], sequence[SIM_WORKERS];
    uint64_t step[SIM_WORKERS]; /* sync: contributed to it, plus one */
};
struct sim_fact {
    enum tl_record_kind kind;
    uint32_t worker;
    uint64_t incarnation, sequence, epoch;
    int status;
    uint64_t version, digest;
    struct sim_settled settled; /* after it */
};
struct sim_history {
    struct sim_fact facts[SIM_HISTORY]; /* by position */
    uint64_t length;
    uint64_t broken; /* how often everything was lost at once */
    uint64_t epochs[SIM_HISTORY];
    uint64_t leaders[SIM_HISTORY];
    uint32_t leader_count;
    uint64_t epoch; /* periodic: of the newest head */
};
void sim_check_commit(struct sim *s, int i, const struct tl_record *r, int status,
                      const struct tl_fold_effect *effect, uint64_t version_before);
void sim_check_load(struct sim *s, int i, uint64_t position);
void sim_check_lead(struct sim *s, int i, uint64_t epoch);
void sim_check_formed(struct sim *s, const struct tl_chain_config *before);
void sim_check_lost(struct sim *s, const struct tl_chain_config *before);
void sim_check_decided(struct sim *s, const struct tl_chain_config *before);
void sim_check_acknowledged(struct sim *s, uint32_t worker, uint64_t sequence);
void sim_check_read(struct sim *s, int i);
void sim_check_end(struct sim *s);
bool sim_is_well(const struct sim *s); /* everything goes on as it should */
void sim_check_step(struct sim *s);

/* ---- schedule.c
 * ------------------------------------------------------------------------ */

struct sim {
    uint64_t seed, random;
    int64_t now;
    uint64_t order, events_done;
    struct sim_event *heap;
    size_t heap_count, heap_capacity;

    uint32_t nodes, workers;
    enum tl_replication replication;
    uint64_t every;
    struct tl_fold_config fold_config;
    struct sim_replica replicas[SIM_NODES];
    struct sim_worker worker[SIM_WORKERS];
    uint64_t incarnations[SIM_WORKERS];
    struct sim_redis redis;
    struct sim_link links[SIM_LINKS];
    uint64_t link_id, ask_id;
    bool is_blocked[SIM_ENDS][SIM_ENDS];
    bool is_healed, is_cut_short;
    struct sim_fault faults[SIM_FAULTS];
    uint32_t fault_count, fault_mask;
    struct sim_history history;
    struct tl_chain_config latest; /* decided last, whatever Redis remembers */
    int64_t trouble[SIM_NODES];    /* when a replica gave a cause for suspicion last */
    uint64_t members[256]; /* incarnations that were ever decided to be in the chain */
    uint32_t member_count;

    uint64_t trace_hash;
    bool is_told; /* keep the trace's text */
    char *trace;
    size_t trace_size;
    bool has_failed;
    char invariant[64];
    char verdict[512];
    uint64_t rejected, removals, transfers, resets, commits, duplicates; /* sums */
};

/* Run `seed` with the faults in `mask` only. Reuses the memory of `s`. */
void sim_run(struct sim *s, uint64_t seed, uint32_t mask, bool is_told);
void sim_done(struct sim *s);
/* The smallest mask found with which `seed` breaks the same invariant. */
uint32_t sim_minimise(struct sim *s, uint64_t seed);

/* ---- log.c
 * ------------------------------------------------------------------------------ */

/* A run of a durable log, its workers and its servers; as sim_store_run(). */
bool sim_log_run(uint64_t seed, char *ret_verdict, size_t size);

/* ---- store.c
 * --------------------------------------------------------------------------- */

/* A run of snapshots in a store that fails: false and a text when an invariant broke.
 */
bool sim_store_run(uint64_t seed, char *ret_verdict, size_t size);

#endif
