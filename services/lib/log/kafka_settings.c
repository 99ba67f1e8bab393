/* kafka_settings.c - a job's "kafka" object as librdkafka's settings.
 *
 * Every key of librdkafka may be there but those that make the log what it is, and
 * those that hold a secret: a file is named for them instead (NAME_file), since a job
 * file is copied and shown. */
#include "kafka_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_MAX 65536u

static bool is_one_of(const char *name, const char *const *names) {
    while (*names != NULL && strcmp(name, *names) != 0) {
        names++;
    }
    return *names != NULL;
}

static int check_name(const char *name) {
    static const char *const ours[] = {"bootstrap.servers",
                                       "metadata.broker.list",
                                       "acks",
                                       "request.required.acks",
                                       "enable.idempotence",
                                       "transactional.id",
                                       "message.timeout.ms",
                                       "delivery.timeout.ms",
                                       "auto.offset.reset",
                                       "enable.auto.commit",
                                       "group.id",
                                       "message.max.bytes",
                                       NULL};
    static const char *const secrets[] = {"sasl.password",
                                          "ssl.key.password",
                                          "ssl.keystore.password",
                                          "ssl.key.pem",
                                          "sasl.oauthbearer.client.secret",
                                          NULL};
    if (is_one_of(name, ours)) {
        return tl_fail(TL_E_CONFIG,
                       "\"kafka\": \"%s\" is not to be set: the log "
                       "depends on its value",
                       name);
    }
    return is_one_of(name, secrets)
               ? tl_fail(
                     TL_E_CONFIG,
                     "\"kafka\": \"%s\" is a secret: name a file that holds it with "
                     "\"%s_file\"",
                     name, name)
               : 0;
}

static int set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    rd_kafka_conf_res_t r = rd_kafka_conf_set(conf, name, value, why, sizeof(why));
    return r == RD_KAFKA_CONF_OK ? 0
                                 : tl_fail(TL_E_CONFIG, "\"kafka\": \"%s\": %s", name,
                                           r == RD_KAFKA_CONF_UNKNOWN
                                               ? "librdkafka has no such setting"
                                               : "librdkafka does not take this value");
}

static int set_secret(rd_kafka_conf_t *conf, const char *name, const char *path) {
    char secret[SECRET_MAX];
    char key[128];
    (void)snprintf(key, sizeof(key), "%.*s", (int)(strlen(name) - strlen("_file")),
                   name);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return tl_fail(TL_E_CONFIG, "\"kafka\": \"%s\": %s: %s", name, path,
                       strerror(errno));
    }
    size_t size = fread(secret, 1, sizeof(secret) - 1, f);
    (void)fclose(f);
    while (size > 0 && (secret[size - 1] == '\n' || secret[size - 1] == '\r')) {
        size--;
    }
    secret[size] = '\0';
    int rc = set(conf, key, secret);
    memset(secret, 0, size);
    return rc;
}

static bool is_file_key(const char *name) {
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, "_file") == 0;
}

static int set_json(rd_kafka_conf_t *conf, const char *name, const json_t *value) {
    char number[32];
    if (is_file_key(name) && json_is_string(value)) {
        return set_secret(conf, name, json_string_value(value));
    }
    int rc = check_name(name);
    if (rc != 0) {
        return rc;
    }
    if (json_is_string(value)) {
        return set(conf, name, json_string_value(value));
    }
    if (json_is_boolean(value)) {
        return set(conf, name, json_is_true(value) ? "true" : "false");
    }
    if (json_is_integer(value)) {
        (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
                       json_integer_value(value));
        return set(conf, name, number);
    }
    return tl_fail(TL_E_CONFIG,
                   "\"kafka\": \"%s\": right is a text, a whole number, "
                   "true or false",
                   name);
}

static int set_all(rd_kafka_conf_t *conf, const json_t *settings) {
    const char *name = NULL;
    json_t *value = NULL;
    if (settings != NULL && !json_is_object(settings) && !json_is_null(settings)) {
        return tl_fail(TL_E_CONFIG, "\"kafka\": right is an object of settings");
    }
    json_object_foreach((json_t *)settings, name, value) {
        int rc = set_json(conf, name, value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int kafka_settings(const char *url, const json_t *settings, uint64_t max_entry_bytes,
                   rd_kafka_conf_t **ret_conf) {
    const char *servers = url + strlen("kafka://");
    size_t length = strlen(servers);
    if (length == 0 || strpbrk(servers, "/@ ") != NULL) {
        return tl_fail(TL_E_CONFIG,
                       "log.url: right is kafka://host:port[,host:port]; credentials "
                       "go into \"kafka\"");
    }
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = set_all(conf, settings);
    if (rc == 0) {
        kafka_set(conf, "bootstrap.servers", servers);
        kafka_set(conf, "client.id", "throughline");
        /* The broker adds what a batch needs. */
        kafka_set_number(conf, "message.max.bytes", max_entry_bytes + 4096);
        *ret_conf = conf;
        return 0;
    }
    rd_kafka_conf_destroy(conf);
    return rc;
}
