/* scale.c - what a job costs as it grows: workers, shards, parameters.
 *
 * Real servers, a process for each shard, over Unix sockets; a worker is a process with
 * the public client that pushes and pulls as fast as it can, and computes nothing. The
 * ratio is the rate beside that of one worker and one shard of the same model, in the
 * same run: above 1 is what more workers or shards bring.
 *
 * CPU is that of one update, so that it means the same on a busy machine. Each row is
 * the median of several windows, which the rows of one model take in turns; the largest
 * models, which take long to set up, get one.
 *
 *   scale [LARGEST [SECONDS [SMALLEST]]]
 *       models from SMALLEST (100,000) to LARGEST parameters (1,000,000), each ten
 * times the one before; windows of SECONDS (0.5)
 *
 * scripts/scale writes what it prints into docs/results.md. */
#include "throughline/client.h"

#include "bench.h"

#include <inttypes.h>
#include <sys/resource.h>

#define WORKERS_MAX 8
#define SHARDS_MAX  4
#define ROWS        12 /* workers times shards */
#define ROUNDS      3
#define WARM_UP     3
#define LARGE       UINT64_C(50000000) /* parameters: one window */
#define PUSHES_MAX  200000
#define MEMORY_PART 0.8 /* of what is free, for all processes together */

struct setup {
    unsigned workers, shards;
    uint64_t parameters;
    double seconds;
};

/* What a worker tells at its end. */
struct told {
    uint64_t pushes;
    double p50_ms, p99_ms, cpu_seconds, resident_mib;
};

struct measured {
    double updates, bytes; /* per second */
    double p50_ms, p99_ms;
    double server_cpu, worker_cpu; /* ms for an update: all servers, one worker */
    double server_mib, worker_mib;
};

static char directory[] = "/tmp/tl-scale-XXXXXX";

/* ---- a worker -----------------------------------------------------------------------
 */

static double cpu_seconds(void) {
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static double resident_mib(pid_t pid) {
    char path[64];
    long total = 0;
    long resident = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%ld %ld", &total, &resident) != 2) {
        bench_die("a process that was to be measured has gone");
    }
    (void)fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576.0;
}

static void push(struct tl_client *c, uint64_t sequence, const float *gradient) {
    if (tl_client_push_pull(c, sequence, gradient, NULL) != 0) {
        bench_die(tl_error_text());
    }
}

/* As fast as it goes for `seconds`, once `go` is closed. */
static struct told work(struct tl_client *c, uint64_t first, const float *gradient,
                        int ready, int go, double seconds) {
    static double latency[PUSHES_MAX];
    struct told t = {0};
    char byte = 0;
    uint64_t n = first;
    for (int i = 0; i < WARM_UP; i++) {
        push(c, n++, gradient);
    }
    (void)!write(ready, &byte, 1);
    (void)!read(go, &byte, 1);
    double cpu = cpu_seconds();
    double start = bench_now();
    double now = start;
    while (now < start + seconds && t.pushes < PUSHES_MAX) {
        push(c, n++, gradient);
        double end = bench_now();
        latency[t.pushes++] = (end - now) * 1e3;
        now = end;
    }
    t.cpu_seconds = cpu_seconds() - cpu;
    t.resident_mib = resident_mib(getpid());
    t.p50_ms = bench_median(latency, t.pushes); /* sorts */
    t.p99_ms = latency[(size_t)((double)(t.pushes - 1) * 0.99)];
    return t;
}

static void run_worker(const struct setup *s, const char *servers, uint32_t number,
                       int ready, int go, int out) {
    const struct tl_client_config config = {.servers = servers,
                                            .worker = number,
                                            .patience_ms = 60000,
                                            .request_ms = 60000};
    struct tl_client *c = NULL;
    struct tl_client_join joined;
    if (tl_client_open(&config, &c) != 0 || tl_client_join(c, &joined) != 0) {
        bench_die(tl_error_text());
    }
    float *gradient = calloc(joined.parameters, sizeof(*gradient));
    if (gradient == NULL) {
        bench_die("no memory for a gradient");
    }
    for (uint64_t i = 0; i < joined.parameters; i++) {
        gradient[i] = 1e-6F * (float)(i % 1000);
    }
    struct told t = work(c, joined.next_sequence, gradient, ready, go, s->seconds);
    if (write(out, &t, sizeof(t)) != sizeof(t) || tl_client_leave(c) != 0) {
        bench_die("a worker cannot tell what it did");
    }
    tl_client_free(c);
    free(gradient);
}

