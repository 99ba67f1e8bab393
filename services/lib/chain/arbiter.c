/* arbiter.c - what Redis decides about one shard's chain, as a pure function.
 *
 * A Redis that was emptied must not be talked into a second history by whoever comes
 * first. It may have known a configuration that its members were about to learn of. So
 * it decides nothing until every slot of the configuration that it was shown has shown
 * itself: any member that knew a newer one has then said so. A member that died is
 * vouched for by the process that has taken its slot. */
#include "chain_internal.h"

static uint64_t present(const struct tl_chain_arbiter *a, struct tl_chain_node node) {
    return a->present[node.slot];
}

static bool is_settled(const struct tl_chain_arbiter *a) {
    bool is_settled = a->config.count > 0;
    for (uint32_t i = 0; i < a->config.count; i++) {
        is_settled = is_settled &&
                     (present(a, a->config.nodes[i]) != 0 || TL_MUTATE(flush_forgets));
    }
    return is_settled;
}

static bool is_vacant(const struct tl_chain_arbiter *a, uint32_t length) {
    for (uint32_t slot = 0; slot < length; slot++) {
        if (a->present[slot] == 0 && !TL_MUTATE(dead_slot_guessed)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->config.count; i++) {
        if (present(a, a->config.nodes[i]) == a->config.nodes[i].incarnation) {
            return false;
        }
    }
    return true;
}

void tl_chain_arbiter_show(struct tl_chain_arbiter *a, struct tl_chain_node node,
                           const struct tl_chain_config *known, uint64_t seen,
                           uint64_t life) {
    a->life = a->life == 0 ? life : a->life;
    if (known->number > a->config.number) {
        a->config = *known;
    }
    bool is_informed =
        tl_chain_find(&a->config, node) >= 0 || known->number == a->config.number;
    if ((seen == a->life && is_informed) || TL_MUTATE(flush_forgets)) {
        a->present[node.slot] = node.incarnation;
    }
}

/* Who comes into the chain is there: whoever proposed it has just spoken with it. */
static void note_newcomers(struct tl_chain_arbiter *a,
                           const struct tl_chain_config *next) {
    for (uint32_t i = 0; i < next->count; i++) {
        if (tl_chain_find(&a->config, next->nodes[i]) < 0) {
            a->present[next->nodes[i].slot] = next->nodes[i].incarnation;
        }
    }
}

bool tl_chain_arbiter_decide(struct tl_chain_arbiter *a, uint64_t expected,
                             const struct tl_chain_config *next, bool forms,
                             uint32_t length) {
    bool is_next = a->config.number == expected && next->number > expected;
    bool is_allowed = forms ? is_vacant(a, length) : is_settled(a);
    if (!(is_next || TL_MUTATE(check_then_write)) || !is_allowed) {
        return false;
    }
    note_newcomers(a, next);
    a->config = *next;
    return true;
}

struct tl_chain_look tl_chain_arbiter_look(const struct tl_chain_arbiter *a,
                                           uint32_t length) {
    return (struct tl_chain_look){.life = a->life,
                                  .config = a->config,
                                  .is_settled = is_settled(a),
                                  .is_vacant = is_vacant(a, length)};
}
