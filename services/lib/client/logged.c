/* logged.c - a durable log: what is on its way to it, and what has arrived.
 *
 * Every record goes to every shard's log, in the same order: the n-th record of one is
 * the n-th of all. A gradient is acknowledged when it is durable in all of them. */
#include "throughline/fold.h"
#include "throughline/service.h"

#include "client_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT   4u
#define MAX_UPDATES 1000u
#define MAX_BYTES   (UINT64_C(4) << 30)
#define LOOK_MS                                                                        \
    500 /* an appender tells by its descriptor; its trouble is looked at               \
         */

bool client_logged_is_async(const struct tl_client *c) {
    return c->config.consistency == TL_ASYNC;
}

/* ---- life -------------------------------------------------------------------------
 */

static void apply_defaults(struct tl_client_config *config) {
    if (config->in_flight == 0) {
        config->in_flight = IN_FLIGHT;
    }
    if (config->max_pending_updates == 0) {
        config->max_pending_updates = MAX_UPDATES;
    }
    if (config->max_pending_bytes == 0) {
        config->max_pending_bytes = MAX_BYTES;
    }
}

/* The cut, as every server makes it. */
static int cut(struct tl_client *c) {
    int rc = client_shards_grow(c, c->config.shards);
    c->parameters = c->config.parameters;
    for (uint32_t s = 0; s < c->shard_count && rc == 0; s++) {
        struct client_shard *shard = &c->shards[s];
        tl_shard_slice(c->parameters, c->shard_count, s, &shard->first, &shard->count);
    }
    return rc == 0 ? client_reserve(c) : rc;
}

static int open_appenders(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = tl_appender_new(c->config.log, s, c->config.in_flight,
                                 &c->shards[s].appender);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int client_logged_open(struct tl_client *c) {
    struct client_logged *l = &c->logged;
    if (l->pending != NULL) {
        return 0;
    }
    if (c->config.shards == 0 || c->config.shards > c->config.parameters) {
        return tl_fail(TL_E_CONFIG, "client: with a log, give shards and parameters");
    }
    apply_defaults(&c->config);
    l->pending_most = c->config.in_flight + 1;
    l->pending = calloc(l->pending_most, sizeof(*l->pending));
    if (l->pending == NULL) {
        return tl_fail(TL_E_NOMEM, "client: out of memory");
    }
    int rc = cut(c);
    return rc == 0 ? open_appenders(c) : rc;
}

void client_logged_done(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        tl_appender_free(c->shards[s].appender);
        c->shards[s].appender = NULL;
    }
    free(c->logged.pending);
    c->logged.pending = NULL;
}

/* A log that is full, or away, may never have room again once the job is over. */
bool client_logged_has_ended(const struct tl_client *c) {
    return c->discovery.member != NULL &&
           tl_member_has_ended(c->discovery.member, NULL, 0);
}

/* ---- waiting ------------------------------------------------------------------------
 */

/* Records durable at every shard; a failed appender is an error. */
static int durable_everywhere(struct tl_client *c, uint64_t *ret_puts) {
    uint64_t least = UINT64_MAX;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = tl_appender_failure(c->shards[s].appender);
        if (rc != 0) {
            return rc;
        }
        uint64_t puts = tl_appender_durable_count(c->shards[s].appender);
        least = puts < least ? puts : least;
    }
    *ret_puts = least;
    return 0;
}

/* "": nothing that an appender knows of. */
static void trouble_of(struct tl_client *c, char *ret_why, size_t size) {
    char why[256] = "";
    ret_why[0] = '\0';
    for (uint32_t s = 0; s < c->shard_count && why[0] == '\0'; s++) {
        tl_appender_trouble(c->shards[s].appender, why, sizeof(why));
        if (why[0] != '\0') {
            (void)snprintf(ret_why, size, "the log of shard %" PRIu32 ": %s", s, why);
        }
    }
}

static int out_of_time(struct tl_client *c) {
    char why[320];
    trouble_of(c, why, sizeof(why));
    return tl_fail(TL_E_TIMEOUT,
                   "the log acknowledged nothing within the worker's patience%s%s",
                   why[0] != '\0' ? ": " : "", why);
}

