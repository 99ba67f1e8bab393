/* direct.c - one shard's exchange: connect, greet, join again, ask; and try again.
 *
 * A server may die at any moment, and a network do anything to a frame. The answer is
 * always the same: close the connection, wait a little, ask where the server is now,
 * and begin the exchange from HELLO. That the fold removes what arrives twice makes it
 * right. */
#include "direct.h"

#include "throughline/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_FIRST_MS 10u
#define PAUSE_LAST_MS  250u
/* A server that is alive answers HELLO at once; one whose host is gone never does. */
#define HELLO_MS       3000
/* How often a request survives a breach of the protocol: damage that looks like one. */
#define VIOLATIONS_MAX 3u

static int copy_name(const char *name, const char *what, char ret_name[TL_NAME_MAX]) {
    int n = snprintf(ret_name, TL_NAME_MAX, "%s", name == NULL ? "" : name);
    return n < (int)TL_NAME_MAX ? 0
                                : tl_fail(TL_E_CONFIG, "%s: longer than %u characters",
                                          what, TL_NAME_MAX - 1);
}

int tl_direct_new(const struct tl_direct_config *config,
                  struct tl_direct **ret_direct) {
    struct tl_direct *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "direct log: out of memory");
    }
    d->config = *config;
    d->random = tl_random_u64();
    int rc = copy_name(config->job, "job", d->job);
    if (rc == 0) {
        rc = copy_name(config->run, "run", d->run);
    }
    if (rc == 0) {
        rc = tl_link_new(&d->link);
    }
    if (rc != 0) {
        free(d);
        return rc;
    }
    tl_link_set_trust(d->link, config->trust);
    *ret_direct = d;
    return 0;
}

void tl_direct_free(struct tl_direct *d) {
    if (d != NULL) {
        tl_link_free(d->link);
        free(d);
    }
}

/* ---- sending ------------------------------------------------------------------ */

static uint64_t bytes_moved(const struct tl_direct *d) {
    return tl_link_bytes_sent(d->link) + tl_link_bytes_received(d->link);
}

static void set_limit(struct tl_direct *d, int64_t now_ms, int64_t limit_ms) {
    d->moved = bytes_moved(d);
    d->limit_ms = now_ms + limit_ms;
}

/* Ask where the server is, and say HELLO there; the connecting is part of it. */
static int open_connection(struct tl_direct *d, int64_t now_ms) {
    struct tl_address address;
    int rc = d->config.find(d->config.ctx, d->config.shard, &address);
    if (rc != 0) {
        d->is_hopeless = rc == TL_E_CONFIG;
        return rc;
    }
    d->address = address;
    rc = tl_link_connect(d->link, &address);
    if (rc != 0) {
        return rc;
    }
    d->is_local = address.is_unix;
    d->checksum = !d->is_local || d->config.unix_checksum;
    d->step = STEP_HELLO;
    set_limit(d, now_ms,
              d->config.request_ms < HELLO_MS ? d->config.request_ms : HELLO_MS);
    return direct_ask_hello(d);
}

/* Send the frame that d->step asks for. */
static int send_step(struct tl_direct *d, int64_t now_ms) {
    set_limit(d, now_ms, d->config.request_ms);
    switch (d->step) {
    case STEP_SHARE:
        return direct_ask_share(d);
    case STEP_REJOIN:
        return direct_ask_rejoin(d);
    default:
        return direct_ask(d);
    }
}

int tl_direct_begin(struct tl_direct *d, const struct tl_direct_request *request,
                    int64_t now_ms) {
    if (d->step != STEP_NONE && d->step != STEP_DONE) {
        return tl_fail(TL_E_INVALID, "direct log: shard %" PRIu32 " is busy",
                       d->config.shard);
    }
    bool needs_slice = request->op == TL_DIRECT_PUSH || request->op == TL_DIRECT_PULL ||
                       request->op == TL_DIRECT_PUSH_PULL;
    if (needs_slice && !d->is_known) {
        return tl_fail(TL_E_INVALID, "direct log: shard %" PRIu32 " is not known yet",
                       d->config.shard);
    }
    d->request = *request;
    d->result = (struct tl_direct_result){.version = d->version};
    d->push_settled = false;
    d->has_rejoined = false;
    d->stop_waiting = false;
    d->is_hopeless = false;
    d->violations = 0;
    d->pause_ms = 0;
    d->trouble[0] = '\0';
    d->retry_ms = now_ms;
    d->step = STEP_PAUSE; /* until now: the first advance() begins */
    return 0;
}

void tl_direct_fetch(struct tl_direct *d, int64_t now_ms) {
    d->request.elsewhere = false;
    if (d->step == STEP_DONE && d->push_settled) {
        d->retry_ms = now_ms;
        d->step = STEP_PAUSE;
    }
}

/* ---- failing ------------------------------------------------------------------ */

/* Up to twice as long as the last time, and never all clients at the same moment. */
static void pause_before_retry(struct tl_direct *d, int64_t now_ms) {
    uint32_t next = d->pause_ms == 0 ? PAUSE_FIRST_MS : 2 * d->pause_ms;
    d->pause_ms = next < PAUSE_LAST_MS ? next : PAUSE_LAST_MS;
    d->random =
        d->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint32_t jitter = (uint32_t)(d->random >> 33) % (d->pause_ms / 2 + 1);
    d->retry_ms = now_ms + d->pause_ms - jitter;
    d->step = STEP_PAUSE;
}

