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

/* "server up", "servers 1/2": how many of a kind do their work. */
static void add_kind(const struct tl_run *run, enum tl_drill_target kind, FILE *out) {
    size_t alive, all = tl_fleet_count(&run->fleet, kind, &alive);
    const char *name = tl_drill_target_name(kind);
    if (all > 1) {
        (void)fprintf(out, "  %ss %zu/%zu", name, alive, all);
    } else if (all == 1) {
        bool silent = kind == TL_DRILL_SERVER && !tl_probe_view(run->probe, 0).answers;
        (void)fprintf(out, "  %s %s", name,
                      alive == 0 ? "down" : (silent ? "starting" : "up"));
    }
}

static void write_status(const struct tl_run *run, FILE *out) {
    (void)fprintf(out, "%6.1f s", (double)tl_run_now(run) / 1000);
    if (run->has_version) {
        (void)fprintf(out, "  version %" PRIu64, run->version);
    }
    if (run->evaluated.has_evaluation) {
        (void)fprintf(out, "  accuracy %.4f  loss %.3f", run->evaluated.accuracy,
                      run->evaluated.loss);
    }
    if (run->rate > 0 && run->phase == TL_RUN_TRAINING) {
        (void)fprintf(out, "  %.1f gradients/s", run->rate);
    }
    add_kind(run, TL_DRILL_SERVER, out);
    add_kind(run, TL_DRILL_WORKER, out);
    add_kind(run, TL_DRILL_CHECKPOINTER, out);
    add_kind(run, TL_DRILL_MONITOR, out);
    add_kind(run, TL_DRILL_REDIS, out);
    if (run->phase == TL_RUN_ENDING) {
        (void)fputs("  ending", out);
    } else if (run->phase == TL_RUN_STOPPING) {
        (void)fputs("  stopping", out);
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
    char line[512] = "";
    FILE *out = fmemopen(line, sizeof(line), "w");
    if (!out) {
        return;
    }
    run->live_ms = now_ms;
    write_status(run, out);
    (void)fclose(out);
    if (run->live_is_tty) {
        (void)fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
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
