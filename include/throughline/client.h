/* client.h - the public library: make any C trainer a worker.
 *
 * Path:   your gradient -> [client] -> the shards' servers
 * Thread: one thread at a time per client; a call blocks, never past its deadline.
 *
 *   struct tl_client_config config = {.servers = "unix:///run/ps.sock", .worker = 0};
 *   struct tl_client *client;
 *   if (tl_client_open(&config, &client) != 0) die(tl_error_text());
 *   struct tl_client_join joined;
 *   if (tl_client_join(client, &joined) != 0) ...
 *   for (uint64_t n = joined.next_sequence; ; n++) {
 *       gradient_of(batch_number(n), tl_client_weights(client), g);
 *       int rc = tl_client_push_pull(client, n, g, NULL);
 *       if (rc != 0) break; (TL_E_ENDED when the job is done)
 *   }
 *   tl_client_leave(client);
 *   tl_client_free(client);
 *
 * The client finds the servers, cuts the gradient into shards, speaks to all of them at
 * once, reconnects and sends again what was not acknowledged; the fold removes what
 * arrives twice. Link with: pkg-config --libs throughline. */
#ifndef THROUGHLINE_CLIENT_H
#define THROUGHLINE_CLIENT_H

#include "throughline/error.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tl_client;
struct tl_log; /* a durable log; tl-worker's, which opens it */

/* Zero means the default for every number. Strings are copied. */
struct tl_client_config {
    const char *servers; /* "tcp://h:p,unix:///p": one address per shard, in order;
                            or NULL: ask Redis */
    const char *redis;   /* redis://... or unix:///...; finds servers that move */
    const char *job;     /* with redis or secret_file: required */
    const char *run;     /* with redis or secret_file: required */
    uint64_t job_digest; /* 0: do not compare; job and run are not compared if NULL */
    const char *secret_file; /* the job's secret, or a worker's key (an observer's: a
                                monitor's); needs job and run; NULL or "": none */
    const char *tls_cert, *tls_key, *tls_ca; /* PEM files: TCP is TLS 1.3, and both ends
                                have certificates signed by tls_ca; NULL or "": none */
    uint32_t worker;      /* this worker's number, unique in the job */
    int observer;         /* 1: only pulls (a monitor); may not join or push */
    uint32_t replicas;    /* observer, strategy hybrid: processes of each shard. Weights
                             come from one that stands by, if there is one, until the
                             job has ended */
    uint32_t patience_ms; /* how long a call waits for dead servers (default 120,000) */
    uint32_t request_ms;  /* longest silence of a server that was asked something
                             (default 10,000; servers answer within 5,000) */
    int no_unix_checksum; /* 1: leave payload checksums out on Unix sockets */
    int no_shared_memory; /* 1: payloads go through Unix sockets themselves, not through
                             memory shared with a server on this machine */
    const char *encoding; /* how gradients travel (docs/protocol.md): "f32" (default),
                             "f16", "bf16", "int8", "topk". What a smaller one leaves
                             out is kept and added to the next gradient; it is lost with
                             the process */
    double topk_fraction; /* "topk": part of the values that is sent, at most 0.5
                             (default 0.01) */
    /* With a durable log gradients are appended to it, and only weights come from the
     * servers; the model's size must then be given, since servers may be away. */
    struct tl_log *log;           /* borrowed for the client's life; NULL: none */
    uint64_t parameters;          /* of the model */
    uint32_t shards;              /* into which it is cut */
    int consistency;              /* enum tl_consistency */
    int while_away;               /* enum tl_while_away (job.h) */
    double local_rate;            /* learning rate of local steps */
    uint32_t in_flight;           /* records on their way to the log (default 4) */
    uint64_t max_pending_updates; /* since the last weights (default 1000) */
    uint64_t max_pending_bytes;   /* (default 4 GiB) */
    /* Weights to begin on while no server is there, and their version. */
    int (*begin_weights)(void *ctx, float *weights, uint64_t *ret_version);
    /* A call has been waiting for some time (2 s, or request_ms) for a server that is
     * away, or for the log, and why; "": the call has what it waited for. Told once for
     * each wait. NULL: not told. */
    void (*on_wait)(void *ctx, const char *why);
    void *ctx;          /* of both */
    const char *ledger; /* a file that outlives this process and keeps the last
                           acknowledged sequence; NULL: none */
    int ledger_sync;    /* 1: fdatasync() it before an acknowledgement counts */
};

struct tl_client_join {
    uint64_t parameters; /* of the model */
    uint32_t shards;
    uint64_t next_sequence; /* number of the first batch to compute */
    uint64_t incarnation;
};

