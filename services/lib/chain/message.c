/* message.c - messages as bytes, and back, trusting nothing read. */
#include "../wire/bytes.h"
#include "chain_internal.h"

enum {
    AT_KIND = 0,
    AT_RECORD_KIND = 4,
    AT_NUMBER = 8,
    AT_DIGEST = 16,
    AT_POSITION = 24,
    AT_COMMITTED = 32,
    AT_WORKER = 40,
    AT_ENCODING = 44,
    AT_EPOCH = 48,
    AT_INCARNATION = 56,
    AT_SEQUENCE = 64,
    AT_READ_VERSION = 72,
    AT_STEP = 80,
    AT_RATE = 88,
    AT_NORM = 96,
    AT_COUNT = 100,
    AT_VIEW_NUMBER = 104,
    AT_VIEW_EPOCH = 112,
    AT_NODES = 120,
    NODE_BYTES = 12,
    AT_RESERVED = AT_NODES + (int)TL_CHAIN_NODES_MAX * NODE_BYTES,
};
_Static_assert(AT_RESERVED + 12 == TL_CHAIN_MESSAGE_BYTES, "message layout");

/* ---- writing -------------------------------------------------------------------- */

static void put_record(uint8_t *at, const struct tl_record *r) {
    uint64_t rate;
    uint32_t norm;
    memcpy(&rate, &r->rate, sizeof(rate));
    memcpy(&norm, &r->norm, sizeof(norm));
    put_u32(at + AT_RECORD_KIND, (uint32_t)r->kind);
    put_u32(at + AT_WORKER, r->worker);
    put_u32(at + AT_ENCODING, (uint32_t)r->encoding);
    put_u64(at + AT_EPOCH, r->epoch);
    put_u64(at + AT_INCARNATION, r->incarnation);
    put_u64(at + AT_SEQUENCE, r->sequence);
    put_u64(at + AT_READ_VERSION, r->read_version);
    put_u64(at + AT_STEP, r->step);
    put_u64(at + AT_RATE, rate);
    put_u32(at + AT_NORM, norm);
}

static size_t at_node(uint32_t i) {
    return (size_t)AT_NODES + (size_t)i * NODE_BYTES;
}

static void put_view(uint8_t *at, const struct tl_chain_config *view) {
    put_u64(at + AT_VIEW_NUMBER, view->number);
    put_u64(at + AT_VIEW_EPOCH, view->epoch);
    put_u32(at + AT_COUNT, view->count);
    for (uint32_t i = 0; i < view->count; i++) {
        put_u32(at + at_node(i), view->nodes[i].slot);
        put_u64(at + at_node(i) + 4, view->nodes[i].incarnation);
    }
}

void tl_chain_message_encode(const struct tl_chain_message *m,
                             uint8_t ret_bytes[TL_CHAIN_MESSAGE_BYTES]) {
    memset(ret_bytes, 0, TL_CHAIN_MESSAGE_BYTES);
    put_u32(ret_bytes + AT_KIND, (uint32_t)m->kind);
    put_u64(ret_bytes + AT_NUMBER, m->number);
    put_u64(ret_bytes + AT_DIGEST, m->digest);
    put_u64(ret_bytes + AT_POSITION, m->position);
    put_u64(ret_bytes + AT_COMMITTED, m->committed);
    if (m->kind == TL_CHAIN_RECORD) {
        put_record(ret_bytes, &m->record);
    } else if (m->kind == TL_CHAIN_GREET) {
        put_view(ret_bytes, &m->view);
    }
}

/* ---- reading -------------------------------------------------------------------- */

static bool get_record(const uint8_t *at, struct tl_chain_message *m) {
    struct tl_record *r = &m->record;
    uint64_t rate = get_u64(at + AT_RATE);
    uint32_t norm = get_u32(at + AT_NORM);
    uint32_t kind = get_u32(at + AT_RECORD_KIND);
    uint32_t encoding = get_u32(at + AT_ENCODING);
    r->kind = (enum tl_record_kind)kind;
    r->encoding = (enum tl_encoding)encoding;
    r->worker = get_u32(at + AT_WORKER);
    r->position = m->position;
    r->epoch = get_u64(at + AT_EPOCH);
    r->incarnation = get_u64(at + AT_INCARNATION);
    r->sequence = get_u64(at + AT_SEQUENCE);
    r->read_version = get_u64(at + AT_READ_VERSION);
    r->step = get_u64(at + AT_STEP);
    memcpy(&r->rate, &rate, sizeof(rate));
    memcpy(&r->norm, &norm, sizeof(norm));
    return kind >= TL_RECORD_GRADIENT && kind <= TL_RECORD_RATE &&
           encoding < TL_ENCODINGS;
}

static bool get_view(const uint8_t *at, struct tl_chain_config *view) {
    view->number = get_u64(at + AT_VIEW_NUMBER);
    view->epoch = get_u64(at + AT_VIEW_EPOCH);
    view->count = get_u32(at + AT_COUNT);
    if (view->count > TL_CHAIN_NODES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < view->count; i++) {
        view->nodes[i].slot = get_u32(at + at_node(i));
        view->nodes[i].incarnation = get_u64(at + at_node(i) + 4);
    }
    return tl_chain_config_is_valid(view);
}

int tl_chain_message_decode(const uint8_t bytes[TL_CHAIN_MESSAGE_BYTES],
                            struct tl_chain_message *ret_message) {
    uint32_t kind = get_u32(bytes + AT_KIND);
    struct tl_chain_message m = {
        .kind = (enum tl_chain_message_kind)kind,
        .number = get_u64(bytes + AT_NUMBER),
        .digest = get_u64(bytes + AT_DIGEST),
        .position = get_u64(bytes + AT_POSITION),
        .committed = get_u64(bytes + AT_COMMITTED),
    };
    bool is_good = kind >= TL_CHAIN_GREET && kind <= TL_CHAIN_PULSE;
    if (kind == TL_CHAIN_RECORD) {
        is_good = get_record(bytes, &m);
    } else if (kind == TL_CHAIN_GREET) {
        is_good = get_view(bytes, &m.view);
    }
    if (!is_good) {
        return tl_fail(TL_E_PROTOCOL, "chain: not a message of replicas");
    }
    *ret_message = m;
    return 0;
}
