/* fold.h - apply records to one shard's state, in log order.
 *
 * Path:   nn -> wire -> log -> [fold] -> chain, snapshot, serve
 * Pure:   no I/O, no clock, no lock; no allocation after tl_fold_new().
 * Thread: whoever owns the shard's loop.
 *
 * Same bits: element-wise IEEE arithmetic only (+ - * / sqrt), every reduction in
 * an order fixed by the source, no libm, compiled with -ffp-contract=off. Two
 * folds of one log give identical bytes on any x86-64 or arm64 machine.
 *
 * State is kept in reference-counted blocks. A view or a cut of it costs a few
 * pointers, is immutable, and stays valid while the fold goes on: a block that
 * somebody holds is never written; its successor goes to a spare block. */
#ifndef THROUGHLINE_FOLD_H
#define THROUGHLINE_FOLD_H

#include "throughline/error.h"
#include "throughline/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what is folded how -------------------------------------------------- */

enum tl_consistency { TL_ASYNC = 0, TL_SYNC = 1, TL_SSP = 2 };
enum tl_reduce { TL_REDUCE_MEAN = 0, TL_REDUCE_SUM = 1 };
enum tl_optimizer_kind {
    TL_SGD = 0,  /* with momentum 0: w -= lr g; else PyTorch's momentum */
    TL_ADAM = 1, /* PyTorch's Adam: decay is added to the gradient (L2) */
    TL_ADAMW = 2 /* PyTorch's AdamW: decay shrinks the weights themselves */
};
enum tl_schedule_kind { TL_CONSTANT = 0, TL_STEP = 1, TL_COSINE = 2 };

/* What is done with a gradient whose staleness is above `after`, in async and ssp:
 *   apply    nothing
 *   backlog  such gradients in a row count together as one: their mean (2406.05546
 *            divides the learning rate by the number of those that piled up). SGD only
 *   inverse  scaled by 1 / staleness (1511.05950); Adam: the step is
 *   gap      each element divided by 1 + |w - base| / the usual size of its steps
 *            (1909.10802)
 *   delay    g + lambda * g * g * (w - base): a first-order estimate of the gradient at
 *            w (1609.08326)
 *   clip     scaled down to `norm`
 *   elastic  alpha * (g + (w - base) / rate), the rate divided by 1 - momentum: w moves
 *            by alpha towards where the worker would be (1412.6651). SGD only
 * `base` are the weights that it was computed on, or the nearest that are kept: two
 * versions for each worker, in memory and in every cut. To refuse such gradients is
 * max_staleness. */
enum tl_stale_policy {
    TL_STALE_APPLY = 0,
    TL_STALE_BACKLOG = 1,
    TL_STALE_INVERSE = 2,
    TL_STALE_GAP = 3,
    TL_STALE_DELAY = 4,
    TL_STALE_CLIP = 5,
    TL_STALE_ELASTIC = 6,
};
#define TL_STALE_POLICIES 7u

struct tl_stale {
    enum tl_stale_policy policy;
    uint64_t after; /* versions; 0: twice as many as there are active workers */
    double norm;    /* clip: > 0 */
    double lambda;  /* delay: >= 0 */
    double alpha;   /* elastic: in (0, 1] */
};

/* Element-wise update rule; names and meaning as in torch.optim.SGD, Adam
 * and AdamW. */
struct tl_optimizer {
    enum tl_optimizer_kind kind;
    double learning_rate; /* base rate, > 0; scaled by the schedule */
    double momentum;      /* SGD, [0, 1) */
    bool nesterov;        /* SGD with momentum above 0 */
    double weight_decay;  /* >= 0 */
    double beta1, beta2;  /* Adam, [0, 1) */
    double epsilon;       /* Adam, > 0 */
};

/* The learning rate as a function of the version (updates made before), counted from 0
 * in the warm-up as well; the factors of warm-up and kind are multiplied:
 *   warm-up  rises linearly from rate/warmup to rate in the first `warmup` updates
 *   step     multiplied by `factor` every `period` updates
 *   cosine   falls from rate to rate*factor along half a cosine in `period`
 *            updates, then stays (cos by a polynomial in double, not libm) */
struct tl_schedule {
    enum tl_schedule_kind kind;
    uint64_t warmup;
    uint64_t period; /* step, cosine: at least 1 */
    double factor;   /* step, cosine: [0, 1] */
};

struct tl_fold_config {
    uint32_t shard;  /* whose slice this is */
    uint32_t shards; /* of how many */
    uint64_t first;  /* index of the slice's first parameter */
    uint64_t count;  /* parameters in the slice, > 0 */
    enum tl_consistency consistency;
    enum tl_reduce reduce;  /* sync */
    uint32_t quorum;        /* sync: contributions that commit a step; 0: those of
                               every active worker. Later ones are TL_E_LATE */
    uint32_t start_workers; /* sync, ssp: nothing moves before so many joined once */
    uint64_t staleness;     /* ssp: how many gradients a worker may be ahead of the
                               slowest active one; who joins starts level with that */
    uint64_t max_staleness; /* async: refuse (TL_E_STALE) above it; 0: no bound */
    struct tl_stale stale;  /* async, ssp */
    uint32_t workers;       /* gap, delay, elastic: base versions are kept of worker
                               numbers below this; others' gradients are applied */
    double clip_norm;       /* scale g by min(1, clip_norm / record.norm); 0: off */
    double clip_value;      /* then clamp each element; 0: off */
    bool refuse_nonfinite;  /* scan values and refuse NaN and infinity */
    uint64_t until_version; /* stop folding gradients (TL_E_ENDED) there; 0: never */
    uint32_t spare_copies;  /* how many versions of the weights may be held at
                               once beside the live one, >= 1; bounds memory */
    struct tl_optimizer optimizer;
    struct tl_schedule schedule;
};

