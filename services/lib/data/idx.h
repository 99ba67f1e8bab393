/* idx.h - one IDX file in memory (inside the data stage). */
#ifndef TL_DATA_IDX_H
#define TL_DATA_IDX_H

#include "throughline/error.h"

#include <stddef.h>
#include <stdint.h>

#define TL_IDX_RANK_MAX 4u

/* An array of unsigned bytes, row-major. `bytes` is owned: free it. */
struct tl_idx {
    size_t rank;
    uint32_t dims[TL_IDX_RANK_MAX];
    uint8_t *bytes;
};

/* Read a whole file, plain or gzip, whose rank is within [min_rank, max_rank]; the
 * first dimension counts examples. Errors as in data.h. */
TL_MUST_USE int tl_idx_read(const char *path, size_t min_rank, size_t max_rank,
                            struct tl_idx *ret_idx);

#endif
