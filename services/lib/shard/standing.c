/* standing.c - what follows from a replica's place in the chain.
 *
 * The head serves as the shard's server, and is registered as that beside its own entry
 * as a replica: whoever looks for "server/SHARD" finds it. The others turn workers
 * away, and show what they have folded to readers. Outside the chain nothing is served.
 */
#include "replica.h"

#include <stdlib.h>
#include <string.h>

static bool is_same(const struct standing *a, const struct replica *r) {
    const struct tl_chain_config *c = tl_chain_config(r->chain);
    return a->role == tl_chain_role(r->chain) && a->number == c->number &&
           a->epoch == c->epoch && tl_chain_node_is(a->self, tl_chain_self(r->chain));
}

/* ---- the shard's server ---------------------------------------------------------- */

static struct tl_member_entry as_server(const struct server *s) {
    struct tl_member_entry e = s->self;
    e.role = TL_ROLE_SERVER;
    e.index = s->service.index;
    e.incarnation = s->writer;
    e.state = TL_MEMBER_SERVING;
    return e;
}

static void register_server(struct replica *r) {
    struct server *s = r->server;
    const struct tl_member_config config = {
        .redis = s->service.redis,
        .job = s->job.name,
        .run = s->service.run,
        .lease_ms = s->job.lease_ms,
        .self = as_server(s),
    };
    if (tl_member_open(&config, &r->standing.as_server) != 0) {
        tl_log_line(TL_ERROR, "workers cannot find this head", "why", tl_error_text(),
                    NULL);
        server_leave(s, TL_EXIT_FAILED);
    }
}

/* Signing off talks with Redis: on the thread pool. A successor's entry stays. */
static void close_job(uv_work_t *work) {
    tl_member_close(work->data);
}

static void close_done(uv_work_t *work, int status) {
    (void)status;
    free(work);
}

static void unregister_server(struct replica *r) {
    uv_work_t *work = calloc(1, sizeof(*work));
    struct tl_member *m = r->standing.as_server;
    r->standing.as_server = NULL;
    if (work != NULL) {
        work->data = m;
    }
    if (work == NULL ||
        uv_queue_work(&r->server->loop, work, close_job, close_done) != 0) {
        free(work);
        tl_member_close(m);
    }
}

/* ---- serving ----------------------------------------------------------------------
 */

/* periodic: only the head folds; the others have states as bytes. */
static int refusal_of(const struct replica *r) {
    bool is_readable = tl_chain_role(r->chain) == TL_CHAIN_HEAD ||
                       r->server->job.chain_replication == TL_STRICT;
    return tl_chain_may_read(r->chain) && is_readable ? 0 : TL_E_BUSY;
}

static void tell(const struct replica *r) {
    const struct tl_chain_config *c = tl_chain_config(r->chain);
    tl_log_line(TL_INFO, "place in the chain", "role",
                tl_chain_role_name(tl_chain_role(r->chain)), "configuration",
                tl_text_u64(c->number), "epoch", tl_text_u64(c->epoch), "length",
                tl_text_u64(c->count), "version",
                tl_text_u64(tl_fold_version(r->server->fold)), NULL);
}

static void serve_as(struct replica *r, enum tl_chain_role role) {
    struct server *s = r->server;
    bool leads = role == TL_CHAIN_HEAD;
    s->epoch = role == TL_CHAIN_OUTSIDE ? 0 : tl_chain_config(r->chain)->epoch;
    s->self.incarnation = tl_chain_self(r->chain).incarnation;
    tl_serve_set_epoch(s->serve, s->epoch);
    tl_serve_set_leading(s->serve, leads);
    tl_serve_refuse(s->serve, refusal_of(r));
    tl_health_ready(role == TL_CHAIN_OUTSIDE ? "not in the chain" : NULL);
    tl_pod_label_set(s->label, tl_chain_role_name(role));
    server_announce(s,
                    role == TL_CHAIN_OUTSIDE ? TL_MEMBER_STARTING : TL_MEMBER_SERVING);
    if (leads && r->standing.as_server == NULL) {
        register_server(r);
    } else if (!leads && r->standing.as_server != NULL) {
        unregister_server(r);
    }
}

void standing_update(struct replica *r) {
    const struct tl_chain_config *c = tl_chain_config(r->chain);
    enum tl_chain_role role = tl_chain_role(r->chain);
    if (is_same(&r->standing, r)) {
        return;
    }
    r->standing.self = tl_chain_self(r->chain);
    r->standing.role = role;
    r->standing.number = c->number;
    r->standing.epoch = c->epoch;
    tell(r);
    serve_as(r, role);
}

void standing_announce(struct replica *r) {
    if (r->standing.as_server != NULL) {
        const struct tl_member_entry e = as_server(r->server);
        tl_member_announce(r->standing.as_server, &e, true);
    }
}

void standing_close(struct replica *r) {
    tl_member_close(r->standing.as_server);
    r->standing.as_server = NULL;
}
