/* logged_push.c - a gradient to the log, and weights from the servers that read it.
 *
 * async: acknowledged once it is durable, while the next one is computed; weights are
 * those with the gradient before it in them, so that nobody runs ahead of a server that
 * is slow; when none is there the worker goes on without.
 * sync, ssp: the next gradient needs what became of this one; the pull carries its
 * sequence, and a gradient counts as acknowledged when the fold has taken it. */
#include "throughline/job.h"
#include "throughline/service.h"

#include "client_internal.h"

#include <inttypes.h>

#define SILENT_MS                                                                      \
    2000            /* a server that says nothing is not there; it answers in 1000     \
                     */
#define AWAY_MS  10 /* wait for one that was not there, and may be back */
#define SLICE_MS 5  /* between two looks at whether it is there */
#define AGAIN_MS                                                                       \
    3000 /* a server that says nothing of a gradient may never have seen it */
#define LEAVE_MS 2000

/* ---- the gradient -------------------------------------------------------------------
 */

static int put_gradient(struct tl_client *c, uint64_t sequence, int64_t deadline_ms) {
    struct client_logged *l = &c->logged;
    const struct tl_header push = {
        .kind = TL_KIND_PUSH,
        .worker = c->config.worker,
        .incarnation = c->incarnation,
        .sequence = sequence,
        .norm = client_norm(c->shards, c->shard_count),
    };
    int rc = client_logged_put(c, &push, true, deadline_ms);
    if (rc != 0) {
        return rc;
    }
    l->before = sequence != l->sequence ? l->sequence : l->before;
    l->sequence = sequence;
    l->updates++;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        l->bytes += c->shards[s].gradient.size;
        c->stats.bytes_sent += c->shards[s].gradient.size;
    }
    if (client_logged_is_async(c)) {
        l->pending[l->pending_count++] =
            (struct client_pending){.put = l->puts, .sequence = sequence};
    }
    return 0;
}

/* ---- weights --------------------------------------------------------------------- */

static int begin_pull(struct tl_client *c, uint64_t sequence) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        const struct tl_direct_request pull = {
            .op = TL_DIRECT_PULL,
            .held = shard->held,
            .weights = c->weights.back + shard->first,
            .incarnation = c->incarnation,
            .sequence = sequence,
            .only_newer = sequence != 0,
        };
        int rc = tl_direct_begin(shard->direct, &pull, tl_now_ms());
        if (rc != 0) {
            client_exchange_cancel(c);
            return rc;
        }
    }
    return 0;
}

/* Nothing can be asked of a shard that has never said who it is; to be connected is all
 * that can be tried then. */
static int begin_greeting(struct tl_client *c) {
    const struct tl_direct_request greet = {.op = TL_DIRECT_GREET};
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = tl_direct_begin(c->shards[s].direct, &greet, tl_now_ms());
        if (rc != 0) {
            client_exchange_cancel(c);
            return rc;
        }
    }
    return 0;
}

static bool is_greeted(const struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        if (tl_direct_welcome(c->shards[s].direct) == NULL) {
            return false;
        }
    }
    return true;
}

/* Is a server that did not answer not even being tried again just now? */
static bool is_in_trouble(const struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        if (shard->status == TL_E_BUSY && tl_direct_fd(shard->direct) < 0 &&
            tl_direct_trouble(shard->direct)[0] != '\0') {
            return true;
        }
    }
    return false;
}

static void weights_came(struct tl_client *c) {
    client_weights_take(c);
    c->logged.is_pulling = false;
    c->logged.is_away = false;
    c->logged.updates = 0;
    c->logged.bytes = 0;
}

/* Go on with the pull under way, or begin one. TL_E_BUSY: no weights yet; the pull goes
 * on with the next call. */
static int pull_some(struct tl_client *c, int64_t deadline_ms, bool *ret_ended) {
    struct client_logged *l = &c->logged;
    bool is_first = !l->is_pulling;
    bool was_greeted = is_greeted(c);
    int rc = 0;
    if (is_first) {
        rc = was_greeted ? begin_pull(c, l->before) : begin_greeting(c);
    }
    if (rc == 0) {
        l->is_pulling = true;
        rc = client_exchange_some(c, is_first, deadline_ms, ret_ended);
    }
    if (rc == TL_E_BUSY) {
        return rc;
    }
    l->is_pulling = false;
    if (rc == 0 && !was_greeted) {
        return TL_E_BUSY; /* now it can be asked */
    }
    if (rc == 0) {
        weights_came(c);
    }
    return rc;
}

