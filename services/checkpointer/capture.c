/* capture.c - a state on its way from a server to the store.
 *
 * The state is never whole in this process: what the link receives goes into the
 * snapshot piece by piece. The reply's header, which comes first, says which cut it is.
 */
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

static int fail_capture(struct shard *s, int failure) {
    s->capture.failure = failure;
    (void)snprintf(s->capture.why, sizeof(s->capture.why), "%s", tl_error_text());
    return failure;
}

static void describe(struct shard *s, const struct tl_header *reply) {
    const struct checkpointer *c = s->owner;
    struct tl_manifest *m = &s->capture.meta;
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

static int start_writer(struct shard *s) {
    const struct tl_header *reply = tl_link_reply(s->link);
    const struct tl_snapshot_options options = {
        .zstd_level = s->owner->job.checkpoint_zstd,
        .part_bytes = s->owner->job.checkpoint_part,
        .keep = s->owner->job.checkpoint_keep,
    };
    if (reply->length > largest_state(s)) {
        return tl_fail(TL_E_TOOBIG,
                       "shard %" PRIu32 " sends a state of %" PRIu64
                       " bytes, at most %" PRIu64 " are possible",
                       s->number, reply->length, largest_state(s));
    }
    describe(s, reply);
    return tl_snapshot_begin(s->owner->store, &s->capture.meta, &options,
                             &s->capture.writer);
}

void capture_begin(struct shard *s, int64_t now_ms) {
    s->capture = (struct capture){.started_ms = now_ms};
}

int capture_take(void *ctx, const void *bytes, size_t size) {
    struct shard *s = ctx;
    int r = s->capture.writer == NULL ? start_writer(s) : 0;
    if (r == 0) {
        r = tl_snapshot_write(s->capture.writer, bytes, size);
    }
    return r < 0 ? fail_capture(s, r) : 0;
}

void capture_abandon(struct shard *s) {
    tl_snapshot_abandon(s->capture.writer);
    s->capture.writer = NULL;
}

static void record(struct shard *s, const struct tl_manifest *m) {
    const struct gauges *g = &s->owner->gauges;
    const int64_t took_ms = tl_now_ms() - s->capture.started_ms;
    uint64_t stored = 0;
    for (uint32_t i = 0; i < m->part_count; i++) {
        stored += m->parts[i].bytes;
    }
    tl_metric_add(g->snapshots, 1);
    tl_metric_add(g->bytes, (double)stored);
    tl_metric_observe(g->seconds, (double)took_ms / 1000.0);
    tl_metric_set(g->version[s->number], (double)m->version);
    tl_log_line(TL_INFO, "snapshot taken", "shard", tl_text_u64(m->shard), "version",
                tl_text_u64(m->version), "position", tl_text_u64(m->position), "epoch",
                tl_text_u64(m->epoch), "bytes", tl_text_u64(stored), "ms",
                tl_text_i64(took_ms), NULL);
}

/* The new snapshot is safe by now: that old ones stay is a matter of space alone. */
static void prune(const struct shard *s) {
    uint32_t removed = 0;
    const int r = tl_snapshot_prune(s->owner->store, s->number,
                                    s->owner->job.checkpoint_keep, &removed);
    tl_metric_add(s->owner->gauges.pruned, removed);
    if (r < 0) {
        tl_log_line(TL_WARNING, "old snapshots stay", "shard", tl_text_u64(s->number),
                    "error", tl_error_name(r), "why", tl_error_text(), NULL);
    }
}

int capture_finish(struct shard *s) {
    struct tl_manifest m;
    struct tl_snapshot_writer *w = s->capture.writer;
    if (w == NULL) {
        return fail_capture(s, tl_fail(TL_E_PROTOCOL,
                                       "shard %" PRIu32 " sent a state of no bytes",
                                       s->number));
    }
    s->capture.writer = NULL;
    const int r = tl_snapshot_finish(w, &m);
    if (r == TL_E_EXISTS) {
        return 0; /* another checkpointer was faster */
    }
    if (r < 0) {
        return fail_capture(s, r);
    }
    record(s, &m);
    tl_manifest_done(&m);
    prune(s);
    return 0;
}
