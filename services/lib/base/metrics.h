/* metrics.h - the registry's entries; inside base/ only. */
#ifndef TL_BASE_METRICS_H
#define TL_BASE_METRICS_H

#include "throughline/service.h"

#include <stdatomic.h>

/* Entries are complete before they are linked in, and never removed: readers follow
 * `next` without a lock. */
struct tl_metric {
    enum tl_metric_type type;
    char *name, *labels, *help; /* labels: "" for none */
    _Atomic double value;       /* counter, gauge; a histogram's sum */
    size_t bound_count;
    double *bounds;
    _Atomic uint64_t *buckets; /* bound_count + 1: the last is above every bound */
    struct tl_metric *_Atomic next;
};

/* The first entry, in order of registration, or NULL. */
struct tl_metric *tl_metrics_first(void);

#endif
