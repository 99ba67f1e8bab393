/* direct.h - what the files of the direct log share.
 *
 *   direct.c    the object and its loop: connect, greet, rejoin, ask; try again
 *   ask.c       requests as frames
 *   judge.c     what a reply means for the request
 */
#ifndef TL_LOG_DIRECT_H
#define TL_LOG_DIRECT_H

#include "throughline/log.h"

/* Where a request stands. */
enum direct_step {
    STEP_NONE,   /* no request */
    STEP_PAUSE,  /* waits until retry_ms before it connects */
    STEP_HELLO,  /* connecting, or HELLO was sent */
    STEP_SHARE,  /* SHARE was sent, since the server is on this machine */
    STEP_REJOIN, /* JOIN was sent, to go on with the request after it */
    STEP_ASK,    /* the request itself was sent, or the pull that follows a push */
    STEP_DONE,
};

struct tl_direct {
    struct tl_direct_config config;
    char job[TL_NAME_MAX], run[TL_NAME_MAX];
    struct tl_link *link;
    struct tl_address address; /* connected to, or tried last */
    bool is_greeted;           /* on this connection */
    bool checksum;             /* of payloads, on this connection */
    bool is_local;             /* over a Unix socket */
    uint64_t connections;
    uint8_t welcome_bytes[TL_WELCOME_BYTES];

    /* What is known of the shard. */
    bool is_known; /* there was a WELCOME */
    struct tl_welcome welcome;
    uint64_t epoch, writer, version;

    /* The membership, renewed on each connection; incarnation 0: not in the set. */
    uint64_t incarnation, acknowledged;

    struct tl_direct_request request;
    struct tl_direct_result result;
    enum direct_step step;
    enum tl_kind asked; /* kind of the frame that STEP_ASK sent */
    bool push_settled;  /* only the weights are missing */
    bool has_rejoined;  /* because of NOTJOINED, during this request */
    bool stop_waiting;
    bool is_hopeless;    /* the error now on its way up ends the request */
    uint32_t violations; /* of the protocol, during this request */

    int64_t limit_ms; /* of this frame's exchange */
    uint64_t moved;   /* bytes, when the limit was last set */
    int64_t retry_ms;
    uint32_t pause_ms; /* the last one */
    uint64_t random;
    char trouble[TL_TEXT_MAX];
};

/* The version that the caller holds, or TL_VERSION_NONE when it is of another epoch
 * than the shard's: equal numbers then mean nothing. */
uint64_t direct_version_held(const struct tl_direct *d);

/* judge.c: has the gradient been taken, now or before? */
bool direct_is_taken(const struct tl_direct *d);
/* Is a pull to be answered only when there is something newer? After a gradient that
 * was refused, only if the open step has this worker's part. */
bool direct_waits(const struct tl_direct *d);

/* ask.c: send the frame of a step; an error counts as a failed connection. */
TL_MUST_USE int direct_ask_hello(struct tl_direct *d);
TL_MUST_USE int direct_ask_share(struct tl_direct *d);
TL_MUST_USE int direct_ask_rejoin(struct tl_direct *d);
TL_MUST_USE int direct_ask(struct tl_direct *d);

/* judge.c: take the reply of the step and set the next one. 0: go on with d->step (a
 * frame must be sent unless it is STEP_DONE); else the attempt has failed, for good
 * when d->is_hopeless is set. */
TL_MUST_USE int direct_judge(struct tl_direct *d);

#endif
