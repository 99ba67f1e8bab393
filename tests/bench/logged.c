/* logged.c - the real job with its gradients in Kafka, beside the same job on the
 * direct log over TCP; and how fast a new server replays what the workers produced.
 *
 * Two async workers train the paper's CNN: processes, and TCP between them; no Redis,
 * no checkpoints, nothing is evaluated. The rate is that of the server's versions once
 * the workers are under way. Then all are killed, and a new server folds the whole log.
 * The arms take turns:
 *   direct      float32 gradients, to the server
 *   f32, int8   gradients to Kafka, weights from the server
 *
 *   logged [ROUNDS]   default: 3 */
#include "throughline/service.h"
#include "throughline/wire.h"

#include "bench_kafka.h"

#include <inttypes.h>
#include <signal.h>

#define ROUNDS_MAX 31
#define WORKERS    2
#define WARM       100u
#define MEASURED   600u
#define PAUSE_NS   1000000L
#define WAIT_MS    60000
#define HTTP       "127.0.0.1:19397"
#define ADDRESS    "tcp://127.0.0.1:19396"

#define RATE_GOAL   0.80
#define REPLAY_GOAL 4.0

static const char job_file[] = TL_SOURCE_DIR "/examples/fashion-cnn.json";

struct arm {
    const char *name, *strategy, *log, *encoding;
    double rate[ROUNDS_MAX], replay[ROUNDS_MAX];
};

/* ---- the server, as anybody may ask it ------------------------------------------ */

struct probe {
    struct tl_link *link;
    uint8_t welcome[TL_WELCOME_BYTES];
};

static void pause_a_moment(void) {
    const struct timespec t = {.tv_nsec = PAUSE_NS};
    (void)nanosleep(&t, NULL);
}

static bool await(struct probe *p) {
    int status = 0;
    return tl_links_wait(&p->link, 1, tl_now_ms() + WAIT_MS, -1, &status) == 0 &&
           status == 0 && tl_link_reply(p->link)->kind != TL_KIND_ERROR;
}

static bool say_hello(struct probe *p) {
    const struct tl_header header = {.shard = 0};
    const struct tl_hello hello = {.role = TL_ROLE_CLI};
    struct tl_address address;
    return tl_address_parse(ADDRESS, &address) == 0 &&
           tl_link_connect(p->link, &address) == 0 &&
           tl_link_hello(p->link, &header, &hello, p->welcome) == 0 && await(p);
}

/* Until the server serves. */
static void probe_open(struct probe *p) {
    int64_t deadline_ms = tl_now_ms() + WAIT_MS;
    if (tl_link_new(&p->link) != 0) {
        bench_die("no memory");
    }
    while (!say_hello(p)) {
        if (tl_now_ms() > deadline_ms) {
            bench_die("the server does not come up");
        }
        tl_link_close(p->link);
        pause_a_moment();
    }
}

/* When, in seconds, it has reached this version. */
static double reached(struct probe *p, uint64_t version) {
    int64_t deadline_ms = tl_now_ms() + WAIT_MS;
    const struct tl_header ping = {.kind = TL_KIND_PING};
    do {
        pause_a_moment();
        if (tl_link_request(p->link, &ping, NULL, NULL, 0, false) != 0 || !await(p) ||
            tl_now_ms() > deadline_ms) {
            bench_die("the server gets no gradients");
        }
    } while (tl_link_reply(p->link)->read_version < version);
    return bench_now();
}

/* ---- processes ------------------------------------------------------------------- */

static pid_t start(const struct arm *a, const char *program, const char *run,
                   unsigned index) {
    char strategy[64], log[96], encoding[32], name[32], number[32], store[96];
    bool is_server = strcmp(program, "tl-server") == 0;
    (void)snprintf(strategy, sizeof(strategy), "--strategy=%s", a->strategy);
    (void)snprintf(log, sizeof(log), "--log-url=%s", a->log);
    (void)snprintf(encoding, sizeof(encoding), "--encoding=%s", a->encoding);
    (void)snprintf(name, sizeof(name), "--run=%s", run);
    (void)snprintf(number, sizeof(number), "--index=%u", index);
    (void)snprintf(store, sizeof(store), "--checkpoint-store=file://%s/%s",
                   bench_kafka_directory, run);
    const char *argv[] = {program,
                          job_file,
                          strategy,
                          log,
                          encoding,
                          name,
                          number,
                          store,
                          "--until-updates=1000000000",
                          "--redis=off",
                          "--log-level=error",
                          is_server ? "--http=" HTTP : "--http=off",
                          is_server ? "--listen=" ADDRESS : "--servers=" ADDRESS,
                          NULL};
    int fd = -1;
    pid_t pid = bench_start(argv, &fd);
    (void)close(fd);
    return pid;
}

