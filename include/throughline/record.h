/* record.h - one entry of a shard's log: everything that changes a shard's state.
 *
 * Path:   nn -> wire -> log -> [record] -> fold -> chain, snapshot, serve
 * Pure:   data only.
 *
 * A record's identity is (worker, incarnation, sequence). `sequence` counts the
 * batches of one worker from 1, over all its incarnations: batch number n of
 * worker w is computed and folded once, whoever computes it. */
#ifndef THROUGHLINE_RECORD_H
#define THROUGHLINE_RECORD_H

#include "throughline/codec.h"

#include <stdint.h>

enum tl_record_kind {
    TL_RECORD_GRADIENT = 1, /* values[] is the gradient's slice for this shard */
    TL_RECORD_JOIN = 2,     /* the worker contributes from `step` on */
    TL_RECORD_LEAVE = 3,    /* the worker contributes nothing from `step` on */
    TL_RECORD_RATE = 4,     /* the base learning rate becomes `rate` */
};

struct tl_record {
    enum tl_record_kind kind;
    uint32_t shard;
    uint32_t worker;           /* 0 .. TL_WORKER_LIMIT-1 */
    uint64_t position;         /* in the shard's log, 1 for the first record */
    uint64_t epoch;            /* of the writer that put it there */
    uint64_t incarnation;      /* of the worker; higher ones fence lower ones */
    uint64_t sequence;         /* GRADIENT: this batch. JOIN: the last sequence that
                                  the worker saw acknowledged, 0 for none */
    uint64_t read_version;     /* GRADIENT: version of the weights it was computed on */
    uint64_t step;             /* JOIN, LEAVE: first step concerned (sync) */
    double rate;               /* RATE */
    float norm;                /* GRADIENT: L2 norm of the whole gradient, all shards */
    enum tl_encoding encoding; /* GRADIENT: of values */
    const void *values;        /* GRADIENT: the slice, borrowed */
    uint64_t value_count;      /* GRADIENT: how many values it has */
    uint64_t value_bytes;      /* GRADIENT: size in an encoding other than float32 */
};

/* Largest worker number plus one; bounds every table of workers. */
#define TL_WORKER_LIMIT 1024u

#endif
