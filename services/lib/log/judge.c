/* judge.c - what a reply means for the request: done, go on, try again, or never.
 *
 * An attempt that fails is made again on a new connection; only what the next one could
 * not change either ends the request (give_up). */
#include "throughline/fold.h"

#include "direct.h"

#include <inttypes.h>

/* The error now on its way up is not worth another attempt. */
static int give_up(struct tl_direct *d, int rc) {
    d->is_hopeless = true;
    return rc;
}

/* A status that is neither success nor a refusal of a gradient. Breaches of the
 * protocol may be damage on the way, and get a few more attempts. A busy server is one
 * that cannot be had now: TL_E_BUSY is this side's own word for "poll again". */
static int refused(struct tl_direct *d, int status, const char *text) {
    int rc = status == TL_E_BUSY ? TL_E_UNAVAILABLE
             : status < 0        ? status
                                 : TL_E_PROTOCOL;
    (void)tl_fail(rc, "shard %" PRIu32 ": %s", d->config.shard, text);
    return tl_error_retriable(rc) || rc == TL_E_PROTOCOL ? rc : give_up(d, rc);
}

/* ERROR says FENCED when the server itself has been fenced: its successor is to be
 * found. That this worker is fenced is said by JOINED, ACK and WEIGHTS. */
static int judge_error(struct tl_direct *d, const struct tl_header *reply) {
    int status = reply->status == TL_E_FENCED ? TL_E_UNAVAILABLE : reply->status;
    return refused(d, status, tl_link_error_text(d->link));
}

static int fenced(struct tl_direct *d) {
    return give_up(d,
                   tl_fail(TL_E_FENCED,
                           "shard %" PRIu32 ": a newer process runs as worker %" PRIu32,
                           d->config.shard, d->config.worker));
}

/* Readers may go from one process of a shard to another, which has not folded as much
 * of the same history yet. */
static bool has_come_from_another(const struct tl_direct *d) {
    bool is_reader = d->config.only_reads || d->config.role == TL_ROLE_MONITOR;
    return is_reader && d->step == STEP_HELLO;
}

/* Versions of one epoch never go back; a reply of another epoch is not ours to use. */
static int check_progress(struct tl_direct *d, const struct tl_header *reply) {
    if (reply->epoch != d->epoch) {
        return tl_fail(TL_E_EPOCH, "shard %" PRIu32 ": its server took epoch %" PRIu64,
                       d->config.shard, reply->epoch);
    }
    if (reply->read_version < d->version && has_come_from_another(d)) {
        return tl_fail(TL_E_UNAVAILABLE,
                       "shard %" PRIu32 ": not at version %" PRIu64
                       " yet, which was read elsewhere",
                       d->config.shard, d->version);
    }
    if (reply->read_version < d->version) {
        return give_up(d, tl_fail(TL_E_PROTOCOL,
                                  "shard %" PRIu32 ": version went back from %" PRIu64
                                  " to %" PRIu64 " within epoch %" PRIu64,
                                  d->config.shard, d->version, reply->read_version,
                                  d->epoch));
    }
    d->version = reply->read_version;
    return 0;
}

/* ---- WELCOME ------------------------------------------------------------------ */

static bool is_same_slice(const struct tl_welcome *a, const struct tl_welcome *b) {
    return a->shards == b->shards && a->parameters == b->parameters &&
           a->first == b->first && a->count == b->count &&
           a->consistency == b->consistency;
}

/* Take over the epoch, if it is one that may follow ours. */
static int accept_epoch(struct tl_direct *d, const struct tl_header *reply,
                        uint64_t writer) {
    bool is_older = reply->epoch < d->epoch;
    bool is_rival = reply->epoch == d->epoch && d->is_known && writer != d->writer &&
                    !d->config.only_reads;
    if (is_older || is_rival) {
        return tl_fail(TL_E_EPOCH,
                       "shard %" PRIu32 ": its server is in epoch %" PRIu64
                       ", another one was in %" PRIu64 " before",
                       d->config.shard, reply->epoch, d->epoch);
    }
    if (reply->epoch == d->epoch && d->is_known) {
        return check_progress(d, reply);
    }
    d->result.new_epoch = d->is_known;
    d->epoch = reply->epoch;
    d->version = reply->read_version;
    d->writer = writer;
    return 0;
}

