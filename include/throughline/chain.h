/* chain.h - one shard's replicas in a row: who may acknowledge what, and after what.
 *
 * Path:   nn -> wire -> log -> fold -> [chain], snapshot, serve
 * Pure:   a step function: each call is one event at `now_ms`; what is to be done comes
 *         back through tl_chain_next(). No I/O, no clock, no allocation after new.
 * Thread: whoever owns the shard's loop.
 *
 * Chain replication (van Renesse and Schneider, OSDI 2004). Workers push to the head; a
 * record goes down the chain; it is committed when the tail has it, and that is passed
 * up again. A node folds a record when it is committed and not before, so that what a
 * node has folded is committed for good: every member may be read from at any moment
 * (the question that CRAQ asks the tail is answered in advance), and nobody ever has to
 * undo anything. Who is in the chain is decided by compare-and-set in one place (Redis,
 * see the arbiter below); every message carries the configuration it belongs to, and
 * one of another configuration changes nothing. docs/chain.md has the whole protocol
 * and why it is right. */
#ifndef THROUGHLINE_CHAIN_H
#define THROUGHLINE_CHAIN_H

#include "throughline/error.h"
#include "throughline/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TL_CHAIN_NODES_MAX 7u
#define TL_CHAIN_PENDING_MAX                                                           \
    32u                        /* records kept: not committed, or owed to a joiner     \
                                */
#define TL_CHAIN_TEXT_MAX 256u /* a configuration as text, with its final NUL */

/* ---- configurations -------------------------------------------------------------- */

/* One life of one replica: `slot` is its place in the deployment, `incarnation` is
 * random, never 0, and another one whenever the replica's state was dropped. */
struct tl_chain_node {
    uint32_t slot; /* below TL_CHAIN_NODES_MAX */
    uint64_t incarnation;
};

/* Who is in the chain, head first. `number` rises with every change; `epoch` is the
 * number under which the present head became head. Number 0: there never was one. */
struct tl_chain_config {
    uint64_t number, epoch;
    uint32_t count;
    struct tl_chain_node nodes[TL_CHAIN_NODES_MAX];
};

bool tl_chain_node_is(struct tl_chain_node a, struct tl_chain_node b);
/* Index of `node`, or -1. */
int tl_chain_find(const struct tl_chain_config *c, struct tl_chain_node node);
/* Tells two configurations apart that have one number. */
uint64_t tl_chain_config_digest(const struct tl_chain_config *c);
/* The successors of `c`: without a node (who is next becomes head, under a new epoch,
 * when it was the head), with one more at the tail, the same once more, or one that
 * begins anew with one node. `floor`: newest number that anybody has seen. */
struct tl_chain_config tl_chain_without(const struct tl_chain_config *c,
                                        struct tl_chain_node node);
struct tl_chain_config tl_chain_with(const struct tl_chain_config *c,
                                     struct tl_chain_node node);
struct tl_chain_config tl_chain_renewed(const struct tl_chain_config *c,
                                        uint64_t floor);
struct tl_chain_config tl_chain_formed(const struct tl_chain_config *c,
                                       struct tl_chain_node node, uint64_t floor);
/* "NUMBER EPOCH SLOT:INCARNATION ...", in decimal. */
void tl_chain_config_format(const struct tl_chain_config *c,
                            char ret_text[TL_CHAIN_TEXT_MAX]);
/* Can it be one? Numbers that go together, nodes that differ. */
bool tl_chain_config_is_valid(const struct tl_chain_config *c);
/* TL_E_CORRUPT: not such a text, or one that cannot be a configuration. */
TL_MUST_USE int tl_chain_config_parse(const char *text, struct tl_chain_config *ret);

/* ---- the arbiter: what Redis decides, as a pure function ---------------------------
 */

/* What Redis holds of one shard's chain. services/lib/member/lua.c does the same inside
 * Redis; a test compares the two. */
struct tl_chain_arbiter {
    uint64_t life; /* random, from whoever found it empty; 0: empty */
    struct tl_chain_config config;
    uint64_t present[TL_CHAIN_NODES_MAX]; /* incarnation that last showed itself, by
                                             slot; 0: none since Redis is empty */
};

/* What the arbiter says of itself. Not settled: since Redis lost what it knew, some
 * slot has not shown itself; nothing is decided. Vacant: settled, and nobody who is in
 * the configuration has been seen: all of it is dead, and a new chain may begin. */
struct tl_chain_look {
    uint64_t life;
    struct tl_chain_config config;
    bool is_settled, is_vacant;
};

