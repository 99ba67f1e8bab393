/* check.c - what must hold after every step.
 *
 * The history is what was committed, by position, as the first replica that committed
 * it told; all others must tell the same, to the bit of their states. */
#include "sim.h"

#include <string.h>

/* Leases without trouble before a removal needs a cause: a proposal may be carried out
 * late. */
#define LIMIT 6

static bool is_strict(const struct sim *s) {
    return s->replication == TL_STRICT;
}

static struct sim_fact *fact_at(struct sim *s, uint64_t position) {
    return &s->history.facts[position];
}

static const struct sim_replica *living(const struct sim *s, struct tl_chain_node n) {
    const struct sim_replica *r = &s->replicas[n.slot];
    return r->is_alive && tl_chain_node_is(tl_chain_self(r->chain), n) ? r : NULL;
}

/* Everybody of the last chain is dead: what others have is another history, until one
 * of them is decided to go on from (sim_check_lost). */
static bool is_between_histories(const struct sim *s) {
    for (uint32_t i = 0; i < s->latest.count; i++) {
        if (living(s, s->latest.nodes[i]) != NULL) {
            return false;
        }
    }
    return true;
}

/* ---- one record, told for the first time -------------------------------------------
 */

static void check_join(struct sim *s, const struct tl_record *r,
                       const struct tl_fold_effect *effect, struct sim_settled *t) {
    uint64_t known = t->sequence[r->worker];
    uint64_t lost = r->sequence > known ? r->sequence - known : 0;
    if (effect->lost != lost) {
        sim_fail(s, "losses are counted exactly", "worker %u: %llu lost, %llu counted",
                 r->worker, (unsigned long long)lost, (unsigned long long)effect->lost);
    }
    if (lost > 0 && is_strict(s) && s->history.broken == 0) {
        sim_fail(s, "nothing acknowledged is lost", "worker %u lost %llu", r->worker,
                 (unsigned long long)lost);
    }
    t->sequence[r->worker] += lost;
    t->incarnation[r->worker] = r->incarnation;
}

static void check_step(struct sim *s, const struct tl_record *r, uint64_t version,
                       struct sim_settled *t) {
    if (s->fold_config.consistency == TL_SYNC) {
        if (t->step[r->worker] == version + 1) {
            sim_fail(s, "one contribution to a step", "worker %u, step %llu", r->worker,
                     (unsigned long long)version);
        }
        t->step[r->worker] = version + 1;
    }
}

static void check_staleness(struct sim *s, int i, const struct tl_record *r,
                            const struct tl_fold_effect *effect) {
    const struct tl_fold_config *c = &s->fold_config;
    struct tl_fold_worker w, other;
    bool is_over = c->consistency == TL_ASYNC && c->max_staleness > 0 &&
                   effect->staleness > c->max_staleness;
    if (tl_fold_worker(s->replicas[i].fold, r->worker, &w) != 0) {
        return;
    }
    for (uint32_t k = 0; k < s->workers && c->consistency == TL_SSP; k++) {
        is_over = is_over || (tl_fold_worker(s->replicas[i].fold, k, &other) == 0 &&
                              other.active && w.clock > other.clock + c->staleness + 1);
    }
    if (is_over) {
        sim_fail(s, "staleness is bounded", "worker %u sequence %llu", r->worker,
                 (unsigned long long)r->sequence);
    }
}

static void check_gradient(struct sim *s, int i, const struct tl_record *r,
                           const struct tl_fold_effect *effect, uint64_t version,
                           struct sim_settled *t) {
    if (r->sequence <= t->sequence[r->worker]) {
        sim_fail(s, "each gradient at most once",
                 "worker %u sequence %llu is folded, up to %llu is settled", r->worker,
                 (unsigned long long)r->sequence,
                 (unsigned long long)t->sequence[r->worker]);
    }
    if (r->incarnation != t->incarnation[r->worker]) {
        sim_fail(s, "an older worker is fenced", "worker %u incarnation %llu",
                 r->worker, (unsigned long long)r->incarnation);
    }
    check_step(s, r, version, t);
    check_staleness(s, i, r, effect);
    t->sequence[r->worker] = r->sequence;
}

