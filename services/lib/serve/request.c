/* request.c - what each request does to the fold, and what is answered.
 *
 * The order in which complete requests arrive here is the order of the direct log: a
 * record's position is its arrival. docs/protocol.md is the other side's view. */
#include "serve_internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- who may ask what --------------------------------------------------------- */

/* The frame's own length if that is possible in its encoding, else the largest. */
static int64_t gradient_payload(const struct tl_serve *s, const struct tl_header *h) {
    enum tl_encoding encoding = (enum tl_encoding)h->encoding;
    uint64_t count = s->slice->count;
    bool fits = tl_codec_check_size(encoding, count, h->length) == 0;
    return (int64_t)(fits ? h->length : tl_codec_size_max(encoding, count));
}

int64_t serve_request_payload(const struct serve_conn *c, const struct tl_header *h) {
    if (h->kind == TL_KIND_HELLO) {
        return TL_HELLO_BYTES;
    }
    if (h->kind == TL_KIND_PROOF && c->auth.has_secret && !c->auth.proven) {
        return TL_PROOF_BYTES;
    }
    if (!c->greeted) {
        return TL_E_PROTOCOL;
    }
    if (h->shard != c->serve->slice->shard) {
        return TL_E_MISMATCH;
    }
    if (!tl_role_may(c->role, h->kind)) {
        return TL_E_DENIED;
    }
    switch (h->kind) {
    case TL_KIND_PUSH:
    case TL_KIND_PUSH_PULL:
        return c->joined ? gradient_payload(c->serve, h) : TL_E_NOTJOINED;
    case TL_KIND_RATE:
        return sizeof(double);
    default:
        return 0;
    }
}

/* ---- records ------------------------------------------------------------------ */

/* Refused, and the table does not say so: the worker has to be told. */
static void note_refusal(struct tl_serve *s, const struct tl_record *r, int status) {
    if (r->kind == TL_RECORD_GRADIENT && r->worker < TL_WORKER_LIMIT) {
        bool is_open = status == TL_E_STALE || status == TL_E_NOTJOINED;
        s->refusals[r->worker] = (struct serve_refusal){
            .incarnation = r->incarnation,
            .sequence = r->sequence,
            .status = is_open ? status : 0,
        };
    }
}

static int fold(struct tl_serve *s, struct tl_record *r) {
    struct tl_fold_effect effect = {0};
    r->shard = s->slice->shard;
    uint64_t start = uv_hrtime();
    int rc = tl_fold_apply(s->fold, r, &effect);
    s->stats.fold_seconds += (double)(uv_hrtime() - start) * 1e-9;
    s->folded_ms = uv_now(s->config.loop);
    note_refusal(s, r, rc);
    if (s->config.on_record != NULL) {
        s->config.on_record(s->config.ctx, r, rc, &effect);
    }
    return rc;
}

int tl_serve_offer(struct tl_serve *s, struct tl_record *r) {
    r->epoch = s->epoch;
    r->position = tl_fold_position(s->fold) + 1;
    return fold(s, r);
}

int tl_serve_fold(struct tl_serve *s, struct tl_record *r) {
    r->epoch = tl_fold_epoch(s->fold);
    r->position = tl_fold_position(s->fold) + 1;
    int rc = fold(s, r);
    s->stats.pushes += r->kind == TL_RECORD_GRADIENT;
    return rc;
}

void tl_serve_folded(struct tl_serve *s) {
    serve_request_retry(s);
}

static struct tl_record gradient_of(const struct serve_conn *c) {
    return (struct tl_record){
        .kind = TL_RECORD_GRADIENT,
        .read_version = c->header.read_version,
        .norm = c->header.norm,
        .encoding = (enum tl_encoding)c->header.encoding,
        .values = serve_conn_is_shared(c) ? (const void *)tl_shared_request(&c->shared)
                                          : c->payload->values,
        .value_count = c->serve->slice->count,
        .value_bytes = c->header.length,
    };
}

static double rate_of(const struct serve_conn *c) {
    double rate = 0.0;
    uint64_t bits = 0;
    for (int i = 7; i >= 0; i--) {
        bits = bits << 8 | c->small[i];
    }
    memcpy(&rate, &bits, sizeof(rate));
    return rate;
}