/* `node` shows itself, the newest configuration that it knows of, and the life of Redis
 * that it saw last (`life`: for an empty one). What was said to another life of Redis,
 * or was so long on its way that the slot has another replica by now, must not speak
 * for anybody: it brings back no configuration, and one that is not in the chain counts
 * as present only if it knows who is. */
void tl_chain_arbiter_show(struct tl_chain_arbiter *a, struct tl_chain_node node,
                           const struct tl_chain_config *known, uint64_t seen,
                           uint64_t life);
/* Replace the configuration numbered `expected` by `next`; `forms`: begin anew, which
 * needs a vacant chain. `length`: slots of the deployment. */
bool tl_chain_arbiter_decide(struct tl_chain_arbiter *a, uint64_t expected,
                             const struct tl_chain_config *next, bool forms,
                             uint32_t length);
struct tl_chain_look tl_chain_arbiter_look(const struct tl_chain_arbiter *a,
                                           uint32_t length);

/* ---- what nodes send each other ---------------------------------------------------
 */

/* A record's payload, or a state's bytes: the driver's, counted. Put first in what the
 * driver makes of it. */
struct tl_chain_body {
    uint32_t holders;
    void (*done)(struct tl_chain_body *body); /* the last holder has let go */
};
void tl_chain_body_hold(struct tl_chain_body *body);    /* NULL is legal */
void tl_chain_body_release(struct tl_chain_body *body); /* NULL is legal */

enum tl_chain_message_kind {
    TL_CHAIN_GREET = 1,  /* on a new link and after a change: the sender's view */
    TL_CHAIN_RECORD = 2, /* down: one record */
    TL_CHAIN_STATE = 3,  /* down: a whole state (a cut), at `position` */
    TL_CHAIN_ACK = 4,    /* up: everything to `position` is committed */
    TL_CHAIN_PULSE = 5,  /* both ways: I am there */
};

struct tl_chain_message {
    enum tl_chain_message_kind kind;
    uint64_t number, digest;     /* of the sender's configuration */
    uint64_t position;           /* RECORD, STATE: its; GREET: last one held; ACK */
    uint64_t committed;          /* GREET: as the last ACK */
    struct tl_chain_config view; /* GREET */
    struct tl_record record;     /* RECORD; `values` are the body's */
    struct tl_chain_body *body;  /* RECORD, STATE; NULL for a record without payload */
};

/* A message's fixed part as bytes, little-endian; a body follows it where there is one.
 * docs/protocol.md has the layout. */
#define TL_CHAIN_MESSAGE_BYTES 216u
void tl_chain_message_encode(const struct tl_chain_message *m,
                             uint8_t ret_bytes[TL_CHAIN_MESSAGE_BYTES]);
/* From anybody: TL_E_PROTOCOL unless it can be a message. The record's values, their
 * count and size, and the body, are the caller's to add. */
TL_MUST_USE int tl_chain_message_decode(const uint8_t bytes[TL_CHAIN_MESSAGE_BYTES],
                                        struct tl_chain_message *ret_message);

/* ---- a node ------------------------------------------------------------------------
 */

enum tl_replication {
    TL_STRICT = 0, /* acknowledged when the tail has it: nothing acknowledged is lost */
    TL_PERIODIC = 1 /* acknowledged by the head, whose whole state goes down every
                       `every` records: at most so many are lost with it */
};

struct tl_chain_settings {
    uint32_t slot;
    uint32_t length; /* slots of the deployment, 1 .. TL_CHAIN_NODES_MAX */
    enum tl_replication replication;
    uint64_t every;    /* periodic: at least 1 */
    uint64_t position; /* of the state that a fresh node has */
    uint32_t lease_ms; /* a silent neighbour is suspected after it */
    uint64_t seed;     /* of the incarnations */
};

enum tl_chain_action_kind {
    /* links */
    TL_CHAIN_SEND,  /* message to `node`, in order; dropped when its link is down */
    TL_CHAIN_DIAL,  /* link to `node`: tl_chain_link_up() or _tried() follows */
    TL_CHAIN_PROBE, /* is `node` there at all? tl_chain_tried() follows */
    TL_CHAIN_CLOSE, /* the link to `node` is of no use any more */
    /* the arbiter */
    TL_CHAIN_PROPOSE, /* tl_chain_decided() follows, once */
    /* the state */
    TL_CHAIN_COMMIT, /* fold `record`; whoever waits for it is answered */
    TL_CHAIN_CUT,    /* take a cut of the folded state: tl_chain_cut_taken() follows */
    TL_CHAIN_LOAD,   /* the state is `body`'s bytes now, at `position` */
    TL_CHAIN_RESET,  /* the state is that of a fresh node again. What was appended here
                        and not committed is decided by others: its senders resend */
    TL_CHAIN_LEAD,   /* this node is head now, under config.epoch */
};

