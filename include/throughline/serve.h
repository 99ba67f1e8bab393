/* serve.h - one shard's loop: connections in, records folded, weights and states out.
 *
 * Path:   nn -> wire -> log -> fold -> chain, snapshot, [serve]
 * Thread: one libuv loop owns the shard; nothing else touches the fold.
 *
 * Listens on TCP and Unix sockets; checks every frame; offers records to the fold in
 * the order in which they arrived (the direct log: position = arrival); answers with
 * views, never with live buffers. With a chain (chain/) or a durable log (log/) the
 * order is theirs: tl_serve_commit(), tl_serve_fold(). */
#ifndef THROUGHLINE_SERVE_H
#define THROUGHLINE_SERVE_H

#include "throughline/error.h"
#include "throughline/fold.h"
#include "throughline/tls.h"
#include "throughline/trust.h"
#include "throughline/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct tl_serve;

struct tl_serve_config {
    struct uv_loop_s *loop;
    struct tl_fold *fold; /* borrowed; owned by the caller, touched only by the loop */
    const char *job, *run;
    uint64_t job_digest;
    uint64_t parameters;          /* of the whole model */
    uint64_t writer;              /* random number of this process */
    const struct tl_trust *trust; /* what callers must prove; borrowed; NULL: nothing */
    bool without_secret;      /* listen where other machines can connect all the same */
    uint32_t max_connections; /* that were welcomed; further ones get TL_E_LIMIT */
    uint32_t frame_ms;  /* a begun frame, a reply, and the opening of a connection must
                           be  through within this */
    uint32_t wait_ms;   /* longest wait of a pull before NOTMODIFIED */
    bool tcp_unchecked; /* no payload checksums on TCP: only to measure their cost */
    bool unix_checksum; /* payload checksums on Unix sockets too */
    /* Records come from a durable log (tl_serve_fold), and from nowhere else: PUSH,
     * JOIN and LEAVE are refused. A PULL that carries a sequence is answered when the
     * fold has decided that gradient. */
    bool follows_log;
    /* follows_log: append a record of a caller's (RATE). NULL: refused. */
    int (*append)(void *ctx, const struct tl_record *r);
    /* A chain decides what is folded, and when: `propose` puts a caller's record on its
     * way and fills in its position; `values` are borrowed until it returns. The sender
     * is answered by tl_serve_commit(). `advance` follows at once, and may commit.
     * TL_E_BUSY: it is proposed again after the next commit; another error is the
     * answer. NULL: records are folded as they come. */
    int (*propose)(void *ctx, struct tl_record *r);
    void (*advance)(void *ctx);
    /* A replica says HELLO. 0: it is welcomed, and if it has an incarnation (of which
     * none: it only asks) its connection is given away: take_peer() owns `fd`, which
     * does not block, and `tls` (NULL: none). NULL: replicas are callers like others */
    int (*on_peer)(void *ctx, const struct tl_header *hello);
    void (*take_peer)(void *ctx, const struct tl_header *hello, int fd,
                      struct tl_tls *tls);
    /* A caller has seen `epoch` of another writer, not below ours: take a higher one
     * (tl_serve_set_epoch) before serving on. Until then its requests get TL_E_EPOCH.
     */
    void (*on_newer_epoch)(void *ctx, uint64_t epoch);
    /* After each record that was folded or refused. */
    void (*on_record)(void *ctx, const struct tl_record *r, int status,
                      const struct tl_fold_effect *effect);
    void *ctx;
};

/* Counters since start; gauges as of now. */
struct tl_serve_stats {
    uint64_t connections, connections_open, connections_refused, frames, bad_frames;
    uint64_t strangers_open;    /* connections that were not welcomed yet */
    uint64_t strangers_dropped; /* by newer ones, or for being slow to open */
    uint64_t auth_failures;     /* proofs that were wrong or missing */
    uint64_t pushes, pulls, snapshots, bytes_received, bytes_sent;
    uint64_t kept_version; /* newest that the checkpointer has said it holds */
    double fold_seconds, fold_stall_seconds_max; /* longest fold of one record; longest
                                                    a cut held the loop */
};

TL_MUST_USE int tl_serve_new(const struct tl_serve_config *config,
                             struct tl_serve **ret_serve);
/* Listen on "tcp://host:port" (port 0: any) or "unix:///path" (a dead socket there is
 * replaced). ret_bound gets the address as others can use it.
 *   TL_E_CONFIG  in use, not ours, path too long; or other machines could connect
 * there, and nothing is asked of them */
TL_MUST_USE int tl_serve_listen(struct tl_serve *s, const char *address,
                                char *ret_bound, size_t size);
void tl_serve_set_epoch(struct tl_serve *s, uint64_t epoch);
/* Refuse everything from now on with `status` (TL_E_FENCED), or serve again with 0.
 * Links of replicas are not refused by it. */
void tl_serve_refuse(struct tl_serve *s, int status);
/* Every reply says that the job has ended; waiting pulls are answered, and gradients
 * refused with TL_E_ENDED. Ends a drain. */
void tl_serve_set_ended(struct tl_serve *s);
/* Put a record of our own in (LEAVE of a dead worker). As tl_fold_apply(). */
TL_MUST_USE int tl_serve_offer(struct tl_serve *s, struct tl_record *r);
/* propose: fold a record that is committed, complete as the chain gives it, and answer
 * who sent it, if that was to us. */
void tl_serve_commit(struct tl_serve *s, struct tl_record *r);
/* false: this shard's state is changed elsewhere. Workers are turned away (TL_E_FENCED)
 * and those that are here dropped; readers stay. */
void tl_serve_set_leading(struct tl_serve *s, bool leads);
/* Beside the one that serves, as `writer` in `epoch`: monitors may read what has been
 * folded here, in its name; everybody else is turned away. tl_serve_set_epoch() and
 * tl_serve_set_leading() make it a server. */
void tl_serve_stand_by(struct tl_serve *s, uint64_t epoch, uint64_t writer);
/* Another state in place of the one served. Whoever is being answered is dropped, so
 * that nothing of the old one is held after it: its fold may be freed. */
void tl_serve_replace_fold(struct tl_serve *s, struct tl_fold *fold);
/* follows_log: fold the log's next record (kind and content; its place and epoch are
 * the fold's). As tl_fold_apply(). */
int tl_serve_fold(struct tl_serve *s, struct tl_record *r);
/* ... after some of them: answer those who waited for that. */
void tl_serve_folded(struct tl_serve *s);
void tl_serve_stats(const struct tl_serve *s, struct tl_serve_stats *ret_stats);
/* Open connections that have said hello as `role`. */
uint32_t tl_serve_connected(const struct tl_serve *s, enum tl_role role);
/* Milliseconds since `worker` last began a request, 0 while one of its requests waits
 * here; -1 when it has no joined connection. */
int64_t tl_serve_worker_silent_ms(const struct tl_serve *s, uint32_t worker);
/* Fold nothing more (pushes and joins get TL_E_BUSY), serve weights and states on: so
 * that a last snapshot has everything that was acknowledged. */
void tl_serve_drain(struct tl_serve *s);
/* Close everything; the loop runs dry when replies are out (or their deadline passed).
 */
void tl_serve_close(struct tl_serve *s);
void tl_serve_free(struct tl_serve *s); /* after the loop has run dry */

#endif
