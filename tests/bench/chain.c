/* chain.c - what a chain of replicas gives, and what it costs.
 *
 *   failover  from the head's death to the first acknowledged update: killed (its
 *             connections close) and frozen (they do not: the lease, 1 s), beside the
 *             strategy `checkpoint` in the same run, whose server is started again
 *             after the 500 ms that `throughline run` waits before it restarts what
 *             crashed; and at once, as no supervisor does
 *   cost      a paced worker with a server (`none`) and with chains of 1, 2 and 3: over
 *             TCP, as between machines, where the tail gives the weights; and over Unix
 *             sockets, where a server and its worker share memory and replicas do not
 *   join      the same worker while a replica joins
 *
 * Processes, over Unix sockets where nothing else is said, and a real Redis; one
 * worker, the public client, pushes and pulls. CPU and bytes are those of one update,
 * so that they mean the same on a busy machine.
 *
 *   chain [KILLS [PARAMETERS]]   200 and 812,000 (3.25 MB of weights) */
#include "throughline/client.h"
#include "throughline/member.h"
#include "throughline/service.h"

#include "bench.h"
#include "redis.h"

#include <inttypes.h>

#define NODES_MAX   3u
#define ROUNDS      3
#define COST_PUSHES 200
#define PACE        50.0 /* pushes a second */
#define FROZEN      10   /* of them so many: each takes a lease */
#define RESTARTS    20
#define WAIT_MS     60000

#define SUPERVISOR_MS 500 /* restart_after_ms of services/cli/exits.c */

#define FAILOVER_GOAL_MS 100.0
#define RECOVERY_GOAL    0.1
#define HEAD_GOAL        1.3
#define JOIN_GOAL        0.1
#define LEASE_MS         1000.0

static char directory[] = "/tmp/tl-chain-XXXXXX";
static struct test_redis redis;
static uint64_t parameters = 812000;

/* Large states take their time. */
static bool is_large(void) {
    return parameters > 10000000;
}

/* A job of one shard: a server, or replicas; and a checkpointer. */
struct shard {
    const char *strategy;
    unsigned nodes; /* 0: a server */
    bool tcp;
    pid_t pids[NODES_MAX], checkpointer;
    char run[32], job[160];
    struct tl_member *watch;
    struct tl_client *client;
    float *gradient;
    uint64_t sequence;
};

/* ---- processes ------------------------------------------------------------------ */

static void write_job(struct shard *s) {
    (void)snprintf(s->job, sizeof(s->job), "%s/%s.json", directory, s->run);
    FILE *f = fopen(s->job, "w");
    if (f == NULL) {
        bench_die("no job file");
    }
    (void)fprintf(f,
                  "{\"name\": \"chain\", \"model\": {\"input\": [1, %" PRIu64
                  ", 1000], \"classes\": 10, \"layers\": [{\"type\": \"flatten\"}, "
                  "{\"type\": \"dense\", \"units\": 10}]}, \"data\": "
                  "{\"train_images\": \"-\", \"train_labels\": \"-\", "
                  "\"test_images\": \"-\", \"test_labels\": \"-\"}, \"strategy\": "
                  "\"%s\", \"workers\": 1, \"chain\": {\"length\": %u}, "
                  "\"membership\": {\"lease_ms\": 1000}, \"checkpoint\": {\"store\": "
                  "\"file://%s/%s\", \"every_updates\": 10}, "
                  "\"until\": {\"updates\": 1000000000}}",
                  parameters / 10000, s->strategy, s->nodes > 0 ? s->nodes : 1,
                  directory, s->run);
    (void)fclose(f);
}

static pid_t start(const struct shard *s, const char *program, unsigned number) {
    char listen[160];
    char index[32];
    char run[64];
    char at[160];
    int fd = -1;
    if (s->tcp) {
        (void)snprintf(listen, sizeof(listen), "--listen=tcp://127.0.0.1:0");
    } else {
        (void)snprintf(listen, sizeof(listen), "--listen=unix://%s/%s-%u.sock",
                       directory, s->run, number);
    }
    (void)snprintf(index, sizeof(index), "--index=%u", number);
    (void)snprintf(run, sizeof(run), "--run=%s", s->run);
    (void)snprintf(at, sizeof(at), "--redis=%s", redis.url);
    bool has_address = strcmp(program, "tl-checkpointer") != 0;
    const char *argv[] = {program,
                          s->job,
                          run,
                          at,
                          index,
                          "--http=127.0.0.1:0",
                          "--log-level=error",
                          has_address ? listen : NULL,
                          NULL};
    pid_t pid = bench_start(argv, &fd);
    (void)close(fd);
    return pid;
}

static void start_node(struct shard *s, unsigned i) {
    s->pids[i] = start(s, s->nodes > 0 ? "tl-replica" : "tl-server", i);
}

