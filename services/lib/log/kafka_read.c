/* kafka_read.c - entries from a partition, from a position of ours on: no group, no
 * commits, and an error where there is a hole. */
#include "throughline/service.h"

#include "kafka_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MOST 64u
#define RANGE_MS   5000

struct kafka_reader {
    struct kafka_state state; /* first: the handle's opaque */
    struct tl_reader *owner;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    rd_kafka_message_t *batch[BATCH_MOST];
    size_t count, next;
};

static rd_kafka_conf_t *settings_for(struct kafka_reader *d, const struct tl_log *log) {
    rd_kafka_conf_t *conf = kafka_conf(log->driver, &d->state);
    uint64_t fetch = log->max_entry_bytes + 65536;
    kafka_set(conf, "enable.auto.commit", "false");
    kafka_set(conf, "enable.auto.offset.store", "false");
    kafka_set(conf, "auto.offset.reset", "error");
    kafka_set(conf, "allow.auto.create.topics", "false");
    kafka_set(conf, "fetch.wait.max.ms", "100");
    kafka_set(conf, "fetch.error.backoff.ms", "20");
    kafka_set_number(conf, "fetch.message.max.bytes", fetch);
    kafka_set_number(conf, "fetch.max.bytes",
                     fetch > LOG_READ_AHEAD ? fetch : LOG_READ_AHEAD);
    kafka_set_number(conf, "receive.message.max.bytes",
                     (fetch > LOG_READ_AHEAD ? fetch : LOG_READ_AHEAD) + 65536);
    kafka_set_number(conf, "queued.max.messages.kbytes", LOG_READ_AHEAD >> 10);
    kafka_set(conf, "socket.timeout.ms", "11000");
    kafka_set(conf, "reconnect.backoff.ms", "50");
    kafka_set(conf, "reconnect.backoff.max.ms", "1000");
    return conf;
}

static int start(struct kafka_reader *d, const struct tl_reader *r) {
    static const uint64_t one = 1; /* what an eventfd takes */
    const struct kafka_log *log = r->log->driver;
    int rc = kafka_handle(settings_for(d, r->log), RD_KAFKA_CONSUMER, &d->handle);
    if (rc != 0) {
        return rc;
    }
    d->topic = rd_kafka_topic_new(d->handle, log->topic, NULL);
    d->queue = rd_kafka_queue_new(d->handle);
    rd_kafka_queue_io_event_enable(d->queue, r->fd, &one, sizeof(one));
    rd_kafka_queue_t *events = rd_kafka_queue_get_main(d->handle);
    rd_kafka_queue_io_event_enable(events, r->fd, &one, sizeof(one));
    rd_kafka_queue_destroy(events);
    if (rd_kafka_consume_start_queue(d->topic, (int32_t)r->shard, (int64_t)r->position,
                                     d->queue) != 0) {
        return kafka_fail(log, rd_kafka_last_error(), "reading");
    }
    event_raise(r->fd);
    return 0;
}

static void drop_batch(struct kafka_reader *d) {
    for (size_t i = 0; i < d->count; i++) {
        rd_kafka_message_destroy(d->batch[i]);
    }
    d->count = 0;
    d->next = 0;
}

static void release(struct kafka_reader *d) {
    drop_batch(d);
    if (d->handle != NULL) {
        (void)rd_kafka_consume_stop(d->topic, (int32_t)d->owner->shard);
        rd_kafka_queue_destroy(d->queue);
        rd_kafka_topic_destroy(d->topic);
        rd_kafka_destroy(d->handle);
    }
    kafka_state_done(&d->state);
    free(d);
}

int kafka_read_open(struct tl_reader *r) {
    struct kafka_reader *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    kafka_state_init(&d->state);
    d->owner = r;
    int rc = start(d, r);
    if (rc != 0) {
        release(d);
        return rc;
    }
    r->driver = d;
    return 0;
}

void kafka_read_close(struct tl_reader *r) {
    release(r->driver);
}

/* The partition does not have what comes next: trimmed above us, or cut below us. */
static int out_of_range(const struct tl_reader *r) {
    uint64_t first = 0;
    uint64_t next = 0;
    int rc = tl_log_range(r->log, r->shard, tl_now_ms() + RANGE_MS, &first, &next);
    if (rc != 0) {
        return rc;
    }
    if (r->position + 1 > next) {
        return tl_fail(TL_E_CORRUPT,
                       "log of shard %" PRIu32 ": Kafka holds entries up to position "
                       "%" PRIu64 ", but %" PRIu64 " has been read or is in a "
                       "checkpoint: it has lost what it acknowledged; start a new run",
                       r->shard, next - 1, r->position);
    }
    return tl_fail(TL_E_NOTFOUND,
                   "log of shard %" PRIu32 ": the entries from position %" PRIu64
                   " to %" PRIu64 " are gone, and needed: start from a checkpoint at "
                   "position %" PRIu64 " or above, or begin a new run",
                   r->shard, r->position + 1, first - 1, first - 1);
}

static int judge_error(struct tl_reader *r, rd_kafka_resp_err_t error) {
    if (error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
        error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
        return out_of_range(r);
    }
    int rc = kafka_fail(r->log->driver, error, "reading");
    if (rc == TL_E_UNAVAILABLE) {
        reader_trouble(r, tl_error_text());
        rc = 0;
    }
    return rc;
}

static int next_batch(struct tl_reader *r) {
    struct kafka_reader *d = r->driver;
    char why[256];
    drop_batch(d);
    event_clear(r->fd);
    (void)rd_kafka_poll(d->handle, 0);
    ssize_t n = rd_kafka_consume_batch_queue(d->queue, 0, d->batch, BATCH_MOST);
    d->count = n > 0 ? (size_t)n : 0;
    if (d->count > 0) {
        event_raise(r->fd); /* there may be more than a batch */
        return 0;
    }
    if (kafka_state_get(&d->state, why, sizeof(why))) {
        return tl_fail(TL_E_DENIED,
                       "Kafka refuses us: %s; check the credentials in \"kafka\"", why);
    }
    reader_trouble(r, why);
    return TL_E_BUSY;
}

int kafka_read_next(struct tl_reader *r, uint64_t *ret_position,
                    const uint8_t **ret_bytes, size_t *ret_size) {
    struct kafka_reader *d = r->driver;
    for (;;) {
        int rc = d->next == d->count ? next_batch(r) : 0;
        if (rc != 0) {
            return rc;
        }
        const rd_kafka_message_t *m = d->batch[d->next++];
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            rc = judge_error(r, m->err);
            if (rc != 0) {
                return rc;
            }
            continue;
        }
        kafka_state_clear(&d->state);
        tl_backend_count(TL_BACKEND_KAFKA, TL_ACCESS_READ, 1, m->len);
        *ret_position = (uint64_t)m->offset + 1;
        *ret_bytes = m->payload;
        *ret_size = m->len;
        return 0;
    }
}
