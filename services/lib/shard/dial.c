/* dial.c - reaching another replica: connect, say who we are and whom we want.
 *
 * Names are resolved and a dead host is waited for, so it runs on the thread pool. A
 * process that has died refuses, or closes what it had not accepted yet; one that has
 * taken its place says so (TL_E_FENCED). Both are gone for the chain; whoever says
 * nothing is only silent. */
#include "replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TRIES        3u
#define WAIT_MOST_MS 1000

struct dial {
    uv_work_t work;
    struct replica *replica;
    struct tl_chain_node node;
    struct tl_address address;
    struct tl_header header;
    struct tl_hello hello;
    const struct tl_trust *trust;
    int64_t wait_ms;
    bool is_probe;
    int status;
    int fd;
    struct tl_tls *tls;
};

static int say_hello(struct dial *d, struct tl_link *link) {
    uint8_t welcome[TL_WELCOME_BYTES];
    int status = 0;
    tl_link_set_trust(link, d->trust);
    int rc = tl_link_connect(link, &d->address);
    rc = rc == 0 ? tl_link_hello(link, &d->header, &d->hello, welcome) : rc;
    rc = rc == 0 ? tl_links_wait(&link, 1, tl_now_ms() + d->wait_ms, -1, &status) : rc;
    rc = rc == 0 ? status : rc;
    if (rc == 0 && tl_link_reply(link)->kind == TL_KIND_ERROR) {
        rc = tl_link_reply(link)->status < 0 ? tl_link_reply(link)->status
                                             : TL_E_PROTOCOL;
    }
    if (rc == 0) {
        tl_link_detach(link, &d->fd, &d->tls);
    }
    return rc;
}

/* On the thread pool. A connection that is closed at once was to a process that is just
 * dying: the next one is refused. */
static void dial_job(uv_work_t *work) {
    struct dial *d = work->data;
    struct tl_link *link = NULL;
    const struct timespec pause = {.tv_nsec = 2000000};
    d->status = tl_link_new(&link);
    for (unsigned i = 0; i < TRIES && link != NULL; i++) {
        d->status = say_hello(d, link);
        if (d->status != TL_E_CLOSED) {
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    tl_link_free(link);
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
        peer_open(r, d->node, true, d->fd, d->tls);
    } else {
        if (d->status == 0) {
            (void)close(d->fd);
            tl_tls_free(d->tls);
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
    const struct server *s = r->server;
    struct tl_member_entry entry;
    uint32_t number = s->service.index * tl_job_replicas(&s->job) + slot;
    return tl_member_find(s->member, TL_ROLE_REPLICA, number, &entry) == 0 &&
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
    d->trust = s->trust;
    d->wait_ms =
        s->job.lease_ms / 2 < WAIT_MOST_MS ? s->job.lease_ms / 2 : WAIT_MOST_MS;
    d->header = (struct tl_header){
        .shard = s->service.index,
        .worker = self.slot,
        .incarnation = is_probe ? 0 : self.incarnation,
        .sequence = node.incarnation,
        .epoch = is_member ? tl_chain_config(r->chain)->number : 0,
    };
    d->hello = (struct tl_hello){.role = TL_ROLE_REPLICA, .job_digest = s->digest};
    (void)snprintf(d->hello.job, sizeof(d->hello.job), "%s", s->job.name);
    (void)snprintf(d->hello.run, sizeof(d->hello.run), "%s", s->service.run);
    return d;
}

/* Whoever has left in order has no entry any more. While Redis is away nobody's entry
 * goes. */
void replica_dial(struct replica *r, struct tl_chain_node node, bool is_probe) {
    struct dial *d = dial_new(r, node, is_probe);
    bool is_known = d != NULL && find_address(r, node.slot, &d->address);
    if (is_known &&
        uv_queue_work(&r->server->loop, &d->work, dial_job, dial_done) == 0) {
        return;
    }
    bool has_left = d != NULL && !is_known && tl_member_is_connected(r->server->member);
    free(d);
    tl_chain_tried(r->chain, node, has_left ? TL_CHAIN_GONE : TL_CHAIN_SILENT);
}
