/* join.c - from nothing to a member of the worker set with weights in hand.
 *
 *   meet    find every shard's server; learn the model's size and its cut
 *   enter   take an incarnation above all that any table or Redis knows, and JOIN
 *   pull    the present weights */
#include "throughline/service.h"

#include "client_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define JOIN_TRIES 3u /* another process may take the same number between two steps */

/* ---- meet --------------------------------------------------------------------- */

static int add_shard(struct tl_client *c, uint32_t s) {
    const struct tl_direct_config config = {
        .shard = s,
        .role = c->config.observer ? TL_ROLE_MONITOR : TL_ROLE_WORKER,
        .worker = c->config.worker,
        .job = c->job,
        .run = c->run,
        .job_digest = c->config.job_digest,
        .trust = c->trust,
        .request_ms = c->config.request_ms,
        .unix_checksum = !c->config.no_unix_checksum,
        .shared_memory = !c->config.observer && !c->config.no_shared_memory,
        .find = client_discovery_find,
        .ctx = &c->discovery,
    };
    c->shards[s] = (struct client_shard){.held = {.version = TL_VERSION_NONE}};
    int rc = tl_direct_new(&config, &c->shards[s].direct);
    if (rc == 0) {
        c->shard_count = s + 1;
    }
    return rc;
}

int client_shards_grow(struct tl_client *c, uint32_t shards) {
    struct client_shard *grown = realloc(c->shards, shards * sizeof(*grown));
    if (grown == NULL) {
        return tl_fail(TL_E_NOMEM, "client: no memory for %" PRIu32 " shards", shards);
    }
    c->shards = grown;
    int rc = 0;
    for (uint32_t s = c->shard_count; s < shards && rc == 0; s++) {
        rc = add_shard(c, s);
    }
    return rc;
}

static int begin_all(struct tl_client *c, const struct tl_direct_request *request) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = tl_direct_begin(c->shards[s].direct, request, tl_now_ms());
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int client_ask_all(struct tl_client *c, const struct tl_direct_request *request,
                   int64_t deadline_ms, bool *ret_ended) {
    int rc = begin_all(c, request);
    return rc == 0 ? client_exchange_patiently(c, deadline_ms, ret_ended) : rc;
}

/* Shard 0 knows how many there are. */
static int meet_first(struct tl_client *c, int64_t deadline_ms) {
    bool ended = false;
    int rc = client_shards_grow(c, 1);
    if (rc == 0) {
        const struct tl_direct_request greet = {.op = TL_DIRECT_GREET};
        rc = client_ask_all(c, &greet, deadline_ms, &ended);
    }
    if (rc != 0) {
        return rc;
    }
    uint32_t shards = tl_direct_welcome(c->shards[0].direct)->shards;
    uint32_t named = c->discovery.fixed_count;
    if (named != 0 && named != shards) {
        return tl_fail(TL_E_CONFIG,
                       "servers: %" PRIu32
                       " addresses, but the model is cut into %" PRIu32 " shards",
                       named, shards);
    }
    return shards <= TL_LINKS_MAX
               ? client_shards_grow(c, shards)
               : tl_fail(TL_E_LIMIT, "client: %" PRIu32 " shards are more than %u",
                         shards, TL_LINKS_MAX);
}

int client_reserve(struct tl_client *c) {
    int rc = client_weights_reserve(&c->weights, c->parameters);
    return rc == 0 ? client_encoder_reserve(c) : rc;
}

/* The slices must cover the model without a gap, in the shards' order. */
static int check_cut(struct tl_client *c) {
    uint64_t first = 0;
    const struct tl_welcome *model = tl_direct_welcome(c->shards[0].direct);
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct tl_welcome *w = tl_direct_welcome(c->shards[s].direct);
        if (w->shards != c->shard_count || w->parameters != model->parameters ||
            w->first != first) {
            return tl_fail(
                TL_E_MISMATCH,
                "shard %" PRIu32 ": its slice does not go with shard 0's model", s);
        }
        c->shards[s].first = w->first;
        c->shards[s].count = w->count;
        first += w->count;
    }
    c->parameters = model->parameters;
    return first == model->parameters
               ? client_reserve(c)
               : tl_fail(TL_E_MISMATCH, "the shards' slices do not cover the model");
}

int client_meet(struct tl_client *c, int64_t deadline_ms) {
    bool ended = false;
    int rc = c->shard_count == 0 ? meet_first(c, deadline_ms) : 0;
    if (rc == 0) {
        const struct tl_direct_request greet = {.op = TL_DIRECT_GREET};
        rc = client_ask_all(c, &greet, deadline_ms, &ended);
    }
    return rc == 0 ? check_cut(c) : rc;
}

