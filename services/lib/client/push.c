/* push.c - the calls of a training loop: push, pull, both, leave. */
#include "throughline/service.h"

#include "client_internal.h"

#include <inttypes.h>

/* Leaving is a courtesy: a server that cannot be told finds out when the lease is over.
 */
#define LEAVE_MS 2000

/* ---- pull --------------------------------------------------------------------- */

int client_pull_begin(struct tl_client *c, bool only_newer) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        shard->is_reading = false;
        const struct tl_direct_request pull = {
            .op = TL_DIRECT_PULL,
            .held = shard->held,
            .weights = c->weights.back + shard->first,
            .only_newer = only_newer,
        };
        int rc = tl_direct_begin(shard->direct, &pull, tl_now_ms());
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int tl_client_pull(struct tl_client *c, bool only_newer) {
    bool ended = false;
    if (c->weights.front == NULL) {
        return tl_fail(TL_E_INVALID, "client: pull before a join");
    }
    if (c->config.log != NULL) {
        client_logged_forget(c);
    }
    int rc = client_pull_begin(c, only_newer);
    if (rc == 0) {
        rc = client_exchange_patiently(c, client_deadline(c), &ended);
    }
    if (rc != 0) {
        return rc;
    }
    client_weights_take(c);
    return ended ? tl_fail(TL_E_ENDED, "client: the job has ended") : 0;
}

/* ---- push --------------------------------------------------------------------- */

static int check_push(const struct tl_client *c, uint64_t sequence,
                      const float *gradient) {
    if (c->config.observer || !c->joined) {
        return tl_fail(TL_E_INVALID, "client: only a worker that has joined may push");
    }
    if (gradient == NULL || sequence == 0 || sequence < c->last_sequence) {
        return tl_fail(TL_E_INVALID,
                       "client: push of sequence %" PRIu64 " after %" PRIu64
                       ": sequences rise, and a gradient is needed",
                       sequence, c->last_sequence);
    }
    return 0;
}

/* One more pass over the gradient, saved where no fold clips by the norm. */
static float norm_for(const struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        if (!tl_direct_welcome(c->shards[s].direct)->ignores_norm) {
            return client_norm(c->shards, c->shard_count);
        }
    }
    return 0;
}

static int begin_push(struct tl_client *c, enum tl_direct_op op, uint64_t sequence,
                      const float *gradient) {
    client_encode(c, sequence, gradient);
    float norm = norm_for(c);
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        shard->is_reading = false;
        const struct tl_direct_request push = {
            .op = op,
            .elsewhere = op == TL_DIRECT_PUSH_PULL && client_tail_begin(c, s, sequence),
            .held = shard->held,
            .sequence = sequence,
            .gradient = shard->gradient,
            .norm = norm,
            .weights = c->weights.back + shard->first,
        };
        int rc = tl_direct_begin(shard->direct, &push, tl_now_ms());
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* One shard's answer, added to the call's. */
static void add_answer(struct tl_client_result *total,
                       const struct client_shard *shard) {
    const struct tl_direct_result *r = tl_direct_result(shard->direct);
    bool is_refused = tl_direct_was_refused(shard->direct);
    total->version = r->version < total->version ? r->version : total->version;
    total->duplicated += r->status == TL_E_DUPLICATE ? 1 : 0;
    total->resent += r->sent > 1 ? 1 : 0;
    total->new_epoch = total->new_epoch || r->new_epoch;
    if (is_refused || shard->status != 0) {
        total->refused++;
        total->refusal = is_refused ? r->status : shard->status;
    }
}

/* In sync, the steps to which this worker has contributed, for leaving at the right
 * one. */
static void note_step(struct client_shard *shard) {
    const struct tl_direct_result *r = tl_direct_result(shard->direct);
    if (r->new_epoch) {
        shard->next_step = 0;
    } else if (shard->status == 0 && r->status == 0) {
        shard->next_step = shard->held.version + 1;
    }
}

static struct tl_client_result sum_up(struct tl_client *c) {
    struct tl_client_result total = {.version = UINT64_MAX};
    for (uint32_t s = 0; s < c->shard_count; s++) {
        add_answer(&total, &c->shards[s]);
        note_step(&c->shards[s]);
        c->stats.resent += tl_direct_result(c->shards[s].direct)->sent > 1 ? 1 : 0;
    }
    c->stats.refused += total.refused > 0 ? 1 : 0;
    c->stats.acknowledged += total.refused == 0 ? 1 : 0;
    return total;
}

static int push(struct tl_client *c, enum tl_direct_op op, uint64_t sequence,
                const float *gradient, struct tl_client_result *ret_result) {
    bool ended = false;
    int rc = check_push(c, sequence, gradient);
    if (rc == 0 && c->config.log != NULL) {
        return client_logged_push(c, sequence, gradient, op == TL_DIRECT_PUSH_PULL,
                                  ret_result);
    }
    if (rc == 0) {
        rc = begin_push(c, op, sequence, gradient);
    }
    if (rc != 0) {
        return rc;
    }
    c->last_sequence = sequence;
    c->stats.pushes++;
    rc = client_exchange_patiently(c, client_deadline(c), &ended);
    if (rc != 0) {
        return rc;
    }
    struct tl_client_result total = sum_up(c);
    client_weights_take(c);
    if (total.refused == 0) {
        rc = client_ledger_write(&c->ledger, c->incarnation, sequence);
    }
    if (rc == 0 && ended) {
        rc = tl_fail(TL_E_ENDED, "client: the job has ended");
    }
    if (rc == 0 && ret_result != NULL) {
        *ret_result = total;
    }
    return rc;
}

int tl_client_push(struct tl_client *c, uint64_t sequence, const float *gradient,
                   struct tl_client_result *ret_result) {
    return push(c, TL_DIRECT_PUSH, sequence, gradient, ret_result);
}

int tl_client_push_pull(struct tl_client *c, uint64_t sequence, const float *gradient,
                        struct tl_client_result *ret_result) {
    return push(c, TL_DIRECT_PUSH_PULL, sequence, gradient, ret_result);
}

/* ---- leave -------------------------------------------------------------------- */

/* The first step to which this worker has not contributed at every shard. */
static uint64_t leave_step(const struct tl_client *c) {
    uint64_t step = UINT64_MAX;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        uint64_t held =
            shard->held.version == TL_VERSION_NONE ? 0 : shard->held.version;
        uint64_t own = shard->next_step > held ? shard->next_step : held;
        step = own < step ? own : step;
    }
    return step;
}

int tl_client_leave(struct tl_client *c) {
    bool ended = false;
    if (!c->joined) {
        return 0;
    }
    c->joined = false;
    if (c->config.log != NULL) {
        return client_logged_leave(c, leave_step(c));
    }
    const struct tl_direct_request leave = {.op = TL_DIRECT_LEAVE,
                                            .step = leave_step(c)};
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = tl_direct_begin(c->shards[s].direct, &leave, tl_now_ms());
        if (rc != 0) {
            return rc;
        }
    }
    int64_t bound_ms =
        c->config.request_ms < LEAVE_MS ? c->config.request_ms : LEAVE_MS;
    return client_exchange(c, tl_now_ms() + bound_ms, -1, &ended);
}
