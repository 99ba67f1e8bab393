/* data.h - labelled images from IDX files, and each worker's share of them.
 *
 * Path:   [data] -> nn -> wire -> log -> fold
 * Thread: a set is read-only after loading; a feed belongs to one thread. */
#ifndef THROUGHLINE_DATA_H
#define THROUGHLINE_DATA_H

#include "throughline/error.h"

#include <stddef.h>
#include <stdint.h>

/* Images stay bytes in memory (47 MB for 60,000 of 28 x 28); batches become float32. */
struct tl_dataset;

/* Read images (IDX3, or IDX4 with channels) and labels (IDX1), each plain or gzip, told
 * apart by content. Everything the header says is checked against the file and
 * `classes`. TL_E_CONFIG  missing, short, too long, damaged gzip, wrong magic, counts
 * that differ, a label not below `classes`: one line naming file and field TL_E_NOMEM
 */
TL_MUST_USE int tl_dataset_load(const char *images, const char *labels, size_t classes,
                                struct tl_dataset **ret_set);
void tl_dataset_free(struct tl_dataset *d);
size_t tl_dataset_count(const struct tl_dataset *d);
size_t tl_dataset_inputs(const struct tl_dataset *d); /* bytes of one example */

/* Examples `index[0..n)` as float32 scaled to [-1, 1] (v / 127.5 - 1), and labels. */
void tl_dataset_gather(const struct tl_dataset *d, const uint32_t *index, size_t n,
                       float *inputs, uint8_t *labels);

/* The deterministic order of one worker's examples. In epoch e the whole set is
 * permuted by (seed, e), the same for all workers, and worker w of `workers` takes
 * every workers-th from w on; so the workers' shares of an epoch are disjoint and
 * complete, and differ by at most one example in size. Batch number n (from 1, the
 * record's sequence) has examples (n-1)*batch ... of the worker's endless stream of
 * epochs: any position can be asked for directly. A worker that joins beyond the
 * declared number (worker >= workers) takes the share of worker % workers in an order
 * of its own.
 *   TL_E_INVALID  workers or batch is 0, more than 2^31 - 1 examples
 *   TL_E_CONFIG   more workers than examples */
struct tl_feed;
TL_MUST_USE int tl_feed_new(size_t examples, uint64_t seed, uint32_t worker,
                            uint32_t workers, size_t batch, struct tl_feed **ret_feed);
void tl_feed_free(struct tl_feed *f);
/* Indices of batch `sequence`; every batch is full (it may span two epochs). */
void tl_feed_batch(struct tl_feed *f, uint64_t sequence, uint32_t *ret_index);
/* Epoch (from 0) in which batch `sequence` begins. */
uint64_t tl_feed_epoch(const struct tl_feed *f, uint64_t sequence);

/* ---- random numbers, the same on every machine (splitmix64) ------------------- */
uint64_t tl_random_next(uint64_t *state);
float tl_random_unit(uint64_t *state); /* [0, 1) */
/* A new stream for (seed, a, b). */
uint64_t tl_random_mix(uint64_t seed, uint64_t a, uint64_t b);

#endif
