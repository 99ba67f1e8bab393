/* link.h - what the files of a link share.
 *
 *   link.c      the object: a request queued, an exchange advanced, what came of it
 *   connect.c   an address becomes a connected socket
 *   greet.c     HELLO to WELCOME, with the proofs between them
 *   stream.c    bytes as they are, or through TLS
 *   send.c      a request's bytes out
 *   receive.c   a reply's bytes in, checked before they are believed
 *   low_water.c how much of a payload must be there to be worth waking up for
 *   shared.c    memory instead of the stream, for payloads on one machine
 *   wait.c      several links at once
 */
#ifndef TL_WIRE_LINK_H
#define TL_WIRE_LINK_H

#include "throughline/auth.h"
#include "throughline/tls.h"
#include "throughline/trust.h"
#include "throughline/wire.h"

#include <netdb.h>
#include <poll.h>

enum link_state {
    LINK_CLOSED,   /* no connection, or it is of no use any more */
    LINK_IDLE,     /* connected or connecting, nothing asked yet */
    LINK_BUSY,     /* an exchange is under way */
    LINK_COMPLETE, /* its reply is here */
};

/* A frame on its way: how many bytes of header, payload and trailer are through. */
struct link_frame {
    uint8_t head[TL_HEADER_BYTES];
    uint8_t tail[TL_TRAILER_BYTES];
    uint64_t moved; /* bytes of the whole frame */
    uint64_t bytes; /* size of the whole frame */
};

struct tl_link {
    int fd;
    int low_water; /* bytes that make it readable */
    enum link_state state;
    bool connecting;
    struct tl_address address;
    struct addrinfo *found; /* addresses of a host name, owned */
    struct addrinfo *next;  /* of those the first not tried yet */
    char name[300];         /* of the address, for error texts */

    struct tl_header request;
    struct link_frame out;
    const uint8_t *payload; /* borrowed */
    uint64_t streamed;      /* payload bytes that follow the header: all or none */
    uint64_t hashed;        /* of them those that may be sent: `sum` has them */

    struct tl_header reply;
    struct link_frame in;
    uint8_t *into; /* borrowed: where the reply's payload goes */
    uint64_t into_size;
    int (*sink)(void *ctx, const void *bytes, size_t size); /* or it goes there */
    void *sink_ctx;
    char text[TL_TEXT_MAX + 1];

    struct tl_shared shared; /* of this connection; bytes NULL: none */
    int shared_fd;           /* came with the reply to SHARE; -1: none */

    struct tl_sum *sum; /* of the request while it is sent, then of the reply */
    uint64_t bytes_sent;
    uint64_t bytes_received;

    const struct tl_trust *trust; /* borrowed; NULL: none */
    struct tl_tls *tls;           /* of this connection; NULL: none */
    bool tls_waits;               /* for the other end, before more can be sent */
    bool takes_unchecked; /* payloads over TCP: tests/bench/trust.c alone sets this */
    struct tl_auth auth;  /* of the HELLO under way or answered last */
    uint8_t *welcome;     /* borrowed while a HELLO is under way, else NULL */
    uint8_t said[TL_HELLO_BYTES], heard[TL_CHALLENGE_BYTES];
    uint8_t piece[TL_PIECE_BYTES]; /* for the sink; no memory before the first */
};

/* connect.c: TL_E_BUSY while the kernel still tries. A host's next address is tried
 * when one fails; when all have, the error of the last. */
TL_MUST_USE int link_connect_start(struct tl_link *l);
TL_MUST_USE int link_connect_finish(struct tl_link *l);
void link_socket_close(struct tl_link *l);

/* stream.c: 0 and *ret_size > 0 bytes moved (with TLS of the first range only),
 * TL_E_BUSY, TL_E_CLOSED, _IO; with TLS also _AUTH, _PROTOCOL. */
TL_MUST_USE int link_stream_start(struct tl_link *l);
TL_MUST_USE int link_stream_send(struct tl_link *l, struct iovec *iov, size_t count,
                                 uint64_t *ret_size);
TL_MUST_USE int link_stream_receive(struct tl_link *l, struct iovec *iov, size_t count,
                                    uint64_t *ret_size);
/* What TLS still has to send; TL_E_BUSY when the socket takes no more now. */
TL_MUST_USE int link_stream_flush(struct tl_link *l);
/* For poll(), when there is more to send or not. */
short link_stream_events(const struct tl_link *l, bool has_more);

/* greet.c: the reply to HELLO or PROOF is here. 0: the exchange is complete; TL_E_BUSY:
 * PROOF has been queued; else what is wrong. */
TL_MUST_USE int link_greet(struct tl_link *l);

/* send.c: 0 when the whole request is with the kernel, TL_E_BUSY, TL_E_CLOSED, TL_E_IO.
 */
void link_send_start(struct tl_link *l, bool checksum);
bool link_send_is_done(const struct tl_link *l);
TL_MUST_USE int link_send(struct tl_link *l);

/* receive.c: 0 when the reply is whole and right, TL_E_BUSY, or what is wrong. */
void link_receive_start(struct tl_link *l);
TL_MUST_USE int link_receive(struct tl_link *l);

#endif
