/* completion.c - `throughline completion bash|zsh`: scripts written from the tables of
 * flags, so that they never know less than the program. */
#include "throughline/job.h"
#include "throughline/service.h"

#include "checkpoints.h"
#include "cli.h"
#include "commands.h"
#include "evaluate.h"
#include "experiment.h"
#include "flags.h"
#include "kafka.h"
#include "log.h"
#include "report.h"
#include "run_options.h"
#include "secret.h"
#include "status.h"

#include <stdio.h>
#include <string.h>

static void print_flags(const char *command, FILE *out) {
    if (strcmp(command, "run") == 0) {
        for (const char *const *flag = tl_run_repeated; *flag; flag++) {
            (void)fprintf(out, "%s\n", *flag);
        }
        tl_config_flags(&tl_run_table, out);
        tl_config_flags(&tl_job_table, out);
    } else if (strcmp(command, "status") == 0) {
        tl_config_flags(&tl_status_table, out);
    } else if (strcmp(command, "evaluate") == 0) {
        tl_config_flags(&tl_evaluate_table, out);
        tl_config_flags(&tl_trust_table, out);
        tl_config_flags(&tl_job_table, out);
    } else if (strcmp(command, "checkpoints") == 0) {
        tl_config_flags(&tl_checkpoints_table, out);
        tl_config_flags(&tl_s3_table, out);
    } else if (strcmp(command, "log") == 0) {
        tl_config_flags(&tl_log_table, out);
    } else if (strcmp(command, "kafka") == 0) {
        tl_config_flags(&tl_kafka_table, out);
    } else if (strcmp(command, "secret") == 0) {
        tl_secret_flags(out);
    } else if (strcmp(command, "report") == 0) {
        tl_config_flags(&tl_report_table, out);
    } else if (strcmp(command, "experiment") == 0) {
        tl_config_flags(&tl_experiment_table, out);
        tl_config_flags(&tl_job_table, out);
    }
    (void)fprintf(out, "--help\n");
}

/* The body both shells share: a case for each command, setting `words` and `files`. */
static void print_cases(FILE *out) {
    (void)fputs("  case \"$command\" in\n", out);
    for (size_t i = 0; i < tl_command_count; i++) {
        const struct tl_command *c = &tl_commands[i];
        bool takes_file =
            strcmp(c->arguments, "FILE") == 0 || strcmp(c->arguments, "DIR") == 0;
        (void)fprintf(out, "    %s)\n      files=%d\n      words='%s\n", c->name,
                      takes_file, takes_file ? "" : c->arguments);
        print_flags(c->name, out);
        (void)fputs("' ;;\n", out);
    }
    (void)fputs("    *)\n      files=0\n      words='--help --version", out);
    for (size_t i = 0; i < tl_command_count; i++) {
        (void)fprintf(out, " %s", tl_commands[i].name);
    }
    (void)fputs("' ;;\n  esac\n", out);
}

static void print_bash(FILE *out) {
    (void)fputs("# bash completion for throughline: source <(throughline completion "
                "bash)\n"
                "_throughline() {\n"
                "  local command='' words files current=${COMP_WORDS[COMP_CWORD]}\n"
                "  [ \"$COMP_CWORD\" -gt 1 ] && command=${COMP_WORDS[1]}\n",
                out);
    print_cases(out);
    (void)fputs("  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
                "  if [ \"$files\" = 1 ] && [[ $current != -* ]]; then\n"
                "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
                "    compopt -o filenames\n"
                "  fi\n"
                "}\n"
                "complete -F _throughline throughline\n",
                out);
}

static void print_zsh(FILE *out) {
    (void)fputs("#compdef throughline\n"
                "# zsh completion: throughline completion zsh > "
                "\"${fpath[1]}/_throughline\"\n"
                "_throughline() {\n"
                "  local command='' files all\n"
                "  local -a candidates\n"
                "  (( CURRENT > 2 )) && command=$words[2]\n"
                "  () {\n"
                "  local words\n",
                out);
    print_cases(out);
    (void)fputs("  all=$words\n"
                "  }\n"
                "  candidates=(${=all})\n"
                "  compadd -- $candidates\n"
                "  (( files )) && _files\n"
                "}\n"
                "if [ \"$funcstack[1]\" = \"_throughline\" ]; then\n"
                "  _throughline \"$@\"\n"
                "else\n"
                "  compdef _throughline throughline\n"
                "fi\n",
                out);
}

int tl_cli_completion(int argc, char **argv) {
    bool help = tl_flags_want_help(argc, argv);
    if (!help && argc == 2 && strcmp(argv[1], "bash") == 0) {
        print_bash(stdout);
        return TL_EXIT_OK;
    }
    if (!help && argc == 2 && strcmp(argv[1], "zsh") == 0) {
        print_zsh(stdout);
        return TL_EXIT_OK;
    }
    (void)fputs("usage: throughline completion bash|zsh\n\n"
                "Prints a completion script: source <(throughline completion bash)\n",
                help ? stdout : stderr);
    return help ? TL_EXIT_OK : TL_EXIT_CONFIG;
}
