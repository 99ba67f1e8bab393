/* job_log.c - the log that a job's file asks for. */
#include "throughline/fold.h"

#include "durable.h"

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
        .max_bytes = job->log_max_bytes,
        .replication = job->log_replication,
        .min_insync = job->log_min_insync,
        .max_entry_bytes = job->log_max_entry_bytes,
        .kafka = job->kafka,
    };
    return tl_log_open(&config, ret_log);
}
