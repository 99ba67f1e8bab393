/* config.c - which settings a fold accepts. */
#include "fold_internal.h"

#include <math.h>

/* Keeps every size and sum of sizes far from overflow: 4 TiB of weights a shard. */
#define COUNT_MAX  (UINT64_C(1) << 40)
#define COPIES_MAX 1024u

uint32_t tl_optimizer_slots(const struct tl_optimizer *optimizer) {
    if (optimizer->kind != TL_SGD) {
        return 2;
    }
    return optimizer->momentum > 0.0 ? 1 : 0;
}

static bool is_fraction(double x) {
    return x >= 0.0 && x < 1.0;
}

static bool is_positive(double x) {
    return isfinite(x) && x > 0.0;
}

static bool is_not_negative(double x) {
    return isfinite(x) && x >= 0.0;
}

bool tl_fold_uses_norm(const struct tl_fold_config *config) {
    return config->clip_norm > 0.0 || config->stale.policy == TL_STALE_CLIP;
}

static int bad(const char *setting, const char *range) {
    return tl_fail(TL_E_CONFIG, "fold: %s must be %s", setting, range);
}

static int check_slice(const struct tl_fold_config *c) {
    if (c->shards == 0 || c->shard >= c->shards) {
        return bad("shard", "below the number of shards");
    }
    if (c->count == 0 || c->count > COUNT_MAX) {
        return bad("count", "from 1 to 2^40 parameters");
    }
    if (c->first > COUNT_MAX) {
        return bad("first", "at most 2^40");
    }
    if (c->spare_copies == 0 || c->spare_copies > COPIES_MAX) {
        return bad("spare_copies", "from 1 to 1024");
    }
    return 0;
}

static int check_rules(const struct tl_fold_config *c) {
    if (c->consistency != TL_ASYNC && c->consistency != TL_SYNC &&
        c->consistency != TL_SSP) {
        return bad("consistency", "async, sync or ssp");
    }
    if (c->reduce != TL_REDUCE_MEAN && c->reduce != TL_REDUCE_SUM) {
        return bad("reduce", "mean or sum");
    }
    if (c->quorum > TL_WORKER_LIMIT) {
        return bad("quorum", "at most 1024");
    }
    if (c->start_workers > TL_WORKER_LIMIT) {
        return bad("start_workers", "at most 1024");
    }
    if (!is_not_negative(c->clip_norm)) {
        return bad("clip_norm", "finite and at least 0");
    }
    if (!is_not_negative(c->clip_value)) {
        return bad("clip_value", "finite and at least 0");
    }
    return 0;
}

static int check_adam(const struct tl_optimizer *o) {
    if (!is_fraction(o->beta1)) {
        return bad("optimizer.beta1", "in [0, 1)");
    }
    if (!is_fraction(o->beta2)) {
        return bad("optimizer.beta2", "in [0, 1)");
    }
    if (!is_positive(o->epsilon)) {
        return bad("optimizer.epsilon", "finite and above 0");
    }
    return 0;
}

static int check_sgd(const struct tl_optimizer *o) {
    if (!is_fraction(o->momentum)) {
        return bad("optimizer.momentum", "in [0, 1)");
    }
    if (o->nesterov && o->momentum == 0.0) {
        return bad("optimizer.momentum", "above 0 for Nesterov's rule");
    }
    return 0;
}

static int check_optimizer(const struct tl_optimizer *o) {
    if (!is_positive(o->learning_rate)) {
        return bad("optimizer.learning_rate", "finite and above 0");
    }
    if (!is_not_negative(o->weight_decay)) {
        return bad("optimizer.weight_decay", "finite and at least 0");
    }
    switch (o->kind) {
    case TL_SGD:
        return check_sgd(o);
    case TL_ADAM:
    case TL_ADAMW:
        return check_adam(o);
    default:
        return bad("optimizer.kind", "sgd, adam or adamw");
    }
}

static int check_schedule(const struct tl_schedule *s) {
    if (s->kind == TL_CONSTANT) {
        return 0;
    }
    if (s->kind != TL_STEP && s->kind != TL_COSINE) {
        return bad("schedule.kind", "constant, step or cosine");
    }
    if (s->period == 0) {
        return bad("schedule.period", "at least 1 update");
    }
    if (!(s->factor >= 0.0 && s->factor <= 1.0)) {
        return bad("schedule.factor", "in [0, 1]");
    }
    return 0;
}

static int check_stale(const struct tl_fold_config *c) {
    const struct tl_stale *s = &c->stale;
    if ((unsigned)s->policy >= TL_STALE_POLICIES) {
        return bad("stale.policy",
                   "apply, backlog, inverse, gap, delay, clip or elastic");
    }
    if (s->policy != TL_STALE_APPLY && c->consistency == TL_SYNC) {
        return bad("stale.policy", "apply in sync, where no gradient is stale");
    }
    if ((s->policy == TL_STALE_BACKLOG || s->policy == TL_STALE_ELASTIC) &&
        c->optimizer.kind != TL_SGD) {
        return bad("optimizer.kind", "sgd for the policies backlog and elastic");
    }
    if (s->policy == TL_STALE_CLIP && !is_positive(s->norm)) {
        return bad("stale.norm", "finite and above 0");
    }
    if (s->policy == TL_STALE_DELAY && !is_not_negative(s->lambda)) {
        return bad("stale.lambda", "finite and at least 0");
    }
    if (s->policy == TL_STALE_ELASTIC && !(s->alpha > 0.0 && s->alpha <= 1.0)) {
        return bad("stale.alpha", "in (0, 1]");
    }
    return c->workers <= TL_WORKER_LIMIT ? 0 : bad("workers", "at most 1024");
}

int tl_fold_check_config(const struct tl_fold_config *config) {
    int rc = check_slice(config);
    if (rc == 0) {
        rc = check_rules(config);
    }
    if (rc == 0) {
        rc = check_optimizer(&config->optimizer);
    }
    if (rc == 0) {
        rc = check_schedule(&config->schedule);
    }
    if (rc == 0) {
        rc = check_stale(config);
    }
    return rc;
}
