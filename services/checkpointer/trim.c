/* trim.c - a durable log keeps what the oldest snapshot may have to be brought forward
 * with, and no more. On the store's thread: a broker may take its time. */
#include "checkpointer.h"

#include <inttypes.h>

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

static int open_log(struct store_thread *t, const struct tl_manifest *m) {
    return t->log != NULL
               ? 0
               : tl_log_open_job(t->job, m->run, t->redis, m->parameters, &t->log);
}

/* That old entries stay is a matter of space alone: said, and tried with the next. */
void trim_log(struct store_thread *t, const struct upload *u) {
    uint64_t position = 0;
    if (!tl_job_is_logged(t->job) || !t->job->log_trim) {
        return;
    }
    int r = open_log(t, &u->meta);
    r = r == 0 ? oldest_position(t, u->meta.shard, &position) : r;
    r = r == 0 ? tl_log_trim(t->log, u->meta.shard, position, tl_now_ms() + TRIM_MS)
               : r;
    if (r < 0) {
        tl_log_line(TL_WARNING, "the log is not trimmed", "shard",
                    tl_text_u64(u->meta.shard), "position", tl_text_u64(position),
                    "error", tl_error_name(r), "why", tl_error_text(), NULL);
    }
}
