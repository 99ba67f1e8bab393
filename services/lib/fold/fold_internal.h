/* fold_internal.h - the fold's state, and what its files offer each other.
 *
 *   fold.c      offers each kind of record to those below, in order
 *   config.c    which settings are possible
 *   table.c     workers: join, leave, deduplication, loss
 *   barrier.c   sync's open step and ssp's bound
 *   update.c    one pass over the blocks: gradient -> clip -> barrier -> optimizer
 *   stale.c     what is done with a gradient that is staler than usual
 *   history.c   the weights that a worker's next gradient was computed on
 *   kernels.c   the loops over elements
 *   optimizer.c the scalars of one update
 *   schedule.c  the learning rate as a function of the version
 *   blocks.c    reference-counted memory
 *   view.c      held versions of the weights
 *   state.c     every scalar and table as bytes, both ways; stale_state.c: the policy's
 *   cut.c       a held state; restore.c: a fold from its bytes */
#ifndef TL_FOLD_INTERNAL_H
#define TL_FOLD_INTERNAL_H

#include "throughline/fold.h"
#include "throughline/mutant.h"

/* ---- blocks.c --------------------------------------------------------------- */

/* Equal blocks of floats in one reservation; physical memory comes with first use. */
struct tl_blocks {
    float *memory;
    size_t bytes;        /* of the reservation */
    size_t block_floats; /* distance between two blocks */
    uint32_t total;
    uint32_t *holders; /* per block; 0: free */
    uint32_t *unused;  /* stack of free blocks: the last one freed is still in cache */
    uint32_t unused_count;
};

TL_MUST_USE int tl_blocks_init(struct tl_blocks *pool, uint32_t total,
                               size_t block_floats);
void tl_blocks_done(struct tl_blocks *pool);
/* A free block with one holder. There is one: see tl_fold_pool_blocks(). */
uint32_t tl_blocks_take(struct tl_blocks *pool);
void tl_blocks_hold(struct tl_blocks *pool, uint32_t block);
void tl_blocks_drop(struct tl_blocks *pool, uint32_t block);
float *tl_blocks_at(const struct tl_blocks *pool, uint32_t block);
/* The block to write the successor of *block to: itself when nobody else holds it, else
 * a spare one that takes its place in *block. */
float *tl_blocks_successor(struct tl_blocks *pool, uint32_t *block);

/* ---- the state ---------------------------------------------------------------- */

#define TL_SLOTS_MAX 2u

/* Arrays of the slice, each a list of blocks. */
enum tl_fold_array {
    TL_ARRAY_WEIGHTS = 0,
    TL_ARRAY_SLOT0 = 1, /* momentum; Adam's first moment */
    TL_ARRAY_SLOT1 = 2, /* Adam's second moment */
    TL_ARRAY_SUM = 3,   /* sync: contributions to the open step, when there are any */
    TL_ARRAY_STALE = 4, /* of the policy for stale gradients. backlog: mean of the run's
                           gradients; gap: running mean of the squared steps */
    TL_ARRAYS = 5,
};

/* A version of the weights that a gradient still to come may have been computed on. */
struct tl_kept {
    uint64_t version;
    uint32_t holders; /* memories of workers */
    uint32_t *blocks;
};
#define TL_KEPT_NONE UINT64_MAX

/* Of one worker: versions in tl_history.kept, or TL_KEPT_NONE. */
struct tl_memory {
    uint64_t used; /* what its last gradient was computed on */
    uint64_t seen; /* the one after that gradient, or its joining */
};

struct tl_history {
    struct tl_kept *kept; /* ascending versions; NULL: the policy needs none */
    uint32_t count;
    struct tl_memory *workers; /* config.workers */
};

struct tl_view {
    struct tl_fold *fold;
    struct tl_view *next_free;
    uint32_t holders;
    uint64_t version;
    uint32_t *blocks;
};

struct tl_cut {
    struct tl_fold *fold;
    bool held;
    uint64_t version, position, epoch;
    uint8_t *head;
    size_t head_bytes;
    uint32_t *blocks; /* of all arrays in the cut, in order */
    size_t block_count;
    size_t array_count;
};

struct tl_fold {
    struct tl_fold_config config;

