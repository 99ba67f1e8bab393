/* status.h - the flags of `throughline status`. */
#ifndef THROUGHLINE_CLI_STATUS_H
#define THROUGHLINE_CLI_STATUS_H

#include "throughline/config.h"

extern const struct tl_option_table tl_status_table;

#endif
