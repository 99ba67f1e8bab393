/* wire.h - frames: one gradient, one weight slice, one control message.
 *
 * Path:   nn -> [wire] -> log -> fold -> chain, snapshot, serve
 * Pure:   the codec (header, hello) is; links do socket I/O, never block, and are
 *         driven by the caller's poll().
 * Thread: a link belongs to one thread at a time.
 *
 * A frame is a header of TL_HEADER_BYTES, little-endian, with its own checksum, then
 * `length` payload bytes, then, when length > 0 and TL_FLAG_CHECKSUM is set, 8 bytes of
 * XXH3-64 over the payload, seeded with the header's checksum. The header is verified
 * before its length is believed; the trailer lets both ends hash while bytes move.
 * The whole protocol, enough to write a client: docs/protocol.md. */
#ifndef THROUGHLINE_WIRE_H
#define THROUGHLINE_WIRE_H

#include "throughline/codec.h"
#include "throughline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define TL_MAGIC            0x31464c54u /* "TLF1" */
#define TL_PROTOCOL_VERSION 1u
#define TL_HEADER_BYTES     88u
#define TL_TRAILER_BYTES    8u
#define TL_TEXT_MAX         512u /* payload of TL_KIND_ERROR */

/* Largest model that anybody is believed about before memory is reserved (16 GiB). */
#define TL_PARAMETERS_MAX (UINT64_C(1) << 32)
/* read_version of a PULL by somebody who holds no weights: version 0 is a real one. */
#define TL_VERSION_NONE   UINT64_MAX

/* Requests are odd, replies even. A connection carries one request at a time; its
 * reply echoes shard, worker, incarnation and sequence. */
enum tl_kind {
    TL_KIND_HELLO = 1,   /* who is there: struct tl_hello; the first frame */
    TL_KIND_WELCOME = 2, /* struct tl_welcome */
    TL_KIND_JOIN = 3,    /* worker: incarnation (0: only ask what the table has),
                            sequence (last acknowledged) */
    TL_KIND_JOINED = 4,  /* status 0 or TL_E_FENCED; sequence: last settled; version;
                            incarnation: the table's */
    TL_KIND_LEAVE = 5,   /* worker: position: step from which it contributes nothing */
    TL_KIND_LEFT = 6,
    TL_KIND_PUSH = 7,       /* one gradient slice, written as `encoding` says */
    TL_KIND_ACK = 8,        /* status of the fold; version after it */
    TL_KIND_PULL = 9,       /* read_version: only if newer, TL_VERSION_NONE: none
                               held; TL_FLAG_WAIT: wait for it */
    TL_KIND_WEIGHTS = 10,   /* status of the push if there was one; payload float32 */
    TL_KIND_PUSH_PULL = 11, /* push, then the weights that result, in one round trip */
    TL_KIND_SNAPSHOT = 13,  /* read_version: only if newer */
    TL_KIND_STATE = 14,     /* payload: tl_cut bytes (fold.h) */
    TL_KIND_RATE = 15,      /* payload: float64, the new base learning rate */
    TL_KIND_RATED = 16,
    TL_KIND_PING = 17,
    TL_KIND_PONG = 18,
    TL_KIND_PART = 19,   /* only in durable logs: a piece of a record; payload: offset
                            and size of the whole (uint64 each), then the bytes */
    TL_KIND_ERROR = 20,  /* status, payload: one line of text; then the sender
                            closes when the stream cannot be trusted any more */
    TL_KIND_SHARE = 21,  /* Unix sockets: lend me memory for payloads */
    TL_KIND_SHARED = 22, /* status; position: bytes of an area; the memory's descriptor
                            comes with the frame's first byte */
    TL_KIND_PROOF = 23,  /* the caller's answer to CHALLENGE; answered by WELCOME */
    TL_KIND_CHALLENGE = 24, /* reply to HELLO by a server that has a secret: auth.h */
    TL_KIND_CHAIN =
        25, /* between replicas, both ways and unasked: chain.h's messages */
};

