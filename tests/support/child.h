/* child.h - run a function in a process of its own; keep its output and how it ended.
 */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

#include "test.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
    int status; /* exit code, or 128 + the signal that killed it */
    char out[65536], err[16384];
};

/* Read both pipes until they are closed; what does not fit is dropped. */
static inline void child_read(int fd[2], char *text[2], const size_t room[2]) {
    size_t size[2] = {0, 0};
    while (fd[0] >= 0 || fd[1] >= 0) {
        struct pollfd p[2] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}};
        assert_true(poll(p, 2, 30000) > 0);
        for (int i = 0; i < 2; i++) {
            char piece[4096];
            if (p[i].revents == 0) {
                continue;
            }
            const ssize_t n = read(fd[i], piece, sizeof(piece));
            if (n <= 0) {
                (void)close(fd[i]);
                fd[i] = -1;
                continue;
            }
            for (ssize_t j = 0; j < n && size[i] + 1 < room[i]; j++) {
                text[i][size[i]++] = piece[j];
            }
        }
    }
    text[0][size[0]] = '\0';
    text[1][size[1]] = '\0';
}

/* Call main_fn(ctx) in a child, which exits with its result. */
static inline void child_run(int (*main_fn)(void *ctx), void *ctx,
                             struct child *ret_child) {
    int out[2];
    int err[2];
    int status;
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(err[1], STDERR_FILENO);
        (void)close(out[0]);
        (void)close(err[0]);
        exit(main_fn(ctx));
    }
    (void)close(out[1]);
    (void)close(err[1]);
    int fd[2] = {out[0], err[0]};
    char *text[2] = {ret_child->out, ret_child->err};
    child_read(fd, text,
               (const size_t[]){sizeof(ret_child->out), sizeof(ret_child->err)});
    assert_int_equal(waitpid(pid, &status, 0), pid);
    ret_child->status =
        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
