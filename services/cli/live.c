/* live.c - the status of a run while it goes on: one line that is redrawn on a
 * terminal, a plain line now and then elsewhere; on stderr, so that stdout carries the
 * summary. */
#include "run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const int64_t redraw_every_ms = 200;
static const int64_t print_every_ms = 5000;
static const size_t names_shown = 4;

static const char *state_of(const struct tl_run *run, const struct tl_process *p) {
    if (p->state == TL_PROCESS_DONE) {
        return "done";
    }
    if (p->state != TL_PROCESS_RUNNING) {
        return "down";
    }
    struct tl_member_entry entry;
    bool is_silent =
        p->kind == TL_DRILL_SERVER && !tl_probe_view(run->probe, p->index).answers;
    bool is_joining =
        p->kind == TL_DRILL_REPLICA &&
        (tl_member_find(run->member, TL_ROLE_REPLICA, p->index, &entry) != 0 ||
         entry.pid != p->pid || entry.state == TL_MEMBER_STARTING);
    return is_silent ? "starting" : is_joining ? "joining" : "up";
}

/* "6 up", "5 up, server/0 down": who is well is only counted. */
static void write_services(const struct tl_run *run, FILE *out) {
    size_t up = 0, named = 0;
    for (size_t i = 0; i < run->fleet.count; i++) {
        up += strcmp(state_of(run, &run->fleet.items[i]), "up") == 0;
    }
    (void)fprintf(out, "  %zu up", up);
    for (size_t i = 0; i < run->fleet.count && named < names_shown; i++) {
        const struct tl_process *p = &run->fleet.items[i];
        const char *state = state_of(run, p);
        if (strcmp(state, "up") != 0 && strcmp(state, "done") != 0) {
            (void)fprintf(out, ", %s %s", p->name, state);
            named++;
        }
    }
}

static void write_status(const struct tl_run *run, bool with_rate, FILE *out) {
    (void)fprintf(out, "%6.1f s", (double)tl_run_now(run) / 1000);
    if (run->has_version) {
        (void)fprintf(out, "  version %" PRIu64, run->version);
    }
    if (run->evaluated.has_evaluation) {
        (void)fprintf(out, "  accuracy %.3f  loss %.3f", run->evaluated.accuracy,
                      run->evaluated.loss);
    }
    if (with_rate && run->rate > 0 && run->phase == TL_RUN_TRAINING) {
        (void)fprintf(out, "  %.0f gradients/s", run->rate);
    }
    write_services(run, out);
    if (run->phase == TL_RUN_ENDING) {
        (void)fputs(", ending", out);
    } else if (run->phase == TL_RUN_STOPPING) {
        (void)fputs(", stopping", out);
    }
}

/* The status as text, cut to what fits. */
static void format_status(const struct tl_run *run, bool with_rate, char *text,
                          size_t size) {
    text[0] = '\0';
    FILE *out = fmemopen(text, size, "w");
    if (out) {
        write_status(run, with_rate, out);
        (void)fclose(out);
    }
}

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : 80;
}

void tl_live_show(struct tl_run *run) {
    int64_t now_ms = tl_run_now(run);
    int64_t every_ms = run->live_is_tty ? redraw_every_ms : print_every_ms;
    if (run->options.quiet || now_ms - run->live_ms < every_ms) {
        return;
    }
    char line[512];
    int width = run->live_is_tty ? terminal_width() - 1 : (int)sizeof(line);
    run->live_ms = now_ms;
    format_status(run, true, line, sizeof(line));
    if ((int)strlen(line) > width) {
        format_status(run, false, line, sizeof(line));
    }
    if (run->live_is_tty) {
        (void)fprintf(stderr, "\r\033[K%.*s", width, line);
        run->live_is_drawn = true;
    } else {
        (void)fprintf(stderr, "%s\n", line);
    }
    (void)fflush(stderr);
}

void tl_live_clear(struct tl_run *run) {
    if (run->live_is_drawn) {
        (void)fputs("\r\033[K", stderr);
        run->live_is_drawn = false;
    }
}

void tl_live_news(struct tl_run *run, const char *fmt, ...) {
    if (run->options.quiet) {
        return;
    }
    tl_live_clear(run);
    (void)fprintf(stderr, "%6.1f s  ", (double)tl_run_now(run) / 1000);
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
}