/* The record that the request of `c` is. */
static struct tl_record record_of(const struct serve_conn *c) {
    uint64_t version = tl_fold_version(c->serve->fold);
    struct tl_record r = {.kind = TL_RECORD_RATE};
    switch (c->header.kind) {
    case TL_KIND_RATE:
        r.rate = rate_of(c);
        return r;
    case TL_KIND_JOIN:
        r.kind = TL_RECORD_JOIN;
        r.step = version;
        break;
    case TL_KIND_LEAVE:
        r.kind = TL_RECORD_LEAVE;
        r.step = c->header.position > version ? c->header.position : version;
        break;
    default:
        r = gradient_of(c);
        break;
    }
    r.worker = c->worker;
    r.incarnation = c->incarnation;
    r.sequence = c->header.sequence;
    return r;
}

/* ---- requests ----------------------------------------------------------------- */

/* The gradient arrived before, and the step that it belongs to is still open: its
 * sender waits for that step as it did the first time. */
static bool has_part_in_open_step(const struct serve_conn *c) {
    struct tl_fold_worker w;
    return c->serve->slice->consistency == TL_SYNC &&
           tl_fold_worker(c->serve->fold, c->worker, &w) == 0 && w.contributed;
}

/* A refused gradient is told so at once, with newer weights if there are any. */
static void answer_push(struct serve_conn *c, int rc) {
    struct tl_serve *s = c->serve;
    s->stats.pushes++;
    serve_conn_payload_release(c);
    if (c->header.kind == TL_KIND_PUSH) {
        serve_reply_status(c, TL_KIND_ACK, rc);
        return;
    }
    s->stats.pulls++;
    c->pushed = true;
    c->push_status = rc;
    serve_pull_answer(c, rc == 0 || (rc == TL_E_DUPLICATE && has_part_in_open_step(c)));
}

static void handle_pull(struct serve_conn *c) {
    c->serve->stats.pulls++;
    c->pushed = false;
    c->push_status = 0;
    serve_pull_answer(c, (c->header.flags & TL_FLAG_WAIT) != 0);
}

/* Close other connections of this worker: its process has come back on a new one, or a
 * newer process runs under its number. */
static void displace(struct serve_conn *joined) {
    struct serve_conn *c = NULL;
    TAILQ_FOREACH(c, &joined->serve->conns, link) {
        if (c != joined && c->joined && c->worker == joined->worker) {
            serve_conn_close(c);
        }
    }
}

static void reply_joined(struct serve_conn *c, int status,
                         const struct tl_fold_worker *w) {
    struct tl_header h = {
        .kind = TL_KIND_JOINED,
        .status = status,
        .incarnation = w->incarnation,
        .sequence = w->sequence,
        .position = w->from_step,
    };
    serve_reply_header(c, &h);
}

static void answer_join(struct serve_conn *c, int rc) {
    struct tl_fold_worker known = {0};
    if (rc == 0) {
        rc = tl_fold_worker(c->serve->fold, c->worker, &known);
    }
    if (rc != 0) {
        serve_reply_error(c, rc, false, "join: %s", tl_error_string(rc));
        return;
    }
    c->joined = true;
    displace(c);
    reply_joined(c, 0, &known);
}

static void answer_leave(struct serve_conn *c, int rc) {
    c->joined = false;
    serve_reply_status(c, TL_KIND_LEFT, rc);
}

/* The fold has decided the record that `c` has sent. */
static void answer(struct serve_conn *c, int rc) {
    switch (c->header.kind) {
    case TL_KIND_JOIN:
        answer_join(c, rc);
        break;
    case TL_KIND_LEAVE:
        answer_leave(c, rc);
        break;
    case TL_KIND_RATE:
        serve_reply_status(c, TL_KIND_RATED, rc);
        break;
    default:
        answer_push(c, rc);
        break;
    }
}

