/* commands.h - the table of subcommands: what runs, what is completed, what --help
 * says.
 */
#ifndef THROUGHLINE_CLI_COMMANDS_H
#define THROUGHLINE_CLI_COMMANDS_H

#include <stddef.h>

struct tl_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
    const char *arguments; /* words besides flags: "FILE", "WORD WORD ...", "" */
};
extern const struct tl_command tl_commands[];
extern const size_t tl_command_count;

#endif
