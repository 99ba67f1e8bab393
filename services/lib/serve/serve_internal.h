/* serve_internal.h - what the files of this folder share.
 *
 *   serve.c    the object: listening, epoch, end, statistics, closing
 *   conn.c     a connection: bytes in, one request at a time, deadlines
 *   stream.c   those bytes as they are, or through TLS
 *   greet.c    a connection's opening: HELLO, proofs, WELCOME
 *   reply.c    bytes out: a header, then pieces of an immutable view or cut
 *   request.c  what each request does to the fold, and what is answered
 *   pull.c     weights: now, or when there are newer ones
 *   lent.c     what is lent at a caller's pace, and asked back
 */
#ifndef THROUGHLINE_SERVE_INTERNAL_H
#define THROUGHLINE_SERVE_INTERNAL_H

#include "throughline/serve.h"
#include "throughline/tls.h"

#include <sys/queue.h>
#include <uv.h>

#define SERVE_TICK_MS              50u
#define SERVE_LISTENERS_MAX        4u
#define SERVE_BACKLOG              1024
#define SERVE_STRANGERS_MAX        128u  /* connections that were not welcomed yet */
#define SERVE_OPENING_MS           5000u /* for HELLO to WELCOME, or frame_ms if less */
#define SERVE_ACCEPTS_PER_TICK     64u   /* over TCP: 1,280 a second */
#define SERVE_PAYLOADS_MAX         16u /* gradients being received or waiting at one time */
#define SERVE_SOCKET_BUFFER        (4 << 20)
#define SERVE_TURN_BYTES           (1u << 20) /* of a state, in one turn of the loop */
#define SERVE_STATE_BYTES_PER_MS   (128u << 10) /* of a state, while others train */
#define SERVE_STATE_BURST_MS       32u          /* what may be made up for */
#define SERVE_REST_MS              1000u        /* without a record: nobody trains */
#define SERVE_PAGE                 4096u
#define SERVE_SLICE_SHARED_MAX     (64u << 20)  /* larger ones go through the socket */
#define SERVE_SHARED_MAX           (512u << 20) /* of all connections */
#define SERVE_SLOWEST_BYTES_PER_MS 1000u        /* a frame gets this much time on top */
#define SERVE_LAP_MS               500u         /* of waiting for what is lent */

struct serve_conn;
TAILQ_HEAD(serve_conn_list, serve_conn);

/* One version of the weights, shared by all replies that carry it. */
struct serve_weights {
    struct tl_view *view;
    uint32_t holders;
    LIST_ENTRY(serve_weights) link;
};
LIST_HEAD(serve_weights_list, serve_weights);

/* A gradient's buffer, lent to a connection from header to fold. */
struct serve_payload {
    float *values;
    SLIST_ENTRY(serve_payload) link;
};
SLIST_HEAD(serve_payload_list, serve_payload);

enum conn_state {
    CONN_HEADER,   /* reading a header */
    CONN_PARKED,   /* header read; waits for a gradient buffer; not reading */
    CONN_PAYLOAD,  /* reading payload and trailer */
    CONN_WAITING,  /* a pull that waits for a newer version */
    CONN_PENDING,  /* its record is on its way down the chain, or waits to be */
    CONN_REPLYING, /* not reading */
    CONN_CLOSING,
};

/* What a reply's payload is made of. */
enum reply_body { BODY_NONE, BODY_BYTES, BODY_WEIGHTS, BODY_CUT };

struct serve_reply {
    enum reply_body body;
    uint8_t header[TL_HEADER_BYTES];
    uint8_t trailer[TL_TRAILER_BYTES];
    uint8_t bytes[TL_TEXT_MAX]; /* BODY_BYTES */
    size_t size;
    struct serve_weights *weights; /* BODY_WEIGHTS, held */
    struct tl_cut *cut;            /* BODY_CUT, held */
    size_t next;   /* piece to be sent: 0 header, 1.. body, then trailer */
    uv_buf_t rest; /* of the piece before it, not yet taken */
    bool checksum, trailer_sent, close_after;
    uint64_t length;
    uint64_t due_ms; /* BODY_CUT: of the next piece */
};

