/* kafka_log.c - Kafka as a log: handles, errors, and the range of a partition. */
#include "kafka_log.h"

#include "throughline/service.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUESTION_MS 1000 /* one attempt */

/* ---- what a handle is told ----------------------------------------------------------
 */

void kafka_state_init(struct kafka_state *s) {
    *s = (struct kafka_state){.is_denied = false};
    (void)pthread_mutex_init(&s->lock, NULL);
}

void kafka_state_done(struct kafka_state *s) {
    (void)pthread_mutex_destroy(&s->lock);
}

bool kafka_state_get(struct kafka_state *s, char *ret_text, size_t size) {
    (void)pthread_mutex_lock(&s->lock);
    (void)snprintf(ret_text, size, "%s", s->trouble);
    bool is_denied = s->is_denied;
    (void)pthread_mutex_unlock(&s->lock);
    return is_denied;
}

void kafka_state_clear(struct kafka_state *s) {
    (void)pthread_mutex_lock(&s->lock);
    s->is_denied = false;
    s->trouble[0] = '\0';
    (void)pthread_mutex_unlock(&s->lock);
}

static bool means_denied(rd_kafka_resp_err_t error) {
    return error == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
           error == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR__SSL;
}

/* That all are down says less than what was said of each before. */
static void on_error(rd_kafka_t *handle, int error, const char *reason, void *opaque) {
    (void)handle;
    struct kafka_state *s = opaque;
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    s->is_denied = s->is_denied || means_denied(error);
    (void)snprintf(s->trouble, sizeof(s->trouble), "%s", reason);
    (void)pthread_mutex_unlock(&s->lock);
}

/* What matters comes as an error; librdkafka's own lines on stderr do not. */
static void on_log(const rd_kafka_t *handle, int level, const char *facility,
                   const char *text) {
    (void)handle;
    (void)level;
    (void)facility;
    (void)text;
}

/* ---- handles -----------------------------------------------------------------------
 */

void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    rd_kafka_conf_res_t r = rd_kafka_conf_set(conf, name, value, NULL, 0);
    assert(r == RD_KAFKA_CONF_OK);
    (void)r;
}

void kafka_set_number(rd_kafka_conf_t *conf, const char *name, uint64_t value) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    kafka_set(conf, name, text);
}

rd_kafka_conf_t *kafka_conf(const struct kafka_log *d, struct kafka_state *state) {
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(d->settings);
    rd_kafka_conf_set_opaque(conf, state);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    return conf;
}

int kafka_handle(rd_kafka_conf_t *conf, rd_kafka_type_t type, rd_kafka_t **ret_handle) {
    char why[256];
    rd_kafka_t *handle = rd_kafka_new(type, conf, why, sizeof(why));
    if (handle == NULL) {
        rd_kafka_conf_destroy(conf);
        return tl_fail(TL_E_CONFIG, "\"kafka\": librdkafka does not start: %s", why);
    }
    *ret_handle = handle;
    return 0;
}

int kafka_client(struct tl_log *log, rd_kafka_t **ret_handle) {
    struct kafka_log *d = log->driver;
    int rc = 0;
    (void)pthread_mutex_lock(&d->lock);
    if (d->handle == NULL) {
        rd_kafka_conf_t *conf = kafka_conf(d, &d->state);
        rc = kafka_handle(conf, RD_KAFKA_PRODUCER, &d->handle);
    }
    *ret_handle = d->handle;
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

/* ---- errors -------------------------------------------------------------------------
 */

static int code_of(rd_kafka_resp_err_t error) {
    if (means_denied(error)) {
        return TL_E_DENIED;
    }
    switch (error) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return TL_E_NOTFOUND;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
    case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
        return TL_E_MISMATCH;
    default:
        return TL_E_UNAVAILABLE;
    }
}

