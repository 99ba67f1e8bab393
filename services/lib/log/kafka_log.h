/* kafka_log.h - what the files of the Kafka log share.
 *
 * A run's log is a topic, JOB.RUN, with a partition per shard; an entry is a message
 * without a key. librdkafka's handles, each with threads of its own: one for questions
 * and orders, one per appender, one per reader. */
#ifndef TL_LOG_KAFKA_LOG_H
#define TL_LOG_KAFKA_LOG_H

#include "durable.h"

#include <jansson.h>
#include <librdkafka/rdkafka.h>

/* What a handle has been told by the broker. */
struct kafka_state {
    pthread_mutex_t lock;
    bool is_denied; /* for good, until a connection succeeds */
    char trouble[256];
};
void kafka_state_init(struct kafka_state *s);
void kafka_state_done(struct kafka_state *s);
/* The trouble's text; whether it is that the broker does not let us in. */
bool kafka_state_get(struct kafka_state *s, char *ret_text, size_t size);

/* It works: whatever was wrong is over. */
void kafka_state_clear(struct kafka_state *s);

struct kafka_log {
    char topic[2 * TL_NAME_MAX];
    rd_kafka_conf_t *settings; /* the job's; copied for each handle */
    pthread_mutex_t lock;      /* of the handle's making */
    struct kafka_state state;
    rd_kafka_t *handle; /* for questions and orders; NULL: not needed yet */
};

/* A setting of ours on top of the job's; wrong ones are our own bug. */
void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value);
void kafka_set_number(rd_kafka_conf_t *conf, const char *name, uint64_t value);
/* The settings for a new handle; its events go to `state`. */
rd_kafka_conf_t *kafka_conf(const struct kafka_log *d, struct kafka_state *state);
/* Takes `conf` over. */
TL_MUST_USE int kafka_handle(rd_kafka_conf_t *conf, rd_kafka_type_t type,
                             rd_kafka_t **ret_handle);
/* A broker's error as ours, with the topic's name in the text. */
int kafka_fail(const struct kafka_log *d, rd_kafka_resp_err_t error, const char *what);

int kafka_append_open(struct tl_appender *a);
int kafka_append_put(struct tl_appender *a, struct append_entry *entry);
void kafka_append_close(struct tl_appender *a);
int kafka_read_open(struct tl_reader *r);
int kafka_read_next(struct tl_reader *r, uint64_t *ret_position,
                    const uint8_t **ret_bytes, size_t *ret_size);
void kafka_read_close(struct tl_reader *r);

/* kafka_settings.c: the job's "kafka" object into librdkafka's settings. TL_E_CONFIG
 * names the key. */
TL_MUST_USE int kafka_settings(const char *url, const json_t *settings,
                               uint64_t max_entry_bytes, rd_kafka_conf_t **ret_conf);
/* kafka_topic.c */
int kafka_create(struct tl_log *log, int64_t deadline_ms, char *ret_note, size_t size);
int kafka_trim(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t covered,
               int64_t deadline_ms);
int kafka_erase(struct tl_log *log, int64_t deadline_ms);
/* The handle for questions and orders. */
TL_MUST_USE int kafka_client(struct tl_log *log, rd_kafka_t **ret_handle);

#endif
