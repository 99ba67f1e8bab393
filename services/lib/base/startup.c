/* startup.c - how every service starts: options, job, log; or one line, and exit. */
#include "throughline/service.h"

#include "pod_index.h"
#include "spellings.h"

#include <stdlib.h>
#include <string.h>

#define TABLES_MAX 4u
#define READY_MS   2000

/* The tables in the order in which they are asked, each with what it fills. */
struct startup {
    const char *program, *summary;
    const struct tl_option_table *tables[TABLES_MAX];
    void *targets[TABLES_MAX];
    size_t count;
    const struct tl_option_table *extra;
    struct tl_service_options *options;
    struct tl_job *job;
};

static void add_table(struct startup *s, const struct tl_option_table *table,
                      void *target) {
    s->tables[s->count] = table;
    s->targets[s->count] = target;
    s->count++;
}

/* ---- what is answered and done -------------------------------------------------- */

static void print_help(const struct startup *s) {
    (void)printf("%s - %s\n\nUsage: %s --job FILE [--option value]...\n", s->program,
                 s->summary, s->program);
    if (s->extra != NULL) {
        (void)puts("\nOptions of this service:");
        tl_config_help(s->extra, stdout);
    }
    (void)puts("\nOptions of every service:");
    tl_config_help(&tl_service_table, stdout);
    tl_config_help(&tl_trust_table, stdout);
    (void)puts("  --help, --version\n      Print this, or the version, and exit.\n"
               "  --ready\n      Ask the service that answers at THROUGHLINE_HTTP "
               "whether it is ready: exit 0,\n      or 1 and why not. For container "
               "health checks.\n\n"
               "Keys of the job, over those of its file:");
    tl_config_help(&tl_job_table, stdout);
    (void)puts("\nEach can also be a variable: --batch is THROUGHLINE_BATCH. "
               "A flag goes before a\nvariable, and a variable before the job file.");
}

static void print_markdown(const struct startup *s) {
    (void)printf("## %s\n\nThe service that %s.\n\n", s->program, s->summary);
    if (s->extra != NULL) {
        tl_config_markdown(s->extra, stdout);
    }
}

static void print_flags(const struct startup *s) {
    for (size_t i = 0; i < s->count; i++) {
        tl_config_flags(s->tables[i], stdout);
    }
    (void)puts("--help\n--ready\n--version");
}

/* For a health check in an image that has no other HTTP client. */
static int ask_ready(const struct startup *s) {
    char *text = NULL;
    int rc = tl_config_defaults(&tl_service_table, s->options);
    if (rc == 0) {
        rc = tl_config_environment(&tl_service_table, s->options);
    }
    if (rc == 0) {
        rc = tl_http_get(s->options->http, "/readyz", tl_now_ms() + READY_MS, &text);
    }
    free(text);
    if (rc != 0) {
        (void)fprintf(stderr, "%s: not ready: %s\n", s->program, tl_error_text());
    }
    return rc == 0 ? TL_EXIT_OK : TL_EXIT_FAILED;
}

/* The last two are for the documentation and for shell completion. */
static bool answer(const struct startup *s, const char *flag) {
    if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0) {
        print_help(s);
    } else if (strcmp(flag, "--version") == 0) {
        (void)printf("%s %s\n", s->program, TL_VERSION);
    } else if (strcmp(flag, "--ready") == 0) {
        exit(ask_ready(s));
    } else if (strcmp(flag, "--help-markdown") == 0) {
        print_markdown(s);
    } else if (strcmp(flag, "--help-flags") == 0) {
        print_flags(s);
    } else {
        return false;
    }
    return true;
}

/* ---- flags ---------------------------------------------------------------------- */

/* Returns how many arguments were taken, or a negative error. */
static int read_flag(const struct startup *s, int argc, char *const *argv) {
    for (size_t i = 0; i < s->count; i++) {
        const int taken = tl_config_flag(s->tables[i], s->targets[i], argc, argv);
        if (taken != 0) {
            return taken;
        }
    }
    return tl_flag_unknown(s->tables, s->count, argv[0]);
}

