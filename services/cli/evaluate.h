/* evaluate.h - the flags of `throughline evaluate`. */
#ifndef THROUGHLINE_CLI_EVALUATE_H
#define THROUGHLINE_CLI_EVALUATE_H

#include "throughline/config.h"

extern const struct tl_option_table tl_evaluate_table;

#endif
