/* What training feels of a snapshot on its way to a bucket: how long the fold stands
 * still for the cut, and the time of a worker's step while an upload is under way,
 * beside that of the steps between uploads.
 *
 *   bench upload: step p99 31.2 ms during an upload, 30.8 ms otherwise, ratio 1.01
 * (goal <= 1.05) PASS
 *
 * A real server of 13 million parameters with momentum (a state of 104 MB), a real
 * checkpointer, a real S3 server; this process is the worker, with ready gradients. The
 * S3 server shares the machine here, which it does not elsewhere: it gets only the
 * processor time that nobody else wants. What the first snapshots touch for the
 * first time is no part of it.
 *
 * What of the ratio is owed to that sharing alone a control shows: the same steps
 * between and during uploads by curl, of as many bytes, as often and as slowly, without
 * a checkpointer. */
#include "throughline/client.h"

#include "bench_s3.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum {
    STEPS = 8000,
    EVERY = 600,    /* updates from snapshot to snapshot */
    WARM_UP = 1200, /* steps, after so many snapshots at full speed */
    WARM_SNAPSHOTS = 40,
    UPLOADS_MAX = 1000
};

#define STATE_BYTES 103945416u /* of one snapshot */

#define P99_GOAL   1.05
#define STALL_GOAL 1.0

static const char job_text[] =
    "{\"name\": \"bench\", \"workers\": 1, \"strategy\": \"checkpoint\",\n"
    " \"model\": {\"input\": [1, 28, 28], \"classes\": 10, \"layers\": [\n"
    "  {\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 8192},\n"
    "  {\"type\": \"relu\"}, {\"type\": \"dense\", \"units\": 800},\n"
    "  {\"type\": \"relu\"}, {\"type\": \"dense\", \"units\": 10}]},\n"
    " \"data\": {\"train_images\": \"x\", \"train_labels\": \"x\",\n"
    "  \"test_images\": \"x\", \"test_labels\": \"x\"},\n"
    " \"optimizer\": {\"momentum\": 0.9},\n"
    " \"checkpoint\": {\"store\": \"s3://throughline/bench\",\n"
    "  \"every_updates\": %d},\n"
    " \"until\": {\"updates\": 1000000}}\n";

/* The S3 server is a Java program, which is compiled while it runs, on the processors
 * that are measured. */
static void warm_up(void) {
    static const struct tl_snapshot_options options = {0};
    struct tl_store *store = bench_s3_open("s3://throughline/warm-up");
    char *state = calloc(1, STATE_BYTES);
    if (state == NULL) {
        bench_die("no memory for a state");
    }
    for (int i = 0; i < WARM_SNAPSHOTS; i++) {
        struct tl_manifest m;
        uint32_t pruned = 0;
        bench_s3_snapshot(store, &options, state, STATE_BYTES, &m);
        tl_manifest_done(&m);
        bench_s3_check(tl_snapshot_prune(store, 0, 2, &pruned));
    }
    free(state);
    tl_store_close(store);
}

/* ---- the services ---------------------------------------------------------------- */

