/* standing.c - what follows from a replica's place in the chain.
 *
 * The head serves as the shard's server, and is registered as that beside its own entry
 * as a replica: whoever looks for "server/SHARD" finds it. The others turn workers
 * away, and show what they have folded to readers. Outside the chain nothing is served.
 */
#include "replica.h"

static bool is_same(const struct standing *a, const struct replica *r) {
    const struct tl_chain_config *c = tl_chain_config(r->chain);
    return a->role == tl_chain_role(r->chain) && a->number == c->number &&
           a->epoch == c->epoch && tl_chain_node_is(a->self, tl_chain_self(r->chain));
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
    if (!leads) {
        server_office_leave(s);
    } else if (server_office_take(s) != 0) {
        tl_log_line(TL_ERROR, "workers cannot find this head", "why", tl_error_text(),
                    NULL);
        server_leave(s, TL_EXIT_FAILED);
    } else {
        server_office_announce(s); /* who is the tail now */
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