int kafka_fail(const struct kafka_log *d, rd_kafka_resp_err_t error, const char *what) {
    int rc = code_of(error);
    const char *advice = "";
    if (rc == TL_E_DENIED) {
        advice = "; check the credentials in \"kafka\", and the broker's rights";
    } else if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        advice = "; raise the topic's max.message.bytes, or lower log.max_entry_bytes";
    } else if (rc == TL_E_NOTFOUND) {
        advice = "; it was deleted, or never made: start a new run";
    }
    return tl_fail(rc, "Kafka topic %s: %s: %s%s", d->topic, what,
                   rd_kafka_err2str(error), advice);
}

/* ---- the log --------------------------------------------------------------------- */

static int kafka_open(struct tl_log *log, const struct tl_log_config *config) {
    struct kafka_log *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    (void)snprintf(d->topic, sizeof(d->topic), "%s.%s", log->job, log->run);
    int rc =
        kafka_settings(config->url, config->kafka, log->max_entry_bytes, &d->settings);
    if (rc != 0) {
        free(d);
        return rc;
    }
    (void)pthread_mutex_init(&d->lock, NULL);
    kafka_state_init(&d->state);
    log->driver = d;
    return 0;
}

static void kafka_close(struct tl_log *log) {
    struct kafka_log *d = log->driver;
    if (d->handle != NULL) {
        rd_kafka_destroy(d->handle);
    }
    rd_kafka_conf_destroy(d->settings);
    kafka_state_done(&d->state);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

/* The offset of a moment: RD_KAFKA_OFFSET_BEGINNING, _END. To ask for both at once
 * there is rd_kafka_query_watermark_offsets(), which may wait long beyond its deadline.
 */
static rd_kafka_resp_err_t query_offset(rd_kafka_t *handle, const struct kafka_log *d,
                                        uint32_t shard, int64_t moment,
                                        int64_t *ret_offset) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *asked =
        rd_kafka_topic_partition_list_add(list, d->topic, (int32_t)shard);
    asked->offset = moment;
    rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(handle, list, QUESTION_MS);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        error = list->elems[0].err;
        *ret_offset = list->elems[0].offset;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return error;
}

static int kafka_range(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                       uint64_t *ret_first, uint64_t *ret_next) {
    struct kafka_log *d = log->driver;
    rd_kafka_t *handle = NULL;
    int rc = kafka_client(log, &handle);
    while (rc == 0) {
        int64_t low = 0;
        int64_t high = 0;
        char why[256];
        rd_kafka_resp_err_t error =
            query_offset(handle, d, shard, RD_KAFKA_OFFSET_BEGINNING, &low);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            error = query_offset(handle, d, shard, RD_KAFKA_OFFSET_END, &high);
        }
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            *ret_first = (uint64_t)low + 1;
            *ret_next = (uint64_t)high + 1;
            return 0;
        }
        rc = kafka_fail(d, error, "its range");
        (void)rd_kafka_poll(handle, 0);
        if (kafka_state_get(&d->state, why, sizeof(why))) {
            return tl_fail(TL_E_DENIED,
                           "Kafka refuses us: %s; check the credentials in "
                           "\"kafka\"",
                           why);
        }
        rc = rc == TL_E_UNAVAILABLE && tl_now_ms() < deadline_ms ? 0 : rc;
    }
    return rc;
}

/* librdkafka of this age has no question for it. */
static int kafka_bytes(struct tl_log *log, uint32_t shard, int64_t deadline_ms,
                       uint64_t *ret_bytes) {
    (void)log;
    (void)shard;
    (void)deadline_ms;
    *ret_bytes = 0;
    return 0;
}

const struct log_ops log_kafka_ops = {
    .open = kafka_open,
    .close = kafka_close,
    .create = kafka_create,
    .range = kafka_range,
    .trim = kafka_trim,
    .erase = kafka_erase,
    .bytes = kafka_bytes,
    .append_open = kafka_append_open,
    .append_put = kafka_append_put,
    .append_close = kafka_append_close,
    .read_open = kafka_read_open,
    .read_next = kafka_read_next,
    .read_close = kafka_read_close,
};