/* ---- the servers
 * ----------------------------------------------------------------------- */

static void write_job(const struct setup *s) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/job.json", directory);
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        bench_die("no job file");
    }
    (void)fprintf(f,
                  "{\"name\": \"scale\", \"model\": {\"input\": [1, %" PRIu64
                  ", 1000], \"classes\": 10, \"layers\": [{\"type\": \"flatten\"}, "
                  "{\"type\": \"dense\", \"units\": 10}]}, \"data\": "
                  "{\"train_images\": \"-\", \"train_labels\": \"-\", "
                  "\"test_images\": \"-\", \"test_labels\": \"-\"}, \"strategy\": "
                  "\"none\", \"workers\": %u, \"shards\": %u, "
                  "\"until\": {\"updates\": 1000000000}}",
                  s->parameters / 10000, s->workers, s->shards);
    (void)fclose(f);
}

static pid_t start_server(unsigned shard) {
    char job[128];
    char listen[128];
    char index[32];
    int fd = -1;
    (void)snprintf(job, sizeof(job), "%s/job.json", directory);
    (void)snprintf(listen, sizeof(listen), "--listen=unix://%s/%u.sock", directory,
                   shard);
    (void)snprintf(index, sizeof(index), "--index=%u", shard);
    const char *argv[] = {"tl-server", job,   "--redis=off",         "--http=off",
                          listen,      index, "--log-level=warning", NULL};
    pid_t pid = bench_start(argv, &fd);
    (void)close(fd);
    return pid;
}

static void stop_server(pid_t pid) {
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
}

/* ---- one setup
 * ------------------------------------------------------------------------- */

/* Every worker process, the two pipes of their start, and one each of what they tell.
 */
struct crowd {
    pid_t pids[WORKERS_MAX];
    int out[WORKERS_MAX];
    int ready, go;
};

static void start_crowd(const struct setup *s, struct crowd *crowd) {
    char servers[SHARDS_MAX * 64] = "";
    int ready[2];
    int go[2];
    for (unsigned i = 0; i < s->shards; i++) {
        size_t used = strlen(servers);
        (void)snprintf(servers + used, sizeof(servers) - used, "%sunix://%s/%u.sock",
                       i > 0 ? "," : "", directory, i);
    }
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) {
        bench_die("no pipe");
    }
    for (unsigned w = 0; w < s->workers; w++) {
        int out[2];
        if (pipe2(out, O_CLOEXEC) != 0 || (crowd->pids[w] = fork()) < 0) {
            bench_die("no process");
        }
        if (crowd->pids[w] == 0) {
            (void)close(go[1]);
            run_worker(s, servers, w, ready[1], go[0], out[1]);
            _exit(0);
        }
        (void)close(out[1]);
        crowd->out[w] = out[0];
    }
    (void)close(ready[1]);
    (void)close(go[0]);
    crowd->ready = ready[0];
    crowd->go = go[1];
}

/* All are warm: from here on they are measured. */
static void release_crowd(const struct setup *s, struct crowd *crowd) {
    for (unsigned w = 0; w < s->workers; w++) {
        char byte = 0;
        if (read(crowd->ready, &byte, 1) != 1) {
            bench_die("a worker does not start");
        }
    }
    (void)close(crowd->ready);
    (void)close(crowd->go);
}

/* Returns how many pushes there were. */
static double hear_crowd(const struct setup *s, struct crowd *crowd,
                         struct measured *m) {
    double pushes = 0.0;
    double cpu = 0.0;
    for (unsigned w = 0; w < s->workers; w++) {
        struct told t;
        if (read(crowd->out[w], &t, sizeof(t)) != sizeof(t)) {
            bench_die("a worker that was to be measured failed");
        }
        (void)close(crowd->out[w]);
        (void)waitpid(crowd->pids[w], NULL, 0);
        pushes += (double)t.pushes;
        cpu += t.cpu_seconds;
        m->p50_ms = t.p50_ms > m->p50_ms ? t.p50_ms : m->p50_ms;
        m->p99_ms = t.p99_ms > m->p99_ms ? t.p99_ms : m->p99_ms;
        m->worker_mib = t.resident_mib > m->worker_mib ? t.resident_mib : m->worker_mib;
    }
    m->updates = pushes / s->seconds;
    m->worker_cpu = cpu * 1e3 / pushes;
    m->bytes = m->updates * 2.0 * 4.0 * (double)s->parameters; /* there and back */
    return pushes;
}