/* Put the record of `c` on its way down the chain. TL_E_BUSY: there is no room now. */
static int propose(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    struct tl_record r = record_of(c);
    int rc = s->config.propose(s->config.ctx, &r);
    if (rc == TL_E_BUSY) {
        return rc;
    }
    serve_conn_payload_release(c);
    if (rc != 0) {
        serve_reply_error(c, rc, false, "%s", tl_error_text());
        return rc;
    }
    c->pending = r.position;
    serve_conn_enqueue(c, &s->pending, CONN_PENDING);
    return 0;
}

static void submit_to_chain(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    int rc = propose(c);
    if (rc == TL_E_BUSY) {
        c->pending = 0;
        serve_conn_enqueue(c, &s->stalled, CONN_PENDING);
    }
    if (rc == 0 || rc == TL_E_BUSY) {
        c->deadline_ms = uv_now(s->config.loop) + s->config.frame_ms;
        serve_stream_read(c); /* to notice when the caller goes away */
    }
    s->config.advance(s->config.ctx);
}

/* The record that `c` has sent is folded: now, or when the chain has committed it. */
static void submit(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    bool is_late = s->ended && serve_conn_is_gradient(c);
    if (s->config.propose != NULL && !is_late) {
        submit_to_chain(c);
        return;
    }
    struct tl_record r = record_of(c);
    answer(c, is_late ? TL_E_ENDED : tl_serve_offer(s, &r));
    serve_request_retry(s);
}

void serve_request_pending_over(struct serve_conn *c) {
    serve_reply_error(c, TL_E_UNAVAILABLE, false,
                      "shard %" PRIu32 ", epoch %" PRIu64
                      ": the chain has not committed it within %" PRIu32 " ms",
                      c->serve->slice->shard, c->serve->epoch,
                      c->serve->config.frame_ms);
}

static struct serve_conn *sender_of(struct tl_serve *s, uint64_t position) {
    struct serve_conn *c = NULL;
    TAILQ_FOREACH(c, &s->pending, waiting) {
        if (c->pending == position) {
            return c;
        }
    }
    return NULL;
}

void tl_serve_commit(struct tl_serve *s, struct tl_record *r) {
    int rc = fold(s, r);
    struct serve_conn *c = sender_of(s, r->position);
    if (c != NULL) {
        answer(c, rc);
    }
    while ((c = TAILQ_FIRST(&s->stalled)) != NULL && propose(c) != TL_E_BUSY) {
    }
    serve_request_retry(s);
}

static void handle_join(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    const struct tl_header *h = &c->header;
    struct tl_fold_worker known = {0};
    if (h->worker >= TL_WORKER_LIMIT) {
        serve_reply_error(c, TL_E_INVALID, false,
                          "worker %" PRIu32 " is not below the limit of %u", h->worker,
                          TL_WORKER_LIMIT);
        return;
    }
    bool is_known = tl_fold_worker(s->fold, h->worker, &known) == 0;
    if (h->incarnation == 0 || (is_known && h->incarnation < known.incarnation)) {
        reply_joined(c, TL_E_FENCED, &known);
        return;
    }
    if (s->config.follows_log) {
        serve_reply_error(c, TL_E_UNSUPPORTED, false,
                          "this job's records go to its log, not to its servers");
        return;
    }
    c->worker = h->worker;
    c->incarnation = h->incarnation;
    submit(c);
}

static void handle_leave(struct serve_conn *c) {
    if (c->joined) {
        submit(c);
    } else {
        serve_reply_status(c, TL_KIND_LEFT, 0);
    }
}

/* Who asks for what is newer has kept what it names. */
static void handle_snapshot(struct serve_conn *c) {
    struct tl_serve_stats *stats = &c->serve->stats;
    uint64_t held = c->header.read_version;
    if (held <= tl_fold_version(c->serve->fold) && held > stats->kept_version) {
        stats->kept_version = held;
    }
    if (!serve_pull_has_news(c)) {
        serve_reply_status(c, TL_KIND_STATE, TL_E_NOTMODIFIED);
        return;
    }
    int rc = serve_reply_cut(c);
    if (rc != 0) {
        serve_reply_status(c, TL_KIND_STATE, rc);
    }
}

