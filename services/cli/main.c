/* main.c - `throughline`: the command line. */
#include "throughline/config.h"
#include "throughline/service.h"

#include "cli.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

const struct tl_command tl_commands[] = {
    {"run", tl_cli_run, "run a whole job on this machine, with failures on schedule",
     "FILE"},
    {"status", tl_cli_status, "show who is there in a run", ""},
    {"evaluate", tl_cli_evaluate, "evaluate weights on the job's test set", "FILE"},
    {"checkpoints", tl_cli_checkpoints, "list, verify, export and copy checkpoints",
     "ls verify export copy"},
    {"log", tl_cli_log, "list, show and verify a run's durable log",
     "ls tail stats verify rm"},
    {"kafka", tl_cli_kafka, "start and stop a Kafka of one node on this machine",
     "up down"},
    {"secret", tl_cli_secret, "make a job's secret, or the key of one role", "FILE"},
    {"report", tl_cli_report, "show what a run or an experiment came to", "DIR"},
    {"experiment", tl_cli_experiment, "run a matrix of jobs and compare them", "FILE"},
    {"completion", tl_cli_completion, "print a completion script for bash or zsh",
     "bash zsh"},
};
const size_t tl_command_count = sizeof(tl_commands) / sizeof(tl_commands[0]);

static int usage(FILE *out, int code) {
    (void)fputs("usage: throughline COMMAND [arguments]\n\n", out);
    for (size_t i = 0; i < tl_command_count; i++) {
        (void)fprintf(out, "  %-12s  %s\n", tl_commands[i].name,
                      tl_commands[i].summary);
    }
    (void)fputs("\nthroughline COMMAND --help says more; throughline --version\n", out);
    return code;
}

static int unknown_command(const char *word) {
    const char *names[16];
    for (size_t i = 0; i < tl_command_count; i++) {
        names[i] = tl_commands[i].name;
    }
    const char *near = tl_nearest(word, names, tl_command_count);
    if (near) {
        (void)fprintf(stderr, "throughline: there is no \"%s\"; did you mean \"%s\"?\n",
                      word, near);
    } else {
        (void)fprintf(
            stderr, "throughline: there is no \"%s\"; see throughline --help\n", word);
    }
    return TL_EXIT_CONFIG;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        return usage(stderr, TL_EXIT_CONFIG);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return usage(stdout, TL_EXIT_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("throughline " TL_VERSION);
        return TL_EXIT_OK;
    }
    for (size_t i = 0; i < tl_command_count; i++) {
        if (strcmp(argv[1], tl_commands[i].name) == 0) {
            return tl_commands[i].run(argc - 1, argv + 1);
        }
    }
    return unknown_command(argv[1]);
}