static bool is_at_bound(const struct tl_client *c) {
    return c->logged.updates >= c->config.max_pending_updates ||
           c->logged.bytes >= c->config.max_pending_bytes;
}

static int never_came(const struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const char *why = tl_direct_trouble(c->shards[s].direct);
        if (why[0] != '\0') {
            return tl_fail(TL_E_TIMEOUT,
                           "shard %" PRIu32
                           ": no weights within the worker's patience: %s",
                           s, why);
        }
    }
    return tl_fail(TL_E_TIMEOUT, "no weights within the worker's patience");
}

/* Since when no server has sent a byte. */
static int64_t silent_ms(struct tl_client *c, int64_t now_ms) {
    struct client_logged *l = &c->logged;
    uint64_t received = 0;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct tl_direct_stats stats;
        tl_direct_stats(c->shards[s].direct, &stats);
        received += stats.bytes_received;
    }
    if (received != l->heard_bytes || !l->is_pulling) {
        l->heard_bytes = received;
        l->heard_ms = now_ms;
    }
    return now_ms - l->heard_ms;
}

/* Weights if they can be had; TL_E_BUSY if one may go on without. */
static int pull_async(struct tl_client *c, int64_t deadline_ms, bool *ret_ended) {
    struct client_logged *l = &c->logged;
    bool must_wait = c->config.while_away == TL_AWAY_WAIT || is_at_bound(c);
    int64_t until_ms = must_wait || !l->is_away ? deadline_ms : tl_now_ms() + AWAY_MS;
    int rc = TL_E_BUSY;
    while (rc == TL_E_BUSY) {
        int64_t now_ms = tl_now_ms();
        bool is_gone = is_in_trouble(c) || silent_ms(c, now_ms) > SILENT_MS;
        if (!must_wait && is_gone && l->is_pulling) {
            until_ms = now_ms; /* one look, and on */
        }
        int64_t slice_ms = now_ms + SLICE_MS < until_ms ? now_ms + SLICE_MS : until_ms;
        rc = pull_some(c, slice_ms, ret_ended);
        if (rc == TL_E_BUSY && tl_now_ms() >= until_ms) {
            l->is_away = true;
            return must_wait ? never_came(c) : TL_E_BUSY;
        }
    }
    return rc;
}

/* On the copy that the caller reads; a server's weights replace it. */
static void step_locally(struct tl_client *c, const float *gradient) {
    float *w = c->weights.front;
    const float rate = (float)c->config.local_rate;
    for (uint64_t i = 0; i < c->parameters; i++) {
        w[i] -= rate * gradient[i];
    }
}

static int push_async(struct tl_client *c, const float *gradient, bool pull,
                      int64_t deadline_ms, bool *ret_ended) {
    int rc = client_logged_collect(c);
    if (rc != 0 || !pull) {
        return rc == 0 ? client_logged_wait(c, c->logged.puts, deadline_ms) : rc;
    }
    rc = pull_async(c, deadline_ms, ret_ended);
    if (rc == TL_E_BUSY) {
        rc = 0;
        c->stats.without_server++;
        *ret_ended = *ret_ended || client_logged_has_ended(c);
        if (c->config.while_away == TL_AWAY_LOCAL_STEPS) {
            step_locally(c, gradient);
        }
    }
    return rc == 0 ? client_logged_collect(c) : rc;
}

/* ---- sync and ssp: what became of it --------------------------------------------- */

static uint64_t epochs(const struct tl_client *c) {
    uint64_t sum = 0;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        sum += tl_direct_epoch(c->shards[s].direct);
    }
    return sum;
}

/* A server that came after the append may have begun after it and know nothing of a
 * refusal: what it has decided already is a duplicate. */
