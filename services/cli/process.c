/* process.c - one child process.
 *
 * Started by fork() and exec(), not posix_spawn(): only the child itself can ask the
 * kernel to be killed when its parent dies, and this is what leaves nothing running
 * even when the command line is killed with SIGKILL. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int tl_process_arg(struct tl_process *p, const char *fmt, ...) {
    if (p->argc == TL_PROCESS_ARGS) {
        return tl_fail(TL_E_LIMIT, "%s: more than %u arguments", p->name,
                       TL_PROCESS_ARGS);
    }
    va_list args;
    va_start(args, fmt);
    char *text;
    int length = vasprintf(&text, fmt, args);
    va_end(args);
    if (length < 0) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for its arguments", p->name);
    }
    p->argv[p->argc++] = text;
    return 0;
}

void tl_process_done(struct tl_process *p) {
    for (size_t i = 0; i < p->argc; i++) {
        free(p->argv[i]);
    }
    p->argc = 0;
}

/* In the child: between fork() and exec() only async-signal-safe calls. Returns only
 * when the program cannot be run, with errno set. */
static void become(char *const *argv, int log, int null, pid_t parent) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigemptyset(&none);
    if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return;
    }
    if (getppid() != parent) {
        _exit(127); /* it died before we asked to be told */
    }
    if (dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0 || sigaction(SIGPIPE, &standard, NULL) != 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0) {
        return;
    }
    /* Libraries open descriptors that exec() would hand on. An old kernel that lacks
     * the call only leaves them open. */
    (void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    execv(argv[0], argv);
}

/* The child tells through a pipe, closed by a successful exec(), why it could not. */
static int wait_for_exec(int fd, const struct tl_process *p) {
    int error = 0;
    ssize_t size;
    do {
        size = read(fd, &error, sizeof(error));
    } while (size < 0 && errno == EINTR);
    if (size == (ssize_t)sizeof(error)) {
        return tl_fail(TL_E_CONFIG, "%s: %s cannot be run: %s", p->name, p->argv[0],
                       strerror(error));
    }
    return 0;
}

static int fork_and_exec(struct tl_process *p, int log, int null) {
    int tell[2];
    if (pipe2(tell, O_CLOEXEC) != 0) {
        return tl_fail(TL_E_IO, "%s: no pipe: %s", p->name, strerror(errno));
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become(p->argv, log, null, parent);
        int error = errno;
        (void)!write(tell[1], &error, sizeof(error));
        _exit(127);
    }
    int rc = 0;
    (void)close(tell[1]);
    if (pid < 0) {
        rc = tl_fail(TL_E_IO, "%s: cannot be started: %s", p->name, strerror(errno));
    } else if ((rc = wait_for_exec(tell[0], p)) != 0) {
        (void)waitpid(pid, NULL, 0);
    } else {
        p->pid = pid;
        p->state = TL_PROCESS_RUNNING;
    }
    (void)close(tell[0]);
    return rc;
}

int tl_process_start(struct tl_process *p) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log = open(p->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int rc;
    if (null < 0 || log < 0) {
        rc = tl_fail(TL_E_IO, "%s: %s: %s", p->name, log < 0 ? p->log : "/dev/null",
                     strerror(errno));
    } else {
        rc = fork_and_exec(p, log, null);
    }
    if (null >= 0) {
        (void)close(null);
    }
    if (log >= 0) {
        (void)close(log);
    }
    return rc;
}

bool tl_process_is_alive(const struct tl_process *p) {
    return p->state == TL_PROCESS_RUNNING || p->state == TL_PROCESS_DOOMED;
}

void tl_process_signal(const struct tl_process *p, int signal) {
    if (tl_process_is_alive(p)) {
        (void)kill(-p->pid, signal);
    }
}

bool tl_process_reap(struct tl_process *p) {
    int status;
    if (!tl_process_is_alive(p) || waitpid(p->pid, &status, WNOHANG) != p->pid) {
        return false;
    }
    p->status = status;
    return true;
}

bool tl_process_crashed(struct tl_process *p, int64_t now_ms) {
    int64_t *oldest = &p->crashes_ms[p->restarts % TL_PROCESS_CRASHES];
    if (p->restarts >= TL_PROCESS_CRASHES && now_ms - *oldest < TL_PROCESS_CRASHES_MS) {
        return false;
    }
    *oldest = now_ms;
    p->restarts++;
    return true;
}

void tl_process_end_text(const struct tl_process *p, char *ret_text, size_t size) {
    if (WIFSIGNALED(p->status)) {
        (void)snprintf(ret_text, size, "signal %d (%s)", WTERMSIG(p->status),
                       strsignal(WTERMSIG(p->status)));
    } else {
        (void)snprintf(ret_text, size, "exit code %d", WEXITSTATUS(p->status));
    }
}

/* The end of a file, without what is blank; "" when there is none. */
static void read_tail(const char *path, char *ret_tail, size_t size) {
    struct stat status;
    ret_tail[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    off_t room = (off_t)size - 1, from = 0;
    if (fstat(fd, &status) == 0 && status.st_size > room) {
        from = status.st_size - room;
    }
    ssize_t got = pread(fd, ret_tail, (size_t)room, from);
    (void)close(fd);
    while (got > 0 && (ret_tail[got - 1] == '\n' || ret_tail[got - 1] == ' ')) {
        got--;
    }
    ret_tail[got > 0 ? got : 0] = '\0';
}

/* Copy a quoted value of a log line, up to its closing quote. */
static void unquote(const char *from, char *ret_text, size_t size) {
    size_t n = 0;
    for (; *from != '\0' && *from != '"' && n + 1 < size; from++) {
        from += *from == '\\' && from[1] != '\0';
        ret_text[n++] = *from;
    }
    ret_text[n] = '\0';
}

void tl_process_last_words(const struct tl_process *p, char *ret_text, size_t size) {
    char tail[2048];
    read_tail(p->log, tail, sizeof(tail));
    const char *newline = strrchr(tail, '\n');
    const char *line = newline ? newline + 1 : tail;
    const char *why = strstr(line, " why=\"");
    if (why) {
        unquote(why + strlen(" why=\""), ret_text, size);
    } else {
        (void)snprintf(ret_text, size, "%s", line);
    }
}
