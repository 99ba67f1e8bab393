/* secret.h - secrets are made here, and go nowhere but into files. */
#ifndef THROUGHLINE_CLI_SECRET_H
#define THROUGHLINE_CLI_SECRET_H

#include "throughline/error.h"

#include <stdio.h>

/* Write a new job's secret to `path`, which only this user may then read.
 *   TL_E_CONFIG  it exists, or cannot be made */
TL_MUST_USE int tl_secret_make(const char *path);

/* The flags of `throughline secret`, one a line, for shell completion. */
void tl_secret_flags(FILE *out);

#endif
