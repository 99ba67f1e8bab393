/* s3_table.c - the settings of an S3 store, for programs that have no job. */
#include "throughline/s3.h"

#include <stddef.h>

static const char *const s3_styles[] = {"auto", "path", "virtual", NULL};

#define S3_FIELD(member)                                                               \
    .offset = offsetof(struct tl_s3_options, member),                                  \
    .size = sizeof(((struct tl_s3_options *)NULL)->member)

static const struct tl_option s3_options[] = {
#include "s3_rows.inc"
};

const struct tl_option_table tl_s3_table = {
    .options = s3_options,
    .count = sizeof(s3_options) / sizeof(s3_options[0]),
};
