/* program.h - run a program with a deadline and keep what it said. */
#ifndef THROUGHLINE_TESTS_PROGRAM_H
#define THROUGHLINE_TESTS_PROGRAM_H

#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM_ARGS_MAX 48

struct program {
    pid_t pid;
    int pidfd;
    char out_path[PATH_MAX], err_path[PATH_MAX];
};

struct outcome {
    int exit_code; /* 128 + signal when killed */
    char *out, *err;
};

static inline int program_file(char *ret_path, const char *kind) {
    (void)snprintf(ret_path, PATH_MAX, "%s/%s-XXXXXX", scratch, kind);
    int fd = mkstemp(ret_path);
    assert_true(fd >= 0);
    return fd;
}

/* Start build/.../bin/NAME (or an absolute path) with arguments, ended by NULL. */
static inline struct program program_start(const char *const *argv) {
    struct program p = {0};
    int out = program_file(p.out_path, "out");
    int err = program_file(p.err_path, "err");
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s%s", argv[0][0] == '/' ? "" : TL_BIN_DIR "/",
                   argv[0]);
    p.pid = fork();
    assert_true(p.pid >= 0);
    if (p.pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        (void)dup2(null, 0);
        (void)dup2(out, 1);
        (void)dup2(err, 2);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    close(out);
    close(err);
    p.pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
    assert_true(p.pidfd >= 0);
    return p;
}

static inline char *program_read(const char *path) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = '\0';
    (void)fclose(f);
    return text;
}

/* Wait for its end; past the deadline it is killed, and the test fails with its stderr.
 */
static inline struct outcome program_end(struct program *p, int deadline_s) {
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
    int ready = poll(&fd, 1, deadline_s * 1000);
    if (ready != 1) {
        (void)kill(p->pid, SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    close(p->pidfd);
    struct outcome o = {
        .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
        .out = program_read(p->out_path),
        .err = program_read(p->err_path),
    };
    if (ready != 1) {
        (void)fprintf(stderr, "%s\n", o.err); /* whole: cmocka cuts its messages */
        fail_msg("no end within %d s", deadline_s);
    }
    return o;
}

static inline void outcome_done(struct outcome *o) {
    free(o->out);
    free(o->err);
}

static inline struct outcome program_run(int deadline_s, const char *const *argv) {
    struct program p = program_start(argv);
    return program_end(&p, deadline_s);
}

/* Run a program that prints one JSON object, which must succeed. New reference. */
static inline json_t *program_json(int deadline_s, const char *const *argv) {
    struct outcome o = program_run(deadline_s, argv);
    if (o.exit_code != 0) {
        (void)fprintf(stderr, "%s\n%s\n", o.err, o.out);
        fail_msg("%s %s: exit %d", argv[0], argv[1], o.exit_code);
    }
    json_error_t error;
    json_t *json = json_loads(o.out, 0, &error);
    if (json == NULL) {
        fail_msg("not JSON: %s\n%s", error.text, o.out);
    }
    outcome_done(&o);
    return json;
}

static inline double number(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_number(v)) {
        char *text = json_dumps(object, JSON_COMPACT);
        fail_msg("no number \"%s\" in %s", key, text);
        free(text);
    }
    return json_number_value(v);
}

static inline int64_t test_now_ms(void) {
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* How many processes have `needle` in their command line (this one left out). */
static inline int processes_with(const char *needle) {
    int count = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    const struct dirent *e = NULL;
    while ((e = readdir(proc)) != NULL) {
        char path[300];
        char line[4096] = "";
        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
        FILE *f = fopen(path, "r");
        size_t n = f == NULL ? 0 : fread(line, 1, sizeof(line) - 1, f);
        for (size_t i = 0; i < n; i++) {
            line[i] = line[i] == '\0' ? ' ' : line[i];
        }
        count +=
            f != NULL && atoi(e->d_name) != getpid() && strstr(line, needle) != NULL;
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    (void)closedir(proc);
    return count;
}

#endif
