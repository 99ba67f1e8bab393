/* log.h - where gradients go: the direct log, and durable logs on Kafka and Redis.
 *
 * Path:   nn -> client -> [log] -> wire -> serve -> fold
 * Thread: an exchange, an appender and a reader each belong to one thread at a time.
 * They never block, except for resolving a host name: the caller polls a descriptor and
 *         composes as many of them as the model has shards.
 *
 * ---- the direct log: the exchange with one shard's server, through its death --------
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
#include "throughline/job.h"
#include "throughline/record.h"
#include "throughline/trust.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct tl_direct;

struct tl_direct_config {
    uint32_t shard;
    enum tl_role role;
    uint32_t worker;
    const char *job, *run;        /* NULL or "": not compared; copied */
    uint64_t job_digest;          /* 0: not compared */
    const struct tl_trust *trust; /* borrowed; NULL: the server proves nothing */
    uint32_t request_ms; /* longest silence of a server during a request, > 0 */
    bool unix_checksum;  /* payload checksums on Unix sockets too */
    bool shared_memory;  /* Unix sockets: payloads through shared memory */
    bool only_reads;     /* a worker that pulls here what it pushed elsewhere: from any
                            replica, of which one may be behind another */
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
    uint64_t sequence;          /* PUSH; JOIN: the last one seen acknowledged.
                                   PULL, with a durable log: complete only when the fold
                                   has decided this gradient; 0: none */
    struct tl_encoded gradient; /* PUSH: the slice, borrowed until completion */
    float norm;                 /* PUSH: of the whole gradient */
    float *weights;  /* PULL: room for the slice, borrowed; holds nothing of use unless
                        the result says so */
    bool only_newer; /* PULL: complete only when there are other weights */
    bool elsewhere;  /* PUSH_PULL: complete without weights if the gradient is taken:
                        they are pulled elsewhere, or by tl_direct_fetch() */
    uint64_t incarnation; /* JOIN; PULL with a durable log */
    uint64_t step;        /* LEAVE */
};

