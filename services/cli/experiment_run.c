/* experiment_run.c - one run of an experiment: `throughline run` as a process of its
 * own, so that nothing of one run can reach into the next. */
#include "throughline/service.h"

#include "experiment.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 256u

static const int64_t look_every_ms = 50;
static const int64_t stop_within_ms = 30000;

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- leftovers of an attempt that was cut short ------------------------------------
 */

static int remove_one(const char *path, const struct stat *status, int kind,
                      struct FTW *where) {
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int remove_leftovers(const char *directory) {
    if (access(directory, F_OK) == 0 &&
        nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0) {
        return tl_fail(TL_E_IO, "%s cannot be removed: %s", directory, strerror(errno));
    }
    return 0;
}

/* ---- the process -------------------------------------------------------------------
 */

struct child {
    char out[2 * TL_PATH_MAX];        /* its directory */
    char errors[2 * TL_PATH_MAX + 8]; /* what it says on standard error */
    char out_flag[2 * TL_PATH_MAX + 8];
    const char *argv[ARGUMENTS_MAX + 1];
    size_t argc;
    pid_t pid;
};

static void add(struct child *c, const char *argument) {
    if (c->argc < ARGUMENTS_MAX) {
        c->argv[c->argc++] = argument;
        c->argv[c->argc] = NULL;
    }
}

static void add_all(struct child *c, const json_t *arguments) {
    size_t i = 0;
    const json_t *argument = NULL;
    json_array_foreach(arguments, i, argument) {
        add(c, json_string_value(argument));
    }
}

static void prepare(struct child *c, const struct tl_experiment *e,
                    const json_t *entry) {
    (void)snprintf(c->out, sizeof(c->out), "%s/%s", e->options.out,
                   text_of(entry, "name"));
    (void)snprintf(c->errors, sizeof(c->errors), "%s.log", c->out);
    (void)snprintf(c->out_flag, sizeof(c->out_flag), "--out=%s", c->out);
    add(c, "throughline");
    add(c, "run");
    add(c, e->job);
    add(c, c->out_flag);
    add(c, "--quiet");
    add_all(c, json_object_get(entry, "arguments"));
    add_all(c, e->extra);
}

static int start(struct child *c) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attributes);
    /* A group of its own: a Ctrl-C is passed on once, not felt twice. */
    (void)posix_spawnattr_setflags(&attributes, (short)POSIX_SPAWN_SETPGROUP);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    int error = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    error = error ? error
                  : posix_spawn_file_actions_addopen(
                        &files, 1, c->errors, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    error = error ? error : posix_spawn_file_actions_adddup2(&files, 1, 2);
    error = error ? error
                  : posix_spawn(&c->pid, "/proc/self/exe", &files, &attributes,
                                (char *const *)c->argv, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attributes);
    return error == 0
               ? 0
               : tl_fail(TL_E_IO, "a run cannot be started: %s", strerror(error));
}

/* Its status; asked to stop, it is given time to stop its own processes. */
static int wait_for(const struct child *c) {
    int status = 0;
    int64_t asked_ms = 0;
    while (waitpid(c->pid, &status, WNOHANG) == 0) {
        const int64_t now_ms = tl_now_ms();
        if (tl_stop_requested() && asked_ms == 0) {
            (void)kill(c->pid, SIGTERM);
            asked_ms = now_ms;
        } else if (asked_ms != 0 && now_ms - asked_ms > stop_within_ms) {
            (void)kill(c->pid, SIGKILL);
        }
        (void)usleep((useconds_t)look_every_ms * 1000);
    }
    return status;
}

/* What it said of its failure. */
static void read_reason(const struct child *c, char *reason, size_t size) {
    static const char prefix[] = "throughline run: ";
    char line[1024];
    FILE *file = fopen(c->errors, "re");
    reason[0] = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, prefix, sizeof(prefix) - 1) == 0) {
            (void)snprintf(reason, size, "%.500s", line + sizeof(prefix) - 1);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static const char *state_of(int status) {
    if (tl_stop_requested()) {
        return "interrupted";
    }
    if (!WIFEXITED(status)) {
        return "failed";
    }
    return WEXITSTATUS(status) == TL_EXIT_OK       ? "completed"
           : WEXITSTATUS(status) == TL_EXIT_CONFIG ? "not available"
                                                   : "failed";
}

int tl_experiment_run(const struct tl_experiment *e, const json_t *entry,
                      json_t **ret_result) {
    struct child c = {0};
    char reason[512];
    prepare(&c, e, entry);
    int rc = remove_leftovers(c.out);
    const int64_t begun_ms = tl_now_ms();
    rc = rc == 0 ? start(&c) : rc;
    if (rc != 0) {
        return rc;
    }
    const int status = wait_for(&c);
    read_reason(&c, reason, sizeof(reason));
    *ret_result = json_pack(
        "{s:s, s:s, s:i, s:f}", "state", state_of(status), "reason", reason,
        "exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
        "seconds", (double)(tl_now_ms() - begun_ms) / 1000);
    return *ret_result != NULL ? 0 : tl_fail(TL_E_NOMEM, "no memory for a result");
}