static unsigned node_count(const struct shard *s) {
    return s->nodes > 0 ? s->nodes : 1;
}

static struct tl_chain_config look(const struct shard *s) {
    struct tl_chain_config config = {.number = 0};
    if (tl_member_chain_config(s->watch, 0, tl_now_ms() + WAIT_MS, &config) != 0) {
        bench_die(tl_error_text());
    }
    return config;
}

/* Until `count` are in the chain, `gone` not among them. */
static struct tl_chain_config await(const struct shard *s, unsigned count,
                                    struct tl_chain_node gone) {
    int64_t deadline_ms = tl_now_ms() + WAIT_MS;
    struct tl_chain_config config = look(s);
    while (config.count != count || tl_chain_find(&config, gone) >= 0) {
        if (tl_now_ms() > deadline_ms) {
            bench_die("the chain is not whole again");
        }
        test_redis_pause();
        config = look(s);
    }
    return config;
}

/* Bytes that a replica has exchanged with its neighbours. */
static double moved_bytes(const struct shard *s, unsigned slot) {
    struct tl_member_entry entry;
    double sent = 0.0;
    double received = 0.0;
    char *text = NULL;
    if (s->nodes == 0) {
        return 0.0;
    }
    if (tl_member_find(s->watch, TL_ROLE_REPLICA, slot, &entry) != 0 ||
        tl_metrics_fetch(entry.http, tl_now_ms() + 5000, &text) != 0 ||
        !tl_metrics_find(text, "throughline_chain_sent_bytes_total", NULL, &sent) ||
        !tl_metrics_find(text, "throughline_chain_received_bytes_total", NULL,
                         &received)) {
        bench_die("a replica does not tell its bytes");
    }
    free(text);
    return sent + received;
}

/* ---- the worker ----------------------------------------------------------------- */

static void push(struct shard *s) {
    if (tl_client_push_pull(s->client, s->sequence++, s->gradient, NULL) != 0) {
        bench_die(tl_error_text());
    }
}

static void join(struct shard *s) {
    const struct tl_client_config config = {.redis = redis.url,
                                            .job = "chain",
                                            .run = s->run,
                                            .patience_ms = WAIT_MS,
                                            .request_ms = 10000};
    struct tl_client_join joined;
    if (tl_client_open(&config, &s->client) != 0 ||
        tl_client_join(s->client, &joined) != 0) {
        bench_die(tl_error_text());
    }
    s->gradient = calloc(joined.parameters, sizeof(float));
    if (s->gradient == NULL) {
        bench_die("no memory for a gradient");
    }
    s->sequence = joined.next_sequence;
    for (unsigned i = 0; i < (is_large() ? 2 : 20); i++) {
        push(s);
    }
}

static void open_shard_at(struct shard *s, const char *name, const char *strategy,
                          unsigned nodes, bool tcp) {
    static unsigned runs;
    *s = (struct shard){.strategy = strategy, .nodes = nodes, .tcp = tcp};
    (void)snprintf(s->run, sizeof(s->run), "%s-%u", name, runs++);
    write_job(s);
    const struct tl_member_config watch = {
        .redis = redis.url, .job = "chain", .run = s->run};
    if (tl_member_open(&watch, &s->watch) != 0) {
        bench_die(tl_error_text());
    }
    for (unsigned i = 0; i < node_count(s); i++) {
        start_node(s, i);
    }
    if (strcmp(strategy, "checkpoint") == 0) {
        s->checkpointer = start(s, "tl-checkpointer", 0);
    }
    join(s);
    if (nodes > 0) {
        (void)await(s, nodes, (struct tl_chain_node){0, 0});
    }
}

static void open_shard(struct shard *s, const char *name, const char *strategy,
                       unsigned nodes) {
    open_shard_at(s, name, strategy, nodes, false);
}

