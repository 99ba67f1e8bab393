/* Push-pull of the paper's 813,258 parameters through client, wire, serve and fold,
 * beside a bare echo of the same bytes: another process that reads them all and writes
 * them back, with the same socket buffers. They take turns; medians of the rounds.
 * Over a Unix socket payloads go through shared memory, as in a job; the last line is
 * without it.
 *
 *   bench pushpull tcp: 430/s, echo 510/s, ratio 0.84 (goal >= 0.80) PASS */
#include "throughline/client.h"
#include "throughline/serve.h"

#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { COUNT = 813258, ROUNDS = 25, TURNS = 20, SOCKET_BUFFER = 4 << 20, PAGE = 4096 };

static const size_t frame_bytes =
    TL_HEADER_BYTES + COUNT * sizeof(float) + TL_TRAILER_BYTES;

static void die(const char *what, const char *why) {
    (void)fprintf(stderr, "bench pushpull: %s: %s\n", what, why);
    exit(1);
}

static void check(int rc) {
    if (rc != 0) {
        die(tl_error_name(rc), tl_error_text());
    }
}

/* Whole pages: some processors' copies crawl when source and destination lie a few
 * bytes apart modulo a page, as the kernel's pages and malloc()'s large blocks do. */
static void *allocate(size_t bytes) {
    size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
    void *p = aligned_alloc(PAGE, size);
    if (p == NULL) {
        die("memory", "none left");
    }
    return memset(p, 0, size);
}

/* ---- a process of its own that says where it listens -------------------------- */

struct peer {
    pid_t pid;
    char address[128];
};

/* How the two speak. */
struct way {
    const char *name;
    bool tcp;
    bool checksum; /* of payloads; over TCP always */
    bool stream;   /* no shared memory */
    double goal;
};

static struct peer start(void (*serve)(const struct way *w, int announce),
                         const struct way *w) {
    struct peer p;
    int announce[2];
    if (pipe(announce) != 0 || (p.pid = fork()) < 0) {
        die("fork", "failed");
    }
    if (p.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(w, announce[1]);
        _exit(0);
    }
    close(announce[1]);
    if (read(announce[0], p.address, sizeof(p.address)) != sizeof(p.address)) {
        die("a server", "did not start");
    }
    close(announce[0]);
    return p;
}

static void stop(const struct peer *p) {
    (void)kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
    if (strncmp(p->address, "unix://", 7) == 0) {
        (void)unlink(p->address + 7);
    }
}

static void unix_path(const char *name, char *ret_path, size_t size) {
    (void)snprintf(ret_path, size, "/tmp/throughline-bench-%s-%ld", name,
                   (long)getpid());
}

/* ---- the shard ---------------------------------------------------------------- */

static struct tl_fold *new_fold(void) {
    const struct tl_fold_config config = {
        .shards = 1,
        .count = COUNT,
        .spare_copies = 4,
        .optimizer = {.learning_rate = 0.01},
    };
    float *weights = allocate(COUNT * sizeof(float));
    struct tl_fold *fold = NULL;
    check(tl_fold_new(&config, weights, &fold));
    check(tl_fold_take_over(fold, 1));
    free(weights);
    return fold;
}

