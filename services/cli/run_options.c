/* run_options.c - the arguments of `throughline run`, checked.
 *
 * Flags may stand before the job file, but lie on top of what it says; so the arguments
 * are read twice: once to find the file, once to overlay the flags. */
#include "run_options.h"

#include "throughline/service.h"

#include "flags.h"
#include "fleet.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const tl_log_level_names[] = {"debug", "info", "warning", "error", NULL};
const char *const tl_run_repeated[] = {"--kill", "--until", NULL};

static const struct tl_option rows[] = {
    {.name = "out",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, out),
     .size = sizeof(((struct tl_run_options *)0)->out),
     .fallback = "",
     .path = true,
     .doc =
         "Directory for everything the run leaves: job, timeline, logs, checkpoints, "
         "report; runs/NAME-RUN when it is not given."},
    {.name = "run",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, run),
     .size = sizeof(((struct tl_run_options *)0)->run),
     .fallback = "",
     .doc = "Name of the run; the date and time when it is not given."},
    {.name = "store",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, store),
     .size = sizeof(((struct tl_run_options *)0)->store),
     .fallback = "",
     .doc = "URL for checkpoints, as --checkpoint-store; OUT/checkpoints when neither "
            "is given."},
    {.name = "log",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, log),
     .size = sizeof(((struct tl_run_options *)0)->log),
     .fallback = "",
     .doc = "Where gradients go, as --log-url: direct:, redis: (the run's own Redis), "
            "redis://host:port or kafka://host:port."},
    {.name = "standbys",
     .type = TL_OPT_U32,
     .offset = offsetof(struct tl_run_options, standbys),
     .fallback = "0",
     .min = 0,
     .max = 6,
     .doc = "With the strategy hybrid: processes of each shard that stand by, as "
            "--hybrid-standbys; 0: as the job says."},
    {.name = "chain",
     .type = TL_OPT_U32,
     .offset = offsetof(struct tl_run_options, chain),
     .fallback = "0",
     .min = 0,
     .max = 7,
     .doc = "Replicas of each shard, as --chain-length; 0: as the job says."},
    {.name = "replication",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, replication),
     .size = sizeof(((struct tl_run_options *)0)->replication),
     .fallback = "",
     .doc = "strict, periodic or periodic,every=N, as --chain-replication and "
            "--chain-every."},
    {.name = "json",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct tl_run_options, json),
     .fallback = "false",
     .doc = "Print the summary as one JSON object on standard output."},
    {.name = "quiet",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct tl_run_options, quiet),
     .fallback = "false",
     .doc = "Show no progress, only the summary."},
    {.name = "dashboard",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct tl_run_options, dashboard),
     .size = sizeof(((struct tl_run_options *)0)->dashboard),
     .fallback = "127.0.0.1:0",
     .doc = "Where the dashboard listens, host:port, port 0 for any; the address is "
            "printed. \"off\": nowhere."},
    {.name = "allow_kill",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct tl_run_options, allow_kill),
     .fallback = "false",
     .doc = "Buttons on the dashboard that kill and revive services, for who has the "
            "printed address; on a loopback address only."},
    {.name = "log_level",
     .type = TL_OPT_CHOICE,
     .offset = offsetof(struct tl_run_options, log_level),
     .fallback = "info",
     .choices = tl_log_level_names,
     .doc = "What the services write to OUT/logs."},
};
const struct tl_option_table tl_run_table = {rows, sizeof(rows) / sizeof(rows[0])};

/* ---- one pass over the arguments ---------------------------------------------- */

struct pass {
    struct tl_run_options *options;
    struct tl_job *job;
    const char *file; /* the job file's argument; NULL: none seen */
    bool has_until;   /* an --until has been seen */
};

/* The first --until replaces every end that the job file sets: who asks for 60 seconds
 * does not mean "or 800 updates". */
static int take_until(struct pass *pass, const char *value) {
    static const char *const kinds[] = {"updates", "seconds", "accuracy"};
    const char *equals = strchr(value, '=');
    char name[32] = "until.", where[160];
    (void)snprintf(where, sizeof(where), "--until %.120s", value);
    for (size_t i = 0; equals && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i]) != (size_t)(equals - value) ||
            strncmp(value, kinds[i], strlen(kinds[i])) != 0) {
            continue;
        }
        if (!pass->has_until) {
            pass->job->until_updates = 0;
            pass->job->until_seconds = 0;
            pass->job->until_accuracy = 0;
            pass->has_until = true;
        }
        strncat(name, kinds[i], sizeof(name) - strlen(name) - 1);
        return tl_config_set(&tl_job_table, pass->job, name, equals + 1, where);
    }
    return tl_fail(
        TL_E_CONFIG,
        "%s: right is updates=N, seconds=T or accuracy=A, with A from 0 to 1", where);
}