static void end_process(pid_t pid) {
    if (pid != 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
}

static void close_shard(struct shard *s) {
    tl_client_free(s->client);
    for (unsigned i = 0; i < node_count(s); i++) {
        end_process(s->pids[i]);
    }
    end_process(s->checkpointer);
    tl_member_close(s->watch);
    free(s->gradient);
}

/* ---- failover -------------------------------------------------------------------- */

static double until_acknowledged(struct shard *s, double since) {
    push(s);
    return (bench_now() - since) * 1e3;
}

static double kill_head(struct shard *s) {
    struct tl_chain_config config = await(s, s->nodes, (struct tl_chain_node){0, 0});
    struct tl_chain_node head = config.nodes[0];
    for (int i = 0; i < 5; i++) {
        push(s);
    }
    double killed = bench_now();
    end_process(s->pids[head.slot]);
    double ms = until_acknowledged(s, killed);
    start_node(s, head.slot);
    (void)await(s, s->nodes, head);
    return ms;
}

static double freeze_head(struct shard *s) {
    struct tl_chain_config config = await(s, s->nodes, (struct tl_chain_node){0, 0});
    struct tl_chain_node head = config.nodes[0];
    double frozen = bench_now();
    (void)kill(s->pids[head.slot], SIGSTOP);
    double ms = until_acknowledged(s, frozen);
    (void)kill(s->pids[head.slot], SIGCONT);
    (void)await(s, s->nodes, head);
    return ms;
}

static double kill_server(struct shard *s, unsigned down_ms) {
    for (int i = 0; i < 15; i++) {
        push(s);
    }
    double killed = bench_now();
    end_process(s->pids[0]);
    (void)usleep(down_ms * 1000);
    start_node(s, 0);
    return until_acknowledged(s, killed);
}

static double percentile(double *sorted, size_t n, double part) {
    return sorted[(size_t)((double)(n - 1) * part)];
}

static void tell_failover(double *closed, size_t kills, double *frozen) {
    double middle = bench_median(closed, kills);
    double p99 = percentile(closed, kills, 0.99);
    double lease = bench_median(frozen, FROZEN);
    printf("bench chain: failover, head killed: p50 %.1f ms, p99 %.1f ms, most %.1f ms "
           "of %zu (goal p99 %.0f ms) %s\n",
           middle, p99, closed[kills - 1], kills, FAILOVER_GOAL_MS,
           bench_verdict(p99 < FAILOVER_GOAL_MS));
    printf("bench chain: failover, head frozen: p50 %.0f ms, most %.0f ms of %d (goal "
           "lease %.0f + %.0f ms) %s\n",
           lease, frozen[FROZEN - 1], FROZEN, LEASE_MS, FAILOVER_GOAL_MS,
           bench_verdict(frozen[FROZEN - 1] < LEASE_MS + FAILOVER_GOAL_MS));
}

static void measure_failover(size_t kills) {
    static struct shard chain, checkpoint;
    double *closed = calloc(kills, sizeof(*closed));
    double frozen[FROZEN];
    double supervised[RESTARTS];
    double at_once[RESTARTS];
    size_t restarts = 0;
    open_shard(&chain, "failover", "chain", 3);
    open_shard(&checkpoint, "restart", "checkpoint", 0);
    for (size_t i = 0; i < kills; i++) {
        closed[i] = kill_head(&chain);
        if (i % (kills / RESTARTS + 1) == 0) {
            supervised[restarts] = kill_server(&checkpoint, SUPERVISOR_MS);
            at_once[restarts++] = kill_server(&checkpoint, 0);
        }
    }
    for (size_t i = 0; i < FROZEN; i++) {
        frozen[i] = freeze_head(&chain);
    }
    tell_failover(closed, kills, frozen);
    double middle = bench_median(closed, kills);
    double p50_supervised = bench_median(supervised, restarts);
    double p50_at_once = bench_median(at_once, restarts);
    printf(
        "bench chain: failover ratio %.3f of checkpoint's recovery, p50 %.1f ms with "
        "a restart after %d ms (goal %.1f) %s\n",
        middle / p50_supervised, p50_supervised, SUPERVISOR_MS, RECOVERY_GOAL,
        bench_verdict(middle / p50_supervised <= RECOVERY_GOAL));
    printf("bench chain: failover ratio %.3f of one with a restart at once, p50 %.1f "
           "ms\n",
           middle / p50_at_once, p50_at_once);
    close_shard(&chain);
    close_shard(&checkpoint);
    free(closed);
}

/* ---- cost -------------------------------------------------------------------------
 */

struct cost {
    double cpu_ms[NODES_MAX], bytes[NODES_MAX]; /* of an update, head first */
    double latency_ms;
};

/* `pushes` of them, PACE a second; the mean of their latencies. */
static double push_paced(struct shard *s, unsigned pushes) {
    double start_at = bench_now();
    double sum = 0.0;
    for (unsigned i = 0; i < pushes; i++) {
        double due = start_at + (double)i / PACE;
        double now = bench_now();
        if (now < due) {
            (void)usleep((useconds_t)((due - now) * 1e6));
        }
        now = bench_now();
        push(s);
        sum += bench_now() - now;
    }
    return sum * 1e3 / pushes;
}

static struct cost measure_cost(const char *strategy, unsigned nodes, bool tcp) {
    static struct shard s;
    struct cost c = {.latency_ms = 0};
    open_shard_at(&s, "cost", strategy, nodes, tcp);
    struct tl_chain_config config = {.nodes = {{0, 0}}};
    if (nodes > 0) {
        config = look(&s);
    }
    for (unsigned i = 0; i < node_count(&s); i++) {
        c.cpu_ms[i] = -bench_cpu_seconds(s.pids[config.nodes[i].slot]);
        c.bytes[i] = -moved_bytes(&s, config.nodes[i].slot);
    }
    c.latency_ms = push_paced(&s, COST_PUSHES);
    (void)usleep(200000); /* the figures are shown ten times a second */
    for (unsigned i = 0; i < node_count(&s); i++) {
        c.cpu_ms[i] += bench_cpu_seconds(s.pids[config.nodes[i].slot]);
        c.bytes[i] += moved_bytes(&s, config.nodes[i].slot);
        c.cpu_ms[i] *= 1e3 / COST_PUSHES;
        c.bytes[i] /= COST_PUSHES;
    }
    close_shard(&s);
    return c;
}

static double median_of(const struct cost *rounds, size_t offset) {
    double values[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        values[i] = *(const double *)((const char *)&rounds[i] + offset);
    }
    return bench_median(values, ROUNDS);
}

static void report_cost(const struct cost *rounds, unsigned nodes, double alone,
                        bool tcp) {
    double ratio = median_of(rounds, offsetof(struct cost, cpu_ms)) / alone;
    printf("bench chain: cost of an update over %s, %s %u: latency %.2f ms;",
           tcp ? "TCP" : "Unix sockets", nodes == 0 ? "none" : "chain", nodes,
           median_of(rounds, offsetof(struct cost, latency_ms)));
    for (unsigned i = 0; i < (nodes > 0 ? nodes : 1); i++) {
        printf(" node %u: CPU %.2f ms, %.2f MB;", i,
               median_of(rounds, offsetof(struct cost, cpu_ms[i])),
               median_of(rounds, offsetof(struct cost, bytes[i])) / 1e6);
    }
    printf(" head ratio %.2f of none", ratio);
    if (tcp) {
        printf(" (goal %.1f) %s", HEAD_GOAL, bench_verdict(ratio <= HEAD_GOAL));
    }
    printf("\n");
}

static void measure_costs(bool tcp) {
    static struct cost c[NODES_MAX + 1][ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned nodes = 0; nodes <= NODES_MAX; nodes++) {
            c[nodes][round] = measure_cost(nodes == 0 ? "none" : "chain", nodes, tcp);
        }
    }
    double alone = median_of(c[0], offsetof(struct cost, cpu_ms));
    for (unsigned nodes = 0; nodes <= NODES_MAX; nodes++) {
        report_cost(c[nodes], nodes, alone, tcp);
    }
}

