/* logged_join.c - into the worker set with a durable log, servers or no servers.
 *
 * What counts is the JOIN in every shard's log. The tables of servers that are there
 * only help: to begin where the worker's last life stopped when its ledger is gone. */
#include "throughline/job.h"
#include "throughline/service.h"

#include "client_internal.h"

#include <inttypes.h>
#include <time.h>

#define MEET_MS  2000 /* how long servers are looked for when one can do without */
#define TABLE_MS 10   /* between two looks at a table */

struct known {
    uint64_t incarnation; /* highest in any table */
    uint64_t settled;     /* lowest of all tables; 0: not known */
};

static bool can_do_without(const struct tl_client *c) {
    return client_logged_is_async(c) && c->config.while_away != TL_AWAY_WAIT &&
           c->config.begin_weights != NULL;
}

/* ---- servers, if they are there ----------------------------------------------------
 */

static int ask_tables(struct tl_client *c, int64_t deadline_ms, struct known *ret) {
    bool ended = false;
    const struct tl_direct_request ask = {.op = TL_DIRECT_JOIN};
    int rc = client_ask_all(c, &ask, deadline_ms, &ended);
    if (rc != 0) {
        return rc;
    }
    *ret = (struct known){.settled = UINT64_MAX};
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct tl_direct_result *r = tl_direct_result(c->shards[s].direct);
        ret->incarnation =
            r->incarnation > ret->incarnation ? r->incarnation : ret->incarnation;
        ret->settled = r->settled < ret->settled ? r->settled : ret->settled;
    }
    return ended ? tl_fail(TL_E_ENDED, "client: the job has ended") : 0;
}

/* TL_E_TIMEOUT, when one can do without, means: go on without. */
static int look_for_servers(struct tl_client *c, int64_t deadline_ms,
                            struct known *ret_known, bool *ret_met) {
    int64_t meet_ms = tl_now_ms() + MEET_MS;
    int64_t until_ms =
        can_do_without(c) && meet_ms < deadline_ms ? meet_ms : deadline_ms;
    int rc = client_meet(c, until_ms);
    if (rc == 0) {
        rc = ask_tables(c, until_ms, ret_known);
    }
    *ret_met = rc == 0;
    return rc == TL_E_TIMEOUT && can_do_without(c) ? 0 : rc;
}

/* ---- the log --------------------------------------------------------------------- */

static int next_incarnation(struct tl_client *c, uint64_t floor, int64_t deadline_ms) {
    struct tl_member *m = c->discovery.member;
    floor = floor > c->ledger.incarnation ? floor : c->ledger.incarnation;
    if (m == NULL) {
        c->incarnation = floor + 1;
        return 0;
    }
    return tl_member_next_incarnation(m, TL_ROLE_WORKER, c->config.worker, floor,
                                      deadline_ms, &c->incarnation);
}

/* Which batches its earlier lives have settled is in the worker's ledger, or else in
 * the servers' tables alone: begun without either, it would compute them all again, to
 * have them refused. */
static int find_place(struct tl_client *c, int64_t deadline_ms, struct known *known,
                      bool *has_met) {
    if (*has_met || c->ledger.acknowledged > 0 || c->incarnation == 1) {
        return 0;
    }
    int rc = client_meet(c, deadline_ms);
    rc = rc == 0 ? ask_tables(c, deadline_ms, known) : rc;
    *has_met = rc == 0;
    return rc == 0 && known->incarnation >= c->incarnation
               ? next_incarnation(c, known->incarnation, deadline_ms)
               : rc;
}

int client_logged_rejoin(struct tl_client *c, int64_t deadline_ms) {
    const struct tl_header join = {
        .kind = TL_KIND_JOIN,
        .worker = c->config.worker,
        .incarnation = c->incarnation,
        .sequence = c->ledger.acknowledged,
    };
    int rc = client_logged_put(c, &join, false, deadline_ms);
    return rc == 0 ? client_logged_wait(c, c->logged.puts, deadline_ms) : rc;
}

/* sync, ssp: wait until every server has read that we are there. */
static int await_tables(struct tl_client *c, int64_t deadline_ms, struct known *known) {
    const struct timespec moment = {.tv_nsec = TABLE_MS * 1000000L};
    for (;;) {
        bool is_there = true;
        int rc = ask_tables(c, deadline_ms, known);
        if (rc != 0) {
            return rc;
        }
        for (uint32_t s = 0; s < c->shard_count; s++) {
            const struct tl_direct_result *r = tl_direct_result(c->shards[s].direct);
            is_there = is_there && r->incarnation >= c->incarnation;
        }
        if (is_there) {
            return known->incarnation == c->incarnation
                       ? 0
                       : tl_fail(TL_E_FENCED,
                                 "client: a newer process runs as worker %" PRIu32,
                                 c->config.worker);
        }
        if (tl_now_ms() >= deadline_ms) {
            return tl_fail(TL_E_TIMEOUT, "client: the servers do not read the log");
        }
        (void)nanosleep(&moment, NULL);
    }
}

/* ---- weights --------------------------------------------------------------------- */

static int begin_alone(struct tl_client *c) {
    uint64_t version = 0;
    int rc = c->config.begin_weights(c->config.ctx, c->weights.back, &version);
    if (rc != 0) {
        return rc;
    }
    c->weights.front = c->weights.back;
    c->weights.back = c->weights.front == c->weights.memory[0] ? c->weights.memory[1]
                                                               : c->weights.memory[0];
    for (uint32_t s = 0; s < c->shard_count; s++) {
        c->shards[s].held = (struct tl_direct_held){.version = version};
        c->shards[s].is_away = true;
    }
    return 0;
}

static uint64_t highest(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

int client_logged_join(struct tl_client *c) {
    int64_t deadline_ms = client_deadline(c);
    char note[256];
    struct known known = {0};
    bool has_met = false;
    int rc = client_logged_open(c);
    if (rc == 0) {
        rc = tl_log_create(c->config.log, deadline_ms, note, sizeof(note));
    }
    if (rc == 0) {
        rc = look_for_servers(c, deadline_ms, &known, &has_met);
    }
    if (rc == 0) {
        rc = next_incarnation(c, known.incarnation, deadline_ms);
    }
    if (rc == 0) {
        rc = find_place(c, deadline_ms, &known, &has_met);
    }
    if (rc == 0) {
        rc = client_ledger_write(&c->ledger, c->incarnation, c->ledger.acknowledged);
    }
    if (rc == 0) {
        rc = client_logged_rejoin(c, deadline_ms);
    }
    if (rc == 0 && !client_logged_is_async(c)) {
        rc = await_tables(c, deadline_ms, &known);
    }
    if (rc == 0) {
        rc = has_met ? client_pull_present(c, deadline_ms) : begin_alone(c);
    }
    if (rc == 0) {
        c->last_sequence = highest(known.settled, c->ledger.acknowledged);
        c->joined = true;
    }
    return rc;
}