union serve_stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct serve_conn {
    struct tl_serve *serve;
    union serve_stream io;
    uv_write_t write;
    struct tl_tls *tls; /* NULL: none */
    size_t outgoing;    /* bytes of TLS's that libuv has */
    size_t turn_bytes;  /* written in this turn of the loop */
    size_t writing;     /* bytes that libuv has */
    uint64_t moved;     /* bytes read and written */
    bool is_writing, draining, heard_tls;
    TAILQ_ENTRY(serve_conn) link;    /* all connections */
    TAILQ_ENTRY(serve_conn) waiting; /* in the queue */
    struct serve_conn_list *queue;   /* of serve's, the one it is in, or NULL */
    enum conn_state state;
    bool is_unix, greeted, joined, close_requested; /* not greeted: a stranger */
    bool only_reads; /* a worker that has another connection, perhaps elsewhere, to push
                      */
    enum tl_role role;
    struct tl_auth auth; /* until WELCOME */
    uint32_t worker;
    uint64_t incarnation;
    uint64_t deadline_ms; /* 0: none */
    uint64_t opening_ms;  /* a stranger's last moment */
    uint64_t heard_ms;    /* when the last request began */
    uint64_t lent_ms;     /* when it got its buffer, or its version of the weights */
    uint64_t lap_start;   /* how far it was when the lap began */

    uint8_t header_bytes[TL_HEADER_BYTES];
    struct tl_header header;
    uint8_t
        small[TL_HELLO_BYTES + TL_TRAILER_BYTES]; /* payloads that are no gradient */
    struct serve_payload *payload;
    uint8_t trailer[TL_TRAILER_BYTES];
    uint64_t got;  /* bytes of what is being read */
    int low_water; /* bytes that wake us up */
    struct tl_sum *sum;
    struct tl_shared shared; /* bytes NULL: payloads go through the socket */

    int push_status;          /* of a PUSH_PULL whose weights are waited for */
    bool pushed;              /* the waiting request is a PUSH_PULL */
    uint64_t pending;         /* position of its record; 0: not on its way yet */
    bool is_peer;             /* given away once WELCOME is out */
    struct tl_header opening; /* of a replica's HELLO */
    struct serve_reply reply;
};

/* A gradient that was refused and is not settled: its worker may compute it again. Told
 * to who pulls without having pushed here. */
struct serve_refusal {
    uint64_t incarnation, sequence;
    int status;
};

struct tl_serve {
    struct tl_serve_config config;
    struct serve_refusal *refusals; /* by worker */
    const struct tl_fold_config *slice;
    struct tl_fold *fold;
    uint64_t epoch;
    uint64_t writer; /* of this epoch: we, or the one beside which we stand by */
    int refusal;
    bool ended, draining, closing;
    bool leads;
    bool retrying; /* serve_request_retry() is on the stack */
    union serve_stream listeners[SERVE_LISTENERS_MAX];
    char unix_paths[SERVE_LISTENERS_MAX][108];
    size_t listener_count;
    bool accept_is_due;    /* there was no memory for a connection, or no turn */
    uint32_t accepts_left; /* over TCP, until the next tick */
    uv_timer_t tick;
    struct serve_conn_list conns, parked, waiting;
    struct serve_conn_list pending; /* by position */
    struct serve_conn_list stalled; /* not on their way yet */
    struct serve_weights_list versions;
    bool version_is_wanted;             /* as of the last look at who waits */
    uint64_t lap_ms;                    /* when it began; 0: nobody waits */
    struct serve_payload_list payloads; /* free ones */
    uint32_t payload_count;
    size_t shared_bytes; /* of all connections */
    uint32_t conn_count, stranger_count;
    bool had_crowd;     /* of strangers, whose memory has not been given back */
    struct tl_cut *cut; /* being sent */
    uv_timer_t pace;    /* its next piece is due */
    uint64_t folded_ms; /* the last record */
    struct tl_serve_stats stats;
};

