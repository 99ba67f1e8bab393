/* stale_state.c - what the policy for stale gradients has in the state, as bytes, both
 * ways; after the table of workers, when there is any. docs/state.md has the layout. */
#include "fold_internal.h"
#include "walk.h"

/* What the policy for stale gradients adds, after the table of workers. */
struct stale_part {
    uint32_t policy, kept;
    uint64_t run;
    double power;
    uint32_t workers, reserved; /* of memories */
};

static void walk_stale(struct walk *k, struct stale_part *s) {
    walk_u32(k, &s->policy);
    walk_u32(k, &s->kept);
    walk_u64(k, &s->run);
    walk_f64(k, &s->power);
    walk_u32(k, &s->workers);
    walk_u32(k, &s->reserved);
}

static void walk_memory(struct walk *k, struct tl_memory *m) {
    walk_u64(k, &m->used);
    walk_u64(k, &m->seen);
}

/* ---- writing -------------------------------------------------------------------- */

/* Memories are written of the workers that have one. */
static uint32_t memories_of(const struct tl_fold *f) {
    return f->history.workers ? f->config.workers : 0;
}

static uint32_t stale_bytes(uint32_t memories, uint32_t kept) {
    return TL_STATE_STALE_BYTES + memories * TL_STATE_MEMORY_BYTES +
           kept * TL_STATE_KEPT_BYTES;
}

uint32_t tl_stale_state_bytes(const struct tl_fold *f) {
    return tl_stale_has_state(&f->config)
               ? stale_bytes(memories_of(f), f->history.count)
               : 0;
}

void tl_stale_encode(const struct tl_fold *f, struct walk *k) {
    if (!tl_stale_has_state(&f->config)) {
        return;
    }
    struct stale_part s = {
        .policy = f->config.stale.policy,
        .kept = f->history.count,
        .run = f->stale_run,
        .power = f->step_power,
        .workers = memories_of(f),
    };
    walk_stale(k, &s);
    for (uint32_t i = 0; i < s.workers; i++) {
        walk_memory(k, &f->history.workers[i]);
    }
    for (uint32_t i = 0; i < s.kept; i++) {
        walk_u64(k, &f->history.kept[i].version);
    }
}

/* ---- reading -------------------------------------------------------------------- */

static bool is_kept(const struct tl_fold *f, uint64_t version) {
    struct tl_kept *k = tl_history_find(f, version);
    if (k) {
        k->holders++;
    }
    return k || version == TL_KEPT_NONE;
}

/* A kept version, with blocks for what follows the head. */
static int decode_kept(struct tl_fold *f, struct walk *k) {
    uint64_t version = 0;
    walk_u64(k, &version);
    struct tl_history *h = &f->history;
    bool ascends = h->count == 0 || version > h->kept[h->count - 1].version;
    if (!ascends || version > f->version) {
        return tl_state_corrupt("kept versions do not ascend up to the present one");
    }
    struct tl_kept *kept = &h->kept[h->count++];
    kept->version = version;
    for (size_t i = 0; i < f->block_count; i++) {
        kept->blocks[i] = tl_blocks_take(&f->pool);
    }
    return 0;
}

static int check_memories(const struct tl_fold *f) {
    for (uint32_t w = 0; w < memories_of(f); w++) {
        const struct tl_memory *m = &f->history.workers[w];
        if (!is_kept(f, m->used) || !is_kept(f, m->seen)) {
            return tl_state_corrupt("a worker's version is not among those kept");
        }
    }
    for (uint32_t i = 0; i < f->history.count; i++) {
        if (f->history.kept[i].holders == 0) {
            return tl_state_corrupt("a version is kept for nobody");
        }
    }
    return 0;
}

static int check_stale_part(const struct tl_fold *f, const struct stale_part *s,
                            uint32_t size) {
    if (s->policy != f->config.stale.policy || s->workers != memories_of(f)) {
        return tl_fail(
            TL_E_MISMATCH,
            "state: of another policy for stale gradients, or another number "
            "of workers for it");
    }
    if (s->kept > tl_history_most(&f->config) ||
        size != stale_bytes(s->workers, s->kept) || s->reserved != 0) {
        return tl_state_corrupt("the head's size is not that of the versions kept");
    }
    if (s->run > f->counters.folded || !(s->power >= 0.0 && s->power <= 1.0)) {
        return tl_state_corrupt(
            "the policy for stale gradients has an impossible state");
    }
    return 0;
}

int tl_stale_decode(struct tl_fold *f, struct walk *k, uint32_t size) {
    if (size == 0 || !tl_stale_has_state(&f->config)) {
        return size == 0 && !tl_stale_has_state(&f->config)
                   ? 0
                   : tl_fail(TL_E_MISMATCH,
                             "state: of another policy for stale gradients");
    }
    struct stale_part s = {0};
    walk_stale(k, &s);
    int rc = check_stale_part(f, &s, size);
    if (rc != 0) {
        return rc;
    }
    f->stale_run = s.run;
    f->step_power = s.power;
    for (uint32_t i = 0; i < s.workers; i++) {
        walk_memory(k, &f->history.workers[i]);
    }
    for (uint32_t i = 0; i < s.kept && rc == 0; i++) {
        rc = decode_kept(f, k);
    }
    return rc == 0 ? check_memories(f) : rc;
}
