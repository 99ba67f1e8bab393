/* kafka_append.c - entries to a partition: an idempotent producer of its own.
 *
 * It tries for ever and keeps the order, so that a later entry is never there without
 * the earlier ones. What it cannot heal (fatal, size, rights) ends the appender. */
#include "throughline/service.h"

#include "kafka_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 50

struct kafka_appender {
    struct kafka_state state; /* first: the handle's opaque */
    struct tl_appender *owner;
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    pthread_t thread;
    _Atomic bool is_stopping;
};

static void on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *m, void *opaque) {
    struct append_entry *e = m->_private;
    struct kafka_appender *d = opaque;
    char fatal[256];
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_state_clear(&d->state);
        tl_backend_count(TL_BACKEND_KAFKA, TL_ACCESS_WRITE, 1, e->size);
        appender_settled(e, (uint64_t)m->offset + 1);
        return;
    }
    append_entry_free(e);
    if (atomic_load(&d->is_stopping)) {
        return;
    }
    rd_kafka_resp_err_t error = rd_kafka_fatal_error(handle, fatal, sizeof(fatal));
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        appender_failed(d->owner,
                        tl_fail(TL_E_IO,
                                "Kafka has lost the thread of what was appended (%s): "
                                "the worker has to start again",
                                fatal));
        return;
    }
    int rc = kafka_fail(d->owner->log->driver, m->err, "appending");
    appender_failed(d->owner, rc == TL_E_UNAVAILABLE ? TL_E_IO : rc);
}

static void *drive(void *ctx) {
    struct kafka_appender *d = ctx;
    while (!atomic_load(&d->is_stopping)) {
        char why[256];
        (void)rd_kafka_poll(d->handle, POLL_MS);
        bool waits = rd_kafka_outq_len(d->handle) > 0;
        if (kafka_state_get(&d->state, why, sizeof(why)) && waits) {
            appender_failed(d->owner, tl_fail(TL_E_DENIED,
                                              "Kafka refuses us: %s; check the "
                                              "credentials in \"kafka\"",
                                              why));
        }
        appender_trouble(d->owner, waits ? why : "");
    }
    return NULL;
}

static rd_kafka_conf_t *settings_for(struct kafka_appender *d,
                                     const struct kafka_log *log) {
    rd_kafka_conf_t *conf = kafka_conf(log, &d->state);
    kafka_set(conf, "enable.idempotence", "true");
    kafka_set(conf, "acks", "all");
    kafka_set(conf, "message.timeout.ms", "0"); /* the caller says when to give up */
    kafka_set(conf, "linger.ms", "0");
    kafka_set(conf, "request.timeout.ms", "10000");
    kafka_set(conf, "socket.timeout.ms", "11000");
    kafka_set(conf, "reconnect.backoff.ms", "50");
    kafka_set(conf, "reconnect.backoff.max.ms", "1000");
    kafka_set(conf, "queue.buffering.max.kbytes", "2097151"); /* bound: max_pending */
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return conf;
}

int kafka_append_open(struct tl_appender *a) {
    struct kafka_log *log = a->log->driver;
    struct kafka_appender *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    kafka_state_init(&d->state);
    d->owner = a;
    int rc = kafka_handle(settings_for(d, log), RD_KAFKA_PRODUCER, &d->handle);
    if (rc == 0) {
        d->topic = rd_kafka_topic_new(d->handle, log->topic, NULL);
        if (pthread_create(&d->thread, NULL, drive, d) != 0) {
            rc = tl_fail(TL_E_LIMIT, "log: no thread to append with");
            rd_kafka_topic_destroy(d->topic);
            rd_kafka_destroy(d->handle);
        }
    }
    if (rc != 0) {
        kafka_state_done(&d->state);
        free(d);
        return rc;
    }
    a->driver = d;
    return 0;
}

int kafka_append_put(struct tl_appender *a, struct append_entry *entry) {
    struct kafka_appender *d = a->driver;
    if (rd_kafka_produce(d->topic, (int32_t)a->rules.shard, 0, entry->bytes,
                         entry->size, NULL, 0, entry) == 0) {
        return 0;
    }
    append_entry_free(entry);
    return kafka_fail(a->log->driver, rd_kafka_last_error(), "appending");
}

void kafka_append_close(struct tl_appender *a) {
    struct kafka_appender *d = a->driver;
    atomic_store(&d->is_stopping, true);
    (void)pthread_join(d->thread, NULL);
    (void)rd_kafka_purge(d->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (rd_kafka_outq_len(d->handle) > 0) {
        (void)rd_kafka_poll(d->handle, POLL_MS); /* gives the entries back */
    }
    rd_kafka_topic_destroy(d->topic);
    rd_kafka_destroy(d->handle);
    kafka_state_done(&d->state);
    free(d);
}