/* conn.c */
void serve_conn_accept(struct tl_serve *s, uv_stream_t *listener, bool is_unix);
void serve_conn_close(struct serve_conn *c);
/* Welcome it among those that only leave by themselves; false: there are too many. */
bool serve_conn_welcome(struct serve_conn *c);
/* It has to open anew. */
void serve_conn_estrange(struct serve_conn *c);
/* The connection is somebody else's from here on. */
void serve_conn_give_away(struct serve_conn *c);
void serve_conn_read_next(struct serve_conn *c);
/* Where the next bytes of what is being read go; how many of them may; and there they
 * are. */
size_t serve_conn_room(struct serve_conn *c, uint8_t **ret_where);
void serve_conn_take(struct serve_conn *c, const uint8_t *bytes, size_t size);
void serve_conn_unpark(struct tl_serve *s);
void serve_conn_enqueue(struct serve_conn *c, struct serve_conn_list *queue,
                        enum conn_state state);
void serve_conn_dequeue(struct serve_conn *c);
void serve_conn_payload_release(struct serve_conn *c);
/* Does the request bring a gradient? Does its payload lie in the shared memory? */
bool serve_conn_is_gradient(const struct serve_conn *c);
bool serve_conn_is_shared(const struct serve_conn *c);
void serve_conn_check_deadline(struct serve_conn *c, uint64_t now_ms);
uint64_t serve_frame_allowance(const struct tl_serve *s, uint64_t bytes);

/* stream.c */
/* Read until uv_read_stop(). The last thing that is done with a connection: what is
 * there already is taken at once. */
void serve_stream_read(struct serve_conn *c);
/* Send `buf`, of which what was taken is cut off. 0; TL_E_BUSY: serve_reply_go_on()
 * will be called when there is room; others: close it. */
TL_MUST_USE int serve_stream_write(struct serve_conn *c, uv_buf_t *buf);
/* The same for what TLS still has to send. */
TL_MUST_USE int serve_stream_flush(struct serve_conn *c);

/* reply.c: each sends exactly one reply to the request in c->header. */
void serve_reply_status(struct serve_conn *c, enum tl_kind kind, int status);
void serve_reply_header(struct serve_conn *c, const struct tl_header *header);
void serve_reply_bytes(struct serve_conn *c, enum tl_kind kind, const void *bytes,
                       size_t size);
void serve_reply_error(struct serve_conn *c, int status, bool close_after,
                       const char *fmt, ...) TL_PRINTF(4, 5);
/* This shard does not serve that now: `status`, and the connection stays. */
void serve_reply_refusal(struct serve_conn *c, int status);
/* TL_E_BUSY: too many versions are held; nothing was sent. */
TL_MUST_USE int serve_reply_weights(struct serve_conn *c, int status);
TL_MUST_USE int serve_reply_cut(struct serve_conn *c);
/* SHARED, and `fd` with it; the connection has its memory already. */
void serve_reply_shared(struct serve_conn *c, int fd);
void serve_reply_drop(struct serve_conn *c);
void serve_reply_go_on(struct serve_conn *c);

/* greet.c */
void serve_greet_hello(struct serve_conn *c);
void serve_greet_proof(struct serve_conn *c);

/* lent.c: at each tick, once those who wait have been looked at. */
void serve_lent_ask_back(struct tl_serve *s, uint64_t now_ms);

/* request.c */
/* How many payload bytes a request of this kind has here; a negative error: the frame
 * is refused with it before a byte of its payload is read. */
int64_t serve_request_payload(const struct serve_conn *c, const struct tl_header *h);
void serve_request(struct serve_conn *c);
/* Go on with what can go on now: parked gradients, then waiting pulls. */
void serve_request_retry(struct tl_serve *s);
void serve_request_pending_over(struct serve_conn *c);

/* pull.c */
bool serve_pull_has_news(const struct serve_conn *c);
/* Answer the pull of `c`, or let it wait: for what it names and, if `wait`, for news
 * (else who has the newest weights is told so at once). */
void serve_pull_answer(struct serve_conn *c, bool wait);
/* Its time is over. */
void serve_pull_wait_over(struct serve_conn *c);
/* Answer one that can be answered now; false: none can. */
bool serve_pull_retry(struct tl_serve *s);

#endif
