/* job_fold.c - the job as the settings of one shard's fold. */
#include "throughline/job.h"

void tl_job_fold_config(const struct tl_job *job, uint64_t parameters, uint32_t shard,
                        struct tl_fold_config *ret_config) {
    /* Each worker may be sent a version of its own, and so may an observer; more would
     * only let slow readers hold more memory. */
    const uint32_t views = (job->workers < 14 ? job->workers : 14) + 2;
    /* In sync no gradient is stale: a job may say what would be done all the same. */
    const enum tl_stale_policy policy = job->consistency == TL_SYNC
                                            ? TL_STALE_APPLY
                                            : (enum tl_stale_policy)job->stale_policy;
    struct tl_fold_config c = {
        .shard = shard,
        .shards = job->shards,
        .consistency = (enum tl_consistency)job->consistency,
        .reduce = (enum tl_reduce)job->reduce,
        .quorum = job->quorum,
        .start_workers = job->consistency == TL_ASYNC ? 0 : job->workers,
        .staleness = job->staleness,
        .max_staleness = job->max_staleness,
        .stale = {.policy = policy,
                  .after = job->stale_after,
                  .norm = job->stale_norm,
                  .lambda = job->stale_lambda,
                  .alpha = job->stale_alpha},
        .workers = job->workers,
        .clip_norm = job->clip_norm,
        .clip_value = job->clip_value,
        .refuse_nonfinite = job->refuse_nonfinite,
        .until_version = job->until_updates,
        .spare_copies = views,
        .optimizer = {.kind = (enum tl_optimizer_kind)job->optimizer,
                      .learning_rate = job->learning_rate,
                      .momentum = job->momentum,
                      .nesterov = job->nesterov,
                      .weight_decay = job->weight_decay,
                      .beta1 = job->beta1,
                      .beta2 = job->beta2,
                      .epsilon = job->epsilon},
        .schedule = {.kind = (enum tl_schedule_kind)job->schedule,
                     .warmup = job->warmup,
                     .period = job->period,
                     .factor = job->factor},
    };
    tl_shard_slice(parameters, job->shards, shard, &c.first, &c.count);
    *ret_config = c;
}
