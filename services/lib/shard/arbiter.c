/* arbiter.c - asking Redis who is in the chain, off the loop, one question at a time.
 *
 * While a proposal's outcome is open nothing else is asked. */
#include "replica.h"

#include <stdio.h>

#define WAIT_MS 1000
#define EAGER_MS                                                                       \
    50 /* between two looks of who waits for a place, or for a decision                \
        */

void arbiter_init(struct replica *r) {
    r->arbiter = (struct arbiter){.work = {.data = r}};
}

void arbiter_propose(struct replica *r, const struct tl_chain_action *proposal) {
    r->arbiter.has_proposal = true;
    r->arbiter.proposal = *proposal;
}

/* On the thread pool. */
static void arbiter_job(uv_work_t *work) {
    struct replica *r = work->data;
    struct arbiter *a = &r->arbiter;
    const struct server *s = r->server;
    const struct tl_chain_place place = {.shard = s->service.index,
                                         .length = tl_job_replicas(&s->job),
                                         .head = a->takes_over ? &a->head : NULL};
    int64_t deadline_ms = tl_now_ms() + WAIT_MS;
    a->status = a->decides
                    ? tl_member_chain_decide(s->member, &place, a->expected, &a->config,
                                             a->forms, deadline_ms, &a->look)
                    : tl_member_chain_show(s->member, &place, a->node, &a->config,
                                           a->seen, deadline_ms, &a->look);
    if (a->status != 0) { /* the text is this thread's */
        (void)snprintf(a->trouble, sizeof(a->trouble), "%s", tl_error_text());
    }
}

/* Once for each time that Redis is away. */
static void tell_trouble(struct arbiter *a) {
    if (a->status != 0 && a->status_before == 0) {
        tl_log_line(TL_WARNING, "the chain goes on as it is, and cannot change",
                    "error", tl_error_name(a->status), "why", a->trouble, NULL);
    }
    a->status_before = a->status;
}

static void arbiter_done(uv_work_t *work, int status);

static void ask(struct replica *r) {
    struct arbiter *a = &r->arbiter;
    if (uv_queue_work(&r->server->loop, &a->work, arbiter_job, arbiter_done) == 0) {
        a->is_busy = true;
    } else if (a->decides) {
        tl_chain_decided(r->chain, NULL);
    }
}

static void decide(struct replica *r) {
    struct arbiter *a = &r->arbiter;
    a->has_proposal = false;
    a->decides = true;
    a->expected = a->proposal.expected;
    a->config = a->proposal.config;
    a->forms = a->proposal.forms;
    a->takes_over = a->config.epoch != tl_chain_config(r->chain)->epoch &&
                    tl_chain_node_is(a->config.nodes[0], tl_chain_self(r->chain));
    a->head = server_office_entry(r->server, a->config.epoch);
    ask(r);
}

static void show(struct replica *r) {
    struct arbiter *a = &r->arbiter;
    const struct tl_chain_look *look = tl_chain_last_look(r->chain);
    bool waits = tl_chain_role(r->chain) == TL_CHAIN_OUTSIDE || !look->is_settled;
    uint32_t pause_ms = waits ? EAGER_MS : r->server->job.lease_ms / 4;
    a->show_ms = tl_now_ms() + pause_ms;
    a->decides = false;
    a->node = tl_chain_self(r->chain);
    a->config = *tl_chain_config(r->chain);
    a->seen = look->life;
    ask(r);
}

void arbiter_step(struct replica *r) {
    struct arbiter *a = &r->arbiter;
    if (a->is_busy || r->is_stopped) {
        return;
    }
    if (a->has_proposal) {
        decide(r);
    } else if (tl_now_ms() >= a->show_ms) {
        show(r);
    }
}

static void arbiter_done(uv_work_t *work, int status) {
    struct replica *r = work->data;
    struct arbiter *a = &r->arbiter;
    a->is_busy = false;
    if (r->is_stopped) {
        return;
    }
    a->status = status != 0 ? TL_E_INTERRUPTED : a->status;
    tell_trouble(a);
    if (a->decides) {
        tl_chain_decided(r->chain, a->status == 0 ? &a->look : NULL);
    } else if (a->status == 0) {
        tl_chain_looked(r->chain, &a->look);
    }
    replica_act(r);
}
