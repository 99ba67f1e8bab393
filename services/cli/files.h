/* files.h - small things done with files by several commands. */
#ifndef THROUGHLINE_CLI_FILES_H
#define THROUGHLINE_CLI_FILES_H

#include "throughline/error.h"

/* Make `path` and every directory above it. TL_E_CONFIG: the text names which cannot
 * be. */
TL_MUST_USE int tl_make_directories(const char *path);

/* Remove a directory and all that is in it, as far as that can be done. */
void tl_remove_files(const char *path);

#endif
