/* replica.c - the driver of a replica: its clock, and what the protocol wants done.
 *
 * chain.h decides; here its actions are carried out, in order, after each event. A
 * record is folded when the chain has committed it, and then whoever sent it to us is
 * answered (tl_serve_commit). */
#include "replica.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TICK_LEAST_MS 5u
#define TICK_MOST_MS  100u

/* X(field, type, name, help) */
#define GAUGES(X)                                                                      \
    X(place, TL_GAUGE, "throughline_chain_place",                                      \
      "0 outside the chain, 1 head, 2 middle, 3 tail.")                                \
    X(length, TL_GAUGE, "throughline_chain_length", "Replicas in the chain.")          \
    X(number, TL_GAUGE, "throughline_chain_configuration",                             \
      "Number of the configuration, which rises with each change.")                    \
    X(pending, TL_GAUGE, "throughline_chain_pending_records",                          \
      "Records held that are not committed yet.")                                      \
    X(rejected, TL_COUNTER, "throughline_chain_rejected_total",                        \
      "Messages of an older configuration, and links of replicas that were removed.")  \
    X(resets, TL_COUNTER, "throughline_chain_resets_total",                            \
      "How often this replica dropped its state, to join anew.")                       \
    X(transfers, TL_COUNTER, "throughline_chain_transfers_total",                      \
      "States sent to other replicas.")                                                \
    X(removals, TL_COUNTER, "throughline_chain_removals_total",                        \
      "Replicas that this one had removed.")                                           \
    X(sent, TL_COUNTER, "throughline_chain_sent_bytes_total",                          \
      "Bytes sent to other replicas.")                                                 \
    X(received, TL_COUNTER, "throughline_chain_received_bytes_total",                  \
      "Bytes received from other replicas.")

struct replica_gauges {
#define FIELD(field, type, name, help) struct tl_metric *field;
    GAUGES(FIELD)
#undef FIELD
};

/* ---- the state ------------------------------------------------------------------ */

static void replace_fold(struct replica *r, struct tl_fold *fold) {
    struct server *s = r->server;
    struct tl_fold *old = s->fold;
    tl_serve_replace_fold(s->serve, fold);
    s->fold = fold;
    tl_fold_free(old);
}

/* Without a state there is nothing to go on with: whoever starts us again joins anew.
 */
static void fail(struct replica *r, const char *what) {
    tl_log_line(TL_ERROR, what, "why", tl_error_text(), NULL);
    server_leave(r->server, TL_EXIT_FAILED);
}

static int restore(const struct replica *r, const struct body *b,
                   struct tl_fold **ret_fold) {
    struct tl_fold_config config;
    struct tl_restore *restore = NULL;
    const struct server *s = r->server;
    tl_job_fold_config(&s->job, s->parameters, s->service.index, &config);
    int rc = tl_restore_new(&config, &restore);
    rc = rc == 0 ? tl_restore_feed(restore, b->bytes, b->size) : rc;
    rc = rc == 0 ? tl_restore_done(restore, ret_fold) : rc;
    if (rc != 0) {
        tl_restore_free(restore);
    }
    return rc;
}

static void load(struct replica *r, const struct tl_chain_action *a) {
    struct tl_fold *fold = NULL;
    if (restore(r, (const struct body *)a->body, &fold) != 0) {
        fail(r, "the state that was sent cannot be used");
        return;
    }
    replace_fold(r, fold);
    tl_log_line(TL_INFO, "state taken over", "position", tl_text_u64(a->position),
                "version", tl_text_u64(tl_fold_version(fold)), "bytes",
                tl_text_u64(body_size((const struct body *)a->body)), NULL);
}

/* What was appended here and is not committed is the senders' to send again. */
static void reset(struct replica *r) {
    struct server *s = r->server;
    struct tl_fold *fold = NULL;
    r->cut_is_due = false;
    tl_serve_set_leading(s->serve, false);
    if (server_fresh_fold(s, &fold) != 0) {
        fail(r, "no state to begin with");
        return;
    }
    replace_fold(r, fold);
    tl_log_line(TL_WARNING, "out of the chain: the state is dropped", NULL);
}

