/* logged_pull.c - weights from the servers that read the log, those that are there.
 *
 * A pull of each shard's slice is under way from one call to the next: a server that is
 * away keeps nobody waiting for the others, and its slice stays as it was meanwhile.
 * Only when all slices have come do the two vectors change places; until then a slice
 * that is still to come may be written to the back one. */
#include "throughline/job.h"
#include "throughline/service.h"

#include "client_internal.h"

#include <inttypes.h>

#define SILENT_MS                                                                      \
    2000            /* a server that says nothing is not there; it answers in 1000     \
                     */
#define AWAY_MS  10 /* wait for one that was not there, and may be back */
#define SLICE_MS 2  /* between two looks at who is there */

/* ---- asking ------------------------------------------------------------------------
 */

int client_ask(struct tl_client *c, struct client_shard *shard, struct tl_direct *d,
               uint64_t sequence, int64_t now_ms) {
    const struct tl_direct_request greet = {.op = TL_DIRECT_GREET};
    const struct tl_direct_request pull = {
        .op = TL_DIRECT_PULL,
        .held = shard->held,
        .weights = c->weights.back + shard->first,
        .incarnation = c->incarnation,
        .sequence = sequence,
        .only_newer = sequence != 0,
    };
    shard->is_greeting = tl_direct_welcome(d) == NULL;
    return tl_direct_begin(d, shard->is_greeting ? &greet : &pull, now_ms);
}

static int ask(struct tl_client *c, struct client_shard *shard, uint64_t sequence) {
    int64_t now_ms = tl_now_ms();
    int rc = client_ask(c, shard, shard->direct, sequence, now_ms);
    shard->is_asked = rc == 0;
    shard->status = TL_E_BUSY;
    shard->heard_ms = now_ms;
    return rc;
}

void client_logged_forget(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        c->shards[s].is_asked = false;
    }
    client_exchange_cancel(c);
}

int client_logged_ask(struct tl_client *c, uint64_t sequence) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        int rc = c->shards[s].is_asked ? 0 : ask(c, &c->shards[s], sequence);
        if (rc != 0) {
            client_logged_forget(c);
            return rc;
        }
    }
    return 0;
}

/* ---- taking ------------------------------------------------------------------------
 */

void client_logged_take(struct tl_client *c) {
    client_weights_take(c);
    for (uint32_t s = 0; s < c->shard_count; s++) {
        c->shards[s].is_asked = false;
        c->shards[s].is_away = false;
    }
    c->logged.updates = 0;
    c->logged.bytes = 0;
}

/* What has come; of the shards that are still to answer, nothing. */
static void take_some(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        shard->is_away = shard->status == TL_E_BUSY;
        if (!shard->is_away) {
            client_weights_take_slice(c, s);
            shard->is_asked = false;
        }
    }
}

/* ---- who is there ------------------------------------------------------------------
 */

static int64_t silent_ms(struct client_shard *shard, int64_t now_ms) {
    struct tl_direct_stats stats;
    tl_direct_stats(shard->direct, &stats);
    if (stats.bytes_received != shard->heard_bytes) {
        shard->heard_bytes = stats.bytes_received;
        shard->heard_ms = now_ms;
    }
    return now_ms - shard->heard_ms;
}

/* It did not answer, and is not even being tried again just now; or says nothing. */
static bool is_absent(struct client_shard *shard, int64_t now_ms, int64_t began_ms) {
    return client_is_in_trouble(shard->direct) ||
           silent_ms(shard, now_ms) > SILENT_MS ||
           (shard->is_away && now_ms - began_ms >= AWAY_MS);
}

/* Is there nobody left who may answer soon? */
static bool only_absent_are_left(struct tl_client *c, int64_t now_ms,
                                 int64_t began_ms) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        if (!shard->is_asked ||
            (shard->status == TL_E_BUSY && !is_absent(shard, now_ms, began_ms))) {
            return false;
        }
    }
    return true;
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

/* ---- pulling -----------------------------------------------------------------------
 */

/* Those that were only greeted can be asked now. */
static bool were_greeted(struct tl_client *c) {
    bool were = false;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        bool is_known = shard->is_greeting && shard->status == 0;
        shard->is_asked = shard->is_asked && !is_known;
        were = were || is_known;
    }
    return were;
}

/* TL_E_BUSY: some are still to come; it goes on with the next call. */
static int pull_until(struct tl_client *c, int64_t until_ms, bool *ret_ended) {
    int rc = client_logged_ask(c, c->logged.before);
    if (rc == 0) {
        rc = client_exchange_some(c, until_ms, ret_ended);
    }
    if (rc != 0 && rc != TL_E_BUSY) {
        client_logged_forget(c);
        return rc;
    }
    return were_greeted(c) ? TL_E_BUSY : rc;
}

int client_logged_pull(struct tl_client *c, int64_t deadline_ms, bool *ret_ended) {
    bool must_wait = c->config.while_away == TL_AWAY_WAIT || is_at_bound(c);
    int64_t began_ms = tl_now_ms();
    int64_t now_ms = began_ms;
    bool is_over = false;
    int rc = TL_E_BUSY;
    while (rc == TL_E_BUSY && !is_over) {
        bool one_look = !must_wait && only_absent_are_left(c, now_ms, began_ms);
        rc = pull_until(c, one_look ? now_ms : now_ms + SLICE_MS, ret_ended);
        now_ms = tl_now_ms();
        if (rc == TL_E_BUSY && must_wait && now_ms - began_ms >= client_look_ms(c)) {
            client_tell_away(c);
        }
        is_over = now_ms >= deadline_ms ||
                  (!must_wait && only_absent_are_left(c, now_ms, began_ms));
    }
    if (rc == 0) {
        client_tell_relief(c);
        client_logged_take(c);
    } else if (rc == TL_E_BUSY) {
        take_some(c);
        rc = must_wait ? never_came(c) : rc;
    }
    return rc;
}