static int read_argument(const struct startup *s, const char *job, bool *seen) {
    if (*seen) {
        return tl_fail(TL_E_CONFIG, "one job file, please: \"%s\" is a second argument",
                       job);
    }
    *seen = true;
    return tl_config_set(&tl_service_table, s->options, "job", job, "command line");
}

static int read_flags(const struct startup *s, int argc, char *const *argv) {
    bool seen = false;
    for (int i = 1; i < argc;) {
        int rc;
        if (argv[i][0] == '-') {
            rc = read_flag(s, argc - i, argv + i);
            i += rc;
        } else {
            rc = read_argument(s, argv[i], &seen);
            i++;
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- in order of precedence ----------------------------------------------------- */

static int read_defaults(const struct startup *s) {
    for (size_t i = 0; i < s->count; i++) {
        const int rc = tl_config_defaults(s->tables[i], s->targets[i]);
        if (rc != 0) {
            return rc;
        }
    }
    return tl_pod_index(&s->options->index);
}

static int read_environment(const struct startup *s) {
    for (size_t i = 0; i < s->count; i++) {
        const int rc = tl_config_environment(s->tables[i], s->targets[i]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int check_run(const struct tl_service_options *options) {
    const char *run = options->run;
    if (run[0] == '\0' ||
        strspn(run, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(run)) {
        return tl_fail(
            TL_E_CONFIG,
            "--run must be lower-case letters, digits and dashes, not \"%s\"", run);
    }
    return 0;
}

/* The job file is known only when the flags have been read, and the flags go over what
 * it says: they are read again. */
static int read_job(const struct startup *s, int argc, char *const *argv) {
    const char *path = s->options->job;
    if (path[0] == '\0') {
        return tl_fail(TL_E_CONFIG, "no job file: give --job FILE or THROUGHLINE_JOB");
    }
    tl_job_done(s->job);
    int rc = tl_job_load(path, s->job);
    if (rc == 0) {
        rc = read_flags(s, argc, argv);
    }
    if (rc != 0) {
        return rc;
    }
    rc = tl_job_check(s->job);
    return rc != 0 ? tl_fail(rc, "%s: %s", path, tl_error_text()) : 0;
}

static int read_all(const struct startup *s, int argc, char *const *argv) {
    int rc = read_defaults(s);
    if (rc == 0) {
        rc = read_environment(s);
    }
    if (rc == 0) {
        rc = read_flags(s, argc, argv);
    }
    if (rc == 0) {
        rc = read_job(s, argc, argv);
    }
    for (size_t i = 0; i < s->count && rc == 0; i++) {
        rc = tl_config_complete(s->tables[i], s->targets[i]);
    }
    return rc != 0 ? rc : check_run(s->options);
}

/* What the user typed, without the directory. */
static const char *program_of(const char *argument, const char *service) {
    if (argument == NULL) {
        return service;
    }
    const char *slash = strrchr(argument, '/');
    return slash != NULL ? slash + 1 : argument;
}

void tl_service_start(const char *service, const char *summary, int argc, char **argv,
                      const struct tl_option_table *extra, void *extra_target,
                      struct tl_service_options *ret_options, struct tl_job *ret_job) {
    struct startup s = {.program = program_of(argv[0], service),
                        .summary = summary,
                        .extra = extra,
                        .options = ret_options,
                        .job = ret_job};
    if (extra != NULL) {
        add_table(&s, extra, extra_target);
    }
    add_table(&s, &tl_service_table, ret_options);
    add_table(&s, &tl_trust_table, &ret_options->trust);
    add_table(&s, &tl_job_table, ret_job);
    for (int i = 1; i < argc; i++) {
        if (answer(&s, argv[i])) {
            exit(TL_EXIT_OK);
        }
    }
    if (read_all(&s, argc, argv) != 0) {
        (void)fprintf(stderr, "%s: %s\n", s.program, tl_error_text());
        exit(TL_EXIT_CONFIG);
    }
    tl_log_setup(service, ret_job->name, ret_options->run, ret_options->index,
                 ret_options->log_format, ret_options->log_level);
    tl_environment_warn(s.tables, s.count);
}