static void serve_shard(const struct way *w, int announce) {
    uv_loop_t loop;
    struct tl_serve *serve = NULL;
    char wanted[108] = "tcp://127.0.0.1:0";
    char bound[128] = "";
    if (!w->tcp) {
        memcpy(wanted, "unix://", 8);
        unix_path("shard", wanted + 7, sizeof(wanted) - 7);
    }
    (void)uv_loop_init(&loop);
    const struct tl_serve_config config = {
        .loop = &loop,
        .fold = new_fold(),
        .job = "bench",
        .run = "bench",
        .parameters = COUNT,
        .writer = 1,
        .max_connections = 16,
        .frame_ms = 10000,
        .wait_ms = 5000,
        .unix_checksum = w->checksum,
    };
    check(tl_serve_new(&config, &serve));
    check(tl_serve_listen(serve, wanted, bound, sizeof(bound)));
    (void)!write(announce, bound, sizeof(bound));
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

static struct tl_client *join(const struct peer *shard, const struct way *w,
                              uint64_t *ret_sequence) {
    const struct tl_client_config config = {
        .servers = shard->address,
        .job = "bench",
        .run = "bench",
        .no_unix_checksum = !w->checksum,
        .no_shared_memory = w->stream,
    };
    struct tl_client *client = NULL;
    struct tl_client_join joined;
    check(tl_client_open(&config, &client));
    check(tl_client_join(client, &joined));
    *ret_sequence = joined.next_sequence;
    return client;
}

/* ---- the echo ----------------------------------------------------------------- */

/* As links and servers do; without TCP_NODELAY the echo would be several times slower.
 */
static void tune(int fd) {
    int size = SOCKET_BUFFER;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* TCP only */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static bool receive_all(int fd, uint8_t *to) {
    size_t got = 0;
    while (got < frame_bytes) {
        ssize_t n = recv(fd, to + got, frame_bytes - got, 0);
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static void send_all(int fd, const uint8_t *from) {
    size_t sent = 0;
    while (sent < frame_bytes) {
        ssize_t n = send(fd, from + sent, frame_bytes - sent, MSG_NOSIGNAL);
        if (n <= 0) {
            die("echo", "send failed");
        }
        sent += (size_t)n;
    }
}

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static socklen_t address_of(const char *text, union address *ret_address) {
    struct tl_address parsed;
    check(tl_address_parse(text, &parsed));
    memset(ret_address, 0, sizeof(*ret_address));
    if (parsed.is_unix) {
        ret_address->un.sun_family = AF_UNIX;
        memcpy(ret_address->un.sun_path, parsed.host, strlen(parsed.host));
        return sizeof(ret_address->un);
    }
    ret_address->in.sin_family = AF_INET;
    ret_address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ret_address->in.sin_port = htons((uint16_t)strtoul(parsed.port, NULL, 10));
    return sizeof(ret_address->in);
}

static int listen_for_echo(bool tcp, char ret_text[128]) {
    union address a;
    char text[128] = "tcp://127.0.0.1:0";
    if (!tcp) {
        memcpy(text, "unix://", 8);
        unix_path("echo", text + 7, sizeof(text) - 7);
    }
    socklen_t size = address_of(text, &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, &a.any, size) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, &a.any, &size) != 0) {
        die("echo", "cannot listen");
    }
    if (tcp) {
        (void)snprintf(text, sizeof(text), "tcp://127.0.0.1:%u", ntohs(a.in.sin_port));
    }
    memcpy(ret_text, text, sizeof(text));
    return fd;
}

static void serve_echo(const struct way *w, int announce) {
    char text[128];
    uint8_t *bytes = allocate(frame_bytes);
    int listener = listen_for_echo(w->tcp, text);
    (void)!write(announce, text, sizeof(text));
    int fd = accept(listener, NULL, NULL);
    tune(fd);
    while (receive_all(fd, bytes)) {
        send_all(fd, bytes);
    }
}

static int connect_echo(const struct peer *echo) {
    union address a;
    socklen_t size = address_of(echo->address, &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM, 0);
    tune(fd);
    if (fd < 0 || connect(fd, &a.any, size) != 0) {
        die("echo", "cannot connect");
    }
    return fd;
}

/* ---- turns -------------------------------------------------------------------- */

static double push_pull_rate(struct tl_client *client, uint64_t *sequence,
                             const float *gradient) {
    double start = bench_now();
    for (int i = 0; i < TURNS; i++) {
        check(tl_client_push_pull(client, (*sequence)++, gradient, NULL));
    }
    return TURNS / (bench_now() - start);
}

static double echo_rate(int fd, uint8_t *bytes) {
    double start = bench_now();
    for (int i = 0; i < TURNS; i++) {
        send_all(fd, bytes);
        if (!receive_all(fd, bytes)) {
            die("echo", "closed");
        }
    }
    return TURNS / (bench_now() - start);
}

static bool report(const struct way *w, double rate, double reference) {
    double ratio = rate / reference;
    bool passed = ratio >= w->goal;
    printf("bench pushpull %s: %.0f/s, echo %.0f/s, ratio %.2f (goal >= %.2f) %s\n",
           w->name, rate, reference, ratio, w->goal, passed ? "PASS" : "FAIL");
    (void)fflush(stdout);
    return passed;
}

static bool compare_over(const struct way *w) {
    struct peer shard = start(serve_shard, w);
    struct peer echo = start(serve_echo, w);
    uint64_t sequence = 0;
    struct tl_client *client = join(&shard, w, &sequence);
    int fd = connect_echo(&echo);
    float *gradient = allocate(COUNT * sizeof(float));
    uint8_t *bytes = allocate(frame_bytes);
    double ours[ROUNDS];
    double bare[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        ours[i] = push_pull_rate(client, &sequence, gradient);
        bare[i] = echo_rate(fd, bytes);
    }
    free(gradient);
    free(bytes);
    close(fd);
    tl_client_free(client);
    stop(&shard);
    stop(&echo);
    return report(w, bench_median(ours, ROUNDS), bench_median(bare, ROUNDS));
}

int main(void) {
    static const struct way ways[] = {
        {"tcp", .tcp = true, .checksum = true, .goal = 0.80},
        {"unix", .goal = 0.60},
        {"unix, stream without checksum", .stream = true, .goal = 0.60},
    };
    bool passed = true;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        passed = compare_over(&ways[i]) && passed;
    }
    return passed ? 0 : 1;
}
