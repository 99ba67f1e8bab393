/* arbiter.c - what Redis decides about one shard's chain, as a pure function.
 *
 * A Redis that was emptied must not be talked into a second history by whoever comes
 * first: somebody who is not there yet may have been in a newer chain. So it decides
 * nothing until every slot of the deployment has shown itself. Whatever was committed
 * last was committed by a chain all of whose members knew it: if one of them lives, it
 * has then said so. A member that died is vouched for by the process in its slot. */
#include "chain_internal.h"

static bool is_settled(const struct tl_chain_arbiter *a, uint32_t length) {
    for (uint32_t slot = 0; slot < length; slot++) {
        if (a->present[slot] == 0) {
            return false;
        }
    }
    return true;
}

static bool is_vacant(const struct tl_chain_arbiter *a, uint32_t length) {
    for (uint32_t i = 0; i < a->config.count; i++) {
        struct tl_chain_node node = a->config.nodes[i];
        if (a->present[node.slot] == node.incarnation) {
            return false;
        }
    }
    return is_settled(a, length) || TL_MUTATE(dead_slot_guessed);
}

void tl_chain_arbiter_show(struct tl_chain_arbiter *a, struct tl_chain_node node,
                           const struct tl_chain_config *known, uint64_t seen,
                           uint64_t life) {
    a->life = a->life == 0 ? life : a->life;
    if (seen != a->life) {
        return; /* said to another life of Redis: to be said again */
    }
    uint64_t *present = &a->present[node.slot];
    bool is_replaced = *present != 0 && *present != node.incarnation;
    if (known->number > a->config.number && !is_replaced) {
        a->config = *known;
    }
    bool is_informed =
        tl_chain_find(&a->config, node) >= 0 || known->number == a->config.number;
    if (is_informed) {
        *present = node.incarnation;
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
    bool is_allowed = forms ? is_vacant(a, length)
                            : is_settled(a, length) || TL_MUTATE(flush_forgets);
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
                                  .is_settled =
                                      is_settled(a, length) || TL_MUTATE(flush_forgets),
                                  .is_vacant = is_vacant(a, length)};
}