/* The connection is open: what is asked on it next. */
static void after_opening(struct tl_direct *d) {
    if (d->request.op == TL_DIRECT_GREET) {
        d->result.version = d->version;
        d->step = STEP_DONE;
    } else if (d->incarnation != 0 && d->request.op != TL_DIRECT_JOIN) {
        d->step = STEP_REJOIN;
    } else {
        d->step = STEP_ASK;
    }
}

static int judge_welcome(struct tl_direct *d, const struct tl_header *reply) {
    struct tl_welcome w;
    int rc = tl_welcome_decode(d->welcome_bytes, reply->length, &w);
    if (rc != 0) {
        return rc;
    }
    if (d->is_known && !is_same_slice(&w, &d->welcome)) {
        return give_up(d,
                       tl_fail(TL_E_MISMATCH,
                               "shard %" PRIu32 ": its server serves another model or "
                               "another cut into shards than before",
                               d->config.shard));
    }
    rc = accept_epoch(d, reply, w.writer);
    if (rc != 0) {
        return rc;
    }
    d->welcome = w;
    d->is_known = true;
    d->is_greeted = true;
    d->connections++;
    if (d->is_local && d->config.shared_memory) {
        d->step = STEP_SHARE;
    } else {
        after_opening(d);
    }
    return 0;
}

/* ---- JOINED, LEFT ------------------------------------------------------------- */

static int judge_rejoined(struct tl_direct *d, const struct tl_header *reply) {
    if (reply->status == TL_E_FENCED) {
        return fenced(d);
    }
    if (reply->status != 0) {
        return refused(d, reply->status, "the worker may not join again");
    }
    d->step = STEP_ASK;
    return 0;
}

static int judge_joined(struct tl_direct *d, const struct tl_header *reply) {
    if (reply->status != 0 && reply->status != TL_E_FENCED) {
        return refused(d, reply->status, "the worker may not join");
    }
    d->result.status = reply->status;
    d->result.incarnation = reply->incarnation;
    d->result.settled = reply->sequence;
    if (reply->status == 0) {
        d->incarnation = d->request.incarnation;
        d->acknowledged = d->request.sequence;
    }
    d->step = STEP_DONE;
    return 0;
}

static int judge_left(struct tl_direct *d) {
    d->incarnation = 0;
    d->step = STEP_DONE;
    return 0;
}

/* ---- ACK, WEIGHTS ------------------------------------------------------------- */

/* What the fold said of the gradient. NOTMODIFIED: it is in, its weights are not there.
 */
static int judge_push(struct tl_direct *d, int status) {
    if (status == TL_E_FENCED) {
        return fenced(d);
    }
    if (status == TL_E_NOTJOINED && !d->has_rejoined) {
        d->has_rejoined = true;
        d->step = STEP_REJOIN;
        return 0;
    }
    status = status == TL_E_NOTMODIFIED ? 0 : status;
    if (status > 0 || (tl_error_retriable(status) && status != TL_E_NOTJOINED)) {
        return refused(d, status, "the gradient cannot be taken now");
    }
    if (status == 0 || status == TL_E_DUPLICATE) {
        d->acknowledged = d->request.sequence;
    }
    d->result.status = status;
    d->result.ended = d->result.ended || status == TL_E_ENDED;
    d->push_settled = true;
    d->step = STEP_DONE;
    return 0;
}

/* sync: the open step has this worker's part already (an earlier attempt's, or another
 * batch's). Computing again for the same step would be refused again: wait for the
 * next. */
static bool has_part_in_open_step(const struct tl_direct *d) {
    return d->welcome.consistency == TL_SYNC && d->result.status == TL_E_STALE;
}

bool tl_direct_was_refused(const struct tl_direct *d) {
    return d->result.status != 0 && d->result.status != TL_E_DUPLICATE;
}

bool direct_is_taken(const struct tl_direct *d) {
    return d->push_settled && !tl_direct_was_refused(d);
}

bool direct_waits(const struct tl_direct *d) {
    return d->request.only_newer || direct_is_taken(d) ||
           (d->push_settled && has_part_in_open_step(d));
}