static struct measured measure(const struct setup *s) {
    pid_t servers[SHARDS_MAX];
    struct crowd crowd;
    struct measured m = {0};
    write_job(s);
    for (unsigned i = 0; i < s->shards; i++) {
        servers[i] = start_server(i);
    }
    start_crowd(s, &crowd);
    release_crowd(s, &crowd);
    double cpu = 0.0;
    for (unsigned i = 0; i < s->shards; i++) {
        cpu -= bench_cpu_seconds(servers[i]);
    }
    double pushes = hear_crowd(s, &crowd, &m);
    for (unsigned i = 0; i < s->shards; i++) {
        double mib = resident_mib(servers[i]);
        cpu += bench_cpu_seconds(servers[i]);
        m.server_mib = mib > m.server_mib ? mib : m.server_mib;
        stop_server(servers[i]);
    }
    m.server_cpu = cpu * 1e3 / pushes;
    return m;
}

/* ---- the table
 * ---------------------------------------------------------------------------- */

/* Gradient and weights of a worker; weights, versions held and gradients of a server.
 */
static uint64_t memory_needed(const struct setup *s) {
    return s->parameters * sizeof(float) * (3 * s->workers + 2 * s->workers + 4);
}

/* With what the kernel would give up of its caches. */
static double available_bytes(void) {
    char line[128];
    double kib = 0.0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0) {
            kib = strtod(line + 13, NULL);
        }
    }
    if (f == NULL || fclose(f) != 0 || kib == 0.0) {
        bench_die("no word of how much memory there is");
    }
    return kib * 1024.0;
}

static bool fits(const struct setup *s) {
    static double free_bytes;
    if (free_bytes == 0.0) {
        free_bytes = available_bytes();
    }
    return (double)memory_needed(s) <= MEMORY_PART * free_bytes;
}

static void print_row(const struct setup *s, const struct measured *m, double ratio) {
    printf("| %g | %u | %u | %.1f | %.0f | %.2f | %.2f | %.3f | %.3f | %.0f | %.0f | "
           "%.2f |\n",
           (double)s->parameters / 1e6, s->shards, s->workers, m->updates,
           m->bytes / 1e6, m->p50_ms, m->p99_ms, m->server_cpu, m->worker_cpu,
           m->server_mib, m->worker_mib, ratio);
    (void)fflush(stdout);
}

static struct setup row_of(unsigned row, uint64_t parameters, double seconds) {
    static const unsigned workers[] = {1, 2, 4, 8};
    static const unsigned shards[] = {1, 2, 4};
    return (struct setup){workers[row % 4], shards[row / 4], parameters, seconds};
}

static int by_updates(const void *a, const void *b) {
    double x = ((const struct measured *)a)->updates;
    double y = ((const struct measured *)b)->updates;
    return (x > y) - (x < y);
}

/* The rows of one model. */
static void measure_model(uint64_t parameters, double seconds) {
    static struct measured m[ROWS][ROUNDS];
    const unsigned rounds = parameters < LARGE ? ROUNDS : 1;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned row = 0; row < ROWS; row++) {
            const struct setup s = row_of(row, parameters, seconds);
            if (fits(&s)) {
                m[row][round] = measure(&s);
            }
        }
    }
    for (unsigned row = 0; row < ROWS; row++) {
        const struct setup s = row_of(row, parameters, seconds);
        qsort(m[row], rounds, sizeof(m[row][0]), by_updates);
        if (fits(&s)) {
            const struct measured *median = &m[row][rounds / 2];
            print_row(&s, median, median->updates / m[0][rounds / 2].updates);
        } else {
            printf("| %g | %u | %u | not measured: needs %.0f GB | | | | | | | | |\n",
                   (double)s.parameters / 1e6, s.shards, s.workers,
                   (double)memory_needed(&s) / 1e9);
        }
    }
}

int main(int argc, char **argv) {
    uint64_t largest = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0.5;
    uint64_t smallest = argc > 3 ? strtoull(argv[3], NULL, 10) : 100000;
    if (mkdtemp(directory) == NULL) {
        bench_die("no temporary directory");
    }
    printf(
        "| million parameters | shards | workers | updates/s | MB/s | p50 ms | p99 ms "
        "| CPU ms of the servers | CPU ms of the worker | MiB of a server | MiB of a "
        "worker | "
        "ratio |\n|--|--|--|--|--|--|--|--|--|--|--|--|\n");
    for (uint64_t p = smallest; p > 0 && p <= largest; p *= 10) {
        measure_model(p, seconds);
    }
    bench_remove_tree(directory);
    return 0;
}
