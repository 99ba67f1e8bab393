/* log.h - what the files of `throughline log` share. */
#ifndef THROUGHLINE_CLI_LOG_H
#define THROUGHLINE_CLI_LOG_H

#include "throughline/config.h"
#include "throughline/job.h"
#include "throughline/log.h"

#include <stdio.h>

/* The flags, for completion. */
extern const struct tl_option_table tl_log_table;

struct tl_log_options {
    char job[TL_PATH_MAX];
    char run[TL_NAME_MAX];
    char redis[TL_PATH_MAX];
    char log[TL_PATH_MAX];
    char store[TL_PATH_MAX];
    char ledgers[TL_PATH_MAX];
    char shard[16];
    uint64_t count;
    bool json;
    uint32_t only_shard; /* from `shard`; UINT32_MAX: all */
};

/* A run's log, opened, and what is needed to read it. */
struct tl_log_view {
    const struct tl_job *job;
    const char *run;
    const char *ledgers; /* directory of the workers' ledgers, or "" */
    struct tl_log *log;
    uint64_t parameters;
};
TL_MUST_USE int tl_log_view_open(const struct tl_job *job, const char *run,
                                 const char *redis, struct tl_log_view *ret_view);
void tl_log_view_close(struct tl_log_view *v);

/* log_read.c: the last o->count records, one a line; totals of all. */
TL_MUST_USE int tl_log_tail(const struct tl_log_view *v,
                            const struct tl_log_options *o);
TL_MUST_USE int tl_log_stats(const struct tl_log_view *v,
                             const struct tl_log_options *o);

/* log_verify.c: what folding one shard's log again, alone, has shown. */
struct tl_log_verdict {
    uint32_t shard;
    uint64_t from;      /* position that the fold began after; 0: the run's begin */
    uint32_t overtaken; /* by trimming, as many times, and began anew */
    uint64_t position;  /* of the newest checkpoint */
    uint64_t version;   /* there */
    bool has_checkpoint, same_bits;
    char digest[65];  /* of the state there */
    uint64_t entries; /* read */
    uint64_t folded;  /* gradients in the state at the log's end */
    uint64_t again;   /* arrived again, and folded once */
    uint64_t refused; /* stale, late, not finite */
    uint64_t after;   /* after the job's end, or of a life that was replaced */
    uint64_t lost;    /* acknowledged, and not in the log */
    uint64_t doubled; /* folded twice */
};
TL_MUST_USE int tl_log_verify_shard(const struct tl_log_view *v, uint32_t shard,
                                    struct tl_log_verdict *ret_verdict);
bool tl_log_verdict_is_good(const struct tl_log_verdict *v);
/* All shards, printed. TL_E_CORRUPT: one of them is not as it should be. */
TL_MUST_USE int tl_log_verify(const struct tl_log_view *v, uint32_t only_shard,
                              bool json, FILE *out);

#endif
