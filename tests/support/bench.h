/* bench.h - what every benchmark needs: a clock, medians, children, a verdict. */
#ifndef THROUGHLINE_TESTS_BENCH_H
#define THROUGHLINE_TESTS_BENCH_H

#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void bench_die(const char *what) {
    (void)fprintf(stderr, "bench: %s\n", what);
    exit(2);
}

static inline double bench_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* User and system seconds of a process so far. */
static inline double bench_cpu_seconds(pid_t pid) {
    char path[64];
    long user = 0;
    long system = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f,
                            "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                            "%ld %ld",
                            &user, &system) != 2) {
        bench_die("a process that was to be measured has gone");
    }
    (void)fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of `count` values, which are sorted in place. */
static inline double bench_median(double *values, size_t count) {
    qsort(values, count, sizeof(*values), bench_compare);
    return count % 2 == 1 ? values[count / 2]
                          : (values[count / 2 - 1] + values[count / 2]) / 2.0;
}

static inline const char *bench_verdict(bool holds) {
    return holds ? "PASS" : "FAIL";
}

/* Start a program of the build; its standard output can be read from *ret_fd. */
static inline pid_t bench_start(const char *const *argv, int *ret_fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        bench_die("no pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s", TL_BIN_DIR, argv[0]);
        (void)dup2(ends[1], 1);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    *ret_fd = ends[0];
    return pid;
}

/* What a child says until its end, at most `size` - 1 bytes; dies when it failed. */
static inline void bench_finish(pid_t pid, int fd, char *text, size_t size) {
    size_t got = 0;
    ssize_t n = 0;
    while (got < size - 1 && (n = read(fd, text + got, size - 1 - got)) > 0) {
        got += (size_t)n;
    }
    text[got] = '\0';
    close(fd);
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        bench_die("a program that was to be measured failed");
    }
}

/* A number of the JSON object that a program printed. */
static inline double bench_number(const char *text, const char *key) {
    json_t *json = json_loads(text, 0, NULL);
    const json_t *value = json_object_get(json, key);
    if (!json_is_number(value)) {
        bench_die("a program did not print the number that was asked for");
    }
    double number = json_number_value(value);
    json_decref(json);
    return number;
}

static inline void bench_remove_tree(const char *path) {
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

#endif
