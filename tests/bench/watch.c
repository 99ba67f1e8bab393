/* watch.c - what being watched costs a job: the monitor and everybody's metrics, and
 * ten viewers of its dashboard.
 *
 * One run, cut into windows that take turns: the monitor stopped (SIGSTOP), the monitor
 * at work, the same with ten viewers. Evaluation, whose share is set apart
 * (monitor.share), is all but switched off. Each window gives the updates made in it,
 * and the processor time of whatever watches: the monitor, and the threads by which the
 * others answer it. Shares of processor time are exact, rates are noisy: the verdict is
 * by the former, unless the latter contradict them. */
#include "throughline/service.h"

#include "bench.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#define VIEWERS        10
#define SERVICES       16
#define ROUNDS         20
#define WINDOW_S       2.0
#define SETTLE_S       0.5 /* of a window, not measured */
#define START_S        60.0
#define MONITOR_GOAL   0.02
#define VIEWERS_GOAL   0.01
#define STUDENT_ROUNDS 2.093 /* two-sided 95 % of a mean of ROUNDS */

enum state { STOPPED, WATCHED, VIEWED, STATES };

static const char job_file[] = TL_SOURCE_DIR "/examples/fashion-cnn.json";

struct service {
    long pid;
    char http[64];
    bool is_monitor;
};

static struct job {
    pid_t pid;
    int out;
    char dir[64], said[80];
    struct service services[SERVICES];
    size_t count;
    const struct service *monitor, *server;
} job;

/* ---- the run ---------------------------------------------------------------------
 */

static void start_run(void) {
    char out[80];
    char base[] = "/tmp/tl-bench-XXXXXX";
    if (mkdtemp(base) == NULL) {
        bench_die("no temporary directory");
    }
    (void)snprintf(job.dir, sizeof(job.dir), "%s", base);
    (void)snprintf(job.said, sizeof(job.said), "%s/said", base);
    (void)snprintf(out, sizeof(out), "--out=%s/run", base);
    const char *argv[] = {"throughline",
                          "run",
                          job_file,
                          out,
                          "--until=seconds=3600",
                          "--monitor-every-seconds=1",
                          "--monitor-examples=100",
                          "--monitor-share=0.001",
                          "--membership-lease-ms=60000",
                          NULL};
    const int own = dup(STDERR_FILENO);
    const int said = open(job.said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (own < 0 || said < 0 || dup2(said, STDERR_FILENO) < 0) {
        bench_die("no file for what the run says");
    }
    job.pid = bench_start(argv, &job.out);
    (void)dup2(own, STDERR_FILENO);
    (void)close(own);
    (void)close(said);
}

static void stop_run(void) {
    (void)kill((pid_t)job.monitor->pid, SIGCONT);
    (void)kill(job.pid, SIGTERM);
    (void)waitpid(job.pid, NULL, 0);
    (void)close(job.out);
    bench_remove_tree(job.dir);
}

/* The arguments of the `throughline status` that the run advises; false: not yet. */
static bool find_status(char redis[256], char name[64], char run[64]) {
    char line[1024];
    bool found = false;
    FILE *file = fopen(job.said, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *at = strstr(line, "throughline status");
        found = found || (at != NULL &&
                          sscanf(at,
                                 "throughline status --redis %255s --job-name %63s "
                                 "--run %63s",
                                 redis, name, run) == 3);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static void take_services(const char *text) {
    json_t *list = json_loads(text, 0, NULL);
    size_t i = 0;
    const json_t *entry = NULL;
    job.count = 0;
    job.monitor = job.server = NULL;
    json_array_foreach(list, i, entry) {
        const char *role = json_string_value(json_object_get(entry, "role"));
        const char *http = json_string_value(json_object_get(entry, "http"));
        if (job.count == SERVICES || role == NULL || http == NULL || http[0] == '\0') {
            continue;
        }
        struct service *s = &job.services[job.count++];
        s->pid = (long)json_integer_value(json_object_get(entry, "pid"));
        s->is_monitor = strcmp(role, "monitor") == 0;
        (void)snprintf(s->http, sizeof(s->http), "%s", http);
        job.monitor = s->is_monitor ? s : job.monitor;
        job.server = strcmp(role, "server") == 0 ? s : job.server;
    }
    json_decref(list);
}

static void find_services(void) {
    char redis[256];
    char name[64];
    char run[64];
    char text[1 << 16];
    const double begun = bench_now();
    while (bench_now() - begun < START_S) {
        if (find_status(redis, name, run)) {
            const char *argv[] = {"throughline", "status", "--redis", redis,
                                  "--job-name",  name,     "--run",   run,
                                  "--json",      NULL};
            int fd = -1;
            const pid_t pid = bench_start(argv, &fd);
            bench_finish(pid, fd, text, sizeof(text));
            take_services(text);
            if (job.count >= 5 && job.monitor != NULL && job.server != NULL) {
                return;
            }
        }
        (void)poll(NULL, 0, 50);
    }
    bench_die("the run's services did not come up");
}

/* ---- what is measured --------------------------------------------------------------
 */

/* Processor time of a process' threads: all, or those that serve HTTP. */
static double cpu_of(long pid, bool only_http) {
    char path[320];
    double sum = 0.0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    const struct dirent *task = NULL;
    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        char name[32] = "";
        unsigned long long ns = 0;
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/comm", pid, task->d_name);
        FILE *comm = fopen(path, "re");
        const bool is_http = comm != NULL && fgets(name, sizeof(name), comm) != NULL &&
                             strncmp(name, "MHD-", 4) == 0;
        if (comm != NULL) {
            (void)fclose(comm);
        }
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/schedstat", pid,
                       task->d_name);
        FILE *stat = !only_http || is_http ? fopen(path, "re") : NULL;
        if (stat != NULL) {
            sum += fscanf(stat, "%llu", &ns) == 1 ? (double)ns * 1e-9 : 0.0;
            (void)fclose(stat);
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return sum;
}

struct reading {
    double at, updates, watching, all; /* seconds of processor time */
};

static struct reading read_now(void) {
    struct reading r = {0};
    char *text = NULL;
    for (size_t i = 0; i < job.count; i++) {
        const struct service *s = &job.services[i];
        r.watching += cpu_of(s->pid, !s->is_monitor);
        r.all += cpu_of(s->pid, false);
    }
    if (tl_metrics_fetch(job.server->http, tl_now_ms() + 5000, &text) != 0 ||
        !tl_metrics_find(text, "throughline_version", NULL, &r.updates)) {
        bench_die("the server does not answer");
    }
    free(text);
    r.at = bench_now();
    return r;
}

/* ---- viewers -----------------------------------------------------------------------
 */

static int view(void) {
    static const char request[] = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    const char *colon = strrchr(job.monitor->http, ':');
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(colon + 1)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) != 0 ||
        write(fd, request, sizeof(request) - 1) != sizeof(request) - 1) {
        bench_die("a viewer is not let in");
    }
    return fd;
}

/* Read what comes until then; how many bytes. */
static size_t look_on(struct pollfd *fds, size_t count, double until) {
    static char piece[1 << 16];
    size_t got = 0;
    while (bench_now() < until) {
        (void)poll(fds, count, (int)((until - bench_now()) * 1e3) + 1);
        for (size_t i = 0; i < count; i++) {
            const ssize_t n =
                fds[i].revents != 0 ? read(fds[i].fd, piece, sizeof(piece)) : 0;
            if (fds[i].revents != 0 && n <= 0) {
                bench_die("a viewer was dropped");
            }
            got += (size_t)n;
        }
    }
    return got;
}

/* ---- windows ------------------------------------------------------------------------
 */

struct window {
    double rate;  /* updates a second */
    double share; /* of the processor time of all services */
};

static struct window measure(enum state state, size_t *bytes) {
    struct pollfd fds[VIEWERS];
    const size_t count = state == VIEWED ? VIEWERS : 0;
    (void)kill((pid_t)job.monitor->pid, state == STOPPED ? SIGSTOP : SIGCONT);
    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = view(), .events = POLLIN};
    }
    (void)look_on(fds, count, bench_now() + SETTLE_S);
    const struct reading a = read_now();
    *bytes += look_on(fds, count, bench_now() + WINDOW_S);
    const struct reading b = read_now();
    for (size_t i = 0; i < count; i++) {
        (void)close(fds[i].fd);
    }
    return (struct window){(b.updates - a.updates) / (b.at - a.at),
                           (b.watching - a.watching) / (b.all - a.all)};
}