/* Nothing has come for a while: the caller is told why, once. */
static void tell_trouble(struct tl_client *c) {
    char why[320];
    trouble_of(c, why, sizeof(why));
    if (why[0] != '\0') {
        client_tell_wait(c, why);
    }
}

/* Until an appender has news, or the deadline: then TL_E_TIMEOUT. */
static int await_news(struct tl_client *c, int64_t deadline_ms) {
    struct pollfd polled[TL_LINKS_MAX + 1];
    int64_t left_ms = deadline_ms - tl_now_ms();
    if (left_ms <= 0) {
        return out_of_time(c);
    }
    for (uint32_t s = 0; s < c->shard_count; s++) {
        polled[s] = (struct pollfd){.fd = tl_appender_fd(c->shards[s].appender),
                                    .events = POLLIN};
    }
    polled[c->shard_count] = (struct pollfd){.fd = c->wake_fd, .events = POLLIN};
    if (client_logged_has_ended(c)) {
        return tl_fail(TL_E_ENDED, "client: the job has ended");
    }
    double start = tl_now_seconds();
    int n =
        poll(polled, c->shard_count + 1u, left_ms < LOOK_MS ? (int)left_ms : LOOK_MS);
    c->stats.waited_seconds += tl_now_seconds() - start;
    if (n < 0 && errno != EINTR) {
        return tl_fail(TL_E_IO, "client: poll: %s", strerror(errno));
    }
    if (n == 0) {
        tell_trouble(c);
    }
    return n > 0 && polled[c->shard_count].revents != 0
               ? tl_fail(TL_E_INTERRUPTED, "client: interrupted")
               : 0;
}

int client_logged_wait(struct tl_client *c, uint64_t puts, int64_t deadline_ms) {
    for (;;) {
        uint64_t durable = 0;
        int rc = durable_everywhere(c, &durable);
        if (rc == 0 && durable >= puts) {
            client_tell_relief(c);
        }
        if (rc != 0 || durable >= puts) {
            return rc;
        }
        rc = await_news(c, deadline_ms);
        if (rc != 0) {
            return rc;
        }
    }
}

/* ---- putting --------------------------------------------------------------------- */

/* At every shard that does not have it yet; TL_E_BUSY: one has no room. */
static int put_round(struct tl_client *c, const struct tl_header *header,
                     bool payload) {
    bool is_busy = false;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        struct tl_header h = *header;
        if (tl_appender_put_count(shard->appender) > c->logged.puts) {
            continue;
        }
        if (payload) {
            h.encoding = (uint8_t)shard->gradient.encoding;
            h.length = shard->gradient.size;
            h.read_version =
                shard->held.version == TL_VERSION_NONE ? 0 : shard->held.version;
        }
        int rc = tl_appender_put(shard->appender, &h,
                                 payload ? shard->gradient.bytes : NULL);
        if (rc != 0 && rc != TL_E_BUSY) {
            return rc;
        }
        is_busy = is_busy || rc == TL_E_BUSY;
    }
    return is_busy ? TL_E_BUSY : 0;
}

int client_logged_put(struct tl_client *c, const struct tl_header *header, bool payload,
                      int64_t deadline_ms) {
    int rc = 0;
    while ((rc = put_round(c, header, payload)) == TL_E_BUSY) {
        rc = await_news(c, deadline_ms);
        if (rc != 0) {
            return rc;
        }
        rc = client_logged_collect(c);
        if (rc != 0) {
            return rc;
        }
    }
    c->logged.puts += rc == 0;
    return rc;
}

int client_logged_collect(struct tl_client *c) {
    struct client_logged *l = &c->logged;
    uint64_t durable = 0;
    uint32_t n = 0;
    int rc = durable_everywhere(c, &durable);
    if (rc != 0) {
        return rc;
    }
    while (n < l->pending_count && l->pending[n].put <= durable) {
        n++;
    }
    if (n == 0) {
        return 0;
    }
    client_tell_relief(c);
    uint64_t sequence = l->pending[n - 1].sequence;
    l->pending_count -= n;
    memmove(l->pending, l->pending + n, l->pending_count * sizeof(*l->pending));
    c->stats.acknowledged += n;
    return sequence > c->ledger.acknowledged
               ? client_ledger_write(&c->ledger, c->incarnation, sequence)
               : 0;
}
