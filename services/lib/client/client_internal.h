/* client_internal.h - what the files of the client share.
 *
 *   client.c     the object: opened, asked about, closed
 *   join.c       from nothing to a member of the worker set with weights in hand
 *   logged.c     a durable log: what is on its way to it, and what has arrived
 *   logged_join.c, logged_push.c, logged_pull.c   joining, pushing, pulling with one
 *   push.c       the calls of a training loop: push, pull, both, leave
 *   tail.c       a chain's weights: from its tail, which has them first
 *   exchange.c   one request to every shard at once, to one deadline
 *   weights.c    two vectors: one that the caller reads, one that the next pull fills
 *   encode.c     gradients as they are sent, and what that leaves out
 *   discovery.c  where each shard's server is now
 *   trust.c      who may talk
 *   ledger.c     the last acknowledged sequence, in a file that outlives the process
 *   norm.c       the gradient's L2 norm
 */
#ifndef TL_CLIENT_INTERNAL_H
#define TL_CLIENT_INTERNAL_H

#include "throughline/client.h"
#include "throughline/codec.h"
#include "throughline/log.h"
#include "throughline/member.h"
#include "throughline/trust.h"

/* ---- ledger.c ----------------------------------------------------------------- */

struct client_ledger {
    int fd; /* -1: none */
    bool is_synced;
    char path[1024];
    uint64_t owner; /* digest of job, run and worker */
    uint64_t incarnation;
    uint64_t acknowledged;
};

/* Open or make the file and read it. `path` NULL: a ledger that forgets.
 *   TL_E_CONFIG  not a ledger of this worker, damaged, or it cannot be used */
TL_MUST_USE int client_ledger_open(struct client_ledger *l,
                                   const struct tl_client_config *config);
void client_ledger_close(struct client_ledger *l);
TL_MUST_USE int client_ledger_write(struct client_ledger *l, uint64_t incarnation,
                                    uint64_t acknowledged);

/* ---- trust.c ------------------------------------------------------------------ */

TL_MUST_USE int client_trust_open(const struct tl_client_config *config,
                                  struct tl_trust **ret_trust);

/* ---- discovery.c -------------------------------------------------------------- */

struct client_discovery {
    struct tl_address *fixed; /* from config.servers, in the shards' order */
    uint32_t fixed_count;
    struct tl_member *member; /* from config.redis, or NULL */
    uint32_t replicas;        /* of each shard, to read from; 0: its server alone */
    int changed_fd; /* eventfd: readable when servers may have moved; -1: never */
};

TL_MUST_USE int client_discovery_open(struct client_discovery *d,
                                      const struct tl_client_config *config);
void client_discovery_close(struct client_discovery *d);
/* Have servers moved, maybe, since the last call? */
bool client_discovery_has_changed(const struct client_discovery *d);
/* For tl_direct_config.find; ctx is a struct client_discovery. */
TL_MUST_USE int client_discovery_find(void *ctx, uint32_t shard,
                                      struct tl_address *ret_address);

/* Likewise: where the shard's tail shows its weights. TL_E_UNAVAILABLE: nowhere. */
TL_MUST_USE int client_discovery_find_tail(void *ctx, uint32_t shard,
                                           struct tl_address *ret_address);

/* ---- weights.c ---------------------------------------------------------------- */

struct client_weights {
    float *front; /* what the caller reads; NULL before the first pull */
    float *back;  /* what the next pull fills */
    float *memory[2];
};

TL_MUST_USE int client_weights_reserve(struct client_weights *w, uint64_t parameters);
void client_weights_done(struct client_weights *w);

/* ---- encode.c ----------------------------------------------------------------- */

struct client_encoder {
    enum tl_encoding encoding;
    double fraction;   /* topk */
    uint64_t sequence; /* of the batch encoded last */
    float *residual;   /* what the batches before it left out */
    float *next;       /* what it leaves out as well */
    uint8_t *bytes;    /* of all slices, one after the other */
};

/* TL_E_CONFIG: no such encoding, or part of the values. */
TL_MUST_USE int client_encoder_init(struct client_encoder *e,
                                    const struct tl_client_config *config);
void client_encoder_done(struct client_encoder *e);

/* ---- the object --------------------------------------------------------------- */

