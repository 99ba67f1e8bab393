/* dir_internal.h - the directory store's walk over its tree. */
#ifndef DIR_INTERNAL_H
#define DIR_INTERNAL_H

#include "throughline/error.h"

#include <stdint.h>

/* How the name of an unfinished object starts; no object's name starts with a dot. */
#define TL_TEMPORARY ".tmp-"

/* Objects under `root` whose names start with `prefix`, in the byte order of names. */
TL_MUST_USE int tl_dir_walk(char *root, const char *prefix,
                            int (*each)(void *ctx, const char *name, uint64_t size),
                            void *ctx);

/* Remove temporary files whose writers are dead. */
TL_MUST_USE int tl_dir_sweep(char *root);

#endif