static bool settles(const struct sim *s, int status) {
    return status == TL_E_LATE || status == TL_E_NONFINITE ||
           (status == TL_E_STALE && s->fold_config.consistency == TL_ASYNC);
}

static void tell_first(struct sim *s, int i, const struct tl_record *r, int status,
                       const struct tl_fold_effect *effect, uint64_t version) {
    struct sim_fact *f = fact_at(s, r->position);
    const struct sim_fact *before = fact_at(s, r->position - 1);
    *f = (struct sim_fact){.kind = r->kind,
                           .worker = r->worker,
                           .incarnation = r->incarnation,
                           .sequence = r->sequence,
                           .epoch = r->epoch,
                           .status = status,
                           .version = tl_fold_version(s->replicas[i].fold),
                           .digest = sim_fold_digest(s->replicas[i].fold)};
    if (r->position > 1) {
        f->settled = before->settled;
    }
    if (r->position > 1 && r->epoch < before->epoch) {
        sim_fail(s, "epochs rise", "position %llu: epoch %llu after %llu",
                 (unsigned long long)r->position, (unsigned long long)r->epoch,
                 (unsigned long long)before->epoch);
    }
    if (f->version != version + (effect->advanced ? 1 : 0)) {
        sim_fail(s, "versions without gaps", "position %llu",
                 (unsigned long long)r->position);
    }
    if (r->kind == TL_RECORD_JOIN && status == 0) {
        check_join(s, r, effect, &f->settled);
    } else if (r->kind == TL_RECORD_GRADIENT && status == 0) {
        check_gradient(s, i, r, effect, version, &f->settled);
    } else if (r->kind == TL_RECORD_GRADIENT && settles(s, status) &&
               r->sequence > f->settled.sequence[r->worker]) {
        f->settled.sequence[r->worker] = r->sequence;
    }
    s->history.length = r->position;
}

/* ---- and again
 * ------------------------------------------------------------------------ */

static bool is_same_record(const struct sim_fact *f, const struct tl_record *r) {
    return f->kind == r->kind && f->worker == r->worker &&
           f->incarnation == r->incarnation && f->sequence == r->sequence &&
           f->epoch == r->epoch;
}

static void check_digest(struct sim *s, int i, struct sim_fact *f, uint64_t position) {
    uint64_t digest = sim_fold_digest(s->replicas[i].fold);
    if (f->digest == 0) {
        f->digest = digest;
    } else if (digest != 0 && digest != f->digest) {
        sim_fail(s, "equal positions, equal bits", "replica %d at %llu", i,
                 (unsigned long long)position);
    }
}

void sim_check_commit(struct sim *s, int i, const struct tl_record *r, int status,
                      const struct tl_fold_effect *effect, uint64_t version_before) {
    bool is_fenced = tl_chain_config(s->replicas[i].chain)->epoch < s->history.epoch;
    if ((!is_strict(s) && is_fenced) || is_between_histories(s)) {
        return; /* a fenced head's last few, within the bound that was declared */
    }
    if (r->position != tl_fold_position(s->replicas[i].fold) ||
        r->position >= SIM_HISTORY || r->position > s->history.length + 1) {
        sim_fail(s, "positions without gaps", "replica %d commits %llu after %llu", i,
                 (unsigned long long)r->position,
                 (unsigned long long)tl_fold_position(s->replicas[i].fold));
        return;
    }
    if (r->position == s->history.length + 1) {
        tell_first(s, i, r, status, effect, version_before);
        return;
    }
    struct sim_fact *f = fact_at(s, r->position);
    if (!is_same_record(f, r) || f->status != status) {
        sim_fail(s, "one history", "replica %d commits another record at %llu", i,
                 (unsigned long long)r->position);
        return;
    }
    check_digest(s, i, f, r->position);
}

void sim_check_load(struct sim *s, int i, uint64_t position) {
    uint64_t own = tl_fold_position(s->replicas[i].fold);
    if (own != position) {
        sim_fail(s, "one cut", "replica %d: a state at %llu says %llu", i,
                 (unsigned long long)position, (unsigned long long)own);
    } else if (position > 0 && position <= s->history.length && is_strict(s) &&
               !is_between_histories(s)) {
        check_digest(s, i, fact_at(s, position), position);
    }
}