struct client_shard {
    struct tl_direct *direct;
    struct tl_appender *appender; /* with a durable log */
    uint64_t first, count;        /* its slice */
    struct tl_encoded gradient;   /* its part of the batch being pushed */
    struct tl_direct_held held;   /* version of its slice in weights.front */
    uint64_t next_step; /* sync: first step that this worker has not contributed to */
    int status;         /* of the exchange under way */
    /* With a chain: its tail, which shows the weights while the head takes gradients.
     */
    struct tl_direct *reader; /* NULL: never asked yet */
    bool is_reading;          /* in the exchange under way, or the last one */
    bool must_not_wait; /* for what is newer: another shard's answer has ended that */
    int read_status;
    int64_t asked_ms, avoid_ms; /* when the tail was asked; not again before */
    uint64_t asked_for;         /* the gradient that the weights are to have in them */
    /* With a durable log: */
    bool is_asked;        /* for weights; the answer is under way, or not taken yet */
    bool is_greeting;     /* ... or who it is */
    bool is_away;         /* the last call met nobody there */
    uint64_t heard_bytes; /* received when it was last heard of */
    int64_t heard_ms;
};

/* A gradient that is not known to be durable everywhere. */
struct client_pending {
    uint64_t put; /* number of its record, the same at every shard */
    uint64_t sequence;
};

/* With a durable log. */
struct client_logged {
    uint64_t puts;                  /* records put at every shard */
    uint64_t sequence;              /* of the last gradient among them */
    uint64_t before;                /* ... and of the one before it */
    struct client_pending *pending; /* oldest first */
    uint32_t pending_count, pending_most;
    uint64_t updates, bytes; /* appended since the last weights came */
    uint64_t epochs;         /* sum of the shards' when it was appended */
};

struct tl_client {
    struct client_logged logged;
    struct tl_client_config config; /* its strings are not used after open */
    char job[TL_NAME_MAX], run[TL_NAME_MAX];
    struct tl_trust *trust;
    struct client_discovery discovery;
    struct client_ledger ledger;
    struct client_weights weights;
    struct client_encoder encoder;
    struct client_shard *shards;
    uint32_t shard_count;
    uint64_t parameters;
    uint64_t incarnation;
    uint64_t last_sequence; /* highest that was pushed or is settled */
    bool joined;
    bool has_told_wait; /* on_wait knows of a wait, and not of its end */
    int wake_fd;        /* eventfd: readable once interrupted, for good */
    struct tl_client_stats stats;
};

/* ---- client.c ----------------------------------------------------------------- */

/* A call waits: on_wait is told why, unless it knows of a wait already. */
void client_tell_wait(struct tl_client *c, const char *why);
/* A call has what it waited for. */
void client_tell_relief(struct tl_client *c);

/* ---- tail.c ------------------------------------------------------------------- */

/* Begin to pull from the tail what results from gradient `sequence`, which goes to the
 * head meanwhile. false: there is no tail of use, everything is asked of the head. */
bool client_tail_begin(struct tl_client *c, uint32_t s, uint64_t sequence);
/* Go on with it. When the tail cannot give them the head is asked, which has them too.
 */
void client_tail_advance(struct tl_client *c, uint32_t s, int64_t now_ms);
/* Take "nothing newer yet" for an answer, now or when it is asked. */
void client_tail_stop_waiting(struct client_shard *shard);
/* The weights come another way, or not at all. */
void client_tail_leave(struct client_shard *shard);
/* The half of the last exchange that may have brought weights. */
const struct tl_direct_result *client_pulled(const struct client_shard *shard);

/* ---- exchange.c --------------------------------------------------------------- */

/* Complete the request that was begun at every shard. ret_ended: a shard says that the
 * job has ended; those requests that can still be served have been.
 *   TL_E_TIMEOUT      names a shard that could not be reached, and why
 *   TL_E_INTERRUPTED  `wake_fd` (-1: none) became readable
 *   others            see tl_direct_advance(); all shards' requests are given up */
TL_MUST_USE int client_exchange(struct tl_client *c, int64_t deadline_ms, int wake_fd,
                                bool *ret_ended);
/* As the public calls wait: until patience is over, or tl_client_interrupt(). */
TL_MUST_USE int client_exchange_patiently(struct tl_client *c, int64_t deadline_ms,
                                          bool *ret_ended);
int64_t client_deadline(const struct tl_client *c);
/* Go on with requests begun before, those whose status is TL_E_BUSY, until
 * `deadline_ms`: TL_E_BUSY when some are still under way then. */
TL_MUST_USE int client_exchange_some(struct tl_client *c, int64_t deadline_ms,
                                     bool *ret_ended);