/* With standard error in a file. */
static pid_t start_service(const char *const *argv, const char *log) {
    const pid_t pid = fork();
    if (pid == 0) {
        char path[4096];
        const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        (void)dup2(fd, STDERR_FILENO);
        (void)snprintf(path, sizeof(path), "%s/%s", TL_BIN_DIR, argv[0]);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

static void stop_service(pid_t pid) {
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
}

/* ---- steps ----------------------------------------------------------------------- */

struct step {
    double at; /* Unix seconds, when it began */
    double ms;
    bool during; /* an upload */
};

static double unix_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void take_steps(const char *server, struct step *steps) {
    const struct tl_client_config config = {
        .servers = server, .job = "bench", .run = "bench", .patience_ms = 60000};
    struct tl_client *client = NULL;
    struct tl_client_join joined;
    bench_s3_check(tl_client_open(&config, &client));
    bench_s3_check(tl_client_join(client, &joined));
    float *gradient = calloc(joined.parameters, sizeof(*gradient));
    if (gradient == NULL) {
        bench_die("no memory for a gradient");
    }
    for (int i = 0; i < STEPS; i++) {
        steps[i].at = unix_now();
        const double start = bench_now();
        bench_s3_check(
            tl_client_push_pull(client, joined.next_sequence++, gradient, NULL));
        steps[i].ms = (bench_now() - start) * 1000.0;
    }
    free(gradient);
    tl_client_free(client);
}

/* ---- the control ----------------------------------------------------------------- */

/* Shared with the process that makes them. */
struct uploads {
    _Atomic int count;
    double begin[UPLOADS_MAX], end[UPLOADS_MAX];
};

/* One in every `period` seconds, each in `seconds`, as low as a checkpointer's threads
 * are, until it is killed. */
static void upload_by_curl(const struct bench_s3 *s3, struct uploads *uploads,
                           double period, double seconds) {
    char file[128];
    char config[128];
    char *bytes = calloc(1, STATE_BYTES);
    (void)snprintf(file, sizeof(file), "%s/state", s3->directory);
    (void)snprintf(config, sizeof(config), "%s/curl", s3->directory);
    if (bytes == NULL || nice(10) < 0) {
        bench_die("no control");
    }
    bench_s3_write_file(file, bytes, STATE_BYTES);
    bench_s3_curl_config(config);
    free(bytes);
    double due = bench_now();
    for (;;) {
        const double early = due - bench_now();
        if (early > 0.0) {
            (void)usleep((useconds_t)(early * 1e6));
        }
        due += period;
        const int n = uploads->count;
        uploads->begin[n] = unix_now();
        (void)bench_s3_curl(config, file, (size_t)(STATE_BYTES / seconds));
        uploads->end[n] = unix_now();
        uploads->count = n + 1 < UPLOADS_MAX ? n + 1 : n;
    }
}

static void note_upload(struct step *steps, double begin, double end) {
    for (int i = 0; i < STEPS; i++) {
        const double finished = steps[i].at + steps[i].ms / 1000.0;
        steps[i].during = steps[i].during || (finished > begin && steps[i].at < end);
    }
}

static void take_control_steps(const struct bench_s3 *s3, const char *server,
                               struct step *steps, double period, double seconds) {
    struct uploads *uploads = mmap(NULL, sizeof(*uploads), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (uploads == MAP_FAILED) {
        bench_die("no control");
    }
    const pid_t pid = fork();
    if (pid == 0) {
        upload_by_curl(s3, uploads, period, seconds);
    }
    take_steps(server, steps);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    for (int i = 0; i < uploads->count; i++) {
        note_upload(steps, uploads->begin[i], uploads->end[i]);
    }
    (void)munmap(uploads, sizeof(*uploads));
}

/* ---- what the logs say ----------------------------------------------------------- */

/* "time=2026-01-31T12:00:00.000Z" as Unix seconds. */
static double line_time(const char *line) {
    struct tm utc = {.tm_isdst = 0};
    const char *rest = strptime(line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    return rest == NULL ? 0.0 : (double)timegm(&utc) + strtod(rest, NULL);
}

/* Marks the steps that touch an upload, from the question for the state to the store's
 * last answer; returns how many uploads there were, and how long they took. */
static int mark(const char *log, struct step *steps, double *ret_seconds) {
    char line[4096];
    double seconds = 0.0;
    int uploads = 0;
    FILE *f = fopen(log, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        const char *ms = strstr(line, " ms=");
        if (strstr(line, "snapshot taken") == NULL || ms == NULL) {
            continue;
        }
        const double end = line_time(line);
        const double begin = end - strtod(ms + 4, NULL) / 1000.0;
        note_upload(steps, begin, end);
        seconds += end - begin;
        uploads++;
    }
    *ret_seconds = seconds / (uploads > 0 ? uploads : 1);
    if (f != NULL) {
        (void)fclose(f);
    }
    return uploads;
}

static double longest_stall(const char *log) {
    char line[4096];
    double ms = -1.0;
    FILE *f = fopen(log, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        const char *at = strstr(line, "snapshot_stall_ms=");
        ms = at == NULL ? ms : strtod(at + strlen("snapshot_stall_ms="), NULL);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    if (ms < 0.0) {
        bench_die("the server's log does not say how long a snapshot held it");
    }
    return ms;
}

/* The value that `share` of the steps stay below. */
static double quantile(const struct step *steps, bool during, double share,
                       size_t *ret_count) {
    static double values[STEPS];
    size_t n = 0;
    for (int i = WARM_UP; i < STEPS; i++) {
        if (steps[i].during == during) {
            values[n++] = steps[i].ms;
        }
    }
    if (n == 0) {
        bench_die(during ? "no step during an upload" : "no step between uploads");
    }
    *ret_count = n;
    qsort(values, n, sizeof(values[0]), bench_compare);
    return values[(size_t)((double)(n - 1) * share)];
}

static double tail_ratio(const struct step *steps) {
    size_t n = 0;
    return quantile(steps, true, 0.99, &n) / quantile(steps, false, 0.99, &n);
}

static bool report(const struct step *steps, int uploads, double stall,
                   double control) {
    size_t during = 0;
    size_t otherwise = 0;
    const double busy = quantile(steps, true, 0.99, &during);
    const double calm = quantile(steps, false, 0.99, &otherwise);
    const double busy_median = quantile(steps, true, 0.5, &during);
    const double calm_median = quantile(steps, false, 0.5, &otherwise);
    const bool ok[] = {busy / calm <= P99_GOAL, stall <= STALL_GOAL};
    printf("bench upload: step p99 %.1f ms during an upload, %.1f ms otherwise, ratio "
           "%.2f (goal <= %.2f) %s\n",
           busy, calm, busy / calm, P99_GOAL, bench_verdict(ok[0]));
    printf(
        "bench upload: with curl's uploads instead the ratio is %.2f: %.2f of that is "
        "ours\n",
        control, busy / calm / control);
    printf("bench upload: medians %.1f and %.1f ms; %d uploads, %zu steps during, %zu "
           "between\n",
           busy_median, calm_median, uploads, during, otherwise);
    printf("bench upload: a snapshot held the fold for %.3f ms at most (goal <= %.0f) "
           "%s\n",
           stall, STALL_GOAL, bench_verdict(ok[1]));
    return ok[0] && ok[1];
}

int main(void) {
    static struct step steps[STEPS];
    static struct step control[STEPS];
    struct bench_s3 s3;
    char job[128];
    char socket[128];
    char server_log[128];
    char checkpointer_log[128];
    char servers[160];
    char listen[160];
    bench_s3_start(&s3, true);
    warm_up();
    (void)snprintf(job, sizeof(job), "%s/job.json", s3.directory);
    (void)snprintf(socket, sizeof(socket), "unix://%s/server", s3.directory);
    (void)snprintf(listen, sizeof(listen), "--listen=%s", socket);
    (void)snprintf(servers, sizeof(servers), "--servers=%s", socket);
    (void)snprintf(server_log, sizeof(server_log), "%s/server.log", s3.directory);
    (void)snprintf(checkpointer_log, sizeof(checkpointer_log), "%s/checkpointer.log",
                   s3.directory);
    FILE *f = fopen(job, "we");
    if (f == NULL || fprintf(f, job_text, EVERY) < 0 || fclose(f) != 0) {
        bench_die("no job file");
    }
    const char *server_argv[] = {"tl-server",  job,    "--run=bench", "--redis=off",
                                 "--http=off", listen, NULL};
    const char *checkpointer_argv[] = {
        "tl-checkpointer", job,     "--run=bench", "--redis=off",
        "--http=off",      servers, NULL};
    const pid_t server = start_service(server_argv, server_log);
    const pid_t checkpointer = start_service(checkpointer_argv, checkpointer_log);
    double seconds = 0.0;
    take_steps(socket, steps);
    stop_service(checkpointer);
    const int uploads = mark(checkpointer_log, steps, &seconds);
    const double period =
        (steps[STEPS - 1].at - steps[WARM_UP].at) * EVERY / (STEPS - WARM_UP);
    take_control_steps(&s3, socket, control, period, seconds);
    stop_service(server);
    const bool passed =
        report(steps, uploads, longest_stall(server_log), tail_ratio(control));
    bench_s3_stop(&s3);
    return passed ? 0 : 1;
}