enum tl_flag {
    TL_FLAG_CHECKSUM = 1u, /* a trailer follows the payload */
    TL_FLAG_WAIT = 2u,     /* PULL: answer when there is something newer, or at the
                              server's wait limit with status TL_E_NOTMODIFIED */
    TL_FLAG_ENDED = 4u,    /* reply: the job has ended, wind down */
    TL_FLAG_SHARED = 8u,   /* the payload lies in the connection's shared memory;
                              neither it nor a trailer follows the header */
    TL_FLAG_READS = 16u,   /* HELLO of a worker that only pulls on this connection: any
                              replica that shows its weights will do */
};

/* The header in memory. Field meanings per kind: docs/protocol.md. */
struct tl_header {
    uint8_t kind;
    uint8_t encoding; /* PUSH, PUSH_PULL: enum tl_encoding of the payload; else 0 */
    uint16_t flags;
    uint32_t shard;
    uint32_t worker;
    int32_t status; /* replies: 0 or TL_E_* */
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t sequence;
    uint64_t read_version; /* replies: the version of the shard */
    uint64_t position;
    uint64_t length;   /* payload bytes */
    float norm;        /* PUSH: L2 norm of the whole gradient */
    uint64_t checksum; /* filled by encode and decode; seeds the trailer */
};

/* Write the frame header, checksum included, into `buf`. Fills header->checksum. */
void tl_header_encode(struct tl_header *header, uint8_t buf[TL_HEADER_BYTES]);

/* Read and check a header.
 *   max_length  larger payloads are TL_E_TOOBIG, before anybody allocates
 *   TL_E_CHECKSUM  the header is damaged, or is no header at all
 *   TL_E_PROTOCOL  it is whole, but magic, version, kind or reserved bits are not those
 *                  of this protocol
 * ret_header is untouched on failure. */
TL_MUST_USE int tl_header_decode(const uint8_t buf[TL_HEADER_BYTES],
                                 uint64_t max_length, struct tl_header *ret_header);

/* Running payload checksum: start with the header's checksum, feed pieces in order. */
struct tl_sum;
TL_MUST_USE int tl_sum_new(struct tl_sum **ret_sum);
void tl_sum_free(struct tl_sum *s);
void tl_sum_start(struct tl_sum *s, uint64_t header_checksum);
void tl_sum_feed(struct tl_sum *s, const void *bytes, size_t size);
uint64_t tl_sum_value(const struct tl_sum *s);
/* The same for a payload that is in one piece. */
uint64_t tl_sum_of(uint64_t header_checksum, const void *bytes, size_t size);
void tl_trailer_encode(uint64_t sum, uint8_t buf[TL_TRAILER_BYTES]);
uint64_t tl_trailer_decode(const uint8_t buf[TL_TRAILER_BYTES]);

/* ---- hello ------------------------------------------------------------------- */

enum tl_role {
    TL_ROLE_SERVER = 1,
    TL_ROLE_REPLICA = 2,
    TL_ROLE_WORKER = 3,
    TL_ROLE_CHECKPOINTER = 4,
    TL_ROLE_MONITOR = 5,
    TL_ROLE_CLI = 6,
};
const char *tl_role_name(enum tl_role role); /* "server", ...; "?" */

#define TL_NAME_MAX    64u /* job and run names with the final NUL: [a-z0-9-] */
#define TL_NONCE_BYTES 32u

/* Payload of HELLO. `job_digest` is that of job.h; 0 means "do not compare" (a
 * trainer that is not ours), and so does an empty job or run name. header.epoch is the
 * newest epoch the caller has seen for this shard and `writer` whose it was (0: none):
 * a server that finds itself older takes a higher epoch before it serves. `nonce` is
 * fresh randomness of a caller that has a secret (auth.h), zeroes of one that has none.
 */
struct tl_hello {
    enum tl_role role;
    char job[TL_NAME_MAX];
    char run[TL_NAME_MAX];
    uint64_t job_digest;
    uint64_t writer;
    uint8_t nonce[TL_NONCE_BYTES];
};

/* Payload of WELCOME; header.epoch and read_version are the shard's. Decoding checks
 * that the slice lies inside the model and the model is below TL_PARAMETERS_MAX. */
