/* trim.c - a durable log keeps what the oldest snapshot may have to be brought forward
 * with, and no more. On the store's thread: a broker may take its time.
 *
 * The log learns of each snapshot, also of those that an earlier process took and did
 * not live to tell of: workers may be waiting for nothing else. */
#include "checkpointer.h"

#include <inttypes.h>
#include <string.h>

#define TRIM_MS 2000

/* The lowest position from which anybody may have to read. */
static int oldest_position(const struct store_thread *t, uint32_t shard,
                           uint64_t *ret_position) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int r = tl_snapshot_list(t->store, shard, &list, &count);
    if (r < 0) {
        return r;
    }
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        oldest = list[i].position < oldest ? list[i].position : oldest;
    }
    tl_manifests_free(list, count);
    *ret_position = count > 0 ? oldest : 0;
    return 0;
}

static int open_log(struct store_thread *t, uint64_t parameters) {
    return t->log != NULL
               ? 0
               : tl_log_open_job(t->job, t->run, t->redis, parameters, &t->log);
}

/* Said once until it succeeds. */
static void complain(struct trim *trim, uint32_t shard, uint64_t position, int error) {
    if (!trim->has_complained) {
        tl_log_line(TL_WARNING, "the log is not trimmed", "shard", tl_text_u64(shard),
                    "position", tl_text_u64(position), "error", tl_error_name(error),
                    "why", tl_error_text(), NULL);
    }
    trim->has_complained = true;
}

static void trim_shard(struct store_thread *t, uint32_t shard) {
    struct trim *trim = &t->trims[shard];
    uint64_t position = 0;
    int r = open_log(t, trim->parameters);
    r = r == 0 ? oldest_position(t, shard, &position) : r;
    r = r == 0
            ? tl_log_trim(t->log, shard, position, trim->covered, tl_now_ms() + TRIM_MS)
            : r;
    if (r < 0) {
        complain(trim, shard, position, r);
        return;
    }
    *trim = (struct trim){.is_due = false};
}

void trim_want(struct store_thread *t, const struct tl_manifest *newest) {
    struct trim *trim = &t->trims[newest->shard];
    if (tl_job_is_logged(t->job) && t->job->log_trim &&
        strcmp(newest->run, t->run) == 0) {
        trim->is_due = true;
        trim->covered = newest->position;
        trim->parameters = newest->parameters;
    }
}

void trim_try(struct store_thread *t) {
    t->must_trim = false;
    for (uint32_t i = 0; i < t->job->shards; i++) {
        if (t->trims[i].is_due) {
            trim_shard(t, i);
        }
        t->must_trim = t->must_trim || t->trims[i].is_due;
    }
}