/* Give up what is under way. */
void client_exchange_cancel(struct tl_client *c);
/* Its last attempt failed, and it has no connection now. */
bool client_is_in_trouble(const struct tl_direct *d);
/* Tell of a server that is away, if one keeps the exchange waiting; worth a look after
 * so many ms. */
void client_tell_away(struct tl_client *c);
int64_t client_look_ms(const struct tl_client *c);

/* ---- join.c ------------------------------------------------------------------- */

/* Make room for so many shards. */
TL_MUST_USE int client_shards_grow(struct tl_client *c, uint32_t shards);
TL_MUST_USE int client_meet(struct tl_client *c, int64_t deadline_ms);
/* Every shard's present weights, whatever is held. */
TL_MUST_USE int client_pull_present(struct tl_client *c, int64_t deadline_ms);
TL_MUST_USE int client_ask_all(struct tl_client *c,
                               const struct tl_direct_request *request,
                               int64_t deadline_ms, bool *ret_ended);
/* Memory for weights and the encoder, once the cut is known. */
TL_MUST_USE int client_reserve(struct tl_client *c);

/* ---- logged.c: with a durable log ------------------------------------------------ */

TL_MUST_USE int client_logged_open(struct tl_client *c);
void client_logged_done(struct tl_client *c);
/* Put one record at every shard, waiting for room. `payload`: each shard's gradient.
 * What was put at some shards before an error is not put there again. */
TL_MUST_USE int client_logged_put(struct tl_client *c, const struct tl_header *header,
                                  bool payload, int64_t deadline_ms);
/* Wait until the first `puts` records are durable at every shard. */
TL_MUST_USE int client_logged_wait(struct tl_client *c, uint64_t puts,
                                   int64_t deadline_ms);
/* Take note of what has become durable: async gradients are acknowledged by that. */
TL_MUST_USE int client_logged_collect(struct tl_client *c);
bool client_logged_is_async(const struct tl_client *c);
/* As Redis says, whether or not there are servers. */
bool client_logged_has_ended(const struct tl_client *c);

TL_MUST_USE int client_logged_join(struct tl_client *c);
TL_MUST_USE int client_logged_rejoin(struct tl_client *c, int64_t deadline_ms);
TL_MUST_USE int client_logged_push(struct tl_client *c, uint64_t sequence,
                                   const float *gradient, bool pull,
                                   struct tl_client_result *ret_result);
TL_MUST_USE int client_logged_leave(struct tl_client *c, uint64_t step);

/* logged_pull.c: begin to pull from `d` the weights with gradient `sequence` in them,
 * 0: any. Of who has never said who it is nothing can be asked but that: is_greeting.
 */
TL_MUST_USE int client_ask(struct tl_client *c, struct client_shard *shard,
                           struct tl_direct *d, uint64_t sequence, int64_t now_ms);
/* Begin to pull from every shard that is not being asked already;
 * weights with gradient `sequence` in them, 0: any. */
TL_MUST_USE int client_logged_ask(struct tl_client *c, uint64_t sequence);
/* Every shard has answered: what came is what the caller reads. */
void client_logged_take(struct tl_client *c);
/* Give up what was asked. */
void client_logged_forget(struct tl_client *c);
/* async: weights of the shards that are there. TL_E_BUSY: not of all, and one may go
 * on: is_away says which. */
TL_MUST_USE int client_logged_pull(struct tl_client *c, int64_t deadline_ms,
                                   bool *ret_ended);

/* Memory for the encoder, once the cut is known. */
TL_MUST_USE int client_encoder_reserve(struct tl_client *c);
/* Write the gradient of batch `sequence` into every shard's part; it is borrowed if it
 * is sent as it is. The same batch again gives the same bytes. */
void client_encode(struct tl_client *c, uint64_t sequence, const float *gradient);

/* ---- push.c, weights.c, norm.c ------------------------------------------------ */

/* Begin to pull every shard's slice into weights.back; those whose version is held and
 * current send nothing. */
TL_MUST_USE int client_pull_begin(struct tl_client *c, bool only_newer);
/* Turn what the last exchange pulled into the vector that the caller reads. Nothing
 * changes unless every slice is there. */
void client_weights_take(struct tl_client *c);
/* The same for one shard, while others are still to answer. */
void client_weights_take_slice(struct tl_client *c, uint32_t s);

/* L2 norm of what the shards will decode; the same bits on every machine. */
float client_norm(const struct client_shard *shards, uint32_t count);

#endif
