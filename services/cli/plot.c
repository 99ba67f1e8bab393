/* plot.c - accuracy over time with the failures in it, drawn by gnuplot where there is
 * one.
 *
 * The script and its data stay beside the picture, so that it can be drawn anew
 * elsewhere or otherwise. They name files without a directory, and nothing that a user
 * wrote: nothing needs quoting. */
#include "programs.h"
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t draw_within_ms = 10000;

static FILE *create(const struct tl_run *run, const char *name) {
    char path[TL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/%s", run->options.out, name);
    return fopen(path, "we");
}

/* Every evaluation of the run; returns how many. */
static size_t write_data(const struct tl_run *run) {
    char path[TL_PATH_MAX + 32];
    struct tl_samples *samples;
    struct tl_sample sample;
    size_t n = 0;
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl", run->options.out);
    if (tl_samples_open(path, &samples) != 0) {
        return 0;
    }
    FILE *out = create(run, "accuracy.dat");
    while (out && tl_samples_next(samples, &sample)) {
        if (sample.has_evaluation) {
            (void)fprintf(out, "%.3f %.6f %.6f\n", sample.t, sample.accuracy,
                          sample.loss);
            n++;
        }
    }
    if (out) {
        (void)fclose(out);
    }
    tl_samples_close(samples);
    return n;
}

/* A band from the kill to the recovery, or as far as it came; a line at the kill. */
static void write_band(const struct tl_drill_slot *slot, const char *name,
                       size_t number, int64_t end_ms, FILE *out) {
    bool recovered = slot->state == TL_DRILL_RECOVERED;
    double from = (double)slot->killed_ms / 1000;
    double to = (double)(recovered ? slot->recovered_ms : end_ms) / 1000;
    (void)fprintf(
        out,
        "if (!text) set object %zu rectangle from %.3f, graph 0 to %.3f, graph "
        "1 fillcolor rgb \"#f6d5d0\" fillstyle solid noborder behind\n",
        number, from, to);
    (void)fprintf(out,
                  "set arrow %zu from %.3f, graph 0 to %.3f, graph 1 nohead dashtype 2 "
                  "linecolor rgb \"#b03a2e\"\n",
                  number, from, from);
    (void)fprintf(out,
                  "if (!text) set label %zu \"%s\" at %.3f, graph 0.03 rotate by 90 "
                  "offset 0.7, 0 font \",9\" textcolor rgb \"#b03a2e\" noenhanced\n",
                  number, name, from);
}

static void write_bands(const struct tl_run *run, FILE *out) {
    for (size_t i = 0; i < run->options.drill.count; i++) {
        const struct tl_drill_slot *slot = &run->options.drill.slots[i];
        if (slot->state != TL_DRILL_WAITING) {
            const struct tl_process *p =
                tl_fleet_find(&run->fleet, slot->kill.target, slot->kill.index);
            write_band(slot, p->name, i + 1, run->ended_ms, out);
        }
    }
}

static bool write_script(const struct tl_run *run) {
    FILE *out = create(run, "accuracy.gp");
    if (!out) {
        return false;
    }
    (void)fprintf(
        out,
        "# gnuplot accuracy.gp: accuracy.svg; gnuplot -e text=1 accuracy.gp: letters\n"
        "if (!exists(\"text\")) text = 0\n"
        "if (text) set terminal dumb 79 22\n"
        "if (!text) set terminal svg size 900,480 background rgb \"white\"\n"
        "if (!text) set output \"accuracy.svg\"\n"
        "set title \"%s: test accuracy, with %zu failure%s\" noenhanced\n"
        "set xlabel \"seconds\"\n"
        "if (!text) set ylabel \"test accuracy\"\n"
        "set yrange [0:1]\nset xrange [0:*]\nset grid ytics\nunset key\n",
        run->job.name, run->options.drill.count,
        run->options.drill.count == 1 ? "" : "s");
    write_bands(run, out);
    (void)fputs(
        "plot \"accuracy.dat\" using 1:2 with linespoints pointtype 7 pointsize "
        "0.4 linewidth 1.5 linecolor rgb \"#1f618d\"\n",
        out);
    return fclose(out) == 0;
}

/* Wait for it, but not for ever. */
static bool has_drawn(pid_t pid) {
    int status;
    int64_t deadline_ms = tl_now_ms() + draw_within_ms;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (tl_now_ms() > deadline_ms) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return false;
        }
        (void)usleep(10000);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool draw(const struct tl_run *run, const char *gnuplot, bool text) {
    char *as_text[] = {"gnuplot", "-e", "text=1", "accuracy.gp", NULL};
    char *as_picture[] = {"gnuplot", "accuracy.gp", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attributes);
    pid_t pid;
    int error = posix_spawn_file_actions_addchdir_np(&actions, run->options.out);
    error = error ? error : posix_spawnattr_setsigmask(&attributes, &none);
    error = error
                ? error
                : posix_spawnattr_setflags(&attributes, (short)POSIX_SPAWN_SETSIGMASK);
    error = error ? error
                  : posix_spawn(&pid, gnuplot, &actions, &attributes,
                                text ? as_text : as_picture, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return error == 0 && has_drawn(pid);
}

void tl_plot(const struct tl_run *run, bool text) {
    char gnuplot[TL_PATH_MAX];
    if (write_data(run) < 2 || !write_script(run)) {
        return; /* a run that ended at once has no curve */
    }
    if (!tl_program_in_path("gnuplot", gnuplot, sizeof(gnuplot))) {
        (void)fprintf(stderr, "no picture: gnuplot is not installed (the script is "
                              "accuracy.gp)\n");
        return;
    }
    (void)fflush(stdout);
    if (!draw(run, gnuplot, false) || (text && !draw(run, gnuplot, true))) {
        (void)fprintf(stderr, "no picture: gnuplot failed on %s/accuracy.gp\n",
                      run->options.out);
    }
}
