/* What trust costs: push-pull of the paper's 813,258 parameters over TCP with a secret
 * and checksums, and with TLS besides, against the same without any; and what it costs
 * once, when a connection opens. The ways take turns; medians of the rounds.
 *
 *   bench trust secret and checksums: 400/s, without 410/s, ratio 0.98 (goal >= 0.95)
 * PASS
 */
#include "throughline/serve.h"
#include "throughline/service.h"

#include "../../services/lib/wire/link.h"
#include "../support/certificates.h"
#include "bench.h"

#include <signal.h>
#include <sys/prctl.h>
#include <uv.h>

enum {
    COUNT = 813258,
    ROUNDS = 25,
    TURNS = 20,
    OPENINGS = 20,
    WAIT_MS = 20000,
    PAGE = 4096
};

struct way {
    const char *name;
    bool has_secret, has_tls;
    bool checksum;
    double goal; /* 0: stated */

    struct tl_trust *trust;
    pid_t server;
    struct tl_address address;
    struct tl_link *link;
    uint64_t sequence;
    double rates[ROUNDS], openings[OPENINGS];
};

static void check(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

/* ---- the shard, in a process of its own ------------------------------------------ */

static void serve_shard(const struct way *w, int announce) {
    static float zeros[COUNT];
    const struct tl_fold_config fold_config = {.shards = 1,
                                               .count = COUNT,
                                               .spare_copies = 4,
                                               .optimizer = {.learning_rate = 0.01}};
    uv_loop_t loop;
    struct tl_fold *fold = NULL;
    struct tl_serve *serve = NULL;
    char bound[128] = "";
    check(tl_fold_new(&fold_config, zeros, &fold));
    check(tl_fold_take_over(fold, 1));
    (void)uv_loop_init(&loop);
    const struct tl_serve_config config = {.loop = &loop,
                                           .fold = fold,
                                           .job = "bench",
                                           .run = "bench",
                                           .parameters = COUNT,
                                           .writer = 1,
                                           .trust = w->trust,
                                           .max_connections = 16,
                                           .frame_ms = WAIT_MS,
                                           .wait_ms = WAIT_MS,
                                           .tcp_unchecked = !w->checksum};
    check(tl_serve_new(&config, &serve));
    check(tl_serve_listen(serve, "tcp://127.0.0.1:0", bound, sizeof(bound)));
    (void)!write(announce, bound, sizeof(bound));
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

static void start(struct way *w) {
    int announce[2];
    char address[128] = "";
    if (pipe(announce) != 0 || (w->server = fork()) < 0) {
        bench_die("cannot fork");
    }
    if (w->server == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGPIPE, SIG_IGN);
        serve_shard(w, announce[1]);
        _exit(0);
    }
    close(announce[1]);
    if (read(announce[0], address, sizeof(address)) != (ssize_t)sizeof(address)) {
        bench_die("a server did not start");
    }
    close(announce[0]);
    check(tl_address_parse(address, &w->address));
}

/* ---- the worker --------------------------------------------------------------------
 */

static void await(struct tl_link *link, uint8_t kind) {
    int status = 0;
    check(tl_links_wait(&link, 1, tl_now_ms() + WAIT_MS, -1, &status));
    check(status);
    if (tl_link_reply(link)->kind != kind || tl_link_reply(link)->status != 0) {
        bench_die(tl_link_error_text(link));
    }
}

static struct tl_link *open_link(const struct way *w) {
    const struct tl_hello hello = {
        .role = TL_ROLE_WORKER, .job = "bench", .run = "bench"};
    const struct tl_header header = {.shard = 0};
    uint8_t welcome[TL_WELCOME_BYTES];
    struct tl_link *link = NULL;
    check(tl_link_new(&link));
    tl_link_set_trust(link, w->trust);
    link->takes_unchecked = !w->checksum;
    check(tl_link_connect(link, &w->address));
    check(tl_link_hello(link, &header, &hello, welcome));
    await(link, TL_KIND_WELCOME);
    return link;
}

static void measure_opening(struct way *w, int round) {
    double begin = bench_now();
    tl_link_free(open_link(w));
    w->openings[round] = bench_now() - begin;
}

static void join(struct way *w) {
    const struct tl_header header = {
        .kind = TL_KIND_JOIN, .epoch = 1, .incarnation = 1};
    w->link = open_link(w);
    check(tl_link_request(w->link, &header, NULL, NULL, 0, false));
    await(w->link, TL_KIND_JOINED);
}

static void measure_rate(struct way *w, int round, const float *gradient,
                         float *weights) {
    const size_t bytes = COUNT * sizeof(float);
    double begin = bench_now();
    for (int i = 0; i < TURNS; i++) {
        const struct tl_header header = {.kind = TL_KIND_PUSH_PULL,
                                         .epoch = 1,
                                         .incarnation = 1,
                                         .read_version = w->sequence,
                                         .sequence = w->sequence + 1,
                                         .length = bytes};
        w->sequence++;
        check(tl_link_request(w->link, &header, gradient, weights, bytes, w->checksum));
        await(w->link, TL_KIND_WEIGHTS);
    }
    w->rates[round] = TURNS / (bench_now() - begin);
}

/* ---- the verdict --------------------------------------------------------------------
 */

static bool report(struct way *w, double bare_rate, double bare_opening) {
    double rate = bench_median(w->rates, ROUNDS);
    double opening = bench_median(w->openings, OPENINGS);
    double ratio = rate / bare_rate;
    bool holds = ratio >= w->goal;
    printf("bench trust %s: %.0f/s, without %.0f/s, ratio %.2f", w->name, rate,
           bare_rate, ratio);
    if (w->goal > 0.0) {
        printf(" (goal >= %.2f) %s", w->goal, bench_verdict(holds));
    }
    printf("; to open a connection %.2f ms, without %.2f ms\n", opening * 1e3,
           bare_opening * 1e3);
    return holds;
}

/* Whole pages, as the client's weights and a worker's gradient are. */
static float *allocate(void) {
    const size_t size = (COUNT * sizeof(float) + PAGE - 1) / PAGE * PAGE;
    float *values = aligned_alloc(PAGE, size);
    return values != NULL ? memset(values, 0, size) : NULL;
}

int main(void) {
    static struct way ways[] = {
        {.name = "nothing"},
        {.name = "secret and checksums",
         .has_secret = true,
         .checksum = true,
         .goal = 0.95},
        {.name = "secret, checksums and TLS",
         .has_secret = true,
         .has_tls = true,
         .checksum = true},
    };
    enum { WAYS = sizeof(ways) / sizeof(ways[0]) };
    float *gradient = allocate();
    float *weights = allocate();
    if (gradient == NULL || weights == NULL || certificates_setup(NULL) != 0) {
        bench_die("no memory, or no directory");
    }
    const char *secret = scratch_write("secret", "the secret of this benchmark");
    for (size_t i = 0; i < WAYS; i++) {
        struct tl_trust_files files = certificate_files("node", "ca", secret);
        files.secret[0] = ways[i].has_secret ? files.secret[0] : '\0';
        if (!ways[i].has_tls) {
            files.tls_cert[0] = files.tls_key[0] = files.tls_ca[0] = '\0';
        }
        check(tl_trust_new(&files, &ways[i].trust));
        start(&ways[i]);
        join(&ways[i]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < WAYS; i++) {
            measure_rate(&ways[i], round, gradient, weights);
        }
    }
    for (int round = 0; round < OPENINGS; round++) {
        for (size_t i = 0; i < WAYS; i++) {
            measure_opening(&ways[i], round);
        }
    }
    double bare_rate = bench_median(ways[0].rates, ROUNDS);
    double bare_opening = bench_median(ways[0].openings, OPENINGS);
    bool holds = true;
    for (size_t i = 1; i < WAYS; i++) {
        holds = report(&ways[i], bare_rate, bare_opening) && holds;
    }
    for (size_t i = 0; i < WAYS; i++) {
        tl_link_free(ways[i].link);
        (void)kill(ways[i].server, SIGKILL);
        (void)waitpid(ways[i].server, NULL, 0);
        tl_trust_free(ways[i].trust);
    }
    free(gradient);
    free(weights);
    (void)scratch_teardown(NULL);
    return holds ? 0 : 1;
}
