/* job_log.c - the log that a job's file asks for. */
#include "throughline/fold.h"

#include "durable.h"

#include <inttypes.h>
#include <string.h>

/* The largest slice's gradient in its largest encoding. */
static uint64_t record_bytes(const struct tl_job *job, uint64_t parameters) {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t most = 0;
    tl_shard_slice(parameters, job->shards, 0, &first, &count);
    for (unsigned e = 0; e < TL_ENCODINGS; e++) {
        uint64_t bytes = tl_codec_size_max((enum tl_encoding)e, count);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static bool is_bounded(const struct tl_job *job) {
    return tl_job_is_logged(job) && strncmp(job->log, "kafka://", 8) != 0;
}

/* A log that is trimmed below the oldest of the checkpoints kept holds what lies
 * between any two of them, and what comes after the newest: each gets its share. */
uint64_t tl_log_room(const struct tl_job *job) {
    uint64_t shares = job->log_trim ? job->checkpoint_keep : 1;
    return is_bounded(job) ? job->log_max_bytes / shares : 0;
}

/* A checkpoint has something new only when a step of sync fits in; while it is taken
 * the workers should be able to go on. */
int tl_log_check_job(const struct tl_job *job, uint64_t parameters) {
    uint64_t first = 0;
    uint64_t count = 0;
    tl_shard_slice(parameters, job->shards, 0, &first, &count);
    uint64_t gradient = tl_codec_size_max((enum tl_encoding)job->encoding, count) +
                        TL_HEADER_BYTES + TL_TRAILER_BYTES;
    uint64_t least = UINT64_C(2) * job->workers * gradient;
    uint64_t shares = job->log_trim ? job->checkpoint_keep : 1;
    if (!is_bounded(job) || tl_log_room(job) >= least) {
        return 0;
    }
    return tl_fail(TL_E_CONFIG,
                   "\"log.max_bytes\" is %" PRIu64 ": %u workers need room for %" PRIu64
                   " gradients of %" PRIu64 " bytes, \"checkpoint.keep\" times: at "
                   "least %" PRIu64,
                   job->log_max_bytes, job->workers, UINT64_C(2) * job->workers,
                   gradient, least * shares);
}

int tl_log_open_job(const struct tl_job *job, const char *run, const char *redis,
                    uint64_t parameters, struct tl_log **ret_log) {
    bool is_own = job->log[0] == '\0' || strcmp(job->log, "redis:") == 0;
    if (is_own && strcmp(redis, "off") == 0) {
        return tl_fail(TL_E_CONFIG,
                       "log.url: redis: is the run's own Redis, but redis is "
                       "off: name another");
    }
    uint64_t digest = 0;
    int rc = tl_job_fold_digest(job, &digest);
    if (rc == 0) {
        rc = tl_log_check_job(job, parameters);
    }
    if (rc != 0) {
        return rc;
    }
    const struct tl_log_config config = {
        .url = is_own ? redis : job->log,
        .job = job->name,
        .run = run,
        .identity = tl_log_identity(job->name, run, digest),
        .shards = job->shards,
        .workers = job->workers,
        .record_bytes = record_bytes(job, parameters),
        .max_bytes = tl_log_room(job),
        .keeps_all = !job->log_trim,
        .replication = job->log_replication,
        .min_insync = job->log_min_insync,
        .max_entry_bytes = job->log_max_entry_bytes,
        .kafka = job->kafka,
    };
    return tl_log_open(&config, ret_log);
}