/* ---- joining -----------------------------------------------------------------------
 */

/* Together with what comes before they take about a second. */
static unsigned pushes_at_once(void) {
    return is_large() ? 4 : 50;
}

/* One replica dies; the rates of pushes without it, and while it joins again. */
static double measure_join(struct shard *s, double *ret_seconds) {
    struct tl_chain_config config = await(s, s->nodes, (struct tl_chain_node){0, 0});
    struct tl_chain_node tail = config.nodes[config.count - 1];
    end_process(s->pids[tail.slot]);
    (void)await(s, s->nodes - 1, tail);
    push(s);
    double before = push_paced(s, pushes_at_once());
    start_node(s, tail.slot);
    double started = bench_now();
    const unsigned batch = pushes_at_once() / 10 + 1;
    double sum = 0.0;
    unsigned pushes = 0;
    while (look(s).count < s->nodes || pushes == 0) {
        sum += push_paced(s, batch) * batch;
        pushes += batch;
    }
    *ret_seconds = bench_now() - started;
    double period_ms = 1e3 / PACE;
    double during = sum / pushes;
    double lacked = (during > period_ms ? during : period_ms) /
                        (before > period_ms ? before : period_ms) -
                    1.0;
    printf("bench chain: join, state of %.2f MB: latency %.2f ms before, %.2f ms while "
           "it joined (%.2f s): rate lower by %.3f (goal %.1f) %s\n",
           (double)parameters * 4e-6, before, during, *ret_seconds, lacked, JOIN_GOAL,
           bench_verdict(lacked < JOIN_GOAL));
    return lacked;
}

static void measure_joins(void) {
    static struct shard s;
    double seconds = 0.0;
    open_shard(&s, "join", "chain", 3);
    for (int round = 0; round < (is_large() ? 1 : ROUNDS); round++) {
        (void)measure_join(&s, &seconds);
    }
    close_shard(&s);
}

int main(int argc, char **argv) {
    size_t kills = argc > 1 ? strtoull(argv[1], NULL, 10) : 200;
    parameters = argc > 2 ? strtoull(argv[2], NULL, 10) : parameters;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (mkdtemp(directory) == NULL) {
        bench_die("no temporary directory");
    }
    test_redis_start(&redis);
    if (kills > 0) {
        measure_failover(kills);
        measure_costs(true);
        measure_costs(false);
    }
    measure_joins();
    test_redis_stop(&redis);
    bench_remove_tree(directory);
    return 0;
}