/* Outcome of a push or push-pull, per call. */
struct tl_client_result {
    uint64_t version;    /* lowest version among the shards' replies */
    uint32_t duplicated; /* shards that had folded it before: counts as acknowledged */
    uint32_t refused;    /* shards that refused it (stale, late, non-finite) */
    uint32_t resent;     /* shards to which it was sent more than once */
    int refusal;         /* one of the refusals' codes, 0 if none */
    bool new_epoch;      /* a server was replaced during the call */
};

/* Totals since open. */
struct tl_client_stats {
    uint64_t pushes;       /* calls of push and push-pull */
    uint64_t acknowledged; /* of them by every shard */
    uint64_t refused;      /* of them by one shard or more */
    uint64_t resent;       /* slices sent more than once */
    uint64_t reconnects;
    uint64_t bytes_sent, bytes_received;
    uint64_t without_server; /* pushes computed on while a server was away */
    double waited_seconds;   /* in calls, for the network and the servers */
};

/* Nothing is contacted yet. TL_E_CONFIG names the field, or what is wrong with the
 * ledger or the secret. */
TL_MUST_USE int tl_client_open(const struct tl_client_config *config,
                               struct tl_client **ret_client);
void tl_client_free(struct tl_client *client); /* NULL is legal; does not leave */

/* Connect to every shard, take the next incarnation, and enter the worker set; pulls
 * the present weights. An observer only connects and pulls, also after the job's end.
 * May be repeated after a failure.
 *   TL_E_TIMEOUT   not every shard could be reached within patience_ms: names it
 *   TL_E_FENCED    a newer process runs under this worker number
 *   TL_E_MISMATCH  the servers run another job, or do not belong together
 *   TL_E_AUTH      the servers and secret_file do not know the same secret
 *   TL_E_ENDED     the job is over */
TL_MUST_USE int tl_client_join(struct tl_client *client,
                               struct tl_client_join *ret_join);

/* The newest weights pulled: `parameters` float32, each shard's slice of one version;
 * borrowed until the next call that pulls. NULL before the first pull. */
const float *tl_client_weights(const struct tl_client *client);
/* Lowest version among the shards' slices, and that of one shard. */
uint64_t tl_client_version(const struct tl_client *client);
uint64_t tl_client_shard_version(const struct tl_client *client, uint32_t shard);

/* Push the gradient (`parameters` float32, borrowed until return) of batch `sequence`,
 * computed on the weights of the last pull, and return when every shard has
 * acknowledged or refused it. Sequences rise. ret_result may be NULL. A refusal is no
 * error: see result->refused.
 *   TL_E_INVALID      not joined, or a sequence below the last one
 *   TL_E_TIMEOUT      a shard gave no answer within patience_ms (the others did): may
 *                     be repeated with the same sequence
 *   TL_E_INTERRUPTED  tl_client_interrupt(): the push may or may not have been folded,
 *                     and may be repeated likewise
 *   TL_E_FENCED       a newer process runs under this worker number
 *   TL_E_ENDED        the job is over (this gradient may still have been folded)
 *   TL_E_MISMATCH, TL_E_PROTOCOL  a server is not what it was
 *   TL_E_IO           the ledger cannot be written */
TL_MUST_USE int tl_client_push(struct tl_client *client, uint64_t sequence,
                               const float *gradient,
                               struct tl_client_result *ret_result);

/* Pull. `only_newer`: wait (to the deadline) until each shard has a newer version than
 * the one held; else whatever is there now (a shard that has nothing newer sends none).
 * Errors as for push. TL_E_ENDED: what there was to pull has been pulled, and is final
 * once all servers have ended. */
TL_MUST_USE int tl_client_pull(struct tl_client *client, bool only_newer);

/* Push, and pull the weights that result: one round trip. sync: returns when the step
 * is committed. Errors as for push; no weights change unless those of every shard have
 * come or are current. */
TL_MUST_USE int tl_client_push_pull(struct tl_client *client, uint64_t sequence,
                                    const float *gradient,
                                    struct tl_client_result *ret_result);

/* Leave the worker set: later sync steps do not wait for this worker. Works after an
 * interrupt too. Waits for two seconds at most: a server that is away finds out by the
 * worker's lease. */
TL_MUST_USE int tl_client_leave(struct tl_client *client);

/* Async-signal-safe, and from any thread: the call in progress, and any later one but
 * leave, returns TL_E_INTERRUPTED. */
void tl_client_interrupt(struct tl_client *client);

void tl_client_stats(const struct tl_client *client, struct tl_client_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
