/* programs.h - where the programs are that a run starts. */
#ifndef THROUGHLINE_CLI_PROGRAMS_H
#define THROUGHLINE_CLI_PROGRAMS_H

#include "throughline/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Full path of `name` in the directories of PATH; false when it is in none of them. */
bool tl_program_in_path(const char *name, char *ret_path, size_t size);

/* Full path of one of our own services: beside the running program, else in PATH.
 * TL_E_CONFIG: nowhere; the text names both. */
TL_MUST_USE int tl_program_service(const char *name, char *ret_path, size_t size);

#endif