struct tl_chain_action {
    enum tl_chain_action_kind kind;
    struct tl_chain_node node;
    struct tl_chain_message message; /* SEND */
    uint64_t expected;               /* PROPOSE */
    struct tl_chain_config config;   /* PROPOSE, LEAD */
    bool forms;                      /* PROPOSE */
    struct tl_record record;         /* COMMIT */
    uint64_t position;               /* LOAD */
    struct tl_chain_body *body;      /* COMMIT, LOAD and a SEND's: held for the action;
                                        whoever      took the action releases it */
};

enum tl_chain_role {
    TL_CHAIN_OUTSIDE = 0, /* not in the chain: waits, or is sent the state */
    TL_CHAIN_HEAD = 1,    /* also when it is alone */
    TL_CHAIN_MIDDLE = 2,
    TL_CHAIN_TAIL = 3,
};
const char *tl_chain_role_name(enum tl_chain_role role); /* "outside", ... */

struct tl_chain_stats {
    uint64_t rejected;  /* messages of an older configuration, or of a stranger */
    uint64_t resets;    /* states dropped */
    uint64_t transfers; /* states sent */
    uint64_t removals;  /* neighbours that this node had removed */
};

struct tl_chain;

/* TL_E_CONFIG, TL_E_NOMEM */
TL_MUST_USE int tl_chain_new(const struct tl_chain_settings *settings, int64_t now_ms,
                             struct tl_chain **ret_chain);
void tl_chain_free(struct tl_chain *c); /* NULL is legal */

/* Events. After each, take the actions, in order, until there are none. */
void tl_chain_tick(struct tl_chain *c,
                   int64_t now_ms); /* four times a lease at least */
void tl_chain_looked(struct tl_chain *c, const struct tl_chain_look *look);
/* The proposal's outcome: what stands now; NULL: nobody knows. */
void tl_chain_decided(struct tl_chain *c, const struct tl_chain_look *look);
/* A link with `node`, in place of an older one if there is one; `is_dialled`: by us. */
void tl_chain_link_up(struct tl_chain *c, struct tl_chain_node node, bool is_dialled);
void tl_chain_link_down(struct tl_chain *c, struct tl_chain_node node);
/* What became of a DIAL that made no link, or of a PROBE. */
enum tl_chain_answer {
    TL_CHAIN_SILENT = 0,  /* nothing was heard */
    TL_CHAIN_PRESENT = 1, /* it is there */
    TL_CHAIN_GONE = 2,    /* refused, or another process is in its place */
};
void tl_chain_tried(struct tl_chain *c, struct tl_chain_node node,
                    enum tl_chain_answer answer);
/* `message->body` is the caller's; who keeps it holds it. */
void tl_chain_receive(struct tl_chain *c, struct tl_chain_node from,
                      const struct tl_chain_message *message);
/* The cut asked for, at the position of the last committed record; ownership passes. */
void tl_chain_cut_taken(struct tl_chain *c, struct tl_chain_body *body);
/* Head: a new record; its position and epoch are filled in. `body` (may be NULL) is the
 * caller's.
 *   TL_E_EPOCH  this node is not the head
 *   TL_E_BUSY   TL_CHAIN_PENDING_MAX are on their way: offer it again after a COMMIT */
TL_MUST_USE int tl_chain_append(struct tl_chain *c, struct tl_record *record,
                                struct tl_chain_body *body);
/* Somebody has seen `epoch` of another head: this one takes a higher one. */
void tl_chain_raise(struct tl_chain *c, uint64_t epoch);

/* The next thing to do; false: nothing. */
bool tl_chain_next(struct tl_chain *c, struct tl_chain_action *ret_action);

struct tl_chain_node tl_chain_self(const struct tl_chain *c);
const struct tl_chain_config *tl_chain_config(const struct tl_chain *c);
const struct tl_chain_look *tl_chain_last_look(const struct tl_chain *c);
enum tl_chain_role tl_chain_role(const struct tl_chain *c);
uint64_t tl_chain_last(const struct tl_chain *c);      /* newest record held */
uint64_t tl_chain_committed(const struct tl_chain *c); /* newest record committed */
/* A record held: by position; NULL when it is not (any more). */
const struct tl_record *tl_chain_record(const struct tl_chain *c, uint64_t position);
/* May this node show what it has folded? Only as a member. */
bool tl_chain_may_read(const struct tl_chain *c);
void tl_chain_stats(const struct tl_chain *c, struct tl_chain_stats *ret_stats);

#endif