/* Somebody may hold the one cut there is: later, then. */
static bool take_cut(struct replica *r) {
    struct tl_cut *cut = NULL;
    if (!r->cut_is_due || tl_fold_cut(r->server->fold, &cut) != 0) {
        return false;
    }
    struct body *b = body_of_cut(r, cut);
    if (b == NULL) {
        tl_cut_release(cut);
        return false;
    }
    assert(tl_cut_position(cut) == tl_chain_committed(r->chain));
    r->cut_is_due = false;
    tl_chain_cut_taken(r->chain, &b->base);
    return true;
}

/* ---- actions -------------------------------------------------------------------- */

static void send_to(struct replica *r, const struct tl_chain_action *a) {
    struct peer *p = peer_find(r, a->node);
    if (p != NULL) {
        peer_send(p, &a->message);
    }
}

static void hang_up(struct replica *r, struct tl_chain_node node) {
    struct peer *p = peer_find(r, node);
    if (p != NULL) {
        peer_close(p);
    }
}

static void carry_out(struct replica *r, struct tl_chain_action *a) {
    switch (a->kind) {
    case TL_CHAIN_SEND:
        send_to(r, a);
        break;
    case TL_CHAIN_DIAL:
    case TL_CHAIN_PROBE:
        replica_dial(r, a->node, a->kind == TL_CHAIN_PROBE);
        break;
    case TL_CHAIN_CLOSE:
        hang_up(r, a->node);
        break;
    case TL_CHAIN_PROPOSE:
        arbiter_propose(r, a);
        break;
    case TL_CHAIN_COMMIT:
        tl_serve_commit(r->server->serve, &a->record);
        break;
    case TL_CHAIN_CUT:
        r->cut_is_due = true;
        break;
    case TL_CHAIN_LOAD:
        load(r, a);
        break;
    case TL_CHAIN_RESET:
        reset(r);
        break;
    case TL_CHAIN_LEAD:
        break; /* standing_update() sees it */
    }
}

/* Tell of one link that broke meanwhile. */
static bool tell_broken(struct replica *r) {
    struct peer *p = NULL;
    LIST_FOREACH(p, &r->peers, link) {
        if (p->is_broken) {
            struct tl_chain_node node = p->node;
            peer_close(p);
            tl_chain_link_down(r->chain, node);
            return true;
        }
    }
    return false;
}

void replica_act(struct replica *r) {
    struct tl_chain_action a;
    if (r->is_acting || r->is_stopped) {
        return;
    }
    r->is_acting = true;
    do {
        while (!r->is_stopped && tl_chain_next(r->chain, &a)) {
            carry_out(r, &a);
            tl_chain_body_release(a.body);
        }
    } while (!r->is_stopped && (tell_broken(r) || take_cut(r)));
    r->is_acting = false;
    if (!r->is_stopped) {
        standing_update(r);
        arbiter_step(r);
    }
}

/* ---- what may come -------------------------------------------------------------- */

/* Weights, up to three arrays beside them, and two versions for each worker. */
static uint64_t state_most(const struct tl_fold_config *c) {
    return c->count * sizeof(float) * (4 + 2 * (uint64_t)c->workers) + (1u << 20);
}

bool replica_takes(const struct replica *r, const struct tl_chain_message *m,
                   uint64_t size) {
    const struct tl_fold_config *c = tl_fold_config(r->server->fold);
    if (m->kind == TL_CHAIN_STATE) {
        return size > 0 && size <= state_most(c);
    }
    if (m->kind == TL_CHAIN_RECORD && m->record.kind == TL_RECORD_GRADIENT) {
        return tl_codec_check_size(m->record.encoding, c->count, size) == 0;
    }
    return size == 0;
}

/* ---- records from here ----------------------------------------------------------- */

/* The payload is copied: it may lie in memory that its sender writes again before the
 * record is committed. */
