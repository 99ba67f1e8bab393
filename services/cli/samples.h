/* samples.h - the monitor's samples, read from the timeline as it grows. */
#ifndef THROUGHLINE_CLI_SAMPLES_H
#define THROUGHLINE_CLI_SAMPLES_H

#include "throughline/service.h"

#include <stdbool.h>
#include <stdint.h>

/* What of a sample the command line shows; docs/timeline.md describes them whole. */
struct tl_sample {
    double t; /* when its weights were pulled, seconds since the run's start */
    bool final;
    bool has_evaluation;
    uint64_t version; /* that was evaluated */
    double accuracy, loss;
    bool has_gradients;
    uint64_t folded, lost, duplicated;
    uint64_t late, stale, nonfinite; /* refused */
};

/* The next sample that is whole; false: none so far. Lines of other kinds, and damaged
 * ones, are passed over. */
bool tl_samples_next(struct tl_timeline_reader *r, struct tl_sample *ret_sample);

#endif
