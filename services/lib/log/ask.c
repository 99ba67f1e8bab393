/* ask.c - requests as frames. */
#include "direct.h"

#include <string.h>

/* The header that every frame of this shard's exchange starts from. */
static struct tl_header header_of(const struct tl_direct *d, enum tl_kind kind) {
    return (struct tl_header){
        .kind = (uint8_t)kind,
        .shard = d->config.shard,
        .worker = d->config.worker,
        .epoch = d->epoch,
        .incarnation = d->incarnation,
    };
}

static uint64_t slice_bytes(const struct tl_direct *d) {
    return d->welcome.count * sizeof(float);
}

int direct_ask_hello(struct tl_direct *d) {
    struct tl_header h = header_of(d, TL_KIND_HELLO);
    struct tl_hello hello = {
        .role = d->config.role,
        .job_digest = d->config.job_digest,
        .writer = d->config.only_reads ? 0 : d->writer,
    };
    h.flags = d->config.only_reads ? TL_FLAG_READS : 0;
    memcpy(hello.job, d->job, sizeof(hello.job));
    memcpy(hello.run, d->run, sizeof(hello.run));
    return tl_link_hello(d->link, &h, &hello, d->welcome_bytes);
}

static int ask_join(struct tl_direct *d, uint64_t incarnation, uint64_t acknowledged) {
    struct tl_header h = header_of(d, TL_KIND_JOIN);
    h.incarnation = incarnation;
    h.sequence = acknowledged;
    return tl_link_request(d->link, &h, NULL, NULL, 0, false);
}

int direct_ask_share(struct tl_direct *d) {
    struct tl_header h = header_of(d, TL_KIND_SHARE);
    return tl_link_request(d->link, &h, NULL, NULL, 0, false);
}

int direct_ask_rejoin(struct tl_direct *d) {
    return ask_join(d, d->incarnation, d->acknowledged);
}

uint64_t direct_version_held(const struct tl_direct *d) {
    return d->request.held.epoch == d->epoch ? d->request.held.version
                                             : TL_VERSION_NONE;
}

static int ask_push(struct tl_direct *d, enum tl_kind kind) {
    const struct tl_direct_request *r = &d->request;
    struct tl_header h = header_of(d, kind);
    h.sequence = r->sequence;
    h.read_version = r->held.version;
    h.norm = r->norm;
    h.encoding = (uint8_t)r->gradient.encoding;
    h.length = r->gradient.size;
    d->result.sent++;
    bool wants_weights = kind == TL_KIND_PUSH_PULL;
    return tl_link_request(d->link, &h, r->gradient.bytes,
                           wants_weights ? r->weights : NULL,
                           wants_weights ? slice_bytes(d) : 0, d->checksum);
}

static int ask_pull(struct tl_direct *d) {
    struct tl_header h = header_of(d, TL_KIND_PULL);
    if (d->request.op == TL_DIRECT_PULL && d->request.incarnation != 0) {
        h.incarnation = d->request.incarnation;
        h.sequence = d->request.sequence;
    }
    if (direct_is_taken(d)) {
        h.sequence = d->request.sequence; /* only weights that have it in them */
    }
    h.read_version = direct_version_held(d);
    if (direct_waits(d)) {
        h.flags = TL_FLAG_WAIT;
    }
    return tl_link_request(d->link, &h, NULL, d->request.weights, slice_bytes(d),
                           false);
}

static int ask_leave(struct tl_direct *d) {
    struct tl_header h = header_of(d, TL_KIND_LEAVE);
    h.position = d->request.step;
    return tl_link_request(d->link, &h, NULL, NULL, 0, false);
}

int direct_ask(struct tl_direct *d) {
    const struct tl_direct_request *r = &d->request;
    switch (r->op) {
    case TL_DIRECT_JOIN:
        d->asked = TL_KIND_JOIN;
        return ask_join(d, r->incarnation, r->sequence);
    case TL_DIRECT_PUSH:
        d->asked = TL_KIND_PUSH;
        return ask_push(d, d->asked);
    case TL_DIRECT_PUSH_PULL:
        d->asked = d->push_settled ? TL_KIND_PULL
                   : r->elsewhere  ? TL_KIND_PUSH
                                   : TL_KIND_PUSH_PULL;
        return d->push_settled ? ask_pull(d) : ask_push(d, d->asked);
    case TL_DIRECT_PULL:
        d->asked = TL_KIND_PULL;
        return ask_pull(d);
    case TL_DIRECT_LEAVE:
        d->asked = TL_KIND_LEAVE;
        return ask_leave(d);
    case TL_DIRECT_GREET:
        break;
    }
    return tl_fail(TL_E_INVALID, "direct log: operation %d is not known", (int)r->op);
}