static int take_kill(struct pass *pass, const char *value) {
    struct tl_drill_kill kill;
    int rc = tl_drill_parse(value, &kill);
    return rc == 0 ? tl_drill_add(&pass->options->drill, &kill) : rc;
}

/* How many entries were taken, or an error. */
static int take(struct pass *pass, int argc, char **argv) {
    const struct tl_flag_target targets[] = {{&tl_run_table, pass->options},
                                             {&tl_job_table, pass->job}};
    const char *value;
    int taken = tl_flags_value("--kill", argc, argv, &value);
    if (taken > 0) {
        int rc = take_kill(pass, value);
        return rc == 0 ? taken : rc;
    }
    if (taken == 0 && (taken = tl_flags_value("--until", argc, argv, &value)) > 0) {
        int rc = take_until(pass, value);
        return rc == 0 ? taken : rc;
    }
    if (taken == 0) {
        taken = tl_flags_take(targets, 2, tl_run_repeated, argc, argv);
    }
    if (taken != 0) {
        return taken;
    }
    if (pass->file) {
        return tl_fail(TL_E_CONFIG, "two job files: %s and %s", pass->file, argv[0]);
    }
    pass->file = argv[0];
    return 1;
}

static int read_arguments(struct pass *pass, int argc, char **argv) {
    int rc = tl_config_defaults(&tl_run_table, pass->options);
    tl_drill_init(&pass->options->drill);
    for (int i = 1; i < argc && rc == 0;) {
        int taken = take(pass, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        i += taken;
    }
    if (rc == 0 && !pass->file) {
        rc = tl_fail(TL_E_CONFIG, "which job? throughline run JOB.json; see --help");
    }
    return rc;
}

static int find_file(int argc, char **argv, struct tl_run_options *options,
                     const char **ret_file) {
    struct tl_job scratch;
    struct pass pass = {.options = options, .job = &scratch};
    int rc = tl_config_defaults(&tl_job_table, &scratch);
    if (rc != 0) {
        return rc;
    }
    rc = read_arguments(&pass, argc, argv);
    tl_job_done(&scratch);
    *ret_file = pass.file;
    return rc;
}

/* ---- what a local run fills in ------------------------------------------------ */

static int complete_run(const struct tl_job *job, struct tl_run_options *options) {
    if (options->run[0] == '\0') {
        time_t now = time(NULL);
        struct tm local;
        if (!localtime_r(&now, &local) || strftime(options->run, sizeof(options->run),
                                                   "%Y%m%d-%H%M%S", &local) == 0) {
            return tl_fail(TL_E_IO,
                           "the date is not known; give the run a name: --run");
        }
    }
    if (strspn(options->run, "abcdefghijklmnopqrstuvwxyz0123456789-") !=
        strlen(options->run)) {
        return tl_fail(TL_E_CONFIG,
                       "--run %s: right are small letters, digits and dashes",
                       options->run);
    }
    if (options->out[0] == '\0') {
        (void)snprintf(options->out, sizeof(options->out), "runs/%s-%s", job->name,
                       options->run);
    }
    return 0;
}

/* Services get absolute paths, wherever they are started. */
static int complete_out(struct tl_run_options *options) {
    char here[TL_PATH_MAX] = "", whole[2 * TL_PATH_MAX + 2];
    bool is_absolute = options->out[0] == '/';
    if (!is_absolute && !getcwd(here, sizeof(here))) {
        return tl_fail(TL_E_IO, "the working directory is not known: %s",
                       strerror(errno));
    }
    int length = snprintf(whole, sizeof(whole), "%s%s%s", here, is_absolute ? "" : "/",
                          options->out);
    /* Room for the longest name below it. */
    if (length + 64 > (int)sizeof(options->out)) {
        return tl_fail(TL_E_CONFIG, "--out %.80s...: too long a path", options->out);
    }
    memcpy(options->out, whole, (size_t)length + 1);
    return 0;
}

/* "periodic,every=10": two settings of the job in one flag. */
static int complete_chain(struct tl_run_options *options, struct tl_job *job) {
    char *comma = strchr(options->replication, ',');
    int rc = 0;
    if (options->chain > 0) {
        job->chain_length = options->chain;
    }
    if (options->standbys > 0) {
        job->standbys = options->standbys;
    }
    if (comma != NULL && strncmp(comma, ",every=", 7) != 0) {
        return tl_fail(TL_E_CONFIG,
                       "--replication %s: right is strict, periodic or "
                       "periodic,every=N",
                       options->replication);
    }
    if (comma != NULL) {
        *comma = '\0';
        rc = tl_config_set(&tl_job_table, job, "chain.every", comma + 7,
                           "--replication");
    }
    return rc == 0 && options->replication[0] != '\0'
               ? tl_config_set(&tl_job_table, job, "chain.replication",
                               options->replication, "--replication")
               : rc;
}

static int complete_log(const struct tl_run_options *options, struct tl_job *job) {
    if (options->log[0] != '\0') {
        (void)snprintf(job->log, sizeof(job->log), "%s", options->log);
    }
    return 0;
}

static int complete_store(const struct tl_run_options *options, struct tl_job *job) {
    int length = 0;
    if (options->store[0] != '\0') {
        length = snprintf(job->store, sizeof(job->store), "%s", options->store);
    } else if (job->store[0] == '\0' && tl_job_has_store(job)) {
        length = snprintf(job->store, sizeof(job->store), "file://%s/checkpoints",
                          options->out);
    }
    if (length >= (int)sizeof(job->store)) {
        return tl_fail(TL_E_CONFIG, "--out %.80s...: too long a path", options->out);
    }
    return 0;
}

/* hybrid: whoever serves the shard holds the first place, and there are no others. */
static int take_server_for_head(struct tl_drill_kill *kill) {
    if (kill->target == TL_DRILL_MIDDLE || kill->target == TL_DRILL_TAIL) {
        return tl_fail(
            TL_E_CONFIG,
            "--kill %s: standbys are in no row; right is server or replica/N",
            kill->text);
    }
    kill->target = kill->target == TL_DRILL_SERVER ? TL_DRILL_HEAD : kill->target;
    return 0;
}

static int check_kills(struct tl_run_options *options, const struct tl_job *job) {
    const struct tl_drill_limits limits = {
        .servers = job->shards,
        .workers = job->workers,
        .replicas = tl_job_replicas(job),
        .checkpointer = tl_fleet_has_checkpointer(job),
        .until_updates = job->until_updates,
        .until_seconds = job->until_seconds,
    };
    int rc = 0;
    for (size_t i = 0; i < options->drill.count && rc == 0; i++) {
        struct tl_drill_kill *kill = &options->drill.slots[i].kill;
        rc = job->strategy == TL_STRATEGY_HYBRID ? take_server_for_head(kill) : 0;
        rc = rc == 0 ? tl_drill_check(kill, &limits) : rc;
    }
    return rc;
}

static int check_dashboard(const struct tl_run_options *options) {
    static const char *const hosts[] = {"127.0.0.1:", "localhost:", "[::1]:"};
    bool is_loopback = false;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        is_loopback =
            is_loopback || strncmp(options->dashboard, hosts[i], strlen(hosts[i])) == 0;
    }
    return !options->allow_kill || is_loopback
               ? 0
               : tl_fail(TL_E_CONFIG, "--allow-kill needs --dashboard 127.0.0.1:PORT");
}