static void end(pid_t pid) {
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static double metric(const char *name) {
    char *text = NULL;
    double value = 0.0;
    if (tl_metrics_fetch(HTTP, tl_now_ms() + WAIT_MS, &text) != 0 ||
        !tl_metrics_find(text, name, NULL, &value)) {
        bench_die("the server says nothing of itself");
    }
    free(text);
    return value;
}

/* ---- an arm ---------------------------------------------------------------------- */

/* Records a second, by a new server from the log's beginning. */
static double replay(const struct arm *a, const char *run) {
    struct probe p;
    pid_t server = start(a, "tl-server", run, 0);
    probe_open(&p);
    while (metric("throughline_log_position") < WARM + MEASURED) {
        pause_a_moment(); /* its figures are shown ten times a second */
    }
    double rate =
        metric("throughline_log_position") / metric("throughline_replay_seconds");
    tl_link_free(p.link);
    end(server);
    return rate;
}

static void run_arm(struct arm *a, int round) {
    static unsigned runs;
    char run[16];
    struct probe p;
    pid_t workers[WORKERS];
    (void)snprintf(run, sizeof(run), "r%u", runs++);
    pid_t server = start(a, "tl-server", run, 0);
    probe_open(&p);
    for (unsigned w = 0; w < WORKERS; w++) {
        workers[w] = start(a, "tl-worker", run, w);
    }
    double began = reached(&p, WARM);
    a->rate[round] = MEASURED / (reached(&p, WARM + MEASURED) - began);
    for (unsigned w = 0; w < WORKERS; w++) {
        end(workers[w]);
    }
    tl_link_free(p.link);
    end(server);
    a->replay[round] = strcmp(a->strategy, "stateless") == 0 ? replay(a, run) : 0.0;
}

/* ---- figures --------------------------------------------------------------------- */

static double median_of(const double *values, size_t count) {
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof(*values));
    return bench_median(sorted, count);
}

static double median_ratio(const double *a, const double *b, size_t count) {
    double ratios[ROUNDS_MAX];
    for (size_t i = 0; i < count; i++) {
        ratios[i] = a[i] / b[i];
    }
    return bench_median(ratios, count);
}

static bool tell_rate(const struct arm *a, const struct arm *direct, size_t rounds,
                      bool has_goal) {
    double ratio = median_ratio(a->rate, direct->rate, rounds);
    printf("bench logged %s: %.1f gradients/s, the direct log over TCP %.1f, ratio "
           "%.2f",
           a->name, median_of(a->rate, rounds), median_of(direct->rate, rounds), ratio);
    if (has_goal) {
        printf(" (goal >= %.2f) %s", RATE_GOAL, bench_verdict(ratio >= RATE_GOAL));
    }
    printf("\n");
    return !has_goal || ratio >= RATE_GOAL;
}

static bool tell_replay(const struct arm *a, size_t rounds) {
    double ratio = median_ratio(a->replay, a->rate, rounds);
    printf("bench logged replay %s: %.1f records/s, ratio to what two workers produce "
           "%.1f (goal >= %.1f) %s\n",
           a->name, median_of(a->replay, rounds), ratio, REPLAY_GOAL,
           bench_verdict(ratio >= REPLAY_GOAL));
    return ratio >= REPLAY_GOAL;
}

int main(int argc, char **argv) {
    static struct arm direct = {"direct", "none", "direct:", "f32", {0}, {0}};
    static struct arm logged[] = {
        {"f32", "stateless", BENCH_KAFKA_URL, "f32", {0}, {0}},
        {"int8", "stateless", BENCH_KAFKA_URL, "int8", {0}, {0}},
    };
    int rounds = argc > 1 ? atoi(argv[1]) : 3;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        bench_die("logged [ROUNDS], at most 31");
    }
    (void)signal(SIGPIPE, SIG_IGN);
    bench_kafka_start();
    for (int i = 0; i < rounds; i++) {
        run_arm(&direct, i);
        run_arm(&logged[0], i);
        run_arm(&logged[1], i);
    }
    bench_kafka_stop();
    size_t count = (size_t)rounds;
    bool ok[4];
    ok[0] = tell_replay(&logged[0], count);
    ok[1] = tell_replay(&logged[1], count);
    ok[2] = tell_rate(&logged[0], &direct, count, false);
    ok[3] = tell_rate(&logged[1], &direct, count, true);
    return ok[0] && ok[1] && ok[2] && ok[3] ? 0 : 1;
}