    uint64_t version, position, epoch;
    double rate; /* base learning rate: the configuration's, or the last RATE's */
    double beta1_power, beta2_power; /* beta^updates, as running products */
    struct tl_fold_counters counters;
    uint64_t staleness[TL_STALENESS_BUCKETS];
    struct tl_fold_worker workers[TL_WORKER_LIMIT]; /* incarnation 0: never joined */
    uint32_t worker_end;    /* highest number that joined, + 1 */
    uint32_t contributions; /* sync: to the open step */

    struct tl_blocks pool;
    size_t block_count;          /* of one array */
    uint32_t *arrays[TL_ARRAYS]; /* NULL: this configuration has no such array */
    uint32_t *indices;           /* backs every list of blocks */
    struct tl_history history;
    uint64_t stale_run; /* backlog: stale gradients since the last one that was not */
    double step_power;  /* gap: the decay of the mean of squared steps ^ version */
    struct tl_view *views; /* config.spare_copies */
    struct tl_view *free_views;
    struct tl_view *present; /* the view of the present version, if held */
    struct tl_cut cut;
};

/* A fold with its memory and a zero state; weights are the caller's to fill in. */
TL_MUST_USE int tl_fold_create(const struct tl_fold_config *config,
                               struct tl_fold **ret_fold);
/* Floats in block i of an array. */
size_t tl_fold_block_size(const struct tl_fold *f, size_t i);

/* ---- config.c ------------------------------------------------------------------- */

TL_MUST_USE int tl_fold_check_config(const struct tl_fold_config *config);
/* Arrays of optimizer state that `optimizer` needs. */
uint32_t tl_optimizer_slots(const struct tl_optimizer *optimizer);

/* ---- table.c -------------------------------------------------------------------- */

/* Larger sequences are refused: sums of them must not overflow. */
#define TL_SEQUENCE_LIMIT (UINT64_C(1) << 48)

TL_MUST_USE int tl_table_join(struct tl_fold *f, const struct tl_record *r,
                              uint64_t *ret_lost);
TL_MUST_USE int tl_table_leave(struct tl_fold *f, const struct tl_record *r);
/* May a gradient of this worker, incarnation and sequence be folded at all? */
TL_MUST_USE int tl_table_admit(struct tl_fold *f, const struct tl_record *r,
                               struct tl_fold_worker **ret_worker);
/* The sequence is decided: folded, or refused for good. */
void tl_table_settle(struct tl_fold_worker *w, uint64_t sequence);
void tl_table_count_folded(struct tl_fold *f, struct tl_fold_worker *w);
uint32_t tl_table_joined(const struct tl_fold *f); /* how many ever joined */

/* ---- barrier.c ------------------------------------------------------------------ */

/* Whether start_workers have joined. */
bool tl_barrier_started(const struct tl_fold *f);
TL_MUST_USE int tl_barrier_admit_sync(struct tl_fold *f, const struct tl_record *r,
                                      struct tl_fold_worker *w);
TL_MUST_USE int tl_barrier_admit_ssp(struct tl_fold *f, const struct tl_fold_worker *w);
/* Clock of the slowest active worker; `otherwise` when none is active. */
uint64_t tl_barrier_slowest(const struct tl_fold *f, uint64_t otherwise);
/* Has the open step what it needs? */
bool tl_barrier_ready(const struct tl_fold *f);
/* Number of contributions to divide a step's sum by. */
float tl_barrier_divisor(const struct tl_fold *f);
/* Open the next step: nobody has contributed to it. */
void tl_barrier_next_step(struct tl_fold *f);

/* ---- schedule.c ----------------------------------------------------------------- */

double tl_schedule_rate(const struct tl_schedule *s, double base, uint64_t version);

/* ---- optimizer.c ---------------------------------------------------------------- */

/* The scalars of one update, computed in double and rounded once. */
struct tl_step {
    float rate, momentum, decay;
    float beta1_rest, beta2, beta2_rest; /* rest: 1 - beta */
    float root;                          /* sqrt(1 - beta2^t) */
    float epsilon;
    float shrink;    /* AdamW: weights times this first */
    float step_size; /* Adam: rate / (1 - beta1^t) */
};

