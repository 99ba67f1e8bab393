/* logged_push.c - a gradient to the log, and what becomes of it.
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

/* On the copy that the caller reads, where no server's weights have come. */
static void step_locally(struct tl_client *c, const float *gradient) {
    float *w = c->weights.front;
    const float rate = (float)c->config.local_rate;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        const uint64_t end = shard->first + (shard->is_away ? shard->count : 0);
        for (uint64_t i = shard->first; i < end; i++) {
            w[i] -= rate * gradient[i];
        }
    }
}

static int push_async(struct tl_client *c, const float *gradient, bool pull,
                      int64_t deadline_ms, bool *ret_ended) {
    int rc = client_logged_collect(c);
    if (rc != 0 || !pull) {
        return rc == 0 ? client_logged_wait(c, c->logged.puts, deadline_ms) : rc;
    }
    rc = client_logged_pull(c, deadline_ms, ret_ended);
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
        int rc = client_logged_ask(c, sequence);
        if (rc == 0) {
            rc = client_exchange_patiently(
                c, again_ms < deadline_ms ? again_ms : deadline_ms, ret_ended);
        }
        if (rc != 0) {
            client_logged_forget(c);
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
    client_logged_take(c);
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