static void handle_rate(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    struct tl_record r = record_of(c);
    bool is_possible = isfinite(r.rate) && r.rate > 0.0;
    if (is_possible && !s->config.follows_log) {
        submit(c);
        return;
    }
    int rc = !is_possible               ? TL_E_INVALID
             : s->config.append != NULL ? s->config.append(s->config.ctx, &r)
                                        : TL_E_UNSUPPORTED;
    serve_reply_status(c, TL_KIND_RATED, rc);
}

/* Memory of their own for payloads of a client on this machine. Whatever stands against
 * it, they can go through the socket. */
static void handle_share(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    size_t bytes = s->slice->count * sizeof(float);
    int fd = -1;
    if (!c->is_unix || c->shared.bytes != NULL || bytes > SERVE_SLICE_SHARED_MAX) {
        serve_reply_status(c, TL_KIND_SHARED, TL_E_UNSUPPORTED);
        return;
    }
    int rc = s->shared_bytes + 2 * bytes > SERVE_SHARED_MAX
                 ? TL_E_LIMIT
                 : tl_shared_create(bytes, &c->shared, &fd);
    if (rc != 0) {
        serve_reply_status(c, TL_KIND_SHARED, rc);
        return;
    }
    s->shared_bytes += 2 * c->shared.area;
    serve_reply_shared(c, fd);
    (void)close(fd);
}

static void dispatch(struct serve_conn *c) {
    switch (c->header.kind) {
    case TL_KIND_JOIN:
        handle_join(c);
        break;
    case TL_KIND_LEAVE:
        handle_leave(c);
        break;
    case TL_KIND_PUSH:
    case TL_KIND_PUSH_PULL:
        submit(c);
        break;
    case TL_KIND_PULL:
        handle_pull(c);
        break;
    case TL_KIND_SNAPSHOT:
        handle_snapshot(c);
        break;
    case TL_KIND_RATE:
        handle_rate(c);
        break;
    case TL_KIND_SHARE:
        handle_share(c);
        break;
    default: /* serve_request_payload() lets no other kind through */
        serve_reply_status(c, TL_KIND_PONG, 0);
        break;
    }
}

static bool changes_state(uint8_t kind) {
    return kind == TL_KIND_PUSH || kind == TL_KIND_PUSH_PULL || kind == TL_KIND_JOIN ||
           kind == TL_KIND_RATE;
}

/* The state is on its way out, or soon will be: the fold has its last version. */
static bool takes_no_more(const struct tl_serve *s) {
    bool is_full = s->slice->until_version > 0 &&
                   tl_fold_version(s->fold) >= s->slice->until_version;
    return s->draining || (is_full && !s->ended);
}

void serve_request(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    bool opens = c->header.kind == TL_KIND_HELLO || c->header.kind == TL_KIND_PROOF;
    if (s->refusal != 0 && !(opens && s->config.on_peer != NULL)) {
        serve_reply_refusal(c, s->refusal);
        return;
    }
    if (c->header.kind == TL_KIND_HELLO) {
        serve_greet_hello(c);
        return;
    }
    if (c->header.kind == TL_KIND_PROOF) {
        serve_greet_proof(c);
        return;
    }
    if (c->header.epoch != s->epoch && c->header.kind != TL_KIND_PING) {
        serve_reply_error(c, TL_E_EPOCH, false,
                          "shard %" PRIu32 " is in epoch %" PRIu64 ", not %" PRIu64,
                          s->slice->shard, s->epoch, c->header.epoch);
        return;
    }
    if (!s->leads && changes_state(c->header.kind)) {
        serve_reply_refusal(c, TL_E_FENCED);
        return;
    }
    if (takes_no_more(s) && changes_state(c->header.kind)) {
        serve_reply_error(c, TL_E_BUSY, false,
                          "shard %" PRIu32 " is ending: its last state is being kept",
                          s->slice->shard);
        return;
    }
    dispatch(c);
}

/* ---- what waited -------------------------------------------------------------- */

void serve_request_retry(struct tl_serve *s) {
    /* Answering one may free what the next needs, and comes back here: one loop, not a
     * recursion, sees to it. */
    if (s->retrying) {
        return;
    }
    s->retrying = true;
    bool progress = true;
    while (progress) {
        serve_conn_unpark(s);
        progress = serve_pull_retry(s);
    }
    s->retrying = false;
}
