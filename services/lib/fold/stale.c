/* stale.c - what is done with a gradient that is staler than usual.
 *
 * Each policy is a function of the log: of the gradient, its staleness, and a state
 * that is folded, snapshotted and restored like all the rest. A gradient counts as
 * stale above stale.after versions; what the active workers cause by working at the
 * same time is usual. */
#include "fold_internal.h"
#include "root.h"

/* Gap-aware's running mean of squared steps; as in its authors' experiments. */
#define STEP_DECAY 0.999

static bool is_stale(const struct tl_fold *f, uint64_t staleness) {
    uint64_t usual = f->config.stale.after;
    if (usual == 0) {
        usual = 2 * (uint64_t)tl_fold_active_workers(f);
    }
    return staleness > usual;
}

bool tl_stale_has_array(const struct tl_fold_config *c) {
    return c->stale.policy == TL_STALE_BACKLOG || c->stale.policy == TL_STALE_GAP;
}

bool tl_stale_has_state(const struct tl_fold_config *c) {
    return tl_stale_has_array(c) || tl_history_is_kept(c);
}

/* Of what clip_norm, which all gradients are scaled by, leaves. */
static double clip_scale(const struct tl_fold *f, const struct tl_record *r) {
    double norm = (double)r->norm, most = f->config.stale.norm;
    if (f->config.clip_norm > 0.0 && norm > f->config.clip_norm) {
        norm = f->config.clip_norm;
    }
    return norm > most ? most / norm : 1.0;
}

/* The displacement that a gradient of this rate ends in, momentum included, is the rate
 * times 1 / (1 - momentum): the pull to the base must not be more than all the way. */
static float spring_of(const struct tl_fold *f) {
    const double least = 1e-30; /* where a schedule ends, nothing moves any more */
    double rate = tl_fold_rate(f);
    return rate > least ? (float)((1.0 - f->config.optimizer.momentum) / rate) : 0.0f;
}

struct tl_correction tl_stale_judge(struct tl_fold *f, const struct tl_record *r,
                                    uint64_t staleness) {
    const struct tl_stale *s = &f->config.stale;
    struct tl_correction c = {.policy = TL_STALE_APPLY, .scale = 1.0};
    c.base = tl_history_used(f, r->worker, r->read_version);
    if (s->policy == TL_STALE_APPLY || !is_stale(f, staleness)) {
        f->stale_run = 0;
        return c;
    }
    c.policy = tl_history_is_kept(&f->config) && !c.base ? TL_STALE_APPLY : s->policy;
    switch (c.policy) {
    case TL_STALE_BACKLOG:
        c.run = (float)++f->stale_run;
        break;
    case TL_STALE_INVERSE:
        c.scale = 1.0 / (double)staleness;
        break;
    case TL_STALE_CLIP:
        c.scale = clip_scale(f, r);
        break;
    case TL_STALE_GAP:
        c.root = (float)tl_root(1.0 - f->step_power);
        break;
    case TL_STALE_DELAY:
        c.strength = (float)s->lambda;
        break;
    case TL_STALE_ELASTIC:
        c.strength = (float)s->alpha;
        c.spring = spring_of(f);
        break;
    case TL_STALE_APPLY:
        break;
    }
    return c;
}

bool tl_stale_changes(const struct tl_correction *c) {
    return c->policy == TL_STALE_BACKLOG || c->policy == TL_STALE_GAP ||
           c->policy == TL_STALE_DELAY || c->policy == TL_STALE_ELASTIC;
}

const float *tl_stale_correct(const struct tl_correction *c, const struct tl_lanes *l,
                              float *tile) {
    switch (c->policy) {
    case TL_STALE_BACKLOG:
        tl_kernel_backlog(tile, l, c->run);
        return tile;
    case TL_STALE_GAP:
        tl_kernel_gap(tile, l, c->root);
        return tile;
    case TL_STALE_DELAY:
        tl_kernel_delay(tile, l, c->strength);
        return tile;
    case TL_STALE_ELASTIC:
        tl_kernel_elastic(tile, l, c->strength, c->spring);
        return tile;
    default:
        return l->gradient;
    }
}

void tl_stale_note_step(struct tl_fold *f) {
    f->step_power *= STEP_DECAY;
}

void tl_stale_note(const struct tl_lanes *l, const float *before) {
    tl_kernel_square(l, before, (float)STEP_DECAY, (float)(1.0 - STEP_DECAY));
}