/* ---- enter -------------------------------------------------------------------- */

/* Highest incarnation and lowest settled sequence of this worker in the shards' tables.
 */
struct tables {
    uint64_t incarnation;
    uint64_t settled;
    bool accepted; /* by all */
};

static struct tables read_tables(const struct tl_client *c) {
    struct tables t = {.settled = UINT64_MAX, .accepted = true};
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct tl_direct_result *r = tl_direct_result(c->shards[s].direct);
        t.incarnation = r->incarnation > t.incarnation ? r->incarnation : t.incarnation;
        t.settled = r->settled < t.settled ? r->settled : t.settled;
        t.accepted = t.accepted && r->status == 0;
    }
    return t;
}

/* Redis remembers incarnations that no table has; without it the tables must do. */
static uint64_t next_incarnation(const struct tl_client *c, uint64_t floor) {
    uint64_t incarnation = 0;
    struct tl_member *m = c->discovery.member;
    if (m != NULL && tl_member_is_connected(m) &&
        tl_member_next_incarnation(m, TL_ROLE_WORKER, c->config.worker, floor,
                                   tl_now_ms() + c->config.request_ms,
                                   &incarnation) == 0) {
        return incarnation;
    }
    return floor + 1;
}

static int join_all(struct tl_client *c, uint64_t incarnation, int64_t deadline_ms,
                    struct tables *ret_tables) {
    bool ended = false;
    const struct tl_direct_request join = {
        .op = TL_DIRECT_JOIN,
        .incarnation = incarnation,
        .sequence = c->ledger.acknowledged,
    };
    int rc = client_ask_all(c, &join, deadline_ms, &ended);
    if (rc == 0) {
        *ret_tables = read_tables(c);
        rc = ended ? tl_fail(TL_E_ENDED, "client: the job has ended") : 0;
    }
    return rc;
}

static int enter(struct tl_client *c, int64_t deadline_ms) {
    struct tables t = {0};
    int rc = join_all(c, 0, deadline_ms, &t); /* only asks */
    uint64_t floor =
        t.incarnation > c->ledger.incarnation ? t.incarnation : c->ledger.incarnation;
    for (uint32_t i = 0; i < JOIN_TRIES && rc == 0 && !t.accepted; i++) {
        c->incarnation = next_incarnation(c, floor);
        rc = join_all(c, c->incarnation, deadline_ms, &t);
        floor = t.incarnation;
    }
    if (rc != 0) {
        return rc;
    }
    if (!t.accepted) {
        return tl_fail(TL_E_FENCED, "client: newer processes run as worker %" PRIu32,
                       c->config.worker);
    }
    c->last_sequence =
        t.settled > c->ledger.acknowledged ? t.settled : c->ledger.acknowledged;
    c->joined = true;
    return client_ledger_write(&c->ledger, c->incarnation, c->ledger.acknowledged);
}

/* ---- all ---------------------------------------------------------------------- */

int client_pull_present(struct tl_client *c, int64_t deadline_ms) {
    bool ended = false;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        c->shards[s].held = (struct tl_direct_held){.version = TL_VERSION_NONE};
        c->shards[s].next_step = 0;
    }
    c->weights.front = NULL;
    int rc = client_pull_begin(c, false);
    if (rc == 0) {
        rc = client_exchange_patiently(c, deadline_ms, &ended);
    }
    if (rc != 0) {
        return rc;
    }
    client_weights_take(c);
    bool is_useless = c->weights.front == NULL || (ended && !c->config.observer);
    return is_useless ? tl_fail(TL_E_ENDED, "client: the job has ended") : 0;
}

static int join(struct tl_client *c, int64_t deadline_ms) {
    int rc = client_meet(c, deadline_ms);
    if (rc == 0 && !c->config.observer) {
        rc = enter(c, deadline_ms);
    }
    return rc == 0 ? client_pull_present(c, deadline_ms) : rc;
}

int tl_client_join(struct tl_client *c, struct tl_client_join *ret_join) {
    c->joined = false;
    bool is_logged = c->config.log != NULL && !c->config.observer;
    int rc = is_logged ? client_logged_join(c) : join(c, client_deadline(c));
    if (rc != 0) {
        return rc;
    }
    *ret_join = (struct tl_client_join){
        .parameters = c->parameters,
        .shards = c->shard_count,
        .next_sequence = c->last_sequence + 1,
        .incarnation = c->incarnation,
    };
    return 0;
}
