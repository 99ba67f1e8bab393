/* dial.c - reaching another replica: connect, say who we are and whom we want.
 *
 * Names are resolved and a dead host is waited for, so it runs on the thread pool. A
 * process that has died refuses, or closes what it had not accepted yet; one that has
 * taken its place says so (TL_E_FENCED). Both are gone for the chain; whoever says
 * nothing is only silent. */
#include "replica.h"

#include <stdlib.h>
#include <unistd.h>

struct dial {
    uv_work_t work;
    struct replica *replica;
    struct tl_chain_node node;
    struct server_call call;
    bool is_probe;
    int status;
};

static void dial_job(uv_work_t *work) {
    struct dial *d = work->data;
    d->status = server_call(&d->call);
}

static enum tl_chain_answer answer_of(const struct dial *d) {
    if (d->status == 0) {
        return TL_CHAIN_PRESENT;
    }
    return d->status == TL_E_REFUSED || d->status == TL_E_FENCED ? TL_CHAIN_GONE
                                                                 : TL_CHAIN_SILENT;
}

static void dial_done(uv_work_t *work, int status) {
    struct dial *d = work->data;
    struct replica *r = d->replica;
    d->status = status != 0 ? TL_E_INTERRUPTED : d->status;
    if (d->status == 0 && !d->is_probe) {
        peer_open(r, d->node, true, d->call.fd, d->call.tls);
    } else {
        if (d->status == 0) {
            (void)close(d->call.fd);
            tl_tls_free(d->call.tls);
        }
        if (!r->is_stopped) {
            tl_chain_tried(r->chain, d->node, answer_of(d));
            replica_act(r);
        }
    }
    free(d);
}

static bool find_address(const struct replica *r, uint32_t slot,
                         struct tl_address *ret_address) {
    struct tl_member_entry entry;
    return replica_entry(r, slot, &entry) &&
           tl_address_parse(entry.address, ret_address) == 0;
}

static struct dial *dial_new(struct replica *r, struct tl_chain_node node,
                             bool is_probe) {
    struct server *s = r->server;
    struct tl_chain_node self = tl_chain_self(r->chain);
    bool is_member = tl_chain_role(r->chain) != TL_CHAIN_OUTSIDE;
    struct dial *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    d->work.data = d;
    d->replica = r;
    d->node = node;
    d->is_probe = is_probe;
    server_call_prepare(s, &d->call);
    d->call.header.worker = self.slot;
    d->call.header.incarnation = is_probe ? 0 : self.incarnation;
    d->call.header.sequence = node.incarnation;
    d->call.header.epoch = is_member ? tl_chain_config(r->chain)->number : 0;
    return d;
}

/* Whoever has left in order has no entry any more. While Redis is away nobody's entry
 * goes. */
void replica_dial(struct replica *r, struct tl_chain_node node, bool is_probe) {
    struct dial *d = dial_new(r, node, is_probe);
    bool is_known = d != NULL && find_address(r, node.slot, &d->call.address);
    if (is_known &&
        uv_queue_work(&r->server->loop, &d->work, dial_job, dial_done) == 0) {
        return;
    }
    bool has_left = d != NULL && !is_known && tl_member_is_connected(r->server->member);
    free(d);
    tl_chain_tried(r->chain, node, has_left ? TL_CHAIN_GONE : TL_CHAIN_SILENT);
}
