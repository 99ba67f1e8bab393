/* kafka.h - the flags of `throughline kafka`, for completion. */
#ifndef THROUGHLINE_CLI_KAFKA_H
#define THROUGHLINE_CLI_KAFKA_H

#include "throughline/config.h"

extern const struct tl_option_table tl_kafka_table;

#endif
