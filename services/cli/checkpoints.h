/* checkpoints.h - what the files of `throughline checkpoints` share. */
#ifndef THROUGHLINE_CLI_CHECKPOINTS_H
#define THROUGHLINE_CLI_CHECKPOINTS_H

#include "throughline/config.h"
#include "throughline/job.h"
#include "throughline/snapshot.h"

/* The flags, for completion. */
extern const struct tl_option_table tl_checkpoints_table;

struct tl_checkpoints_options {
    char store[TL_PATH_MAX];
    char job[TL_PATH_MAX];
    char output[TL_PATH_MAX];
    char shard[16];
    uint64_t version; /* 0: the newest */
    bool json;
    uint32_t only_shard; /* from `shard`; UINT32_MAX: all */
    struct tl_s3_options s3;
    bool all;
    char places[2][TL_PATH_MAX]; /* copy: from, to */
    size_t place_count;
};

/* Weights of all shards as one file that other tools read. */
TL_MUST_USE int tl_checkpoints_export(struct tl_store *store,
                                      const struct tl_checkpoints_options *o);

/* Snapshots from one store into another. */
TL_MUST_USE int tl_checkpoints_copy(struct tl_store *from, struct tl_store *to,
                                    const struct tl_checkpoints_options *o);

#endif