/* Mean of ratios - 1 with its 95 % interval: what `with` costs beside `without`. */
static double cost(struct window (*w)[STATES], enum state with, enum state without,
                   double *ret_interval) {
    double sum = 0.0;
    double squares = 0.0;
    for (int i = 0; i < ROUNDS; i++) {
        const double c = 1.0 - w[i][with].rate / w[i][without].rate;
        sum += c;
        squares += c * c;
    }
    const double mean = sum / ROUNDS;
    *ret_interval = STUDENT_ROUNDS * sqrt((squares - ROUNDS * mean * mean) /
                                          (ROUNDS - 1.0) / (double)ROUNDS);
    return mean;
}

static double share(struct window (*w)[STATES], enum state state) {
    double values[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        values[i] = w[i][state].share;
    }
    return bench_median(values, ROUNDS);
}

static bool report(const char *what, double used, double lost, double interval,
                   double goal) {
    const bool holds = used < goal && lost - interval < goal;
    printf(
        "bench watch: %s: %.4f of all processor time (goal < %.2f); gradients/s lost "
        "%.4f +- %.4f, in turns with windows without  %s\n",
        what, used, goal, lost, interval, bench_verdict(holds));
    return holds;
}

int main(void) {
    static struct window w[ROUNDS][STATES];
    size_t bytes = 0;
    double interval = 0.0;
    (void)signal(SIGPIPE, SIG_IGN);
    start_run();
    find_services();
    for (int i = 0; i < ROUNDS; i++) {
        for (int s = 0; s < STATES; s++) {
            const enum state state = (enum state)((s + i) % STATES);
            w[i][state] = measure(state, &bytes);
        }
    }
    stop_run();
    const double watched = share(w, WATCHED) - share(w, STOPPED);
    const double viewed = share(w, VIEWED) - share(w, WATCHED);
    double lost = cost(w, WATCHED, STOPPED, &interval);
    bool holds = report("monitor and metrics", watched, lost, interval, MONITOR_GOAL);
    lost = cost(w, VIEWED, WATCHED, &interval);
    printf("bench watch: %d viewers read %.0f kB\n", VIEWERS, (double)bytes / 1e3);
    holds = report("ten viewers", viewed, lost, interval, VIEWERS_GOAL) && holds;
    return holds ? 0 : 1;
}
