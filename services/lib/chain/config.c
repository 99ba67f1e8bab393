/* config.c - configurations: who follows from one, and as text. */
#include "chain_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tl_chain_node_is(struct tl_chain_node a, struct tl_chain_node b) {
    return a.slot == b.slot && a.incarnation == b.incarnation;
}

int tl_chain_find(const struct tl_chain_config *c, struct tl_chain_node node) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (tl_chain_node_is(c->nodes[i], node)) {
            return (int)i;
        }
    }
    return -1;
}

static uint64_t mix(uint64_t hash, uint64_t value) {
    uint64_t z = hash + UINT64_C(0x9e3779b97f4a7c15) + value;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t tl_chain_config_digest(const struct tl_chain_config *c) {
    uint64_t hash = mix(mix(0, c->number), c->epoch);
    for (uint32_t i = 0; i < c->count; i++) {
        hash = mix(mix(hash, c->nodes[i].slot), c->nodes[i].incarnation);
    }
    return hash;
}

struct tl_chain_config tl_chain_without(const struct tl_chain_config *c,
                                        struct tl_chain_node node) {
    struct tl_chain_config next = *c;
    int at = tl_chain_find(c, node);
    next.number++;
    if (at < 0) {
        return next;
    }
    next.count--;
    memmove(&next.nodes[at], &next.nodes[at + 1],
            (next.count - (uint32_t)at) * sizeof(next.nodes[0]));
    if (at == 0 && !TL_MUTATE(epoch_not_raised)) {
        next.epoch = next.number;
    }
    return next;
}

struct tl_chain_config tl_chain_with(const struct tl_chain_config *c,
                                     struct tl_chain_node node) {
    struct tl_chain_config next = *c;
    next.number++;
    next.nodes[next.count++] = node;
    return next;
}

struct tl_chain_config tl_chain_renewed(const struct tl_chain_config *c,
                                        uint64_t floor) {
    struct tl_chain_config next = *c;
    next.number++;
    if (floor >= c->epoch) {
        next.number = floor >= next.number ? floor + 1 : next.number;
        next.epoch = next.number;
    }
    return next;
}

struct tl_chain_config tl_chain_formed(const struct tl_chain_config *c,
                                       struct tl_chain_node node, uint64_t floor) {
    uint64_t number = (c->number > floor ? c->number : floor) + 1;
    return (struct tl_chain_config){
        .number = number, .epoch = number, .count = 1, .nodes = {node}};
}

bool tl_chain_config_is_valid(const struct tl_chain_config *c) {
    bool is_none = c->number == 0 && c->epoch == 0 && c->count == 0;
    bool is_some = c->number > 0 && c->epoch > 0 && c->epoch <= c->number &&
                   c->count > 0 && c->count <= TL_CHAIN_NODES_MAX;
    for (uint32_t i = 0; is_some && i < c->count; i++) {
        is_some = c->nodes[i].slot < TL_CHAIN_NODES_MAX && c->nodes[i].incarnation != 0;
        for (uint32_t j = 0; j < i; j++) {
            is_some = is_some && c->nodes[j].slot != c->nodes[i].slot;
        }
    }
    return is_none || is_some;
}

/* ---- text ---------------------------------------------------------------------- */

void tl_chain_config_format(const struct tl_chain_config *c,
                            char ret_text[TL_CHAIN_TEXT_MAX]) {
    size_t at = (size_t)snprintf(ret_text, TL_CHAIN_TEXT_MAX, "%" PRIu64 " %" PRIu64,
                                 c->number, c->epoch);
    for (uint32_t i = 0; i < c->count; i++) {
        at += (size_t)snprintf(ret_text + at, TL_CHAIN_TEXT_MAX - at,
                               " %" PRIu32 ":%" PRIu64, c->nodes[i].slot,
                               c->nodes[i].incarnation);
    }
}

/* Decimal digits, at most 20, that fit into 64 bits; moves *text behind them. */
static bool read_number(const char **text, uint64_t *ret) {
    uint64_t value = 0;
    const char *p = *text;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = 10 * value + digit;
    }
    bool is_number = p != *text;
    *text = p;
    *ret = value;
    return is_number;
}

static bool read_sign(const char **text, char sign) {
    bool is_there = **text == sign;
    *text += is_there ? 1 : 0;
    return is_there;
}

static bool read_node(const char **text, struct tl_chain_config *c) {
    uint64_t slot, incarnation;
    if (c->count == TL_CHAIN_NODES_MAX || !read_number(text, &slot) ||
        !read_sign(text, ':') || !read_number(text, &incarnation) ||
        slot >= TL_CHAIN_NODES_MAX) {
        return false;
    }
    c->nodes[c->count++] = (struct tl_chain_node){(uint32_t)slot, incarnation};
    return true;
}

int tl_chain_config_parse(const char *text, struct tl_chain_config *ret) {
    struct tl_chain_config c = {0};
    bool is_good = read_number(&text, &c.number) && read_sign(&text, ' ') &&
                   read_number(&text, &c.epoch);
    while (is_good && read_sign(&text, ' ')) {
        is_good = read_node(&text, &c);
    }
    if (!is_good || *text != '\0' || !tl_chain_config_is_valid(&c)) {
        return tl_fail(TL_E_CORRUPT, "not a chain's configuration");
    }
    *ret = c;
    return 0;
}
