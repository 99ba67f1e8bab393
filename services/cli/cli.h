/* cli.h - the subcommands of `throughline`: each a file, each a program of its own.
 *
 * argv[0] is the subcommand's name. Each returns an exit code (service.h, enum
 * tl_exit), answers --help itself, and prints errors as one line on stderr. */
#ifndef THROUGHLINE_CLI_H
#define THROUGHLINE_CLI_H

int tl_cli_run(int argc, char **argv);
int tl_cli_status(int argc, char **argv);
int tl_cli_evaluate(int argc, char **argv);
int tl_cli_checkpoints(int argc, char **argv);
int tl_cli_log(int argc, char **argv);
int tl_cli_kafka(int argc, char **argv);
int tl_cli_secret(int argc, char **argv);
int tl_cli_report(int argc, char **argv);
int tl_cli_experiment(int argc, char **argv);
int tl_cli_completion(int argc, char **argv);

#endif
