/* pull.c - weights: now, or when there are newer ones.
 *
 * A pull that may wait is answered when the fold has moved on, with weights, with the
 * reason why it gets none, or, when its time is over, with "nothing newer". */
#include "serve_internal.h"

/* A worker's pull that says whose it is and may name the gradient that it waits for:
 * where nobody joins, since gradients come another way (from a log, or down the chain),
 * and after a push whose weights did not come with its answer. */
static bool is_named_pull(const struct serve_conn *c) {
    bool is_elsewhere = c->serve->config.follows_log || c->only_reads;
    bool is_own = c->joined && c->header.sequence != 0 && c->header.worker == c->worker;
    return (is_elsewhere || is_own) && c->role == TL_ROLE_WORKER &&
           c->header.kind == TL_KIND_PULL && c->header.worker < TL_WORKER_LIMIT;
}

/* Has the fold decided the gradient that the pull speaks of? In sync one
 * that waits in the open step is not: who held no weights of this epoch would be given
 * those that it was computed from. */
static bool is_decided(const struct serve_conn *c) {
    struct tl_fold_worker w;
    if (!is_named_pull(c) || c->header.sequence == 0) {
        return true;
    }
    return tl_fold_worker(c->serve->fold, c->header.worker, &w) == 0 &&
           w.sequence >= c->header.sequence &&
           !(w.contributed && w.sequence == c->header.sequence);
}

/* Why the caller of such a pull gets no weights at all; 0: it may. */
static int refusal_of(const struct serve_conn *c) {
    struct tl_fold_worker w;
    if (!is_named_pull(c) || c->header.incarnation == 0) {
        return 0;
    }
    if (tl_fold_worker(c->serve->fold, c->header.worker, &w) == 0 &&
        w.incarnation > c->header.incarnation) {
        return TL_E_FENCED;
    }
    const struct serve_refusal *r = &c->serve->refusals[c->header.worker];
    bool is_it = r->sequence == c->header.sequence &&
                 r->incarnation == c->header.incarnation && c->header.sequence != 0;
    return is_it && !is_decided(c) ? r->status : 0;
}

static bool may_read(const struct serve_conn *c) {
    if (is_named_pull(c)) {
        return c->header.sequence == 0 ||
               tl_fold_may_read(c->serve->fold, c->header.worker);
    }
    return c->role != TL_ROLE_WORKER || !c->joined ||
           tl_fold_may_read(c->serve->fold, c->worker);
}

bool serve_pull_has_news(const struct serve_conn *c) {
    return tl_fold_version(c->serve->fold) != c->header.read_version;
}

/* Whether the waiting or fresh pull of `c` can be answered with weights. */
static bool weights_are_due(const struct serve_conn *c) {
    if (c->pushed && c->push_status == 0) {
        bool committed =
            c->serve->slice->consistency != TL_SYNC || serve_pull_has_news(c);
        return committed && may_read(c);
    }
    return is_decided(c) && serve_pull_has_news(c) && may_read(c);
}

static void wait_for_news(struct serve_conn *c) {
    struct tl_serve *s = c->serve;
    if (c->state != CONN_WAITING) {
        c->deadline_ms = uv_now(s->config.loop) + s->config.wait_ms;
        serve_conn_enqueue(c, &s->waiting, CONN_WAITING);
        serve_stream_read(c); /* to notice when the caller goes away */
    }
}

/* Answer with weights if they are due; false when `c` must go on waiting. */
static bool try_weights(struct serve_conn *c) {
    return weights_are_due(c) &&
           serve_reply_weights(c, c->pushed ? c->push_status : 0) == 0;
}

void serve_pull_wait_over(struct serve_conn *c) {
    int status = c->pushed && c->push_status != 0 ? c->push_status : TL_E_NOTMODIFIED;
    serve_reply_status(c, TL_KIND_WEIGHTS, status);
}

/* Answer a pull that gets no weights; false when there is nothing against it. */
static bool try_refusal(struct serve_conn *c) {
    int status = refusal_of(c);
    if (status != 0) {
        serve_reply_status(c, TL_KIND_WEIGHTS, status);
    }
    return status != 0;
}

/* The gradient was folded earlier than the weights that the caller holds, or refused
 * for good: there is nothing to wait for. */
static bool try_no_news(struct serve_conn *c) {
    bool is_settled = is_named_pull(c) && c->header.sequence != 0 && is_decided(c) &&
                      !serve_pull_has_news(c) && may_read(c);
    if (is_settled) {
        serve_reply_status(c, TL_KIND_WEIGHTS, 0);
    }
    return is_settled;
}

void serve_pull_answer(struct serve_conn *c, bool wait) {
    if (try_refusal(c) || try_weights(c) || try_no_news(c)) {
        return;
    }
    if (c->serve->ended || (!wait && !weights_are_due(c) && may_read(c))) {
        serve_pull_wait_over(c);
        return;
    }
    wait_for_news(c);
}

bool serve_pull_retry(struct tl_serve *s) {
    struct serve_conn *c = NULL;
    TAILQ_FOREACH(c, &s->waiting, waiting) {
        if (s->ended && !weights_are_due(c)) {
            serve_pull_wait_over(c);
            return true;
        }
        if (try_refusal(c) || try_weights(c) || try_no_news(c)) {
            return true;
        }
    }
    return false;
}
