/* exits.c - what the end of a process means for its run. */
#include "run.h"

#include <signal.h>
#include <sys/wait.h>

/* A crash is seldom cured by haste. */
static const int64_t restart_after_ms = 500;

/* Some ends cannot be mended by starting again: a wrong setting, and a wait that was
 * longer than the job allows. Returns false for those. */
static bool is_worth_restarting(const struct tl_process *p) {
    return !WIFEXITED(p->status) || (WEXITSTATUS(p->status) != TL_EXIT_CONFIG &&
                                     WEXITSTATUS(p->status) != TL_EXIT_TIMEOUT);
}

static void note_exit(struct tl_run *run, const struct tl_process *p) {
    json_t *fields = WIFSIGNALED(p->status)
                         ? json_pack("{s:i}", "signal", WTERMSIG(p->status))
                         : json_pack("{s:i}", "code", WEXITSTATUS(p->status));
    tl_run_event(run, "exit", p, fields);
}

static void give_up(struct tl_run *run, const struct tl_process *p, const char *end,
                    const char *which) {
    char words[400];
    int code = is_worth_restarting(p) ? TL_EXIT_FAILED : WEXITSTATUS(p->status);
    tl_process_last_words(p, words, sizeof(words));
    tl_run_fail(run, code, "%s ended with %s%s: %s", p->name, end, which,
                words[0] != '\0' ? words : "it logged nothing");
}

static void unexpected_end(struct tl_run *run, struct tl_process *p) {
    char end[64];
    int64_t now_ms = tl_run_now(run);
    tl_process_end_text(p, end, sizeof(end));
    p->state = TL_PROCESS_DONE;
    note_exit(run, p);
    if (!is_worth_restarting(p)) {
        give_up(run, p, end, "");
    } else if (p->kind == TL_DRILL_WORKER && run->phase == TL_RUN_ENDING) {
        tl_live_news(run, "%s ended with %s after the end of the job", p->name, end);
    } else if (!tl_process_crashed(p, now_ms)) {
        give_up(run, p, end, ", too often within a minute");
    } else {
        tl_live_news(run, "%s ended with %s; it is started again", p->name, end);
        run->crashes++;
        p->state = TL_PROCESS_CRASHED;
        p->restart_ms = now_ms + restart_after_ms;
    }
}

/* Exit code 0 is an answer to the job's end; before it, only workers may leave. */
static bool may_leave(const struct tl_run *run, const struct tl_process *p) {
    return WIFEXITED(p->status) && WEXITSTATUS(p->status) == TL_EXIT_OK &&
           (p->kind == TL_DRILL_WORKER ||
            (run->phase == TL_RUN_ENDING && p->kind != TL_DRILL_REDIS));
}

static void take_end(struct tl_run *run, struct tl_process *p) {
    if (p->state == TL_PROCESS_DOOMED) {
        p->state = TL_PROCESS_DOWN;
    } else if (run->phase == TL_RUN_STOPPING || may_leave(run, p)) {
        p->state = TL_PROCESS_DONE;
    } else {
        unexpected_end(run, p);
    }
}

void tl_run_reap(struct tl_run *run) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        if (tl_process_reap(&run->fleet.items[i])) {
            take_end(run, &run->fleet.items[i]);
        }
    }
}

void tl_run_revive(struct tl_run *run) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        struct tl_process *p = &run->fleet.items[i];
        if (p->state != TL_PROCESS_CRASHED || tl_run_now(run) < p->restart_ms) {
            continue;
        }
        if (tl_process_start(p) != 0) {
            tl_run_fail(run, TL_EXIT_FAILED, "%s", tl_error_text());
            return;
        }
        double down =
            (double)(tl_run_now(run) - p->restart_ms + restart_after_ms) / 1000;
        tl_run_event(run, "restart", p, json_pack("{s:f}", "down_seconds", down));
    }
}
