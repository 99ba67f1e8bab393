/* kafka_topic.c - the run's topic: made as the log needs it, checked, trimmed, deleted.
 *
 * Whoever comes first makes it; nobody writes before it has been checked, since a topic
 * that the broker made by itself would forget after a week. */
#include "throughline/service.h"

#include "kafka_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS        100
#define FRAME_OVERHEAD 4096u /* what Kafka adds to an entry */

/* ---- one order and its answer -------------------------------------------------------
 */

/* The result, or NULL with the reason in tl_fail(). librdkafka may give up a little
 * before us, and knows less of why. */
static rd_kafka_event_t *await(struct tl_log *log, rd_kafka_t *handle,
                               rd_kafka_queue_t *queue, int64_t deadline_ms,
                               int *ret_rc) {
    struct kafka_log *d = log->driver;
    for (;;) {
        char why[256];
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, LOOK_MS);
        bool is_over = event != NULL || tl_now_ms() >= deadline_ms;
        if (event != NULL &&
            rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR__TIMED_OUT) {
            return event;
        }
        rd_kafka_event_destroy(event);
        (void)rd_kafka_poll(handle, 0);
        bool is_denied = kafka_state_get(&d->state, why, sizeof(why));
        if (is_denied) {
            *ret_rc = tl_fail(
                TL_E_DENIED, "Kafka refuses us: %s; check the credentials in \"kafka\"",
                why);
            return NULL;
        }
        if (is_over) {
            *ret_rc = tl_fail(TL_E_UNAVAILABLE, "Kafka was not reached: %s",
                              why[0] != '\0' ? why : "no answer in time");
            return NULL;
        }
    }
}

static rd_kafka_AdminOptions_t *options_for(rd_kafka_t *handle, rd_kafka_admin_op_t op,
                                            int64_t deadline_ms) {
    int64_t left_ms = deadline_ms - tl_now_ms();
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(handle, op);
    (void)rd_kafka_AdminOptions_set_request_timeout(
        options, (int)(left_ms < 100 ? 100 : left_ms), NULL, 0);
    return options;
}

/* ---- making ---------------------------------------------------------------------- */

static void set_topic(rd_kafka_NewTopic_t *topic, const char *name, uint64_t value) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    (void)rd_kafka_NewTopic_set_config(topic, name, text);
}

static rd_kafka_NewTopic_t *describe(const struct tl_log *log) {
    const struct kafka_log *d = log->driver;
    int replication = log->replication > 0 ? (int)log->replication : -1;
    rd_kafka_NewTopic_t *t =
        rd_kafka_NewTopic_new(d->topic, (int)log->shards, replication, NULL, 0);
    if (t != NULL) {
        (void)rd_kafka_NewTopic_set_config(t, "cleanup.policy", "delete");
        (void)rd_kafka_NewTopic_set_config(t, "retention.ms", "-1");
        (void)rd_kafka_NewTopic_set_config(t, "retention.bytes", "-1");
        (void)rd_kafka_NewTopic_set_config(t, "compression.type", "producer");
        (void)rd_kafka_NewTopic_set_config(t, "unclean.leader.election.enable",
                                           "false");
        /* What is trimmed is given back a segment at a time. */
        (void)rd_kafka_NewTopic_set_config(t, "file.delete.delay.ms", "1000");
        set_topic(t, "segment.bytes", UINT64_C(128) << 20);
        set_topic(t, "max.message.bytes", log->max_entry_bytes + FRAME_OVERHEAD);
        if (log->min_insync > 0) {
            set_topic(t, "min.insync.replicas", log->min_insync);
        }
    }
    return t;
}

static rd_kafka_resp_err_t created(const rd_kafka_event_t *event) {
    size_t count = 0;
    const rd_kafka_CreateTopics_result_t *result =
        rd_kafka_event_CreateTopics_result((rd_kafka_event_t *)event);
    const rd_kafka_topic_result_t **topics =
        result != NULL ? rd_kafka_CreateTopics_result_topics(result, &count) : NULL;
    return count == 1 ? rd_kafka_topic_result_error(topics[0])
                      : rd_kafka_event_error((rd_kafka_event_t *)event);
}

