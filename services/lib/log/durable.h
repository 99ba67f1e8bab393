/* durable.h - what the files of the durable logs share.
 *
 *   durable.c        a log by its URL; what is the same for every kind
 *   entry.c          records as entries and back: frames, parts           PURE
 *   appender.c       records in, in order; which of them are durable
 *   reader.c         entries out, in order, as records
 *   redis_log.c      Redis Streams: the log as a whole
 *   redis_append.c, redis_read.c   a thread each with a blocking connection
 *   kafka_log.c      Kafka: settings, topic, trimming
 *   kafka_append.c, kafka_read.c   librdkafka's producer and simple consumer
 */
#ifndef TL_LOG_DURABLE_H
#define TL_LOG_DURABLE_H

#include "throughline/log.h"
#include "throughline/mutant.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOG_ENTRY_BYTES (8u << 20) /* default limit of an entry */
#define LOG_ENTRY_LEAST (64u << 10)
#define LOG_READ_AHEAD  (64u << 20) /* bytes a reader holds that were not taken yet */
#define LOG_PAUSE_MS    50          /* between two attempts */

/* ---- entry.c: pure ------------------------------------------------------------- */

/* What all entries of one shard's log have in common. */
struct entry_rules {
    uint64_t identity;
    uint32_t shard;
    uint64_t count;           /* parameters in the slice */
    uint64_t max_entry_bytes; /* whole frame */
    uint64_t span;            /* a record's parts lie within so many entries */
};

/* How many entries a record with `payload_bytes` takes. */
uint64_t entry_parts(uint64_t max_entry_bytes, uint64_t payload_bytes);
/* Within how many entries all parts of a record must lie. */
uint64_t entry_span(uint64_t parts, uint32_t workers);
/* Entry `part` of a record as malloc'ed bytes; NULL: no memory. */
uint8_t *entry_encode(const struct entry_rules *rules, const struct tl_header *record,
                      const void *payload, uint64_t part, uint64_t parts,
                      size_t *ret_size);

/* Records being put together, one for each worker at most. */
struct assembly;
TL_MUST_USE int assembly_new(const struct entry_rules *rules, struct assembly **ret);
void assembly_free(struct assembly *a);
/* Take the entry at `position`. The record's values are the entry's own bytes or the
 * assembly's, good until the next call. TL_E_CORRUPT, TL_E_MISMATCH: what is wrong with
 * it, and where it is. */
TL_MUST_USE int assembly_take(struct assembly *a, uint64_t position,
                              const uint8_t *bytes, size_t size,
                              struct tl_reader_item *ret_item);

struct append_entry;

/* ---- the log -------------------------------------------------------------------- */

struct log_ops {
    int (*open)(struct tl_log *log, const struct tl_log_config *config);
    void (*close)(struct tl_log *log);
    int (*create)(struct tl_log *log, int64_t deadline_ms, char *ret_note, size_t size);
    int (*range)(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                 uint64_t *ret_first, uint64_t *ret_next);
    int (*trim)(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t covered,
                int64_t deadline_ms);
    int (*erase)(struct tl_log *log, int64_t deadline_ms);
    int (*bytes)(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                 uint64_t *ret_bytes);

    /* Set a->driver; from then on entries may be put. */
    int (*append_open)(struct tl_appender *a);
    /* Append in order; takes ownership of `entry`. Reports appender_settled(). */
    int (*append_put)(struct tl_appender *a, struct append_entry *entry);
    void (*append_close)(struct tl_appender *a);

    /* Set r->driver; entries after r->from are wanted. */
    int (*read_open)(struct tl_reader *r);
    /* The next entry, good until the next call. TL_E_BUSY, ... as tl_reader_next(). */
    int (*read_next)(struct tl_reader *r, uint64_t *ret_position,
                     const uint8_t **ret_bytes, size_t *ret_size);
    void (*read_close)(struct tl_reader *r);
};
extern const struct log_ops log_redis_ops;
extern const struct log_ops log_kafka_ops;

struct tl_log {
    const struct log_ops *ops;
    char name[2 * TL_NAME_MAX + 2]; /* JOB/RUN */
    char job[TL_NAME_MAX], run[TL_NAME_MAX];
    uint64_t identity;
    uint32_t shards;
    uint64_t max_bytes, max_entry_bytes, record_bytes, span;
    bool is_trimmed;
    uint32_t replication, min_insync;
    _Atomic uint32_t users; /* appenders and readers */
    void *driver;           /* redis_log.c's, kafka_log.c's */
};

/* ---- appender.c ------------------------------------------------------------------ */

/* An entry on its way; freed by whoever settles it. */
struct append_entry {
    struct tl_appender *appender;
    struct append_entry *next;
    uint64_t record; /* number of the record that it is of, from 1 */
    bool is_first, is_last;
    size_t size;
    uint8_t *bytes;
};
void append_entry_free(struct append_entry *e);

struct tl_appender {
    struct tl_log *log;
    struct entry_rules rules;
    uint64_t parts_most; /* of a record of the largest size */
    uint32_t max_pending;
    uint64_t put; /* records */
    int fd;       /* eventfd */
    void *driver;

    pthread_mutex_t lock; /* of what follows */
    uint64_t durable;
    uint64_t first_position;    /* of the record whose parts are being settled */
    struct append_entry *parts; /* of that record, kept to be appended again */
    int failure;
    char why[512];     /* the failure's text */
    char trouble[256]; /* what is waited for; "" */
};

/* From the driver's thread: `entry` is durable at `position` (takes ownership). */
void appender_settled(struct append_entry *entry, uint64_t position);
/* ... the appender has failed for good, with this thread's tl_error_text(). */
void appender_failed(struct tl_appender *a, int failure);
/* ... it waits, for that; "": no more. */
void appender_trouble(struct tl_appender *a, const char *trouble);

/* ---- reader.c -------------------------------------------------------------------- */

struct tl_reader {
    struct tl_log *log;
    uint32_t shard;
    uint64_t from;     /* entries up to here are known to be folded */
    uint64_t position; /* of the last one taken */
    struct assembly *assembly;
    int fd; /* eventfd, kept readable while an entry may be there */
    void *driver;

    pthread_mutex_t lock; /* of what follows */
    char trouble[256];
};
void reader_trouble(struct tl_reader *r, const char *trouble);

/* Make an eventfd readable, and not so. */
void event_raise(int fd);
void event_clear(int fd);

#endif
