/* job_check.c - what must hold between the keys of a job. */
#include "throughline/job.h"

#include <string.h>

/* A worker holds one connection to each server; checkpointer, monitor, command line and
 * a worker's successor need theirs too. */
#define OTHER_CONNECTIONS 4u

static int check_name(const char *name) {
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(name)) {
        return tl_fail(TL_E_CONFIG,
                       "\"name\" must be lower-case letters, digits and dashes, not "
                       "\"%s\"",
                       name);
    }
    return 0;
}

bool tl_job_has_store(const struct tl_job *job) {
    return job->strategy == TL_STRATEGY_CHECKPOINT ||
           job->strategy == TL_STRATEGY_STATELESS ||
           job->strategy == TL_STRATEGY_HYBRID;
}

uint32_t tl_job_replicas(const struct tl_job *job) {
    switch (job->strategy) {
    case TL_STRATEGY_CHAIN:
        return job->chain_length;
    case TL_STRATEGY_HYBRID:
        return 1 + job->standbys;
    default:
        return 0;
    }
}

bool tl_job_is_logged(const struct tl_job *job) {
    return job->strategy == TL_STRATEGY_STATELESS ||
           job->strategy == TL_STRATEGY_HYBRID || job->recovery == TL_RECOVERY_REPLAY;
}

/* Another combination would promise what it does not keep. */
static int check_log(const struct tl_job *job) {
    bool is_direct = job->log[0] == '\0' || strcmp(job->log, "direct:") == 0;
    if (job->recovery == TL_RECOVERY_REPLAY && !tl_job_has_store(job)) {
        return tl_fail(TL_E_CONFIG, "\"recovery\" is \"replay\", which is of use with "
                                    "the strategy \"checkpoint\"");
    }
    if (tl_job_is_logged(job) && strcmp(job->log, "direct:") == 0) {
        return tl_fail(
            TL_E_CONFIG,
            "\"log.url\" is direct:, but the strategies \"stateless\" and "
            "\"hybrid\" and the recovery \"replay\" need redis: or kafka://host:port");
    }
    if (!tl_job_is_logged(job) && !is_direct) {
        return tl_fail(
            TL_E_CONFIG,
            "\"log.url\" names a durable log, which is of use with the "
            "strategy \"stateless\", or with \"checkpoint\" and the recovery "
            "\"replay\"");
    }
    return 0;
}

static int check_strategy(const struct tl_job *job) {
    int rc = check_log(job);
    if (rc != 0 || !tl_job_has_store(job)) {
        return rc;
    }
    if (job->store[0] == '\0') {
        return tl_fail(TL_E_CONFIG, "\"checkpoint.store\" is missing: the strategies "
                                    "\"checkpoint\", \"stateless\" and \"hybrid\" need "
                                    "one");
    }
    if (job->checkpoint_updates == 0 && job->checkpoint_seconds == 0.0) {
        return tl_fail(TL_E_CONFIG,
                       "\"checkpoint.every_updates\" and \"checkpoint.every_seconds\" "
                       "are both 0: the strategies \"checkpoint\", \"stateless\" "
                       "and \"hybrid\" need one of them");
    }
    return 0;
}

static int check_workers(const struct tl_job *job) {
    if (job->consistency == TL_SYNC && job->quorum > job->workers) {
        return tl_fail(TL_E_CONFIG,
                       "\"sync.quorum\" is %u, more than \"workers\", which is %u",
                       job->quorum, job->workers);
    }
    if (job->max_connections < job->workers + OTHER_CONNECTIONS) {
        return tl_fail(TL_E_CONFIG,
                       "\"server.max_connections\" is %u; %u workers need at least %u",
                       job->max_connections, job->workers,
                       job->workers + OTHER_CONNECTIONS);
    }
    if (job->request_ms > job->patience_ms) {
        return tl_fail(TL_E_CONFIG,
                       "\"worker.request_ms\" is %u, more than \"worker.patience_ms\", "
                       "which is %u",
                       job->request_ms, job->patience_ms);
    }
    return 0;
}

static int check_optimizer(const struct tl_job *job) {
    if (job->optimizer == TL_SGD && job->nesterov && job->momentum == 0.0) {
        return tl_fail(TL_E_CONFIG,
                       "\"optimizer.nesterov\" needs \"optimizer.momentum\" "
                       "above 0");
    }
    if (job->schedule != TL_CONSTANT && job->period == 0) {
        return tl_fail(TL_E_CONFIG, "\"schedule.period\" must be above 0 for \"%s\"",
                       job->schedule == TL_STEP ? "step" : "cosine");
    }
    return 0;
}

static int check_stale(const struct tl_job *job) {
    bool needs_sgd =
        job->stale_policy == TL_STALE_BACKLOG || job->stale_policy == TL_STALE_ELASTIC;
    if (job->consistency != TL_SYNC && needs_sgd && job->optimizer != TL_SGD) {
        return tl_fail(TL_E_CONFIG,
                       "\"stale.policy\" \"%s\" needs \"optimizer.kind\" \"sgd\"",
                       job->stale_policy == TL_STALE_BACKLOG ? "backlog" : "elastic");
    }
    return 0;
}

/* An accuracy that nobody measures is never reached. */
static int check_end(const struct tl_job *job) {
    if (job->until_updates == 0 && job->until_seconds == 0.0 &&
        job->until_accuracy == 0.0) {
        return tl_fail(TL_E_CONFIG, "the job has no end: give \"until.updates\", "
                                    "\"until.seconds\" or \"until.accuracy\"");
    }
    if (job->until_accuracy > 0.0 && job->evaluate_seconds == 0.0 &&
        job->evaluate_versions == 0) {
        return tl_fail(TL_E_CONFIG, "\"until.accuracy\" is never measured: give "
                                    "\"monitor.every_seconds\" or "
                                    "\"monitor.every_versions\"");
    }
    return 0;
}

int tl_job_check(const struct tl_job *job) {
    int rc = tl_config_complete(&tl_job_table, job);
    if (rc == 0) {
        rc = check_name(job->name);
    }
    if (rc == 0) {
        rc = check_strategy(job);
    }
    if (rc == 0) {
        rc = check_workers(job);
    }
    if (rc == 0) {
        rc = check_optimizer(job);
    }
    if (rc == 0) {
        rc = check_stale(job);
    }
    return rc != 0 ? rc : check_end(job);
}