static int make_topic(struct tl_log *log, rd_kafka_t *handle, int64_t deadline_ms) {
    struct kafka_log *d = log->driver;
    rd_kafka_NewTopic_t *topic = describe(log);
    if (topic == NULL) {
        return tl_fail(TL_E_CONFIG, "Kafka topic %s cannot be described", d->topic);
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_AdminOptions_t *options =
        options_for(handle, RD_KAFKA_ADMIN_OP_CREATETOPICS, deadline_ms);
    rd_kafka_CreateTopics(handle, &topic, 1, options, queue);
    int rc = 0;
    rd_kafka_event_t *event = await(log, handle, queue, deadline_ms, &rc);
    if (event != NULL) {
        rd_kafka_resp_err_t error = created(event);
        bool is_there = error == RD_KAFKA_RESP_ERR_NO_ERROR ||
                        error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
        rc = is_there ? 0 : kafka_fail(d, error, "cannot be made");
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
    return rc;
}

/* ---- checking -------------------------------------------------------------------- */

/* A topic that was just made takes a moment to be known everywhere. */
static int check_partitions(struct tl_log *log, rd_kafka_t *handle,
                            int64_t deadline_ms) {
    struct kafka_log *d = log->driver;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(handle, d->topic, NULL);
    int rc = TL_E_UNAVAILABLE;
    while (rc == TL_E_UNAVAILABLE) {
        const rd_kafka_metadata_t *meta = NULL;
        rd_kafka_resp_err_t error = rd_kafka_metadata(handle, 0, topic, &meta, 1000);
        int count = 0;
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR && meta->topic_cnt == 1) {
            error = meta->topics[0].err;
            count = meta->topics[0].partition_cnt;
        }
        rd_kafka_metadata_destroy(meta);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR || count == 0) {
            rc = kafka_fail(d, error, "cannot be looked at");
            rc = rc == TL_E_DENIED ? rc : TL_E_UNAVAILABLE;
        } else {
            rc = count == (int)log->shards
                     ? 0
                     : tl_fail(TL_E_MISMATCH,
                               "Kafka topic %s has %d partitions, but the job has "
                               "%" PRIu32 " shards: delete the topic, or give the run "
                               "another name",
                               d->topic, count, log->shards);
        }
        if (rc == TL_E_UNAVAILABLE && tl_now_ms() >= deadline_ms) {
            break;
        }
    }
    rd_kafka_topic_destroy(topic);
    return rc;
}

static int wrong(const struct kafka_log *d, const char *name, const char *value,
                 const char *right) {
    return tl_fail(TL_E_MISMATCH,
                   "Kafka topic %s has %s=%s, but the log needs %s: change it "
                   "(kafka-configs --alter), or give the run another name",
                   d->topic, name, value, right);
}

static int check_setting(const struct tl_log *log, const char *name,
                         const char *value) {
    const struct kafka_log *d = log->driver;
    if (strcmp(name, "cleanup.policy") == 0) {
        return strcmp(value, "delete") == 0 ? 0 : wrong(d, name, value, "delete");
    }
    if (strcmp(name, "retention.ms") == 0 || strcmp(name, "retention.bytes") == 0) {
        return strcmp(value, "-1") == 0 ? 0 : wrong(d, name, value, "-1");
    }
    uint64_t least = 0;
    if (strcmp(name, "max.message.bytes") == 0) {
        least = log->max_entry_bytes + FRAME_OVERHEAD;
    } else if (strcmp(name, "min.insync.replicas") == 0) {
        least = log->min_insync;
    }
    char right[40];
    (void)snprintf(right, sizeof(right), "%" PRIu64 " or more", least);
    return strtoull(value, NULL, 10) >= least || least == 0
               ? 0
               : wrong(d, name, value, right);
}

