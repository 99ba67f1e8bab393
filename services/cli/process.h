/* process.h - one child process: start it, kill it, learn how it ended.
 *
 * Thread: the main thread; a child lives no longer than the thread that started it. */
#ifndef THROUGHLINE_CLI_PROCESS_H
#define THROUGHLINE_CLI_PROCESS_H

#include "throughline/drill.h"
#include "throughline/error.h"
#include "throughline/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TL_PROCESS_ARGS       24u
#define TL_PROCESS_NAME_MAX   32u
#define TL_PROCESS_CRASHES    5u    /* so many restarts ... */
#define TL_PROCESS_CRASHES_MS 60000 /* ... in so long, no more */

enum tl_process_state {
    TL_PROCESS_NEW = 0, /* never started */
    TL_PROCESS_RUNNING, /* as far as we know */
    TL_PROCESS_DOOMED,  /* killed on schedule, not gone yet */
    TL_PROCESS_DOWN,    /* killed on schedule and gone */
    TL_PROCESS_CRASHED, /* ended when it should not have; started again soon */
    TL_PROCESS_DONE,    /* ended for good */
};

struct tl_process {
    char name[TL_PROCESS_NAME_MAX]; /* "server/0", "redis" */
    enum tl_drill_target kind;
    uint32_t index;
    char *argv[TL_PROCESS_ARGS + 1]; /* owned; argv[0] is the program's path */
    size_t argc;
    char log[TL_PATH_MAX]; /* its stdout and stderr are appended here */
    enum tl_process_state state;
    pid_t pid;                              /* of the newest life; 0: none yet */
    int status;                             /* of the last end, as from waitpid() */
    uint32_t restarts;                      /* after crashes */
    int64_t restart_ms;                     /* CRASHED: when to start again */
    int64_t crashes_ms[TL_PROCESS_CRASHES]; /* times of the last crashes, a ring */
};

/* Append an argument. TL_E_NOMEM; TL_E_LIMIT. */
TL_MUST_USE int tl_process_arg(struct tl_process *p, const char *fmt, ...)
    TL_PRINTF(2, 3);
void tl_process_done(struct tl_process *p);

/* Start (again). It gets a process group of its own, no standard input, and dies with
 * us. TL_E_CONFIG: the program cannot be run; the text names it. */
TL_MUST_USE int tl_process_start(struct tl_process *p);
/* Is there a process (RUNNING or DOOMED)? */
bool tl_process_is_alive(const struct tl_process *p);
/* Signal the process and whatever it started; nothing when it is not alive. */
void tl_process_signal(const struct tl_process *p, int signal);
/* Has it ended? Then p->status is set, true comes back, and the state is the caller's
 * to set. Does not wait. */
bool tl_process_reap(struct tl_process *p);

/* Note a crash. False: it was one too many for its minute. */
bool tl_process_crashed(struct tl_process *p, int64_t now_ms);

/* "exit code 2", "signal 11 (Segmentation fault)". */
void tl_process_end_text(const struct tl_process *p, char *ret_text, size_t size);
/* Why it ended, as far as its log says: the reason (why="...") that the last line
 * gives, else that line; "" when there is none. */
void tl_process_last_words(const struct tl_process *p, char *ret_line, size_t size);

#endif