static int propose(void *ctx, struct tl_record *record) {
    struct server *s = ctx;
    struct replica *r = s->replica;
    struct body *b = NULL;
    if (record->kind == TL_RECORD_GRADIENT) {
        b = body_new(r, record->value_bytes);
        if (b == NULL) {
            return tl_fail(TL_E_NOMEM, "no memory for a gradient");
        }
        memcpy(b->bytes, record->values, record->value_bytes);
        record->values = b->bytes;
    }
    int rc = tl_chain_append(r->chain, record, b != NULL ? &b->base : NULL);
    tl_chain_body_release(b != NULL ? &b->base : NULL);
    return rc;
}

static void advance(void *ctx) {
    struct server *s = ctx;
    replica_act(s->replica);
}

int server_replica_offer(struct server *s, struct tl_record *record) {
    int rc = propose(s, record);
    replica_act(s->replica);
    return rc;
}

/* ---- links from there ------------------------------------------------------------ */

/* It was in the chain, and was removed: it has been stopped, or cut off, and does not
 * know it yet. What it still wants to send down is not wanted. */
static bool was_removed(const struct replica *r, const struct tl_header *hello) {
    const struct tl_chain_config *c = tl_chain_config(r->chain);
    const struct tl_chain_node node = {hello->worker, hello->incarnation};
    return hello->incarnation != 0 && hello->epoch > 0 && hello->epoch < c->number &&
           tl_chain_find(c, node) < 0;
}

/* Is it for us, in this life? Who took it for an earlier one is told that that is over.
 */
static int on_peer(void *ctx, const struct tl_header *hello) {
    struct server *s = ctx;
    struct tl_chain_node self = tl_chain_self(s->replica->chain);
    if (s->replica->is_stopped) {
        return tl_fail(TL_E_FENCED, "this replica is leaving");
    }
    if (hello->worker >= tl_job_replicas(&s->job) || hello->worker == self.slot) {
        return tl_fail(TL_E_MISMATCH, "slot %u is not another one of this chain",
                       hello->worker);
    }
    if (was_removed(s->replica, hello)) {
        s->replica->refused++;
        return tl_fail(TL_E_FENCED, "the caller was removed from the chain");
    }
    return hello->sequence == self.incarnation
               ? 0
               : tl_fail(TL_E_FENCED, "another replica is in this slot by now");
}

static void take_peer(void *ctx, const struct tl_header *hello, int fd,
                      struct tl_tls *tls) {
    struct server *s = ctx;
    const struct tl_chain_node node = {hello->worker, hello->incarnation};
    peer_open(s->replica, node, false, fd, tls);
}

/* ---- life ------------------------------------------------------------------------ */

static int gauges_new(struct replica *r) {
    struct replica_gauges *g = calloc(1, sizeof(*g));
    bool ok = g != NULL;
#define REGISTER(field, type, name, help)                                              \
    ok = ok && (g->field = tl_metric_new(type, name, NULL, help, NULL, 0)) != NULL;
    GAUGES(REGISTER)
#undef REGISTER
    r->gauges = g;
    return ok ? 0 : tl_fail(TL_E_NOMEM, "no memory for metrics");
}

void server_replica_gauges(const struct server *s) {
    const struct replica *r = s->replica;
    if (r == NULL) {
        return;
    }
    const struct replica_gauges *g = r->gauges;
    struct tl_chain_stats stats;
    tl_chain_stats(r->chain, &stats);
    tl_metric_set(g->place, (double)tl_chain_role(r->chain));
    tl_metric_set(g->length, (double)tl_chain_config(r->chain)->count);
    tl_metric_set(g->number, (double)tl_chain_config(r->chain)->number);
    tl_metric_set(g->pending,
                  (double)(tl_chain_last(r->chain) - tl_chain_committed(r->chain)));
    tl_metric_set(g->rejected, (double)(stats.rejected + r->refused));
    tl_metric_set(g->resets, (double)stats.resets);
    tl_metric_set(g->transfers, (double)stats.transfers);
    tl_metric_set(g->removals, (double)stats.removals);
    tl_metric_set(g->sent, (double)s->peer_bytes_sent);
    tl_metric_set(g->received, (double)s->peer_bytes_received);
}