/* ---- state ---------------------------------------------------------------- */

/* What the fold knows of a worker; part of the state (deduplication table). */
struct tl_fold_worker {
    uint32_t worker;
    bool active;          /* in the set from `from_step` on, not left */
    bool contributed;     /* sync: to the step now open */
    uint64_t incarnation; /* newest that joined */
    uint64_t sequence;    /* last one settled: folded, lost, or refused for good */
    uint64_t from_step;   /* sync: contributes from this step on */
    uint64_t until_step;  /* sync: contributed before this step; UINT64_MAX: active */
    uint64_t folded;      /* gradients of it that are in the state */
    uint64_t lost;        /* acknowledged to it, and in no state: see JOIN */
    uint64_t clock;       /* ssp: progress that the bound is about */
};

/* Tallies, part of the state, so that they follow a recovery exactly. */
struct tl_fold_counters {
    uint64_t folded;     /* gradients in the state */
    uint64_t lost;       /* acknowledged gradients known to be in no state */
    uint64_t duplicated; /* refused: sequence settled before */
    uint64_t stale;      /* refused: TL_E_STALE */
    uint64_t late;       /* refused: its step was committed without it */
    uint64_t nonfinite;  /* refused */
    uint64_t missing;    /* sync: contributions to an open step that were given up
                            because the worker left */
};

#define TL_STALENESS_BUCKETS 16u /* 0, 1, 2-3, 4-7, ... 2^14 and more */

/* What tl_fold_apply() did. */
struct tl_fold_effect {
    bool advanced;      /* version went up by one */
    uint64_t version;   /* after the record */
    uint64_t staleness; /* GRADIENT: version before it - read_version, at least 0 */
    uint64_t lost;      /* JOIN: acknowledged gradients found lost by this record */
};

struct tl_fold;

/* Does the fold look at records' norm? */
bool tl_fold_uses_norm(const struct tl_fold_config *config);

/* A fold at version 0, position 0, with `weights` (config.count float32, copied).
 * All memory it will ever use is reserved here.
 *   TL_E_CONFIG  a setting out of its range (the text names it)
 *   TL_E_NOMEM */
TL_MUST_USE int tl_fold_new(const struct tl_fold_config *config, const float *weights,
                            struct tl_fold **ret_fold);
/* No view or cut may be held any more (asserted). NULL is legal. */
void tl_fold_free(struct tl_fold *f);

/* Fold `r` in. `r->position` must be tl_fold_position() + 1; if it is not, TL_E_INVALID
 * and nothing changes at all. Any other refused record still takes its position: it is
 * in the log, and what the log says is settled. Only counters, the position, a higher
 * epoch and, where marked (*), the worker's last sequence change: that batch is
 * decided, and offering it again is a DUPLICATE. TL_E_DUPLICATE  sequence settled
 * already: acknowledge and go on TL_E_FENCED     the worker's incarnation is older than
 * the one that joined, or the record's epoch older than the state's TL_E_NOTJOINED  no
 * JOIN of this worker and incarnation, or it has left, or sync and not in the set of
 * the open step yet TL_E_STALE      async (*): older than max_staleness. sync: computed
 * on a version that this state never had (after a recovery), or on one to which the
 * worker has contributed: pull, compute again. ssp: ahead of the bound, see
 * tl_fold_may_read(): pull to wait, compute again TL_E_LATE       sync (*): its step
 * has been committed TL_E_SHAPE      value_count is not this shard's TL_E_NONFINITE (*)
 * refused by refuse_nonfinite (or record.norm is not finite and clip_norm is on)
 *   TL_E_ENDED      until_version is reached
 *   TL_E_MISMATCH   a record of another shard
 *   TL_E_PROTOCOL   kind, worker, sequence (above 2^48) or rate is impossible
 * There is always memory for the next version: a fold never fails because too many
 * versions are held; tl_fold_view() does.
 * JOIN with a sequence above the table's says how many acknowledged gradients this
 * state does not have: they are added to `lost` and the table catches up. A worker that
 * is in the open step stays in it when it joins again. LEAVE takes effect at once: an
 * open step before r->step goes without the worker's part, which is counted as missing;
 * leaving twice is no error. Either may complete the open step. */
TL_MUST_USE int tl_fold_apply(struct tl_fold *f, const struct tl_record *r,
                              struct tl_fold_effect *ret_effect);

