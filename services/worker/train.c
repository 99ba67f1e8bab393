/* train.c - the loop of a worker: batch, gradient, push-pull.
 *
 * Batch n is to be folded once. A gradient refused as stale is computed again on newer
 * weights, with the same number: where it was settled after all it is a duplicate.
 * After any other refusal the next batch is up. */
#include "worker.h"

#include <math.h>

/* Silence that a computed gradient never exceeds. */
#define COMPUTE_MS 60000

/* Gradients per second, held on average but never made up for in a burst. */
struct pace {
    double interval; /* seconds; 0: as fast as possible */
    double due;
};

static void pace_wait(struct pace *p) {
    if (p->interval <= 0.0) {
        return;
    }
    double now = tl_now_seconds();
    if (p->due > now) {
        (void)tl_stop_wait((int64_t)ceil((p->due - now) * 1000.0));
    }
    p->due = fmax(p->due, now - p->interval) + p->interval;
}

static int compute(struct worker *w, uint64_t sequence) {
    worker_presence_expect(w->presence, COMPUTE_MS);
    double begin = tl_now_seconds();
    float loss = 0.0F;
    int rc = worker_example_gradient(&w->example, sequence,
                                     tl_client_weights(w->client), &loss);
    worker_gauges_computed(w->gauges, tl_now_seconds() - begin, loss);
    return rc;
}

/* How long a call of the client may take: its patience, and its last request. */
static int64_t call_ms(const struct worker *w) {
    return (int64_t)w->job.patience_ms + (int64_t)w->job.request_ms;
}

static void log_refusal(uint64_t sequence, const struct tl_client_result *r) {
    tl_log_line(TL_INFO, "gradient refused", "sequence", tl_text_u64(sequence), "why",
                tl_error_name(r->refusal), "shards", tl_text_u64(r->refused), "version",
                tl_text_u64(r->version), NULL);
}

static bool is_curable(const struct tl_client_result *r) {
    return r->refused > 0 && r->refusal == TL_E_STALE;
}

/* Compute and exchange one batch; ret_settled tells whether to go on with the next. */
static int step(struct worker *w, uint64_t sequence, bool *ret_settled) {
    int rc = compute(w, sequence);
    if (rc != 0) {
        return rc;
    }
    struct tl_client_result result = {0};
    worker_presence_expect(w->presence, call_ms(w));
    rc = tl_client_push_pull(w->client, sequence, w->example.gradient, &result);
    worker_gauges_exchanged(w->gauges, w->client);
    if (result.new_epoch) {
        tl_log_line(TL_INFO, "a server was replaced", "sequence", tl_text_u64(sequence),
                    "version", tl_text_u64(result.version), NULL);
    }
    if (rc == 0 && result.refused > 0) {
        log_refusal(sequence, &result);
    }
    *ret_settled = !is_curable(&result);
    return rc;
}

static int loop(struct worker *w, const struct tl_client_join *joined) {
    struct pace pace = {
        .interval = w->options.max_rate > 0.0 ? 1.0 / w->options.max_rate : 0.0};
    uint64_t sequence = joined->next_sequence;
    int rc = 0;
    while (rc == 0 && !tl_stop_requested()) {
        bool settled = false;
        pace_wait(&pace);
        rc = step(w, sequence, &settled);
        if (rc == 0 && settled) {
            worker_presence_announce(w->presence, TL_MEMBER_SERVING,
                                     joined->incarnation, sequence);
            sequence++;
        }
    }
    return rc;
}

static int join(struct worker *w, struct tl_client_join *ret_join) {
    worker_presence_expect(w->presence, call_ms(w));
    int rc = tl_client_join(w->client, ret_join);
    if (rc != 0) {
        return rc;
    }
    if (ret_join->parameters != tl_nn_parameters(w->example.nn)) {
        return tl_fail(TL_E_MISMATCH,
                       "the servers hold %llu parameters, this job's model has %llu: "
                       "give both the same job file",
                       (unsigned long long)ret_join->parameters,
                       (unsigned long long)tl_nn_parameters(w->example.nn));
    }
    worker_presence_announce(w->presence, TL_MEMBER_SERVING, ret_join->incarnation,
                             ret_join->next_sequence - 1);
    tl_health_ready(NULL);
    tl_log_line(TL_INFO, "joined", "incarnation", tl_text_u64(ret_join->incarnation),
                "next_sequence", tl_text_u64(ret_join->next_sequence), "version",
                tl_text_u64(tl_client_version(w->client)), NULL);
    return 0;
}

/* A good end: the job's, or one that was asked for. */
static bool is_good(int rc) {
    return rc == 0 || rc == TL_E_ENDED ||
           (rc == TL_E_INTERRUPTED && tl_stop_requested());
}

int worker_train(struct worker *w) {
    struct tl_client_join joined;
    int rc = join(w, &joined);
    if (rc != 0) {
        w->is_unfinished = rc != TL_E_ENDED;
        return is_good(rc) ? 0 : rc;
    }
    rc = loop(w, &joined);
    w->is_unfinished = rc != TL_E_ENDED;
    tl_health_ready("leaving");
    if (!is_good(rc)) {
        return rc;
    }
    tl_log_line(TL_INFO, "leaving", "why",
                rc == TL_E_ENDED ? "the job has ended" : "asked to stop", NULL);
    worker_presence_expect(w->presence, call_ms(w));
    /* Who cannot be told, because it is gone, sees the connection close. */
    if (tl_client_leave(w->client) != 0) {
        tl_log_line(TL_INFO, "left without a word", "why", tl_error_text(), NULL);
    }
    worker_presence_linger(w->presence);
    return 0;
}