static int new_chain(struct replica *r) {
    const struct server *s = r->server;
    const struct tl_chain_settings settings = {
        .slot = s->slot,
        .length = tl_job_replicas(&s->job),
        .replication = (enum tl_replication)s->job.chain_replication,
        .every = s->job.chain_every,
        .position = tl_fold_position(s->fold),
        .lease_ms = s->job.lease_ms,
        .seed = tl_random_u64(),
    };
    return tl_chain_new(&settings, tl_now_ms(), &r->chain);
}

int server_replica_open(struct server *s, struct tl_serve_config *config) {
    if (s->job.strategy != TL_STRATEGY_CHAIN) {
        return 0;
    }
    if (s->member == NULL) {
        return tl_fail(TL_E_CONFIG, "a chain needs Redis: --redis");
    }
    struct replica *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a replica");
    }
    s->replica = r;
    r->server = s;
    LIST_INIT(&r->peers);
    SLIST_INIT(&r->spare);
    arbiter_init(r);
    config->propose = propose;
    config->advance = advance;
    config->on_peer = on_peer;
    config->take_peer = take_peer;
    int rc = gauges_new(r);
    return rc == 0 ? new_chain(r) : rc;
}

static void on_tick(uv_timer_t *timer) {
    struct replica *r = timer->data;
    if (!r->is_stopped) {
        tl_chain_tick(r->chain, tl_now_ms());
        replica_act(r);
    }
}

int server_replica_start(struct server *s) {
    struct replica *r = s->replica;
    if (r == NULL) {
        return 0;
    }
    uint32_t tick_ms = s->job.lease_ms / 16;
    tick_ms = tick_ms < TICK_LEAST_MS ? TICK_LEAST_MS : tick_ms;
    tick_ms = tick_ms > TICK_MOST_MS ? TICK_MOST_MS : tick_ms;
    r->tick.data = r;
    tl_serve_set_leading(s->serve, false);
    standing_update(r);
    return uv_timer_init(&s->loop, &r->tick) == 0 &&
                   uv_timer_start(&r->tick, on_tick, 0, tick_ms) == 0
               ? 0
               : tl_fail(TL_E_IO, "cannot start the chain's clock");
}

bool replica_entry(const struct replica *r, uint32_t slot,
                   struct tl_member_entry *ret_entry) {
    const struct server *s = r->server;
    uint32_t number = s->service.index * tl_job_replicas(&s->job) + slot;
    return tl_member_find(s->member, TL_ROLE_REPLICA, number, ret_entry) == 0;
}

/* periodic: only the head folds. */
void server_replica_tail(const struct server *s, char ret_address[TL_ADDRESS_MAX]) {
    const struct replica *r = s->replica;
    const struct tl_chain_config *c = r != NULL ? tl_chain_config(r->chain) : NULL;
    struct tl_member_entry tail;
    ret_address[0] = '\0';
    if (c == NULL || c->count < 2 || s->job.chain_replication != TL_STRICT ||
        tl_chain_node_is(c->nodes[c->count - 1], tl_chain_self(r->chain))) {
        return;
    }
    if (replica_entry(r, c->nodes[c->count - 1].slot, &tail)) {
        memcpy(ret_address, tail.address, TL_ADDRESS_MAX);
    }
}

bool server_replica_leads(const struct server *s) {
    return s->replica != NULL && tl_chain_role(s->replica->chain) == TL_CHAIN_HEAD;
}

void server_replica_raise(struct server *s, uint64_t epoch) {
    tl_chain_raise(s->replica->chain, epoch);
    replica_act(s->replica);
}

void server_replica_stop(struct server *s) {
    struct replica *r = s->replica;
    struct peer *p = NULL;
    if (r == NULL || r->is_stopped) {
        return;
    }
    r->is_stopped = true;
    while ((p = LIST_FIRST(&r->peers)) != NULL) {
        peer_close(p);
    }
    uv_close((uv_handle_t *)&r->tick, NULL);
}

void server_replica_close(struct server *s) {
    struct replica *r = s->replica;
    if (r == NULL) {
        return;
    }
    tl_chain_free(r->chain);
    body_pool_done(r);
    free(r->gauges);
    free(r);
    s->replica = NULL;
}