static void drop_connection(struct tl_direct *d) {
    tl_link_close(d->link);
    d->is_greeted = false;
}

/* TL_E_BUSY: the request will be tried again; else it has failed with `rc`. */
static int attempt_failed(struct tl_direct *d, int rc, int64_t now_ms) {
    drop_connection(d);
    (void)snprintf(d->trouble, sizeof(d->trouble), "%s", tl_error_text());
    if (rc == TL_E_AUTH ||
        (!tl_error_retriable(rc) && ++d->violations > VIOLATIONS_MAX)) {
        d->is_hopeless = true;
    }
    if (d->is_hopeless) {
        d->step = STEP_NONE;
        return rc;
    }
    pause_before_retry(d, now_ms);
    return TL_E_BUSY;
}

void tl_direct_cancel(struct tl_direct *d) {
    if (d->step != STEP_NONE && d->step != STEP_DONE) {
        drop_connection(d);
        d->step = STEP_NONE;
    }
}

void tl_direct_stop_waiting(struct tl_direct *d) {
    d->stop_waiting = true;
}

/* The shard is served elsewhere by now: whoever is connected to may be stopped, and
 * say nothing for long. */
static bool has_moved(const struct tl_direct *d) {
    struct tl_address now;
    return tl_link_is_open(d->link) &&
           d->config.find(d->config.ctx, d->config.shard, &now) == 0 &&
           (now.is_unix != d->address.is_unix ||
            strcmp(now.host, d->address.host) != 0 ||
            strcmp(now.port, d->address.port) != 0);
}

void tl_direct_look_again(struct tl_direct *d, int64_t now_ms) {
    bool is_under_way = d->step != STEP_NONE && d->step != STEP_DONE;
    if (is_under_way && d->step != STEP_PAUSE && has_moved(d)) {
        (void)attempt_failed(d,
                             tl_fail(TL_E_UNAVAILABLE,
                                     "shard %" PRIu32 ": another server has taken over",
                                     d->config.shard),
                             now_ms);
    }
    if (d->step == STEP_PAUSE) {
        d->retry_ms = now_ms;
    }
}

/* ---- the loop ----------------------------------------------------------------- */

/* Start, or start again: on the open connection if there is a greeted one. */
static int resume(struct tl_direct *d, int64_t now_ms) {
    if (now_ms < d->retry_ms) {
        return TL_E_BUSY;
    }
    if (!d->is_greeted || !tl_link_is_open(d->link) || has_moved(d)) {
        return open_connection(d, now_ms);
    }
    d->step = d->request.op == TL_DIRECT_GREET ? STEP_DONE : STEP_ASK;
    return d->step == STEP_DONE ? 0 : send_step(d, now_ms);
}

/* Drive the frame now under way; TL_E_BUSY while it is. */
static int drive(struct tl_direct *d, int64_t now_ms) {
    int rc = tl_link_advance(d->link);
    if (rc == TL_E_BUSY) {
        if (bytes_moved(d) != d->moved && d->step != STEP_HELLO) {
            set_limit(d, now_ms, d->config.request_ms);
        }
        return now_ms < d->limit_ms
                   ? rc
                   : tl_fail(TL_E_TIMEOUT, "shard %" PRIu32 ": its server fell silent",
                             d->config.shard);
    }
    if (rc == 0) {
        rc = direct_judge(d);
    }
    if (rc == 0 && d->step != STEP_DONE) {
        rc = send_step(d, now_ms);
    }
    return rc;
}

int tl_direct_advance(struct tl_direct *d, int64_t now_ms) {
    if (d->step == STEP_NONE) {
        return tl_fail(TL_E_INVALID, "direct log: no request is under way");
    }
    while (d->step != STEP_DONE) {
        int rc = d->step == STEP_PAUSE ? resume(d, now_ms) : drive(d, now_ms);
        if (rc != 0 && rc != TL_E_BUSY) {
            rc = attempt_failed(d, rc, now_ms);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int tl_direct_fd(const struct tl_direct *d) {
    return d->step == STEP_PAUSE ? -1 : tl_link_fd(d->link);
}

short tl_direct_events(const struct tl_direct *d) {
    return tl_link_events(d->link);
}

int64_t tl_direct_wake_ms(const struct tl_direct *d) {
    switch (d->step) {
    case STEP_PAUSE:
        return d->retry_ms;
    case STEP_HELLO:
    case STEP_SHARE:
    case STEP_REJOIN:
    case STEP_ASK:
        return d->limit_ms;
    default:
        return INT64_MAX;
    }
}

/* ---- what is known ------------------------------------------------------------ */

const struct tl_direct_result *tl_direct_result(const struct tl_direct *d) {
    return &d->result;
}

const struct tl_welcome *tl_direct_welcome(const struct tl_direct *d) {
    return d->is_known ? &d->welcome : NULL;
}

uint64_t tl_direct_epoch(const struct tl_direct *d) {
    return d->epoch;
}

uint64_t tl_direct_version(const struct tl_direct *d) {
    return d->version;
}

const char *tl_direct_trouble(const struct tl_direct *d) {
    return d->trouble;
}

void tl_direct_stats(const struct tl_direct *d, struct tl_direct_stats *ret_stats) {
    *ret_stats = (struct tl_direct_stats){
        .connections = d->connections,
        .bytes_sent = tl_link_bytes_sent(d->link),
        .bytes_received = tl_link_bytes_received(d->link),
    };
}