static int check_entries(const struct tl_log *log, const rd_kafka_event_t *event) {
    size_t count = 0;
    const rd_kafka_DescribeConfigs_result_t *result =
        rd_kafka_event_DescribeConfigs_result((rd_kafka_event_t *)event);
    const rd_kafka_ConfigResource_t **resources =
        result != NULL ? rd_kafka_DescribeConfigs_result_resources(result, &count)
                       : NULL;
    if (count != 1) {
        return kafka_fail(log->driver, rd_kafka_event_error((rd_kafka_event_t *)event),
                          "its settings");
    }
    rd_kafka_resp_err_t error = rd_kafka_ConfigResource_error(resources[0]);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return kafka_fail(log->driver, error, "its settings");
    }
    const rd_kafka_ConfigEntry_t **entries =
        rd_kafka_ConfigResource_configs(resources[0], &count);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        rc = value != NULL
                 ? check_setting(log, rd_kafka_ConfigEntry_name(entries[i]), value)
                 : 0;
    }
    return rc;
}

static int check_settings(struct tl_log *log, rd_kafka_t *handle, int64_t deadline_ms) {
    struct kafka_log *d = log->driver;
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, d->topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_AdminOptions_t *options =
        options_for(handle, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, deadline_ms);
    rd_kafka_DescribeConfigs(handle, &resource, 1, options, queue);
    int rc = 0;
    rd_kafka_event_t *event = await(log, handle, queue, deadline_ms, &rc);
    if (event != NULL) {
        rc = check_entries(log, event);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
    return rc;
}

int kafka_create(struct tl_log *log, int64_t deadline_ms, char *ret_note, size_t size) {
    rd_kafka_t *handle = NULL;
    int rc = kafka_client(log, &handle);
    if (rc == 0) {
        rc = make_topic(log, handle, deadline_ms);
    }
    if (rc == 0) {
        rc = check_partitions(log, handle, deadline_ms);
    }
    if (rc == 0) {
        rc = check_settings(log, handle, deadline_ms);
    }
    if (rc == 0 && log->replication == 1) {
        (void)snprintf(ret_note, size,
                       "one copy of the log (log.replication): what Kafka acknowledges "
                       "survives its own death, not that of its machine");
    }
    return rc;
}

/* ---- trimming, deleting ---------------------------------------------------------- */

int kafka_trim(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t covered,
               int64_t deadline_ms) {
    struct kafka_log *d = log->driver;
    rd_kafka_t *handle = NULL;
    (void)covered; /* nothing bounds the topic */
    int rc = position > 0 ? kafka_client(log, &handle) : 0;
    if (rc != 0 || position == 0) {
        return rc;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, d->topic, (int32_t)shard)->offset =
        (int64_t)position; /* what lies before this offset goes */
    rd_kafka_DeleteRecords_t *records = rd_kafka_DeleteRecords_new(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_AdminOptions_t *options =
        options_for(handle, RD_KAFKA_ADMIN_OP_DELETERECORDS, deadline_ms);
    rd_kafka_DeleteRecords(handle, &records, 1, options, queue);
    rd_kafka_event_t *event = await(log, handle, queue, deadline_ms, &rc);
    if (event != NULL) {
        rd_kafka_resp_err_t error = rd_kafka_event_error(event);
        rc = error == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_fail(d, error, "trimming");
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteRecords_destroy(records);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

int kafka_erase(struct tl_log *log, int64_t deadline_ms) {
    struct kafka_log *d = log->driver;
    rd_kafka_t *handle = NULL;
    int rc = kafka_client(log, &handle);
    if (rc != 0) {
        return rc;
    }
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(d->topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_AdminOptions_t *options =
        options_for(handle, RD_KAFKA_ADMIN_OP_DELETETOPICS, deadline_ms);
    rd_kafka_DeleteTopics(handle, &topic, 1, options, queue);
    rd_kafka_event_t *event = await(log, handle, queue, deadline_ms, &rc);
    if (event != NULL) {
        rd_kafka_resp_err_t error = rd_kafka_event_error(event);
        rc = error == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : kafka_fail(d, error, "deleting");
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteTopic_destroy(topic);
    return rc;
}
