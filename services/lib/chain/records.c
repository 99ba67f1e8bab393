/* records.c - the records on their way, a ring by position. */
#include "chain_internal.h"

#include <assert.h>

void tl_chain_body_hold(struct tl_chain_body *body) {
    if (body) {
        body->holders++;
    }
}

void tl_chain_body_release(struct tl_chain_body *body) {
    if (body) {
        assert(body->holders > 0);
        if (--body->holders == 0) {
            body->done(body);
        }
    }
}

uint64_t chain_ring_count(const struct chain_ring *r) {
    return r->last + 1 - r->first;
}

struct chain_entry *chain_ring_at(struct chain_ring *r, uint64_t position) {
    bool is_held = position >= r->first && position <= r->last;
    return is_held ? &r->entries[position % CHAIN_RING] : NULL;
}

void chain_ring_push(struct chain_ring *r, const struct tl_record *record,
                     struct tl_chain_body *body) {
    assert(chain_ring_count(r) < CHAIN_RING && record->position == r->last + 1);
    r->last++;
    r->entries[r->last % CHAIN_RING] = (struct chain_entry){*record, body};
    tl_chain_body_hold(body);
}

void chain_ring_trim(struct chain_ring *r, uint64_t position) {
    for (; r->first <= r->last && r->first <= position; r->first++) {
        tl_chain_body_release(r->entries[r->first % CHAIN_RING].body);
    }
}

void chain_ring_init(struct chain_ring *r, uint64_t position) {
    if (r->first > 0) {
        chain_ring_trim(r, r->last);
    }
    r->first = position + 1;
    r->last = position;
}