/* Advance the optimizer's scalars by one update and return those of this update. */
struct tl_step tl_optimizer_step(struct tl_fold *f);

/* ---- kernels.c ------------------------------------------------------------------ */

/* One run of elements of every array. Outputs are the inputs' own memory or disjoint.
 */
struct tl_lanes {
    float *weights_out, *slot_out[TL_SLOTS_MAX];
    const float *weights, *slot[TL_SLOTS_MAX];
    const float *gradient;
    const float *base;  /* the weights that the gradient was computed on, or NULL */
    const float *stale; /* TL_ARRAY_STALE, or NULL */
    float *stale_out;
    size_t count;
};

typedef void (*tl_update_kernel)(const struct tl_lanes *l, const struct tl_step *s);

tl_update_kernel tl_kernel_for(const struct tl_optimizer *optimizer);
void tl_kernel_sgd(const struct tl_lanes *l, const struct tl_step *s);
void tl_kernel_momentum(const struct tl_lanes *l, const struct tl_step *s);
void tl_kernel_nesterov(const struct tl_lanes *l, const struct tl_step *s);
void tl_kernel_adam(const struct tl_lanes *l, const struct tl_step *s);

/* out = g * scale, clamped to [-limit, limit]; NaN stays NaN. */
void tl_kernel_clip(float *out, const float *g, size_t n, float scale, float limit);
void tl_kernel_add(float *out, const float *a, const float *b, size_t n);
/* Policies for stale gradients (stale.c); `out` may be l->gradient. */
void tl_kernel_backlog(float *out, const struct tl_lanes *l, float run);
void tl_kernel_gap(float *out, const struct tl_lanes *l, float root);
void tl_kernel_delay(float *out, const struct tl_lanes *l, float lambda);
void tl_kernel_elastic(float *out, const struct tl_lanes *l, float alpha, float spring);
/* stale = decay * stale + rest * (weights_out - before)^2 */
void tl_kernel_square(const struct tl_lanes *l, const float *before, float decay,
                      float rest);
void tl_kernel_divide(float *out, const float *g, size_t n, float divisor);

/* ---- update.c ------------------------------------------------------------------- */

/* The gradient of `r` as the codec knows it. */
struct tl_encoded tl_record_encoded(const struct tl_record *r);
/* TL_E_NONFINITE when the job refuses such values and `r` has them. */
TL_MUST_USE int tl_update_check(const struct tl_fold *f, const struct tl_record *r);
/* Update the weights by the gradient of `r` alone, which is `staleness` versions old.
 */
void tl_update_apply(struct tl_fold *f, const struct tl_record *r, uint64_t staleness);
/* Add the gradient of `r` to the open step's sum of `earlier` contributions. */
void tl_update_accumulate(struct tl_fold *f, const struct tl_record *r,
                          uint32_t earlier);
/* Update the weights by the open step: the sum of `earlier` contributions (if any) and
 * the gradient of `r` (may be NULL). */
void tl_update_commit(struct tl_fold *f, const struct tl_record *r, uint32_t earlier);

/* ---- stale.c -------------------------------------------------------------------- */

/* What is done with one gradient. */
struct tl_correction {
    enum tl_stale_policy policy; /* TL_STALE_APPLY: nothing */
    double scale;                /* inverse, clip */
    const uint32_t *base;        /* blocks of the weights it was computed on, or NULL */
    float run;                   /* backlog: its number in the run */
    float root;                  /* gap: corrects the running mean, which began at 0 */
    float strength, spring;      /* delay, elastic */
};

bool tl_stale_has_array(const struct tl_fold_config *c);
/* Is anything of it in the state? */
bool tl_stale_has_state(const struct tl_fold_config *c);
/* Decide, and advance the policy's scalars. */
struct tl_correction tl_stale_judge(struct tl_fold *f, const struct tl_record *r,
                                    uint64_t staleness);
/* Does the correction go through the elements? */
bool tl_stale_changes(const struct tl_correction *c);
/* The elements of l->gradient, corrected: in `tile`, or what they were. */
const float *tl_stale_correct(const struct tl_correction *c, const struct tl_lanes *l,
                              float *tile);
