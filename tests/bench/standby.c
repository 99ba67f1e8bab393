/* standby.c - from a SIGKILL of the server to the first new version: with a standby,
 * with a log to replay, with a checkpoint alone; and what workers do meanwhile.
 *
 * The small model, two async workers of at most 40 gradients a second (so that it is
 * not they who keep a server from its processor), Unix sockets, everything in memory: a
 * disk is not what is measured. A server is killed again and again, and started again
 * after DOWN seconds: 0.5 is what `throughline run` waits before it restarts what
 * crashed, 0 what no supervisor does. The arms take turns.
 *
 * The parts of a recovery:
 *   noticed   until the process is started again
 *   start     its own: the program, Redis, its place
 *   load      of the snapshot
 *   replay    of the log
 *   resumed   from there until there is a version that was not there before
 * With a standby nothing has to be started: only the whole counts. What workers do not
 * compute meanwhile is counted in seconds of their work, from the gradients that they
 * computed in the samples around each kill and their rate in all others.
 *
 *   standby [ROUNDS [DOWN]]   default: 1, 0.5; 9 rounds are 108 kills of each kind */
#include "throughline/report.h"

#include "bench.h"

#include <math.h>

#define ROUNDS_MAX  20
#define KILLS       12
#define RATE        40 /* gradients a second of each worker */
#define ALL         ((size_t)(ROUNDS_MAX * KILLS))
#define SAMPLES_MAX 4096

#define HYBRID_GOAL 0.10 /* of checkpoint's */
#define IDLE_GOAL   0.10 /* of what workers lose with checkpoint */

enum part { NOTICED, START, LOAD, REPLAY, RESUMED, WHOLE, PARTS };

static const struct {
    const char *name, *key; /* as tl_figures_json() calls it */
} parts[PARTS] = {
    {"noticed", "down_seconds"},   {"start", "start_seconds"},
    {"load", "load_seconds"},      {"replay", "replay_seconds"},
    {"resumed", "resume_seconds"}, {"whole", "recovery_seconds"},
};

struct arm {
    const char *strategy;
    double seconds[PARTS][ALL];
    size_t counts[PARTS]; /* of those that are known */
    double idle;          /* seconds of work, over all kills */
    size_t kills;
};

/* ---- a run's timeline ------------------------------------------------------------ */

struct sample {
    double t, computed;
};

static struct sample samples[SAMPLES_MAX];
static size_t sample_count;

static double field(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* One with an evaluation has the time of its weights, and is left out. */
static void take_sample(const json_t *line) {
    double computed = field(json_object_get(line, "gradients"), "computed");
    double t = field(line, "t");
    bool is_scored = !isnan(field(line, "accuracy"));
    if (!isnan(computed) && !isnan(t) && !is_scored && sample_count < SAMPLES_MAX) {
        samples[sample_count++] = (struct sample){t, computed};
    }
}

/* New reference. */
static json_t *read_figures(const char *out) {
    char path[4200];
    static char line[1 << 16];
    struct tl_figures *figures = NULL;
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl", out);
    FILE *f = fopen(path, "r");
    if (f == NULL || tl_figures_new(&figures) != 0) {
        bench_die("a run left no timeline");
    }
    sample_count = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        json_t *json = json_loads(line, 0, NULL);
        if (json == NULL || tl_figures_add(figures, json) != 0) {
            bench_die("a timeline cannot be read");
        }
        take_sample(json);
        json_decref(json);
    }
    (void)fclose(f);
    json_t *result = tl_figures_json(figures);
    tl_figures_free(figures);
    return result;
}

/* ---- what workers did not compute ------------------------------------------------ */

static bool is_disturbed(const json_t *kills, double from, double to) {
    size_t i = 0;
    const json_t *kill = NULL;
    json_array_foreach(kills, i, kill) {
        double at = field(kill, "seconds");
        if (from < at + field(kill, "recovery_seconds") && at < to) {
            return true;
        }
    }
    return false;
}

/* Between the first kill and the last: workers are under way, and nothing ends. */
static double idle_seconds(const json_t *kills) {
    double computed[2] = {0.0, 0.0}, seconds[2] = {0.0, 0.0};
    double first = field(json_array_get(kills, 0), "seconds");
    double last = field(json_array_get(kills, KILLS - 1), "seconds");
    for (size_t i = 1; i < sample_count; i++) {
        double from = samples[i - 1].t, to = samples[i].t;
        if (to < first || from > last) {
            continue;
        }
        bool k = is_disturbed(kills, from, to);
        computed[k] += samples[i].computed - samples[i - 1].computed;
        seconds[k] += to - from;
    }
    return seconds[1] - computed[1] / (computed[0] / seconds[0]);
}

