/* spellings.h - all flags, or all variables, of several tables; inside base/ only. */
#ifndef TL_BASE_SPELLINGS_H
#define TL_BASE_SPELLINGS_H

#include "option.h"

struct tl_spellings {
    size_t count;
    const char **names;
    char (*texts)[TL_VARIABLE_MAX];
};

TL_MUST_USE int tl_spellings_of(const struct tl_option_table *const *tables,
                                size_t table_count,
                                void (*spell)(const char *name, char *, size_t),
                                struct tl_spellings *ret_spellings);
void tl_spellings_done(struct tl_spellings *s);

/* Fail with "FLAG is not known", and what was probably meant. */
int tl_flag_unknown(const struct tl_option_table *const *tables, size_t table_count,
                    const char *flag);
/* A log line for each THROUGHLINE_* variable that is not known but nearly. */
void tl_environment_warn(const struct tl_option_table *const *tables,
                         size_t table_count);

#endif