/* ---- heads
 * ------------------------------------------------------------------------------ */

static void check_one_leader(struct sim *s, int i, uint64_t epoch) {
    struct sim_history *h = &s->history;
    uint64_t incarnation = tl_chain_self(s->replicas[i].chain).incarnation;
    for (uint32_t k = 0; k < h->leader_count; k++) {
        if (h->epochs[k] == epoch && h->leaders[k] != incarnation) {
            sim_fail(s, "one committer per epoch", "epoch %llu: replica %d too",
                     (unsigned long long)epoch, i);
        }
    }
    if (h->leader_count < SIM_HISTORY) {
        h->epochs[h->leader_count] = epoch;
        h->leaders[h->leader_count++] = incarnation;
    }
}

void sim_check_lead(struct sim *s, int i, uint64_t epoch) {
    struct sim_history *h = &s->history;
    uint64_t last = tl_chain_last(s->replicas[i].chain);
    check_one_leader(s, i, epoch);
    if (epoch != s->latest.epoch || last >= h->length) {
        h->epoch = epoch > h->epoch ? epoch : h->epoch;
        return;
    }
    if (is_strict(s)) {
        sim_fail(s, "what is committed stays", "head %d has %llu of %llu", i,
                 (unsigned long long)last, (unsigned long long)h->length);
    } else if (h->length - last > s->every) {
        sim_fail(s, "at most every records are lost", "%llu are",
                 (unsigned long long)(h->length - last));
    }
    h->length = last;
    h->epoch = epoch;
}

/* ---- configurations
 * ------------------------------------------------------------------------ */

void sim_check_formed(struct sim *s, const struct tl_chain_config *before) {
    for (uint32_t i = 0; i < before->count; i++) {
        const struct sim_replica *r = living(s, before->nodes[i]);
        if (r != NULL && tl_chain_role(r->chain) != TL_CHAIN_OUTSIDE) {
            sim_fail(s, "a chain begins anew when all are dead", "replica %u lives",
                     before->nodes[i].slot);
        }
    }
    s->history.broken += before->count > 0;
    s->history.length = 0;
    s->history.leader_count = 0;
    s->history.epoch = 0;
}

/* Nobody of the last chain lives, Redis has forgotten it, and one that had been in an
 * earlier one goes on from what it has: as good as it gets, and counted as lost. */
void sim_check_lost(struct sim *s, const struct tl_chain_config *before) {
    for (uint32_t i = 0; i < before->count; i++) {
        if (living(s, before->nodes[i]) != NULL) {
            return;
        }
    }
    uint64_t last = 0;
    for (uint32_t i = s->latest.count; i > 0; i--) {
        const struct sim_replica *r = living(s, s->latest.nodes[i - 1]);
        last = r != NULL ? tl_chain_committed(r->chain) : last;
    }
    /* periodic: its own last few records are nobody else's; and what it has may be of a
     * history that was lost whole before. */
    s->is_cut_short = !is_strict(s) || s->history.broken > 0;
    s->history.broken++;
    s->history.leader_count = 0;
    s->history.epoch = 0;
    s->history.length = last < s->history.length ? last : s->history.length;
}

static bool is_in_trouble(const struct sim *s, uint32_t slot) {
    bool is_cut_off = s->replicas[slot].is_paused;
    for (size_t i = 0; i < SIM_ENDS; i++) {
        is_cut_off = is_cut_off || s->is_blocked[slot][i];
    }
    return is_cut_off || s->now - s->trouble[slot] <= LIMIT * SIM_LEASE;
}

void sim_check_decided(struct sim *s, const struct tl_chain_config *before) {
    for (uint32_t i = 0; i < before->count; i++) {
        struct tl_chain_node n = before->nodes[i];
        bool is_removed = tl_chain_find(&s->latest, n) < 0;
        if (is_removed && living(s, n) != NULL && !is_in_trouble(s, n.slot)) {
            sim_fail(s, "nobody is removed without a cause", "replica %u", n.slot);
        }
    }
}

/* ---- answers
 * -------------------------------------------------------------------------------- */