struct tl_welcome {
    uint64_t writer; /* random number of the serving process */
    uint32_t shards;
    uint64_t parameters; /* of the whole model */
    uint64_t first;      /* this shard's slice */
    uint64_t count;
    uint8_t consistency; /* enum tl_consistency */
    bool
        ignores_norm; /* pushes may leave header.norm 0: the fold does not clip by it */
};

#define TL_HELLO_BYTES   184u
#define TL_WELCOME_BYTES 40u
void tl_hello_encode(const struct tl_hello *h, uint8_t buf[TL_HELLO_BYTES]);
TL_MUST_USE int tl_hello_decode(const uint8_t *bytes, size_t size,
                                struct tl_hello *ret_hello);
void tl_welcome_encode(const struct tl_welcome *w, uint8_t buf[TL_WELCOME_BYTES]);
TL_MUST_USE int tl_welcome_decode(const uint8_t *bytes, size_t size,
                                  struct tl_welcome *ret_welcome);

/* ---- addresses ------------------------------------------------------------------ */

/* "tcp://host:port" (host a name, IPv4 or [IPv6]) or "unix:///absolute/path". */
struct tl_address {
    bool is_unix;
    char host[256]; /* or the path */
    char port[8];
};
/* TL_E_CONFIG says what the text should look like. Port 0 is legal (to listen). */
TL_MUST_USE int tl_address_parse(const char *text, struct tl_address *ret_address);

/* ---- memory shared by the two ends of a Unix socket ------------------------------ */

/* Two areas of equal size, whole pages: requests' payloads lie in the first, replies'
 * in the second. The server makes it, so that a client's death or malice never takes
 * memory away that the server reads; a new connection gets new memory, so that nobody
 * writes where an older exchange may still be read. */
struct tl_shared {
    uint8_t *bytes; /* NULL: none */
    size_t area;    /* bytes of one area */
};

/* Memory for payloads of up to `payload` bytes; *ret_fd is to be sent to the peer and
 * closed. TL_E_NOMEM, TL_E_UNSUPPORTED, TL_E_LIMIT. */
TL_MUST_USE int tl_shared_create(size_t payload, struct tl_shared *ret_shared,
                                 int *ret_fd);
/* The peer's memory, checked: of this size, and it can't shrink. Closes `fd` whatever
 * comes back. TL_E_PROTOCOL, TL_E_NOMEM. */
TL_MUST_USE int tl_shared_map(int fd, uint64_t area, struct tl_shared *ret_shared);
void tl_shared_done(struct tl_shared *m);
static inline uint8_t *tl_shared_request(const struct tl_shared *m) {
    return m->bytes;
}
static inline uint8_t *tl_shared_reply(const struct tl_shared *m) {
    return m->bytes + m->area;
}

/* Send a header and a descriptor with it, without blocking; the socket's buffer must
 * have room. TL_E_BUSY: it has none. TL_E_CLOSED, TL_E_IO. */
TL_MUST_USE int tl_shared_send(int socket, const uint8_t header[TL_HEADER_BYTES],
                               int fd);
/* Read up to `size` bytes; *ret_fd gets a descriptor that came with them, else -1. As
 * recvmsg(). */
ssize_t tl_shared_receive(int socket, void *bytes, size_t size, int *ret_fd);

/* ---- waiting for a large payload ------------------------------------------------- */

/* Payloads are hashed and awaited in pieces of this size: small enough to stay in the
 * cache between hashing and copying, large enough that system calls and wake-ups do not
 * matter. */
#define TL_PIECE_BYTES (512u << 10)

/* A TCP socket from which `left` bytes of a frame are still to come (0: another frame
 * may begin) is from now on readable when a piece of them is there, or all, and not for
 * every segment; waking up so often costs more than the bytes. What is there is read
 * without asking poll(). `left` must be exact: not for TLS, whose bytes are others.
 *   *level    in and out: of this socket, 1 at first */
void tl_low_water(int socket, uint64_t left, int *level);

/* ---- links: one connection, one request at a time ----------------------------- */

/* The client's end of a connection to one shard's server. Non-blocking; the caller
 * polls the descriptor of every link it holds and advances those that are ready, so
 * that S shards are spoken to at once. */
struct tl_link;

TL_MUST_USE int tl_link_new(struct tl_link **ret_link);
void tl_link_free(struct tl_link *l);
/* What to show and ask of servers from the next connection on: trust.h. Borrowed; NULL,
 * as at first: nothing. */