static void take(struct arm *a, const char *out) {
    json_t *figures = read_figures(out);
    const json_t *kills = json_object_get(figures, "kills");
    if (json_array_size(kills) != KILLS) {
        bench_die("not every kill happened");
    }
    for (size_t i = 0; i < KILLS; i++) {
        for (int p = 0; p < PARTS; p++) {
            double v = field(json_array_get(kills, i), parts[p].key);
            if (!isnan(v)) {
                a->seconds[p][a->counts[p]++] = v;
            }
        }
    }
    a->kills += KILLS;
    a->idle += idle_seconds(kills);
    json_decref(figures);
}

/* While the server is away too, so that one recovery is over before the next kill. */
static int updates_between(double down) {
    return 64 + (int)(3.0 * RATE * down);
}

static void run(struct arm *a, double down) {
    char out[64], dir[80], mode[64], until[64], kills[KILLS][64];
    (void)snprintf(out, sizeof(out), "%s/tl-bench-XXXXXX",
                   access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(out) == NULL) {
        bench_die("no temporary directory");
    }
    (void)snprintf(dir, sizeof(dir), "%s/run", out);
    (void)snprintf(mode, sizeof(mode), "--strategy=%s", a->strategy);
    int every = updates_between(down);
    (void)snprintf(until, sizeof(until), "--until=updates=%d", every * (KILLS + 3));
    const char *argv[32] = {"throughline",
                            "run",
                            TL_SOURCE_DIR "/examples/fashion-mlp.json",
                            mode,
                            until,
                            "--checkpoint-every-updates=50",
                            "--monitor-every-seconds=0.1",
                            "--monitor-share=0.001",
                            "--quiet",
                            "--json",
                            "--out",
                            dir};
    for (int i = 0; i < KILLS; i++) {
        (void)snprintf(kills[i], sizeof(kills[i]),
                       "--kill=server@updates=%d,down=%.1fs", every * (i + 2), down);
        argv[12 + i] = kills[i];
    }
    int fd = -1;
    static char text[65536];
    pid_t pid = bench_start(argv, &fd);
    bench_finish(pid, fd, text, sizeof(text));
    take(a, dir);
    bench_remove_tree(out);
}

/* ---- figures --------------------------------------------------------------------- */

/* Median of the whole. */
static double tell(struct arm *a) {
    double median = 0.0;
    printf("bench standby %s: %zu kills, median and p99 in ms:", a->strategy, a->kills);
    bool is_replaced = strcmp(a->strategy, "hybrid") == 0;
    for (int p = is_replaced ? RESUMED : 0; p < PARTS; p++) {
        size_t n = a->counts[p];
        if (n > 0) {
            median = bench_median(a->seconds[p], n);
            printf(" %s %.0f %.0f,", parts[p].name, median * 1e3,
                   a->seconds[p][(n * 99 + 99) / 100 - 1] * 1e3);
        }
    }
    printf(" workers lost %.0f ms of work at each\n", a->idle / (double)a->kills * 1e3);
    return median;
}

static bool judge(const char *what, double ratio, double goal) {
    printf("bench standby: %s %.2f of what it is with a checkpoint (goal <= %.2f) %s\n",
           what, ratio, goal, bench_verdict(ratio <= goal));
    return ratio <= goal;
}

int main(int argc, char **argv) {
    static struct arm arms[] = {
        {.strategy = "checkpoint"}, {.strategy = "stateless"}, {.strategy = "hybrid"}};
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    double down = argc > 2 ? strtod(argv[2], NULL) : 0.5;
    if (rounds < 1 || rounds > ROUNDS_MAX || !(down >= 0.0 && down <= 60.0)) {
        bench_die("standby [ROUNDS [DOWN]]: at most 20, and 60 s");
    }
    char rate[16];
    (void)snprintf(rate, sizeof(rate), "%d", RATE);
    (void)setenv("THROUGHLINE_MAX_RATE", rate, 1); /* the workers' */
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < 3; k++) {
            run(&arms[k], down);
        }
    }
    double checkpoint = tell(&arms[0]);
    (void)tell(&arms[1]);
    double hybrid = tell(&arms[2]);
    bool ok = judge("a standby's recovery is", hybrid / checkpoint, HYBRID_GOAL);
    ok = judge("work lost with one is", arms[2].idle / arms[0].idle, IDLE_GOAL) && ok;
    return ok ? 0 : 1;
}
