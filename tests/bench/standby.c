/* standby.c - from a SIGKILL of the server to the first new version: with a standby,
 * with a log to replay, with a checkpoint alone.
 *
 * The small model, two async workers, Unix sockets; servers are started again at once.
 * The arms take turns, with KILLS kills in each run; their parts are the medians of
 *   noticed   until a new process is there (started, or standing by)
 *   restored  until it has its state and serves
 *   resumed   until there is a version that was not there before */
#include "bench.h"

#define ROUNDS 5
#define KILLS  4
#define ALL    20u

#define HYBRID_GOAL 0.10 /* of checkpoint's */

_Static_assert(ALL == ROUNDS * KILLS, "room for each kill");

struct arm {
    const char *strategy;
    double whole[ALL], noticed[ALL], restored[ALL], resumed[ALL];
    size_t count;
};

static double field(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : 0.0;
}

/* The events of a run's timeline have the parts. */
static void take_events(struct arm *a, const char *out) {
    char path[4200];
    static char line[1 << 16];
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl", out);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL && a->count < ALL) {
        json_t *json = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(json, "event"));
        if (event != NULL && strcmp(event, "recovered") == 0) {
            double whole = field(json, "recovery_seconds");
            a->whole[a->count] = whole;
            a->restored[a->count] = field(json, "restore_seconds");
            a->resumed[a->count] = field(json, "resume_seconds");
            a->noticed[a->count] =
                whole - field(json, "restore_seconds") - field(json, "resume_seconds");
            a->count++;
        }
        json_decref(json);
    }
    if (f == NULL) {
        bench_die("a run left no timeline");
    }
    (void)fclose(f);
}

static void run(struct arm *a) {
    char out[] = "/tmp/tl-bench-XXXXXX";
    char dir[64];
    char mode[64];
    if (mkdtemp(out) == NULL) {
        bench_die("no temporary directory");
    }
    (void)snprintf(dir, sizeof(dir), "%s/run", out);
    (void)snprintf(mode, sizeof(mode), "--strategy=%s", a->strategy);
    const char *argv[] = {"throughline",
                          "run",
                          TL_SOURCE_DIR "/examples/fashion-mlp.json",
                          mode,
                          "--until=seconds=11",
                          "--checkpoint-every-updates=100",
                          "--monitor-every-seconds=3600",
                          "--monitor-examples=100",
                          "--kill=server@seconds=2",
                          "--kill=server@seconds=4",
                          "--kill=server@seconds=6",
                          "--kill=server@seconds=8",
                          "--quiet",
                          "--json",
                          "--out",
                          dir,
                          NULL};
    int fd = -1;
    static char text[65536];
    pid_t pid = bench_start(argv, &fd);
    bench_finish(pid, fd, text, sizeof(text));
    take_events(a, dir);
    bench_remove_tree(out);
}

static double tell(struct arm *a) {
    double median = bench_median(a->whole, a->count);
    printf("bench standby: %s: %.0f ms, at most %.0f ms in %zu kills (noticed %.0f, "
           "restored %.0f, resumed %.0f)\n",
           a->strategy, median * 1e3, a->whole[a->count - 1] * 1e3, a->count,
           bench_median(a->noticed, a->count) * 1e3,
           bench_median(a->restored, a->count) * 1e3,
           bench_median(a->resumed, a->count) * 1e3);
    return median;
}

int main(void) {
    static struct arm arms[] = {
        {.strategy = "checkpoint"}, {.strategy = "stateless"}, {.strategy = "hybrid"}};
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < 3; k++) {
            run(&arms[k]);
        }
    }
    double checkpoint = tell(&arms[0]);
    (void)tell(&arms[1]);
    double ratio = tell(&arms[2]) / checkpoint;
    printf("bench standby: a standby takes %.2f of what a checkpoint takes (goal <= "
           "%.2f) %s\n",
           ratio, HYBRID_GOAL, bench_verdict(ratio <= HYBRID_GOAL));
    return ratio <= HYBRID_GOAL ? 0 : 1;
}