/* The log's next position holds no record (a part of one): take it, change nothing
 * else.
 */
void tl_fold_pass(struct tl_fold *f);

/* The state was taken over by a new writer: later records carry `epoch`.
 *   TL_E_FENCED  epoch is not higher than the state's */
TL_MUST_USE int tl_fold_take_over(struct tl_fold *f, uint64_t epoch);

const struct tl_fold_config *tl_fold_config(const struct tl_fold *f);
uint64_t tl_fold_version(const struct tl_fold *f);
uint64_t tl_fold_position(const struct tl_fold *f);
uint64_t tl_fold_epoch(const struct tl_fold *f);
double tl_fold_rate(const struct tl_fold *f); /* learning rate of the next update */
struct tl_fold_counters tl_fold_counters(const struct tl_fold *f);
/* TL_STALENESS_BUCKETS counts of folded gradients; borrowed. */
const uint64_t *tl_fold_staleness(const struct tl_fold *f);

/* The table's entry of `worker`: TL_E_NOTFOUND before its first JOIN. */
TL_MUST_USE int tl_fold_worker(const struct tl_fold *f, uint32_t worker,
                               struct tl_fold_worker *ret_worker);
uint32_t tl_fold_active_workers(const struct tl_fold *f);

/* May `worker` be given weights to compute its next gradient on? async: always;
 * sync: always (newer_than on the pull makes it wait); ssp: when start_workers have
 * joined and it is not more than `staleness` ahead of the slowest active worker. One
 * that is not active is not held back: it waits for nobody. */
bool tl_fold_may_read(const struct tl_fold *f, uint32_t worker);

/* ---- immutable weights ------------------------------------------------------ */

#define TL_BLOCK_FLOATS 65536u /* 256 KiB; the last block of a slice is shorter */

/* One version of the slice's weights, immutable while held. */
struct tl_view;

/* Hold the present version. Cheap: no weight is copied.
 *   TL_E_BUSY  spare_copies versions are held already: wait until one is released */
TL_MUST_USE int tl_fold_view(struct tl_fold *f, struct tl_view **ret_view);
void tl_view_release(struct tl_view *v); /* NULL is legal; on the fold's thread */
uint64_t tl_view_version(const struct tl_view *v);
size_t tl_view_blocks(const struct tl_view *v);
/* Block i's values, borrowed until release; ret_count may be NULL. */
const float *tl_view_block(const struct tl_view *v, size_t i, size_t *ret_count);

/* ---- one cut ------------------------------------------------------------------ */

/* Everything of design rule 4 at one position, immutable: weights, optimizer slots,
 * learning-rate state, version, position, epoch, deduplication table, open barrier,
 * counters. One cut may be held at a time. */
struct tl_cut;

TL_MUST_USE int tl_fold_cut(struct tl_fold *f, struct tl_cut **ret_cut); /* TL_E_BUSY */
void tl_cut_release(struct tl_cut *c); /* NULL is legal; on the fold's thread */
uint64_t tl_cut_version(const struct tl_cut *c);
uint64_t tl_cut_position(const struct tl_cut *c);
uint64_t tl_cut_epoch(const struct tl_cut *c);

/* A cut as bytes, without copying the arrays: segment 0 is the encoded head (what the
 * arrays are, and every scalar and table), the others are blocks of the arrays in
 * order: weights, optimizer slots, open barrier's sum. Little-endian; the same state
 * gives the same bytes. The layout is documented in docs/state.md.
 * tl_cut_segment returns false past the last one; *ret_bytes borrowed until release. */
uint64_t tl_cut_bytes(const struct tl_cut *c);
bool tl_cut_segment(const struct tl_cut *c, size_t i, const void **ret_bytes,
                    size_t *ret_size);

/* Rebuild a fold from such bytes, fed in pieces of any size, in order. Everything in
 * them is checked before use; a state of another shard, size or optimizer is refused.
 *   TL_E_CORRUPT   the bytes contradict themselves
 *   TL_E_MISMATCH  they are a state of another shard, shape or optimizer
 *   TL_E_NOMEM
 * The arrays' values have no redundancy that would show damage: whoever stores the
 * bytes keeps a checksum of them (snapshot.h). done: TL_E_CORRUPT when bytes are
 * missing; on success the fold is the caller's and the restore is freed; after any
 * failure tl_restore_free() is the caller's to call. */
struct tl_restore;
TL_MUST_USE int tl_restore_new(const struct tl_fold_config *config,
                               struct tl_restore **ret_restore);
TL_MUST_USE int tl_restore_feed(struct tl_restore *r, const void *bytes, size_t size);
TL_MUST_USE int tl_restore_done(struct tl_restore *r, struct tl_fold **ret_fold);
void tl_restore_free(struct tl_restore *r);

/* ---- the cut into shards --------------------------------------------------------- */

/* Slice `shard` of `total` parameters in `shards`: contiguous, sizes differ by at most
 * one, the larger ones first. shard < shards <= total. */
void tl_shard_slice(uint64_t total, uint32_t shards, uint32_t shard,
                    uint64_t *ret_first, uint64_t *ret_count);

#endif