void sim_check_acknowledged(struct sim *s, uint32_t worker, uint64_t sequence) {
    const struct sim_history *h = &s->history;
    if (is_strict(s) &&
        (h->length == 0 || h->facts[h->length].settled.sequence[worker] < sequence)) {
        sim_fail(s, "acknowledged is committed", "worker %u sequence %llu", worker,
                 (unsigned long long)sequence);
    }
}

void sim_check_read(struct sim *s, int i) {
    uint64_t incarnation = tl_chain_self(s->replicas[i].chain).incarnation;
    for (uint32_t k = 0; k < s->member_count; k++) {
        if (s->members[k] == incarnation) {
            return;
        }
    }
    sim_fail(s, "a joiner serves nothing", "replica %d is read from", i);
}

/* ---- after every step
 * ------------------------------------------------------------------------- */

static void check_durable(struct sim *s) {
    for (uint32_t i = 0; i < s->latest.count; i++) {
        const struct sim_replica *r = living(s, s->latest.nodes[i]);
        if (r != NULL && tl_chain_last(r->chain) < s->history.length) {
            sim_fail(s, "every member has what is committed",
                     "replica %u has %llu of %llu", s->latest.nodes[i].slot,
                     (unsigned long long)tl_chain_last(r->chain),
                     (unsigned long long)s->history.length);
        }
    }
}

static bool is_same(const struct tl_record *a, const struct tl_record *b) {
    return a->kind == b->kind && a->worker == b->worker && a->sequence == b->sequence &&
           a->incarnation == b->incarnation && a->epoch == b->epoch;
}

static void check_pair(struct sim *s, const struct sim_replica *a,
                       const struct sim_replica *b) {
    uint64_t last = tl_chain_last(b->chain);
    bool is_prefix = last <= tl_chain_last(a->chain);
    for (uint64_t p = tl_chain_committed(a->chain) + 1; is_prefix && p <= last; p++) {
        const struct tl_record *x = tl_chain_record(a->chain, p);
        const struct tl_record *y = tl_chain_record(b->chain, p);
        is_prefix = x == NULL || y == NULL || is_same(x, y);
    }
    if (!is_prefix) {
        sim_fail(s, "a successor's history is a prefix", "up to %llu, its is %llu",
                 (unsigned long long)tl_chain_last(a->chain), (unsigned long long)last);
    }
}

static void check_prefixes(struct sim *s) {
    uint64_t digest = tl_chain_config_digest(&s->latest);
    for (uint32_t i = 0; i + 1 < s->latest.count; i++) {
        const struct sim_replica *a = living(s, s->latest.nodes[i]);
        const struct sim_replica *b = living(s, s->latest.nodes[i + 1]);
        if (a != NULL && b != NULL &&
            tl_chain_config_digest(tl_chain_config(a->chain)) == digest &&
            tl_chain_config_digest(tl_chain_config(b->chain)) == digest) {
            check_pair(s, a, b);
        }
    }
}

void sim_check_step(struct sim *s) {
    if (is_strict(s)) {
        check_durable(s);
        check_prefixes(s);
    }
}

/* ---- at the end
 * --------------------------------------------------------------------------------- */

bool sim_is_well(const struct sim *s) {
    bool is_well = s->latest.count == s->nodes;
    for (uint32_t i = 0; i < s->latest.count; i++) {
        const struct sim_replica *r = living(s, s->latest.nodes[i]);
        is_well = is_well && r != NULL && tl_chain_may_read(r->chain);
    }
    for (uint32_t w = 0; w < s->workers; w++) {
        is_well = is_well && s->worker[w].pushed_after_heal;
    }
    return is_well;
}

void sim_check_end(struct sim *s) {
    char text[TL_CHAIN_TEXT_MAX];
    tl_chain_config_format(&s->latest, text);
    if (!sim_is_well(s)) {
        sim_fail(s, "everything is answered in bounded time",
                 "healed since %lld ms; chain %s; pushed %d %d %d",
                 (long long)(s->now - SIM_TROUBLE), text,
                 s->worker[0].pushed_after_heal, s->worker[1].pushed_after_heal,
                 s->worker[2].pushed_after_heal);
    }
}
