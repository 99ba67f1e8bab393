/* job.c - a whole job beside workers that talk to nobody, and the price of checkpoints.
 *
 * Two async workers train the paper's CNN over Unix sockets; nothing is evaluated but a
 * hundred examples at the start. The arms take turns:
 *   alone       two workers that compute the same gradients for nobody
 *   none        the job, strategy none
 *   checkpoint  the job, a snapshot every 100 updates */
#include "bench.h"

#define ROUNDS          5
#define UPDATES         "1500"
#define ALONE_GRADIENTS "750" /* of each of the two */

#define JOB_GOAL        0.65
#define CHECKPOINT_GOAL 0.035
#define STALL_GOAL_MS   1.0

static const char job_file[] = TL_SOURCE_DIR "/examples/fashion-cnn.json";

/* Gradients per second of two workers without a server. */
static double run_alone(void) {
    const char *argv[] = {
        "tl-worker",  "--job",          job_file,        "--strategy=none",
        "--http=off", "--compute-only", ALONE_GRADIENTS, "--log-level=error",
        NULL};
    int fds[2];
    pid_t pids[2];
    double sum = 0.0;
    for (int i = 0; i < 2; i++) {
        pids[i] = bench_start(argv, &fds[i]);
    }
    for (int i = 0; i < 2; i++) {
        char text[4096];
        bench_finish(pids[i], fds[i], text, sizeof(text));
        sum += bench_number(text, "gradients_per_second");
    }
    return sum;
}

/* Longest time that taking a snapshot held the fold, from the server's last log line.
 */
static double stall_ms(const char *out) {
    char path[4200];
    char line[4096];
    double ms = -1.0;
    (void)snprintf(path, sizeof(path), "%s/logs/server-0.log", out);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        const char *at = strstr(line, "snapshot_stall_ms=");
        ms = at == NULL ? ms : strtod(at + strlen("snapshot_stall_ms="), NULL);
    }
    if (f == NULL || ms < 0.0) {
        bench_die("the server's log does not say how long a snapshot held it");
    }
    (void)fclose(f);
    return ms;
}

/* Gradients per second of the job; *ret_stall_ms grows to the longest stall seen. */
static double run_job(const char *strategy, double *ret_stall_ms) {
    char out[] = "/tmp/tl-bench-XXXXXX";
    char dir[64];
    char mode[64];
    if (mkdtemp(out) == NULL) {
        bench_die("no temporary directory");
    }
    (void)snprintf(dir, sizeof(dir), "%s/run", out);
    (void)snprintf(mode, sizeof(mode), "--strategy=%s", strategy);
    const char *argv[] = {"throughline",
                          "run",
                          job_file,
                          mode,
                          "--until=updates=" UPDATES,
                          "--checkpoint-every-updates=100",
                          "--monitor-every-seconds=3600",
                          "--monitor-examples=100",
                          "--quiet",
                          "--json",
                          "--out",
                          dir,
                          NULL};
    int fd = -1;
    char text[16384];
    pid_t pid = bench_start(argv, &fd);
    bench_finish(pid, fd, text, sizeof(text));
    double rate = bench_number(text, "gradients_per_second");
    double ms = stall_ms(dir);
    *ret_stall_ms = ms > *ret_stall_ms ? ms : *ret_stall_ms;
    bench_remove_tree(out);
    return rate;
}

int main(void) {
    double alone[ROUNDS];
    double none[ROUNDS];
    double saved[ROUNDS];
    double cost[ROUNDS];
    double ratio[ROUNDS];
    double stall = 0.0;
    for (int i = 0; i < ROUNDS; i++) {
        alone[i] = run_alone();
        none[i] = run_job("none", &stall);
        saved[i] = run_job("checkpoint", &stall);
        ratio[i] = none[i] / alone[i];
        cost[i] = 1.0 - saved[i] / none[i];
    }
    double job_ratio = bench_median(ratio, ROUNDS);
    double price = bench_median(cost, ROUNDS);
    bool ok[] = {job_ratio >= JOB_GOAL, price <= CHECKPOINT_GOAL,
                 stall <= STALL_GOAL_MS};
    double none_rate = bench_median(none, ROUNDS);
    printf("bench job: %.1f gradients/s, two workers alone %.1f, ratio %.2f (goal >= "
           "%.2f) "
           "%s\n",
           none_rate, bench_median(alone, ROUNDS), job_ratio, JOB_GOAL,
           bench_verdict(ok[0]));
    printf("bench checkpoint: %.1f gradients/s with a snapshot every 100 updates, %.1f "
           "without, cost %.1f %% (goal <= %.1f) %s\n",
           bench_median(saved, ROUNDS), none_rate, price * 100.0,
           CHECKPOINT_GOAL * 100.0, bench_verdict(ok[1]));
    printf(
        "bench stall: a snapshot held the fold for %.3f ms at most (goal <= %.0f) %s\n",
        stall, STALL_GOAL_MS, bench_verdict(ok[2]));
    return ok[0] && ok[1] && ok[2] ? 0 : 1;
}
