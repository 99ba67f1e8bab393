/* replica.h - one of a chain: what its files share.
 *
 *   replica.c   the driver: its clock, and what the protocol (chain.h) wants done
 *   standing.c  what follows from the place in the chain: whom to serve, as what
 *   arbiter.c   asking Redis, off the loop
 *   dial.c      reaching another replica, off the loop
 *   peer.c      a link with another replica: messages both ways
 *   body.c      payloads and states: counted memory
 *
 * Thread: the shard's loop; two kinds of calls run on its thread pool. */
#ifndef TL_SHARD_REPLICA_H
#define TL_SHARD_REPLICA_H

#include "throughline/chain.h"
#include "throughline/tls.h"

#include "server.h"

#include <sys/queue.h>

/* ---- body.c --------------------------------------------------------------------- */

/* The chain's counted memory: bytes, or a cut of our own fold. */
struct body {
    struct tl_chain_body base; /* first */
    struct replica *replica;
    struct tl_cut *cut; /* or */
    uint8_t *bytes;
    size_t size, room;
    SLIST_ENTRY(body) link; /* among the spare ones */
};
SLIST_HEAD(body_list, body);

/* With one holder, the caller; NULL: no memory. */
struct body *body_new(struct replica *r, size_t size);
/* Takes ownership of `cut`. */
struct body *body_of_cut(struct replica *r, struct tl_cut *cut);
uint64_t body_size(const struct body *b);
/* The `i`-th piece of it, small enough to be hashed and sent at once; false: there is
 * none. */
bool body_piece(const struct body *b, size_t i, const void **ret_bytes,
                size_t *ret_size);
void body_pool_done(struct replica *r);

/* ---- peer.c --------------------------------------------------------------------- */

struct frame;
STAILQ_HEAD(frame_queue, frame);

struct peer {
    LIST_ENTRY(peer) link;
    struct replica *replica;
    struct tl_chain_node node;
    uv_poll_t poll;
    int fd;
    int events; /* waited for */
    struct tl_tls *tls;
    bool is_unix, is_broken, is_closed;
    struct tl_sum *in_sum, *out_sum;

    /* The message being received: its fixed part, then a body, then the trailer. */
    uint8_t head[TL_HEADER_BYTES + TL_CHAIN_MESSAGE_BYTES];
    uint8_t tail[TL_TRAILER_BYTES];
    uint64_t got; /* bytes of all three */
    struct tl_header header;
    struct tl_chain_message message;
    struct body *body;

    struct frame_queue frames; /* to be sent */
    size_t frame_count;
    size_t piece; /* of the first frame, the next one to be sent */
    const uint8_t *rest;
    size_t rest_size; /* of the piece before it */
};
LIST_HEAD(peer_list, peer);

/* A link with `node` on `fd`, in place of an older one; owns `fd` and `tls`. The chain
 * is told. */
void peer_open(struct replica *r, struct tl_chain_node node, bool is_dialled, int fd,
               struct tl_tls *tls);
struct peer *peer_find(struct replica *r, struct tl_chain_node node);
void peer_send(struct peer *p, const struct tl_chain_message *m);
/* Nobody is told. */
void peer_close(struct peer *p);

/* ---- dial.c --------------------------------------------------------------------- */

/* A link with `node`, or (is_probe) only whether it is there. The chain is told. */
void replica_dial(struct replica *r, struct tl_chain_node node, bool is_probe);

/* ---- arbiter.c ------------------------------------------------------------------ */

struct arbiter {
    uv_work_t work;
    bool is_busy, decides;
    int64_t show_ms; /* when to show ourselves next */
    bool has_proposal;
    struct tl_chain_action proposal;
    struct tl_chain_node node;
    struct tl_chain_config config; /* known, or proposed */
    uint64_t expected, seen;
    bool forms;
    bool takes_over;             /* we lead from then on */
    struct tl_member_entry head; /* that is what we are called then */
    int status, status_before;
    struct tl_chain_look look;
    char trouble[256];
};
void arbiter_init(struct replica *r);
void arbiter_propose(struct replica *r, const struct tl_chain_action *proposal);
/* Ask what is due, if nothing is being asked. */
void arbiter_step(struct replica *r);

/* ---- standing.c ----------------------------------------------------------------- */

struct standing {
    struct tl_chain_node self;
    enum tl_chain_role role;
    uint64_t number, epoch;
};
/* Serve and announce what the present place in the chain asks for. */
void standing_update(struct replica *r);

/* ---- replica.c ------------------------------------------------------------------ */

/* What the replica in `slot` of this shard has said of itself; false: nobody there. */
bool replica_entry(const struct replica *r, uint32_t slot,
                   struct tl_member_entry *ret_entry);

struct replica_gauges;

struct replica {
    struct server *server;
    struct tl_chain *chain;
    uv_timer_t tick;
    struct peer_list peers;
    struct arbiter arbiter;
    struct standing standing;
    struct body_list spare;
    uint32_t spare_count;
    bool is_acting, is_stopped;
    bool cut_is_due;
    uint64_t refused; /* links of replicas that were removed */
    struct replica_gauges *gauges;
};

/* Do what the chain wants done, until it wants nothing; after each event. */
void replica_act(struct replica *r);
/* A body of this kind of message may have this size. */
bool replica_takes(const struct replica *r, const struct tl_chain_message *m,
                   uint64_t size);

#endif