struct tl_trust;
void tl_link_set_trust(struct tl_link *l, const struct tl_trust *trust);

/* Begin to connect; an open connection is dropped first. Names are resolved here
 * (may block for the resolver's time). TL_E_REFUSED, TL_E_UNAVAILABLE, TL_E_LIMIT. */
TL_MUST_USE int tl_link_connect(struct tl_link *l, const struct tl_address *address);
void tl_link_close(struct tl_link *l);
bool tl_link_is_open(const struct tl_link *l);

/* Queue HELLO, also while still connecting; `header` brings shard, worker and epoch.
 * When the exchange completes the reply is WELCOME, its payload in `welcome` (borrowed
 * until then), or ERROR; a server that has a secret, and we the same, has been
 * answered. TL_E_AUTH  (here, or of tl_link_advance) the secret is not the server's,
 * one of both has none, or it is another role's key */
TL_MUST_USE int tl_link_hello(struct tl_link *l, const struct tl_header *header,
                              const struct tl_hello *hello,
                              uint8_t welcome[TL_WELCOME_BYTES]);

/* Queue a request, also while still connecting. With checksum the trailer is sent too
 * (header.flags is set accordingly). After a SHARE that was granted, payloads of
 * gradients and weights go through the shared memory instead: nothing else changes for
 * the caller.
 *   payload            borrowed until the request has completed or the link is closed
 *   reply, reply_size  where the reply's payload goes when it fits exactly or is
 *                      shorter; borrowed likewise. A longer reply is TL_E_TOOBIG. A
 *                      TL_KIND_ERROR's text is kept in the link instead, without
 *                      its unprintable characters */
TL_MUST_USE int tl_link_request(struct tl_link *l, const struct tl_header *header,
                                const void *payload, void *reply, size_t reply_size,
                                bool checksum);

/* A reply too large for memory goes piecewise to `sink` (snapshots); a sink's negative
 * return ends the exchange with that error. Call after tl_link_request. */
void tl_link_set_sink(struct tl_link *l,
                      int (*sink)(void *ctx, const void *bytes, size_t n), void *ctx);

int tl_link_fd(const struct tl_link *l);       /* -1 when closed */
short tl_link_events(const struct tl_link *l); /* for poll(): POLLIN | POLLOUT */

/* After a WELCOME: the connection itself, for who goes on with it in another way. The
 * caller owns *ret_fd (it does not block) and *ret_tls (NULL: none); the link is
 * closed.
 */
struct tl_tls;
void tl_link_detach(struct tl_link *l, int *ret_fd, struct tl_tls **ret_tls);

/* Do what is possible without blocking.
 *   0             the exchange is complete: tl_link_reply(), which may be an ERROR; one
 *                 that came before the whole request was sent leaves the link closed
 *   TL_E_BUSY     more I/O is needed: poll again
 *   others        the exchange failed and the link is closed (TL_E_CLOSED, _CHECKSUM,
 *                 _PROTOCOL, _TOOBIG, _REFUSED, _UNAVAILABLE, _AUTH, _IO) */
TL_MUST_USE int tl_link_advance(struct tl_link *l);

/* The reply's header, borrowed until the next request, and the text of an ERROR. */
const struct tl_header *tl_link_reply(const struct tl_link *l);
const char *tl_link_error_text(const struct tl_link *l);
uint64_t tl_link_bytes_sent(const struct tl_link *l);
uint64_t tl_link_bytes_received(const struct tl_link *l);

#define TL_LINKS_MAX 1024u /* most links that can be waited for at once */

/* Advance `n` links (NULL entries are skipped) until every one has completed or
 * failed, or `deadline_ms` (CLOCK_MONOTONIC) has passed: then TL_E_TIMEOUT for those
 * that have not, which are closed. ret_status[i] is the outcome of each. `wake_fd`
 * (-1: none) becoming readable ends the wait with TL_E_INTERRUPTED, links untouched. */
TL_MUST_USE int tl_links_wait(struct tl_link *const *links, size_t n,
                              int64_t deadline_ms, int wake_fd, int *ret_status);

#endif
