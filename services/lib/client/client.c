/* client.c - the public library's object: opened, asked about, closed. */
#include "throughline/record.h"

#include "client_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PATIENCE_MS 120000u
#define REQUEST_MS  10000u

/* ---- configuration ------------------------------------------------------------ */

static int check_name(const char *name, const char *field, bool is_required) {
    if (name == NULL) {
        return is_required
                   ? tl_fail(TL_E_CONFIG, "%s: needed with redis and with secret_file",
                             field)
                   : 0;
    }
    size_t length = strlen(name);
    if (length == 0 || length >= TL_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != length) {
        return tl_fail(TL_E_CONFIG, "%s: \"%.80s\" is not 1 to %u of a-z, 0-9 and '-'",
                       field, name, TL_NAME_MAX - 1);
    }
    return 0;
}

static bool has_text(const char *text) {
    return text != NULL && text[0] != '\0';
}

static int check_config(const struct tl_client_config *config) {
    if (config->servers == NULL && config->redis == NULL) {
        return tl_fail(TL_E_CONFIG, "servers: give the servers' addresses, or redis");
    }
    if (config->worker >= TL_WORKER_LIMIT) {
        return tl_fail(TL_E_CONFIG, "worker: %" PRIu32 " is not below %u",
                       config->worker, TL_WORKER_LIMIT);
    }
    bool is_named = config->redis != NULL || has_text(config->secret_file);
    int rc = check_name(config->job, "job", is_named);
    return rc == 0 ? check_name(config->run, "run", is_named) : rc;
}

static void copy_config(struct tl_client *c, const struct tl_client_config *config) {
    c->config = *config;
    c->config.servers = NULL;
    c->config.redis = NULL;
    c->config.ledger = NULL;
    c->config.secret_file = NULL;
    c->config.tls_cert = NULL;
    c->config.tls_key = NULL;
    c->config.tls_ca = NULL;
    c->config.job = NULL;
    c->config.run = NULL;
    c->config.encoding = NULL;
    if (config->job != NULL) {
        memcpy(c->job, config->job, strlen(config->job) + 1);
    }
    if (config->run != NULL) {
        memcpy(c->run, config->run, strlen(config->run) + 1);
    }
    c->config.patience_ms =
        config->patience_ms != 0 ? config->patience_ms : PATIENCE_MS;
    c->config.request_ms = config->request_ms != 0 ? config->request_ms : REQUEST_MS;
}

/* ---- life --------------------------------------------------------------------- */

static int open_parts(struct tl_client *c, const struct tl_client_config *config) {
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0) {
        return tl_fail(TL_E_IO, "client: eventfd: %s", strerror(errno));
    }
    int rc = client_trust_open(config, &c->trust);
    rc = rc == 0 ? client_encoder_init(&c->encoder, config) : rc;
    rc = rc == 0 ? client_ledger_open(&c->ledger, config) : rc;
    return rc == 0 ? client_discovery_open(&c->discovery, config) : rc;
}

int tl_client_open(const struct tl_client_config *config,
                   struct tl_client **ret_client) {
    int rc = check_config(config);
    if (rc != 0) {
        return rc;
    }
    struct tl_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return tl_fail(TL_E_NOMEM, "client: out of memory");
    }
    c->ledger.fd = -1;
    c->discovery.changed_fd = -1;
    copy_config(c, config);
    rc = open_parts(c, config);
    if (rc != 0) {
        tl_client_free(c);
        return rc;
    }
    *ret_client = c;
    return 0;
}

void tl_client_free(struct tl_client *c) {
    if (c == NULL) {
        return;
    }
    client_logged_done(c);
    for (uint32_t s = 0; s < c->shard_count; s++) {
        tl_direct_free(c->shards[s].direct);
        tl_direct_free(c->shards[s].reader);
    }
    free(c->shards);
    tl_trust_free(c->trust);
    client_weights_done(&c->weights);
    client_encoder_done(&c->encoder);
    client_ledger_close(&c->ledger);
    client_discovery_close(&c->discovery);
    if (c->wake_fd >= 0) {
        (void)close(c->wake_fd);
    }
    free(c);
}

void tl_client_interrupt(struct tl_client *c) {
    const uint64_t one = 1;
    int saved = errno; /* a signal handler must leave it alone */
    (void)!write(c->wake_fd, &one, sizeof(one));
    errno = saved;
}

/* ---- a long wait -------------------------------------------------------------- */

void client_tell_wait(struct tl_client *c, const char *why) {
    if (!c->has_told_wait && c->config.on_wait != NULL) {
        c->has_told_wait = true;
        c->config.on_wait(c->config.ctx, why);
    }
}

void client_tell_relief(struct tl_client *c) {
    if (c->has_told_wait) {
        c->has_told_wait = false;
        c->config.on_wait(c->config.ctx, "");
    }
}

/* ---- what is known ------------------------------------------------------------ */

const float *tl_client_weights(const struct tl_client *c) {
    return c->weights.front;
}

uint64_t tl_client_shard_version(const struct tl_client *c, uint32_t shard) {
    bool is_held = c->weights.front != NULL && shard < c->shard_count;
    return is_held ? c->shards[shard].held.version : 0;
}

uint64_t tl_client_version(const struct tl_client *c) {
    uint64_t lowest = tl_client_shard_version(c, 0);
    for (uint32_t s = 1; s < c->shard_count; s++) {
        uint64_t version = tl_client_shard_version(c, s);
        lowest = version < lowest ? version : lowest;
    }
    return lowest;
}

static void add_stats(struct tl_client_stats *total, const struct tl_direct *d) {
    struct tl_direct_stats stats;
    if (d != NULL) {
        tl_direct_stats(d, &stats);
        total->reconnects += stats.connections > 0 ? stats.connections - 1 : 0;
        total->bytes_sent += stats.bytes_sent;
        total->bytes_received += stats.bytes_received;
    }
}

void tl_client_stats(const struct tl_client *c, struct tl_client_stats *ret_stats) {
    struct tl_client_stats total = c->stats;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        add_stats(&total, c->shards[s].direct);
        add_stats(&total, c->shards[s].reader);
    }
    *ret_stats = total;
}
