/* flags.h - what all subcommands do alike with their arguments. */
#ifndef THROUGHLINE_CLI_FLAGS_H
#define THROUGHLINE_CLI_FLAGS_H

#include "throughline/config.h"

#include <stdbool.h>
#include <stddef.h>

/* A table and the structure that it fills. */
struct tl_flag_target {
    const struct tl_option_table *table;
    void *target;
};

/* Is --help or -h among the arguments? */
bool tl_flags_want_help(int argc, char *const *argv);

/* Try argv[0] against each target. As tl_config_flag(); 0 only for what is no flag: an
 * unknown one is TL_E_CONFIG, with the nearest right one; so are flags that may be
 * given several times and are in no table (`others`, NULL-terminated; may be NULL),
 * which the caller tries first. */
TL_MUST_USE int tl_flags_take(const struct tl_flag_target *targets, size_t count,
                              const char *const *others, int argc, char *const *argv);

/* A flag outside of the tables: its value from "--flag=value" or "--flag" "value".
 * Returns how many entries were taken, 0 when argv[0] is another, TL_E_CONFIG when the
 * value is missing. */
TL_MUST_USE int tl_flags_value(const char *flag, int argc, char *const *argv,
                               const char **ret_value);

/* A line on stderr about what is no failure; `ctx` is not used. */
void tl_flags_tell(void *ctx, const char *text);

/* Report the failure of `command` on stderr and turn it into an exit code. */
int tl_flags_fail(const char *command, int error);

/* The value of --shard: a number, or "all", which is UINT32_MAX. TL_E_CONFIG. */
TL_MUST_USE int tl_flags_shard(const char *text, uint32_t *ret_shard);

#endif