/* sync: a gradient that had arrived before, perhaps in the step that is still open. */
static bool may_be_in_open_step(const struct tl_direct *d) {
    return d->welcome.consistency == TL_SYNC && d->asked == TL_KIND_PUSH_PULL &&
           d->result.status == TL_E_DUPLICATE;
}

/* No weights came: is there reason to ask (again)? A caller whose weights are of
 * another epoch needs this one's, whatever their number. */
static bool wants_more(const struct tl_direct *d, int status) {
    bool holds_none = direct_version_held(d) == TL_VERSION_NONE;
    if (d->asked == TL_KIND_PUSH_PULL && holds_none) {
        return true;
    }
    if (d->result.ended || d->stop_waiting) {
        return false;
    }
    return status == TL_E_NOTMODIFIED
               ? direct_waits(d) || holds_none
               : has_part_in_open_step(d) || may_be_in_open_step(d);
}

static int judge_weights(struct tl_direct *d, const struct tl_header *reply) {
    if (reply->length == 0) {
        d->step = wants_more(d, reply->status) ? STEP_ASK : STEP_DONE;
        return 0;
    }
    if (reply->length != d->welcome.count * sizeof(float)) {
        return tl_fail(TL_E_PROTOCOL,
                       "shard %" PRIu32 ": %" PRIu64 " bytes of weights for a slice of "
                       "%" PRIu64 " parameters",
                       d->config.shard, reply->length, d->welcome.count);
    }
    d->result.has_weights = true;
    d->result.held = (struct tl_direct_held){reply->read_version, reply->epoch};
    d->step = STEP_DONE;
    return 0;
}

static int judge_pulled(struct tl_direct *d, const struct tl_header *reply) {
    if (reply->status == TL_E_FENCED) {
        return fenced(d);
    }
    if (d->request.sequence != 0 &&
        (reply->status == TL_E_STALE || reply->status == TL_E_NOTJOINED)) {
        d->result.status = reply->status;
        d->step = STEP_DONE;
        return 0;
    }
    if (reply->status != 0 && reply->status != TL_E_NOTMODIFIED) {
        return refused(d, reply->status, "weights cannot be had");
    }
    return judge_weights(d, reply);
}

/* Of a PUSH_PULL whose weights were to come from elsewhere: after a refusal those that
 * are here help on. */
static int judge_pushed(struct tl_direct *d, const struct tl_header *reply) {
    int rc = judge_push(d, reply->status);
    bool wants_weights = d->request.op == TL_DIRECT_PUSH_PULL &&
                         (tl_direct_was_refused(d) || !d->request.elsewhere);
    if (rc == 0 && d->step == STEP_DONE && wants_weights && !d->result.ended) {
        d->step = STEP_ASK;
    }
    return rc;
}

static int judge_pushed_and_pulled(struct tl_direct *d, const struct tl_header *reply) {
    int rc = judge_push(d, reply->status);
    return rc == 0 && d->step == STEP_DONE ? judge_weights(d, reply) : rc;
}

/* ---- all ---------------------------------------------------------------------- */

static int judge_answer(struct tl_direct *d, const struct tl_header *reply) {
    d->result.version = reply->read_version;
    d->result.ended = d->result.ended || (reply->flags & TL_FLAG_ENDED) != 0;
    switch (d->asked) {
    case TL_KIND_JOIN:
        return judge_joined(d, reply);
    case TL_KIND_PUSH:
        return judge_pushed(d, reply);
    case TL_KIND_PULL:
        return judge_pulled(d, reply);
    case TL_KIND_PUSH_PULL:
        return judge_pushed_and_pulled(d, reply);
    default:
        return judge_left(d);
    }
}

int direct_judge(struct tl_direct *d) {
    const struct tl_header *reply = tl_link_reply(d->link);
    if (reply->kind == TL_KIND_ERROR) {
        return judge_error(d, reply);
    }
    if (d->step == STEP_HELLO) {
        return judge_welcome(d, reply);
    }
    int rc = check_progress(d, reply);
    if (rc != 0) {
        return rc;
    }
    if (d->step == STEP_SHARE) {
        after_opening(d); /* without memory if the server has none to lend */
        return 0;
    }
    return d->step == STEP_REJOIN ? judge_rejoined(d, reply) : judge_answer(d, reply);
}