static int complete(struct tl_run_options *options, struct tl_job *job) {
    int rc = complete_run(job, options);
    rc = rc == 0 ? check_dashboard(options) : rc;
    rc = rc == 0 ? complete_out(options) : rc;
    rc = rc == 0 ? complete_store(options, job) : rc;
    rc = rc == 0 ? complete_log(options, job) : rc;
    rc = rc == 0 ? complete_chain(options, job) : rc;
    rc = rc == 0 ? tl_config_complete(&tl_job_table, job) : rc;
    rc = rc == 0 ? tl_job_check(job) : rc;
    return rc == 0 ? check_kills(options, job) : rc;
}

int tl_run_options_read(int argc, char **argv, struct tl_run_options *ret_options,
                        struct tl_job *ret_job) {
    const char *file;
    int rc = find_file(argc, argv, ret_options, &file);
    rc = rc == 0 ? tl_job_load(file, ret_job) : rc;
    if (rc != 0) {
        return rc;
    }
    struct pass pass = {.options = ret_options, .job = ret_job};
    rc = read_arguments(&pass, argc, argv);
    rc = rc == 0 ? complete(ret_options, ret_job) : rc;
    if (rc != 0) {
        tl_job_done(ret_job);
    }
    return rc;
}

void tl_run_options_help(FILE *out) {
    (void)fputs(
        "usage: throughline run JOB.json [flags]\n\n"
        "Runs a whole job on this machine: a private Redis, the servers, the workers, "
        "the\ncheckpointer and the monitor; kills and restarts them on schedule; ends "
        "with a\nsummary.\n\n"
        "  --kill WHO[/N]@WHEN[,down=D]\n"
        "      Kill a service with SIGKILL and start it again after D (0 when not "
        "given).\n"
        "      WHO: server, worker, checkpointer, monitor, redis; with --strategy "
        "chain\n      instead of server: head, middle, tail, replica. WHEN: updates=N, "
        "seconds=T.\n"
        "      D: 5s, 500ms, forever. May be given several times.\n"
        "  --until updates=N | seconds=T | accuracy=A\n"
        "      When the job ends, instead of what the job file says. May be given "
        "several\n      times: the first end that is reached counts.\n",
        out);
    tl_config_help(&tl_run_table, out);
    (void)fputs("\nSettings of the job, on top of the job file:\n", out);
    tl_config_help(&tl_job_table, out);
}
