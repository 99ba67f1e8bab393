/* trust_table.c - the options of everybody who talks to servers, or is one. */
#include "throughline/service.h"

#include <stddef.h>

#define FIELD(member)                                                                  \
    .offset = offsetof(struct tl_trust_files, member),                                 \
    .size = sizeof(((struct tl_trust_files *)NULL)->member)

static const struct tl_option rows[] = {
    {.name = "secret_file",
     .type = TL_OPT_STRING,
     FIELD(secret),
     .fallback = "",
     .doc = "File with the job's secret, or with this role's key: both ends of each "
            "connection prove that they know it. `throughline secret` makes both."},
};

const struct tl_option_table tl_trust_table = {rows, sizeof(rows) / sizeof(rows[0])};
