/* chain_internal.h - a node's state, and what the files of this folder offer each
 * other.
 *
 *   config.c    configurations: successors of one, and as text
 *   message.c   messages as bytes
 *   arbiter.c   what Redis decides
 *   records.c   the records on their way, a ring by position
 *   peers.c     links: who is heard, who is silent, who is gone
 *   flow.c      records down, acknowledgements up, states to who lacks them
 *   change.c    another configuration: taking one over, proposing one
 *   chain.c     the object: events in, actions out */
#ifndef TL_CHAIN_INTERNAL_H
#define TL_CHAIN_INTERNAL_H

#include "throughline/chain.h"
#include "throughline/mutant.h"

#define CHAIN_RING    (UINT64_C(2) * TL_CHAIN_PENDING_MAX)
#define CHAIN_ACTIONS 256u
#define CHAIN_PEERS   12u
/* A joiner is taken into the commit when it is at most so many records behind. */
#define CHAIN_NEAR    4u

struct chain_entry {
    struct tl_record record;
    struct tl_chain_body *body;
};

/* Positions first .. last are held. */
struct chain_ring {
    struct chain_entry entries[CHAIN_RING];
    uint64_t first, last; /* last == first - 1: empty */
};

struct chain_peer {
    struct tl_chain_node node; /* incarnation 0: unused */
    bool linked, gone;
    bool is_tried; /* dialled or probed: the outcome is to come */
    int64_t silent_ms;
    int64_t tried_ms; /* when it was dialled or probed last */
};

enum chain_phase {
    CHAIN_NOBODY = 0,
    CHAIN_UNKNOWN, /* not yet greeted under this configuration */
    CHAIN_WAITS,   /* lacks a state; a cut has been asked for */
    CHAIN_SENT,    /* has been sent a state, and what came after it */
    CHAIN_SYNCED,  /* is sent what comes */
};

/* Who is sent what this node has: its successor, or, at the tail, a joiner. */
struct chain_follower {
    enum chain_phase phase;
    struct tl_chain_node node;
    bool is_joiner;
    bool counts;      /* nothing is committed that it does not have */
    bool is_proposed; /* joiner: it may be in the chain already, for all we know */
    uint64_t sent, acked;
};

struct tl_chain {
    struct tl_chain_settings settings;
    struct tl_chain_node self;
    uint64_t random;
    int64_t now_ms, pulse_ms, propose_after_ms;
    uint64_t floor; /* newest epoch that anybody is known to have seen */

    struct tl_chain_config config;
    uint64_t digest;
    struct tl_chain_look look; /* the arbiter's, as of last time */
    int at;                    /* in config; -1: outside */
    bool is_complete;          /* outside: has the whole state */
    uint32_t doubts;           /* looks to go until it is dropped: chain.c */
    bool is_proposing;
    bool must_show; /* the arbiter knows less than we do: tell it first */

    struct chain_peer peers[CHAIN_PEERS];
    struct chain_follower follower;
    struct chain_ring ring;
    uint64_t committed;
    struct tl_chain_body *state; /* periodic: as received last, at `committed` */
    bool is_cutting;

    struct tl_chain_action actions[CHAIN_ACTIONS];
    uint32_t action_first, action_count;
    struct tl_chain_stats stats;
};

/* chain.c */
/* A new action to be filled in. */
struct tl_chain_action *chain_act(struct tl_chain *c, enum tl_chain_action_kind kind);
uint64_t chain_random(struct tl_chain *c);
bool chain_is_member(const struct tl_chain *c);
bool chain_is_head(const struct tl_chain *c);
bool chain_is_tail(const struct tl_chain *c);
bool chain_is_strict(const struct tl_chain *c);
/* Who sends us records: the predecessor, or, outside, the tail; incarnation 0: nobody.
 */
struct tl_chain_node chain_source(const struct tl_chain *c);

/* records.c */
void chain_ring_init(struct chain_ring *r, uint64_t position);
void chain_ring_push(struct chain_ring *r, const struct tl_record *record,
                     struct tl_chain_body *body);
struct chain_entry *chain_ring_at(struct chain_ring *r, uint64_t position);
/* Forget everything to `position`. */
void chain_ring_trim(struct chain_ring *r, uint64_t position);
uint64_t chain_ring_count(const struct chain_ring *r);

/* peers.c */
struct chain_peer *chain_peer(struct tl_chain *c, struct tl_chain_node node);
struct chain_peer *chain_peer_add(struct tl_chain *c, struct tl_chain_node node);
bool chain_is_linked(struct tl_chain *c, struct tl_chain_node node);
/* Gone, or silent for a lease. */
bool chain_is_suspect(struct tl_chain *c, struct tl_chain_node node);
void chain_peers_age(struct tl_chain *c, int64_t elapsed_ms);
/* Have a link to whom we send, and look after whom we are sent by. */
void chain_peers_reach(struct tl_chain *c);
/* Close what is neither neighbour nor joiner. */
void chain_peers_tidy(struct tl_chain *c);
void chain_peers_drop(struct tl_chain *c);
/* NULL: no link to `node`. */
struct tl_chain_message *chain_send(struct tl_chain *c, struct tl_chain_node node,
                                    enum tl_chain_message_kind kind);
void chain_greet(struct tl_chain *c, struct tl_chain_node node);
void chain_greet_all(struct tl_chain *c);
void chain_pulse(struct tl_chain *c);

/* flow.c */
void chain_flow(struct tl_chain *c); /* send, commit and forget what can be now */
/* What the last ACK says, or would; false: nothing can be said yet. */
bool chain_acknowledged(const struct tl_chain *c, uint64_t *ret_position);
void chain_acknowledge(struct tl_chain *c);
void chain_follow(struct tl_chain *c, struct tl_chain_node node, bool is_joiner);
void chain_unfollow(struct tl_chain *c);
void chain_synchronise(struct tl_chain *c, const struct tl_chain_message *greet);
/* A joiner lost what was sent under another configuration: from where on again. */
void chain_resend(struct tl_chain *c, const struct tl_chain_message *greet);
void chain_take_record(struct tl_chain *c, const struct tl_chain_message *m);
void chain_take_state(struct tl_chain *c, const struct tl_chain_message *m);
void chain_take_ack(struct tl_chain *c, const struct tl_chain_message *m);

/* change.c */
void chain_adopt(struct tl_chain *c, const struct tl_chain_config *config);
void chain_consider(struct tl_chain *c);
void chain_reset(struct tl_chain *c);
void chain_meet_joiner(struct tl_chain *c, struct tl_chain_node node);

#endif