/* gap: an update is made; a run of it was, from `before` to l->weights_out. */
void tl_stale_note_step(struct tl_fold *f);
void tl_stale_note(const struct tl_lanes *l, const float *before);

/* ---- history.c ------------------------------------------------------------------ */

bool tl_history_is_kept(const struct tl_fold_config *c);
/* Most versions that are kept at one time. */
size_t tl_history_most(const struct tl_fold_config *c);
/* Gets tl_history_most() times f->block_count of `indices`. */
TL_MUST_USE int tl_history_init(struct tl_fold *f, uint32_t *indices);
void tl_history_done(struct tl_fold *f);
/* A kept version, or NULL. */
struct tl_kept *tl_history_find(const struct tl_fold *f, uint64_t version);
/* The worker has joined, or its gradient was folded: it may read this version now. */
void tl_history_may_read(struct tl_fold *f, uint32_t worker);
/* The blocks that its gradient was computed on, as near as is known, or NULL. */
const uint32_t *tl_history_used(struct tl_fold *f, uint32_t worker,
                                uint64_t read_version);

/* ---- view.c --------------------------------------------------------------------- */

/* Ready the views; each gets f->block_count of `indices`. */
void tl_views_init(struct tl_fold *f, uint32_t *indices);
bool tl_views_held(const struct tl_fold *f);

/* ---- state.c -------------------------------------------------------------------- */

/* Sizes of the head's parts; docs/state.md. */
#define TL_STATE_PREFIX_BYTES 16u
#define TL_STATE_FIXED_BYTES  312u
#define TL_STATE_WORKER_BYTES 64u
#define TL_STATE_STALE_BYTES  32u /* the policy's part, when there is one */
#define TL_STATE_MEMORY_BYTES 16u
#define TL_STATE_KEPT_BYTES   8u
#define TL_STATE_HEAD_MAX                                                              \
    (TL_STATE_FIXED_BYTES + TL_STATE_STALE_BYTES +                                     \
     TL_WORKER_LIMIT *                                                                 \
         (TL_STATE_WORKER_BYTES + TL_STATE_MEMORY_BYTES + 2 * TL_STATE_KEPT_BYTES))

/* Encode the head of `f` into `bytes` (TL_STATE_HEAD_MAX); its size. */
size_t tl_state_encode(const struct tl_fold *f, uint8_t *bytes);
/* Size of a whole head from its first TL_STATE_PREFIX_BYTES. TL_E_CORRUPT. */
TL_MUST_USE int tl_state_head_size(const uint8_t *prefix, size_t *ret_size);
/* Check a whole head and put it into `f`, fresh from tl_fold_create(). On failure `f`
 * is good only for tl_fold_free(). TL_E_CORRUPT, TL_E_MISMATCH. */
TL_MUST_USE int tl_state_decode(struct tl_fold *f, const uint8_t *bytes);
/* TL_E_CORRUPT: what is wrong with a state. */
int tl_state_corrupt(const char *what);
/* Is this array part of the state as it is now? */
bool tl_state_has_array(const struct tl_fold *f, enum tl_fold_array array);
/* The state's arrays in order, as lists of blocks: those of enum tl_fold_array, then
 * the kept versions. NULL: not in this state. */
size_t tl_state_arrays(const struct tl_fold *f);
const uint32_t *tl_state_array(const struct tl_fold *f, size_t i);

/* ---- stale_state.c -------------------------------------------------------------- */

struct walk;
/* Bytes of the policy's part of the head; 0: it has none. */
uint32_t tl_stale_state_bytes(const struct tl_fold *f);
void tl_stale_encode(const struct tl_fold *f, struct walk *k);
/* Check `size` bytes and put them into `f`, whose other scalars are there.
 * TL_E_CORRUPT, TL_E_MISMATCH. */
TL_MUST_USE int tl_stale_decode(struct tl_fold *f, struct walk *k, uint32_t size);

/* ---- cut.c ---------------------------------------------------------------------- */

/* Ready the one cut; it gets as many lists of f->block_count of `indices` as a state
 * can have arrays. */
TL_MUST_USE int tl_cut_init(struct tl_fold *f, uint32_t *indices);
void tl_cut_done(struct tl_fold *f);

#endif
