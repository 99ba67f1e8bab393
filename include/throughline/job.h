/* job.h - what is trained, how, until when: the job file, checked.
 *
 * Every service of a job reads the same job (`--job FILE`, flags and environment on
 * top). The option table is the reference: docs/configuration.md is written from it. */
#ifndef THROUGHLINE_JOB_H
#define THROUGHLINE_JOB_H

#include "throughline/config.h"
#include "throughline/error.h"
#include "throughline/fold.h"
#include "throughline/s3.h"
#include "throughline/wire.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum tl_strategy {
    TL_STRATEGY_NONE = 0,
    TL_STRATEGY_CHECKPOINT = 1,
    TL_STRATEGY_STATELESS = 2,
    TL_STRATEGY_CHAIN = 3,
    TL_STRATEGY_HYBRID = 4,
};
/* What a server does with what came after its checkpoint: it is lost, and counted; or a
 * durable log has it. */
enum tl_recovery { TL_RECOVERY_RESUME = 0, TL_RECOVERY_REPLAY = 1 };
/* What a worker does while no server is there and gradients go to a durable log. */
enum tl_while_away { TL_AWAY_CONTINUE = 0, TL_AWAY_LOCAL_STEPS = 1, TL_AWAY_WAIT = 2 };

struct tl_job {
    char name[TL_NAME_MAX];         /* "name" */
    json_t *model;                  /* "model": object, or a path to one */
    char model_source[TL_PATH_MAX]; /* that file, or the one it stands in */
    char train_images[TL_PATH_MAX], train_labels[TL_PATH_MAX]; /* "data.train_images" */
    char test_images[TL_PATH_MAX], test_labels[TL_PATH_MAX];
    uint64_t seed;          /* "seed" */
    uint32_t batch;         /* "batch" */
    uint32_t workers;       /* "workers" */
    uint32_t shards;        /* "shards" */
    int strategy;           /* "strategy" */
    int recovery;           /* "recovery": enum tl_recovery */
    int consistency;        /* "consistency": async, sync, ssp */
    int reduce;             /* "sync.reduce": mean, sum */
    uint32_t quorum;        /* "sync.quorum": 0 = all */
    uint64_t staleness;     /* "ssp.staleness" */
    uint64_t max_staleness; /* "async.max_staleness" */
    int stale_policy;       /* "stale.policy": enum tl_stale_policy */
    uint64_t stale_after;   /* "stale.after" */
    double stale_norm, stale_lambda, stale_alpha; /* "stale.*" */
    int encoding;                                 /* "encoding": enum tl_encoding */
    double topk_fraction;                         /* "topk.fraction" */
    int optimizer;                                /* "optimizer.kind": sgd, adam */
    double learning_rate, momentum, weight_decay, beta1, beta2, epsilon;
    bool nesterov; /* "optimizer.*" */
    int schedule;  /* "schedule.kind" */
    uint64_t warmup, period;
    double factor;                /* "schedule.*" */
    double clip_norm, clip_value; /* "clip.norm", "clip.value" */
    bool refuse_nonfinite;        /* "refuse_nonfinite" */
    uint64_t until_updates;       /* "until.updates": 0 = no such end */
    double until_seconds;         /* "until.seconds" */
    double until_accuracy;        /* "until.accuracy": [0, 1] */
    char store[TL_PATH_MAX];      /* "checkpoint.store" URL; a local run fills it in */
    uint64_t checkpoint_updates;  /* "checkpoint.every_updates": 0 = not by updates */
    double checkpoint_seconds;    /* "checkpoint.every_seconds": 0 = not by time */
    uint32_t checkpoint_keep;     /* "checkpoint.keep" */
    uint32_t checkpoint_zstd;     /* "checkpoint.zstd_level": 0 = off */
    uint64_t checkpoint_part;     /* "checkpoint.part_bytes": 0 = the store's own */
    struct tl_s3_options s3;      /* "s3.*": for a store s3://bucket/prefix */
    double evaluate_seconds;      /* "monitor.every_seconds" */
    uint64_t evaluate_versions;   /* "monitor.every_versions" */
    uint32_t evaluate_examples;   /* "monitor.examples": 0 = the whole test set */
    double evaluate_share;        /* "monitor.share": of one core, at most */
    uint32_t lease_ms;            /* "membership.lease_ms" */
    uint32_t patience_ms;         /* "worker.patience_ms" */
    uint32_t request_ms;          /* "worker.request_ms" */
    bool unix_checksum;           /* "wire.unix_checksum" */
    bool shared_memory;           /* "wire.shared_memory" */
    int while_away;               /* "worker.while_away" */
    uint64_t max_pending_updates; /* "worker.max_pending_updates" */
    uint64_t max_pending_bytes;   /* "worker.max_pending_bytes" */
    bool ledger_sync;             /* "worker.ledger_sync" */
    char log[TL_PATH_MAX];        /* "log.url": "": by the strategy */
    uint64_t log_max_bytes;       /* "log.max_bytes" */
    uint64_t log_max_entry_bytes; /* "log.max_entry_bytes" */
    uint32_t log_in_flight;       /* "log.in_flight" */
    bool log_trim;                /* "log.trim" */
    uint32_t log_replication;     /* "log.replication" */
    uint32_t log_min_insync;      /* "log.min_insync_replicas" */
    json_t *kafka;                /* "kafka": settings for librdkafka, or NULL */
    uint32_t standbys;            /* "hybrid.standbys" */
    uint32_t chain_length;        /* "chain.length" */
    int chain_replication;        /* "chain.replication": enum tl_replication */
    uint64_t chain_every;         /* "chain.every" */
    uint32_t max_connections;     /* "server.max_connections" */
    uint32_t idle_ms;             /* "server.idle_ms" a frame must be complete within */
};

extern const struct tl_option_table tl_job_table;

/* Does a server start from a checkpoint? */
bool tl_job_has_store(const struct tl_job *job);
/* How many replicas hold each shard; 0: the strategy has none, but a server. */
uint32_t tl_job_replicas(const struct tl_job *job);
/* Do gradients go to a durable log, and not to the servers? */
bool tl_job_is_logged(const struct tl_job *job);

/* Load FILE, then the environment; flags are the caller's to add with tl_config_flag()
 * before tl_job_check(). The caller's memory; tl_job_done() frees what it owns. */
TL_MUST_USE int tl_job_load(const char *path, struct tl_job *ret_job);
void tl_job_done(struct tl_job *job);

/* Checks across fields (a strategy that needs a store, shards <= parameters, quorum <=
 * workers, an end that can come, ...). TL_E_CONFIG, one line. */
TL_MUST_USE int tl_job_check(const struct tl_job *job);

/* Digest of what all services must agree on (model, seed, shards, consistency,
 * optimizer, ...): travels in HELLO. Never 0. TL_E_NOMEM. */
TL_MUST_USE int tl_job_digest(const struct tl_job *job, uint64_t *ret_digest);
/* Digest of what a state depends on: in manifests (leaves out data, ends, intervals).
 * TL_E_NOMEM. */
TL_MUST_USE int tl_job_fold_digest(const struct tl_job *job, uint64_t *ret_digest);

/* The fold of one shard of this job. */
void tl_job_fold_config(const struct tl_job *job, uint64_t parameters, uint32_t shard,
                        struct tl_fold_config *ret_config);

/* Write the resolved job to a file that tl_job_load() reads back the same. */
TL_MUST_USE int tl_job_save(const struct tl_job *job, const char *path);

#endif
