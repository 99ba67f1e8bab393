/* log.h - the direct log: the exchange with one shard's server, through its death.
 *
 * Path:   nn -> client -> [log] -> wire -> serve -> fold
 * Thread: a shard's exchange belongs to one thread at a time; it never blocks, except
 * for resolving a host name. The caller polls the descriptor, calls
 *         tl_direct_advance(), and composes as many of these as the model has shards.
 *
 * A request is begun once and completes once, however many connections that takes: the
 * exchange finds the server, connects, says HELLO, enters the worker set again with the
 * same incarnation, and sends again what has not been answered. What is sent twice is
 * folded once, by its sequence. It waits longer after each failure (10 ms to 250 ms,
 * with jitter), and for ever: when to give up is the caller's to say
 * (tl_direct_cancel). services/ARCHITECTURE.md has the rules of the exchange,
 * docs/protocol.md the frames. */
#ifndef THROUGHLINE_LOG_H
#define THROUGHLINE_LOG_H

#include "throughline/codec.h"
#include "throughline/error.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct tl_direct;

struct tl_direct_config {
    uint32_t shard;
    enum tl_role role;
    uint32_t worker;
    const char *job, *run; /* NULL or "": not compared; copied */
    uint64_t job_digest;   /* 0: not compared */
    uint32_t request_ms;   /* longest silence of a server during a request, > 0 */
    bool unix_checksum;    /* payload checksums on Unix sockets too */
    bool shared_memory;    /* Unix sockets: payloads through shared memory */
    /* Where the shard's server is now; asked again before each connection. TL_E_CONFIG
     * ends the request, other errors count as a server that cannot be reached. */
    int (*find)(void *ctx, uint32_t shard, struct tl_address *ret_address);
    void *ctx;
};

enum tl_direct_op {
    TL_DIRECT_GREET,     /* only be connected: tl_direct_welcome() */
    TL_DIRECT_JOIN,      /* enter the worker set; incarnation 0 only asks the table */
    TL_DIRECT_PUSH,      /* a gradient's slice */
    TL_DIRECT_PULL,      /* weights, if there are others than those held */
    TL_DIRECT_PUSH_PULL, /* a gradient's slice, and the weights that result */
    TL_DIRECT_LEAVE,     /* contribute nothing from `step` on */
};

/* One version of a shard's weights; version TL_VERSION_NONE: none. A version is only
 * good for the epoch in which it was read. */
struct tl_direct_held {
    uint64_t version;
    uint64_t epoch;
};

struct tl_direct_request {
    enum tl_direct_op op;
    struct tl_direct_held held; /* PUSH: what it was computed on; PULL: what is known */
    uint64_t sequence;          /* PUSH; JOIN: the last one seen acknowledged */
    struct tl_encoded gradient; /* PUSH: the slice, borrowed until completion */
    float norm;                 /* PUSH: of the whole gradient */
    float *weights;  /* PULL: room for the slice, borrowed; holds nothing of use unless
                        the result says so */
    bool only_newer; /* PULL: complete only when there are other weights */
    uint64_t incarnation; /* JOIN */
    uint64_t step;        /* LEAVE */
};

struct tl_direct_result {
    int status;       /* PUSH: 0, TL_E_DUPLICATE, TL_E_ENDED, or the refusal.
                         JOIN: 0, or TL_E_FENCED (see incarnation) */
    uint64_t version; /* the shard's, in the last reply */
    bool has_weights; /* request.weights is what `held` says */
    struct tl_direct_held held;
    bool ended;           /* a reply said that the job has ended */
    bool new_epoch;       /* a server was replaced during the request */
    uint32_t sent;        /* how often the gradient was sent */
    uint64_t incarnation; /* JOIN: the table's */
    uint64_t settled;     /* JOIN: the last sequence in the table */
};

TL_MUST_USE int tl_direct_new(const struct tl_direct_config *config,
                              struct tl_direct **ret_direct);
void tl_direct_free(struct tl_direct *d); /* NULL is legal */

/* Begin a request. TL_E_INVALID: another one is under way, or a push or pull before the
 * first WELCOME (the slice's size is not known). */
TL_MUST_USE int tl_direct_begin(struct tl_direct *d,
                                const struct tl_direct_request *request,
                                int64_t now_ms);

/* Do what is possible without blocking, at `now_ms` (CLOCK_MONOTONIC).
 *   0              complete: tl_direct_result()
 *   TL_E_BUSY      poll tl_direct_fd() for tl_direct_events(), at most until
 *                  tl_direct_wake_ms(), then call again
 *   TL_E_FENCED    a newer process runs under this worker number
 *   TL_E_MISMATCH  the server is of another job, run or shard, or the model has changed
 *   TL_E_ENDED     the job is over; this request cannot be served any more
 *   TL_E_PROTOCOL  a version went back within an epoch, or the server breaks the
 * protocol again and again TL_E_DENIED, TL_E_INVALID, ...  what the server says no to
 * for good */
TL_MUST_USE int tl_direct_advance(struct tl_direct *d, int64_t now_ms);
int tl_direct_fd(const struct tl_direct *d); /* -1: only the time matters */
short tl_direct_events(const struct tl_direct *d);
int64_t tl_direct_wake_ms(const struct tl_direct *d);

/* Give the request up: the connection, whose reply nobody waits for, is closed. */
void tl_direct_cancel(struct tl_direct *d);

/* Take "nothing newer yet" for an answer (another shard said that the job has ended).
 */
void tl_direct_stop_waiting(struct tl_direct *d);

/* Of the request completed last; borrowed until the next one is begun. */
const struct tl_direct_result *tl_direct_result(const struct tl_direct *d);
/* The slice and its model, or NULL before the first WELCOME; version at that time. */
const struct tl_welcome *tl_direct_welcome(const struct tl_direct *d);
/* Newest epoch and version seen. */
uint64_t tl_direct_epoch(const struct tl_direct *d);
uint64_t tl_direct_version(const struct tl_direct *d);
/* Why the last attempt of the request failed; "" when none has. */
const char *tl_direct_trouble(const struct tl_direct *d);

struct tl_direct_stats {
    uint64_t connections; /* that were welcomed */
    uint64_t bytes_sent, bytes_received;
};
void tl_direct_stats(const struct tl_direct *d, struct tl_direct_stats *ret_stats);

#endif
