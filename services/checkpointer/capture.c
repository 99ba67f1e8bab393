/* capture.c - a state on its way from a server into the spool.
 *
 * The state is never whole in this process's memory: what the link receives goes on
 * piece by piece. The reply's header, which comes first, says which cut it is. */
#include "checkpointer.h"

#include <inttypes.h>
#include <stdio.h>

/* No state is larger: the weights, what an optimizer and an open barrier keep of each
 * of them, and tables. */
#define STATE_ARRAYS_MAX 8u
#define STATE_HEAD_MAX   (16u << 20)

static uint64_t largest_state(const struct shard *s) {
    return s->welcome.count * sizeof(float) * STATE_ARRAYS_MAX + STATE_HEAD_MAX;
}

static void describe(const struct shard *s, const struct tl_header *reply,
                     struct tl_manifest *m) {
    const struct checkpointer *c = s->owner;
    *m = (struct tl_manifest){
        .fold_digest = c->fold_digest,
        .shard = s->number,
        .shards = s->welcome.shards,
        .first = s->welcome.first,
        .count = s->welcome.count,
        .parameters = s->welcome.parameters,
        .version = reply->read_version,
        .position = reply->position,
        .epoch = reply->epoch,
    };
    (void)snprintf(m->job, sizeof(m->job), "%s", c->job.name);
    (void)snprintf(m->run, sizeof(m->run), "%s", c->service.run);
}

static int start_spool(struct shard *s) {
    const struct tl_header *reply = tl_link_reply(s->link);
    if (reply->length > largest_state(s)) {
        return tl_fail(TL_E_TOOBIG,
                       "shard %" PRIu32 " sends a state of %" PRIu64
                       " bytes, at most %" PRIu64 " are possible",
                       s->number, reply->length, largest_state(s));
    }
    describe(s, reply, &s->capture.meta);
    return spool_open(&s->capture.spool, s->owner->options.spool);
}

void capture_begin(struct shard *s, int64_t now_ms) {
    s->capture = (struct capture){.started_ms = now_ms, .spool = {.fd = -1}};
}

int capture_take(void *ctx, const void *bytes, size_t size) {
    struct shard *s = ctx;
    int r = s->capture.spool.fd < 0 ? start_spool(s) : 0;
    if (r == 0) {
        r = spool_write(&s->capture.spool, bytes, size);
    }
    if (r < 0) {
        s->capture.failure = r;
        (void)snprintf(s->capture.why, sizeof(s->capture.why), "%s", tl_error_text());
    }
    return r;
}

void capture_abandon(struct shard *s) {
    spool_close(&s->capture.spool);
}