struct tl_direct_result {
    int status;       /* PUSH: 0, TL_E_DUPLICATE, TL_E_ENDED, or the refusal.
                         PULL of a sequence: 0, TL_E_STALE, TL_E_NOTJOINED.
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

/* The weights of a PUSH_PULL, begun without them, are asked for here after all. Is it
 * complete already, it is under way again. */
void tl_direct_fetch(struct tl_direct *d, int64_t now_ms);

/* Do what is possible without blocking, at `now_ms` (CLOCK_MONOTONIC).
 *   0              complete: tl_direct_result()
 *   TL_E_BUSY      poll tl_direct_fd() for tl_direct_events(), at most until
 *                  tl_direct_wake_ms(), then call again
 *   TL_E_FENCED    a newer process runs under this worker number
 *   TL_E_MISMATCH  the server is of another job, run or shard, or the model has changed
 *   TL_E_ENDED     the job is over; this request cannot be served any more
 *   TL_E_PROTOCOL  a version went back within an epoch, or the server breaks the
 *                  protocol again and again
 *   TL_E_AUTH      server and client do not know the same secret
 *   TL_E_DENIED, TL_E_INVALID, ...  what the server says no to for good */
TL_MUST_USE int tl_direct_advance(struct tl_direct *d, int64_t now_ms);
int tl_direct_fd(const struct tl_direct *d); /* -1: only the time matters */
short tl_direct_events(const struct tl_direct *d);
int64_t tl_direct_wake_ms(const struct tl_direct *d);

/* Give the request up: the connection, whose reply nobody waits for, is closed. */
void tl_direct_cancel(struct tl_direct *d);

/* Servers may have moved: do not wait any longer for one that is elsewhere by now, nor
 * before the next try. */
void tl_direct_look_again(struct tl_direct *d, int64_t now_ms);
/* Take "nothing newer yet" for an answer (another shard said that the job has ended).
 */
void tl_direct_stop_waiting(struct tl_direct *d);

/* Of the request completed last; borrowed until the next one is begun. */
const struct tl_direct_result *tl_direct_result(const struct tl_direct *d);
/* Its gradient is not in the state and will not be; also while its weights are still
 * under way. */
bool tl_direct_was_refused(const struct tl_direct *d);
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

/* ---- durable logs: Kafka, Redis Streams ---------------------------------------------
 *
 * One run's log: for each shard a sequence of entries at positions 1, 2, 3, ... without
 * a gap. An entry is a wire frame (docs/protocol.md) with header, payload and trailer;
 * its epoch field holds the run's identity, so that nothing foreign is ever folded. A
 * frame of the kinds PUSH, JOIN, LEAVE and RATE is a record. One that is larger than an
 * entry may be goes as several PART entries, and is a record at the position of the
 * last. Parts whose record was never completed, or not within `span` entries, are none:
 * a position without a record. That depends on the log alone, so every reader agrees.
 *
 *   kafka://host:port[,host:port]  topic JOB.RUN, a partition per shard; position =
 *                                  offset + 1
 *   redis://..., unix:///...       stream tl:{JOB/RUN}:log:SHARD; position = N of the
 *                                  entry 0-N
 *
 * An append is durable when it is acknowledged: by Kafka with acks=all, by Redis once
 * it is in its append-only file (synced, if Redis runs with appendfsync always;
 * tl_log_create() says when it does not). An append whose outcome is unknown is made
 * again, in order: the log may then hold it twice, and the fold removes it. */

struct tl_log;

struct tl_log_config {
    const char *url;       /* copied */
    const char *job, *run; /* copied */
    uint64_t identity;     /* of job and run: tl_log_identity() */
    uint32_t shards;
    uint32_t workers;      /* how many append at one time; bounds `span` */
    uint64_t record_bytes; /* largest payload of a record */
    uint64_t max_bytes;    /* Redis: appenders wait while a shard holds so much that no
                              checkpoint covers (tl_log_trim) */
    bool keeps_all;        /* nobody trims it: said where an appender waits */
    /* Kafka: what the topic is made with, and asked to have */
    uint32_t replication;       /* 0: the broker's default */
    uint32_t min_insync;        /* 0: the broker's default */
    uint64_t max_entry_bytes;   /* 0: 8 MiB */
    const struct json_t *kafka; /* object: settings for librdkafka; borrowed until open
                                   returns; NULL: none */
};

/* Of a run's entries: job, run and what the state depends on. Never 0. */
uint64_t tl_log_identity(const char *job, const char *run, uint64_t fold_digest);

/* Check the settings; nothing is contacted.
 *   TL_E_CONFIG       the URL or a setting; the text says which and what is right
 *   TL_E_UNSUPPORTED  a kind of log that this program was built without */
TL_MUST_USE int tl_log_open(const struct tl_log_config *config,
                            struct tl_log **ret_log);
/* Can a log hold what this job needs it to? TL_E_CONFIG. */
TL_MUST_USE int tl_log_check_job(const struct tl_job *job, uint64_t parameters);
/* The log of a job's run; `redis` is the run's own Redis, which log.url redis: means.
 */
TL_MUST_USE int tl_log_open_job(const struct tl_job *job, const char *run,
                                const char *redis, uint64_t parameters,
                                struct tl_log **ret_log);
/* Bytes that a shard's log may hold beyond the newest checkpoint before workers wait
 * for another; 0: any number. */
uint64_t tl_log_room(const struct tl_job *job);
/* No appender or reader may be left (asserted). NULL is legal. */
void tl_log_close(struct tl_log *log);

/* Make what is missing (Kafka: the topic) and check what is there. `ret_note` gets one
 * line about what is weaker than it might be, or "".
 *   TL_E_MISMATCH     it is there, but cannot hold this job's log: says what to change
 *   TL_E_DENIED       no right to do so
 *   TL_E_UNAVAILABLE  not reached by the deadline (CLOCK_MONOTONIC) */
TL_MUST_USE int tl_log_create(struct tl_log *log, int64_t deadline_ms, char *ret_note,
                              size_t size);
/* Positions in `shard`: of the first entry held, and that the next one will get.
 *   TL_E_NOTFOUND     there is no such log
 *   TL_E_UNAVAILABLE  as above */
TL_MUST_USE int tl_log_range(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                             uint64_t *ret_first, uint64_t *ret_next);
/* Let go of the entries that nobody needs who starts after `position`. What remains up
 * to `covered` is in a checkpoint as well, and does not keep appenders waiting. */
TL_MUST_USE int tl_log_trim(struct tl_log *log, uint32_t shard, uint64_t position,
                            uint64_t covered, int64_t deadline_ms);
/* Delete the run's log. */
TL_MUST_USE int tl_log_erase(struct tl_log *log, int64_t deadline_ms);
/* Bytes held of a shard; 0 where the log does not tell. Errors as tl_log_range(). */
TL_MUST_USE int tl_log_bytes(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                             uint64_t *ret_bytes);

/* ---- appending ----------------------------------------------------------------- */

struct tl_appender;

/* At most `max_pending` records (> 0; 1 if they go in parts) wait to become durable. */
TL_MUST_USE int tl_appender_new(struct tl_log *log, uint32_t shard,
                                uint32_t max_pending,
                                struct tl_appender **ret_appender);
/* What is not yet durable is given up. NULL is legal. */
void tl_appender_free(struct tl_appender *a);
/* Append a record; header and payload are copied. The header's kind says what it is;
 * shard, epoch, length and checksum are filled in.
 *   TL_E_BUSY  max_pending are under way
 *   others     tl_appender_failure(): no append can succeed any more */
TL_MUST_USE int tl_appender_put(struct tl_appender *a, const struct tl_header *header,
                                const void *payload);
/* How many were put, and how many of those, the oldest ones, are durable. */
uint64_t tl_appender_put_count(const struct tl_appender *a);
uint64_t tl_appender_durable_count(struct tl_appender *a);
/* Readable when that may have changed, or the appender has failed. */
int tl_appender_fd(const struct tl_appender *a);
/* 0, or what ended it: TL_E_DENIED, TL_E_NOTFOUND, TL_E_MISMATCH, ... (then tl_fail has
 * been called with the text). What can heal is waited for instead. */
TL_MUST_USE int tl_appender_failure(struct tl_appender *a);
/* What it is waiting for just now: "" or one line. */
void tl_appender_trouble(struct tl_appender *a, char *ret_text, size_t size);

/* ---- reading ------------------------------------------------------------------- */

struct tl_reader;

struct tl_reader_item {
    uint64_t position;
    bool has_record;         /* else the position holds a part, or nothing of use */
    struct tl_record record; /* position and epoch not filled in; values borrowed until
                                the next call */
    size_t bytes;            /* of the entry */
};

/* Read the entries after `position`, in order.
 *   count  parameters in the shard's slice: gradients have so many values */
TL_MUST_USE int tl_reader_new(struct tl_log *log, uint32_t shard, uint64_t position,
                              uint64_t count, struct tl_reader **ret_reader);
void tl_reader_free(struct tl_reader *r); /* NULL is legal */
/* The next entry; never blocks.
 *   TL_E_BUSY      none is there yet: poll tl_reader_fd(). Also while the log cannot be
 *                  reached: tl_reader_trouble()
 *   TL_E_NOTFOUND  entries that are needed have been removed from the log
 *   TL_E_CORRUPT   an entry is damaged, or the log has lost its end
 *   TL_E_MISMATCH  an entry is of another run, or no frame of ours
 *   TL_E_DENIED    the log refuses us
 * After any of the latter the reader is of no use: going on would skip something. */
TL_MUST_USE int tl_reader_next(struct tl_reader *r, struct tl_reader_item *ret_item);
int tl_reader_fd(const struct tl_reader *r);
void tl_reader_trouble(struct tl_reader *r, char *ret_text, size_t size);

#endif