static int await_decision(struct tl_client *c, uint64_t sequence, int64_t deadline_ms,
                          bool *ret_ended) {
    uint64_t asked_in = epochs(c);
    for (;;) {
        int64_t again_ms = tl_now_ms() + AGAIN_MS;
        int rc = begin_pull(c, sequence);
        if (rc == 0) {
            rc = client_exchange_patiently(
                c, again_ms < deadline_ms ? again_ms : deadline_ms, ret_ended);
        }
        if (rc != TL_E_TIMEOUT || tl_now_ms() >= deadline_ms) {
            return rc;
        }
        if (epochs(c) != asked_in) {
            asked_in = epochs(c);
            rc = put_gradient(c, sequence, deadline_ms);
            if (rc != 0) {
                return rc;
            }
        }
    }
}

static void sum_up(struct tl_client *c, struct tl_client_result *total) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        const struct tl_direct_result *r = tl_direct_result(shard->direct);
        total->version = r->version < total->version ? r->version : total->version;
        total->new_epoch = total->new_epoch || r->new_epoch;
        if (r->status != 0 || shard->status != 0) {
            total->refused++;
            total->refusal = r->status != 0 ? r->status : shard->status;
        }
    }
}

/* Retired while it was silent: back into the set, and the gradient is computed again.
 */
static int come_back(struct tl_client *c, int64_t deadline_ms,
                     struct tl_client_result *total) {
    if (total->refusal != TL_E_NOTJOINED) {
        return 0;
    }
    total->refusal = TL_E_STALE;
    return client_logged_rejoin(c, deadline_ms);
}

static int push_in_step(struct tl_client *c, uint64_t sequence, bool pull,
                        int64_t deadline_ms, bool *ret_ended,
                        struct tl_client_result *total) {
    int rc = client_logged_wait(c, c->logged.puts, deadline_ms);
    if (rc != 0 || !pull) {
        return rc;
    }
    rc = await_decision(c, sequence, deadline_ms, ret_ended);
    if (rc != 0) {
        return rc;
    }
    sum_up(c, total);
    weights_came(c);
    if (total->refused > 0) {
        c->stats.refused++;
        return come_back(c, deadline_ms, total);
    }
    c->stats.acknowledged++;
    return client_ledger_write(&c->ledger, c->incarnation, sequence);
}

/* ---- all ------------------------------------------------------------------------- */

int client_logged_push(struct tl_client *c, uint64_t sequence, const float *gradient,
                       bool pull, struct tl_client_result *ret_result) {
    int64_t deadline_ms = client_deadline(c);
    struct tl_client_result total = {.version = UINT64_MAX};
    bool ended = false;
    bool is_async = client_logged_is_async(c);
    bool is_there = is_async && sequence == c->logged.sequence; /* a repeated call */
    client_encode(c, sequence, gradient);
    c->last_sequence = sequence;
    c->stats.pushes++;
    int rc = is_there ? 0 : put_gradient(c, sequence, deadline_ms);
    if (rc == 0) {
        rc = is_async ? push_async(c, gradient, pull, deadline_ms, &ended)
                      : push_in_step(c, sequence, pull, deadline_ms, &ended, &total);
    }
    if (rc == 0 && ended) {
        rc = tl_fail(TL_E_ENDED, "client: the job has ended");
    }
    total.version = tl_client_version(c);
    if (rc == 0 && ret_result != NULL) {
        *ret_result = total;
    }
    return rc;
}

int client_logged_leave(struct tl_client *c, uint64_t step) {
    int64_t deadline_ms = tl_now_ms() + LEAVE_MS;
    const struct tl_header leave = {
        .kind = TL_KIND_LEAVE,
        .worker = c->config.worker,
        .incarnation = c->incarnation,
        .position = step,
    };
    /* An interrupt was for what came before. */
    int wake_fd = c->wake_fd;
    c->wake_fd = -1;
    int rc = client_logged_put(c, &leave, false, deadline_ms);
    if (rc == 0) {
        rc = client_logged_wait(c, c->logged.puts, deadline_ms);
    }
    if (rc == 0) {
        rc = client_logged_collect(c);
    }
    c->wake_fd = wake_fd;
    return rc;
}
