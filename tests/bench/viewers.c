/* viewers.c - what ten viewers of the dashboard cost, beside all that the job uses.
 *
 * The reference is in the same run: the processor time of the monitor's HTTP thread,
 * which serves the viewers, against that of all services. Nothing is compared with
 * another run, so what else the machine does hardly matters. */
#include "bench.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>

#define VIEWERS     10
#define RUN_SECONDS "20"
#define DEADLINE_S  60.0
#define SHARE_GOAL  0.01

static const char job_file[] = TL_SOURCE_DIR "/examples/fashion-cnn.json";

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static uint16_t free_port(void) {
    struct sockaddr_in a = loopback(0);
    socklen_t size = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &size) != 0) {
        bench_die("no free port");
    }
    close(fd);
    return ntohs(a.sin_port);
}

/* A viewer of /events; -1 while nobody listens. */
static int view(uint16_t port) {
    static const char request[] = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    const struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) != 0 ||
        write(fd, request, sizeof(request) - 1) != sizeof(request) - 1) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- what the timeline says ------------------------------------------------------ */

/* Processor time of all services by the last sample, and the monitor's process. */
static double used_by_all(const char *dir, long *ret_monitor) {
    static char line[1 << 17];
    char path[256];
    double all = 0.0;
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl", dir);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        json_t *sample = json_loads(line, 0, NULL);
        const json_t *processes = json_object_get(sample, "processes");
        double sum = 0.0;
        size_t i = 0;
        const json_t *p = NULL;
        json_array_foreach(processes, i, p) {
            const char *name = json_string_value(json_object_get(p, "service"));
            sum += json_number_value(json_object_get(p, "cpu_seconds"));
            if (name != NULL && strcmp(name, "monitor") == 0) {
                *ret_monitor = (long)json_integer_value(json_object_get(p, "pid"));
            }
        }
        all = sum > all ? sum : all;
        json_decref(sample);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return all;
}

/* Processor time of the thread that serves HTTP; negative: it is not there. */
static double used_by_http(long pid) {
    char path[320];
    double used = -1.0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    const struct dirent *task = NULL;
    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        char name[32] = "";
        unsigned long long ns = 0;
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/comm", pid, task->d_name);
        FILE *comm = fopen(path, "re");
        bool is_http = comm != NULL && fgets(name, sizeof(name), comm) != NULL &&
                       strncmp(name, "MHD-", 4) == 0;
        if (comm != NULL) {
            (void)fclose(comm);
        }
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/schedstat", pid,
                       task->d_name);
        FILE *stat = is_http ? fopen(path, "re") : NULL;
        if (stat != NULL) {
            used = fscanf(stat, "%llu", &ns) == 1 ? (double)ns * 1e-9 : used;
            (void)fclose(stat);
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return used;
}

/* ---- the run ----------------------------------------------------------------------
 */

static int connect_all(uint16_t port, struct pollfd *fds) {
    int open = 0;
    for (int i = 0; i < VIEWERS; i++) {
        fds[i].fd = fds[i].fd < 0 ? view(port) : fds[i].fd;
        fds[i].events = POLLIN;
        open += fds[i].fd >= 0;
    }
    return open;
}

/* Read what comes for a moment; how many bytes. */
static size_t look_on(struct pollfd *fds) {
    static char piece[1 << 16];
    size_t got = 0;
    (void)poll(fds, VIEWERS, 50);
    for (int i = 0; i < VIEWERS; i++) {
        if (fds[i].fd >= 0 && fds[i].revents != 0) {
            ssize_t n = read(fds[i].fd, piece, sizeof(piece));
            got += n > 0 ? (size_t)n : 0;
            if (n <= 0) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        }
    }
    return got;
}

/* Look on until the run has ended; what the viewers read, and what serving it took. */
static double watch(uint16_t port, const char *dir, pid_t run, size_t *ret_bytes) {
    struct pollfd fds[VIEWERS];
    const double begun = bench_now();
    double used = -1.0;
    long monitor = 0;
    int most = 0;
    for (int i = 0; i < VIEWERS; i++) {
        fds[i].fd = -1;
    }
    while (waitpid(run, NULL, WNOHANG) == 0 && bench_now() - begun < DEADLINE_S) {
        int open = monitor == 0 || used < 0 ? connect_all(port, fds) : 0;
        most = open > most ? open : most;
        *ret_bytes += look_on(fds);
        if (monitor == 0) {
            (void)used_by_all(dir, &monitor);
        }
        double now = monitor != 0 ? used_by_http(monitor) : -1.0;
        used = now > used ? now : used;
    }
    if (most < VIEWERS || used < 0) {
        bench_die("not all viewers could look on");
    }
    return used;
}

int main(void) {
    char out[] = "/tmp/tl-bench-XXXXXX";
    char dir[64];
    char dashboard[64];
    int fd = -1;
    size_t bytes = 0;
    long monitor = 0;
    const uint16_t port = free_port();
    if (mkdtemp(out) == NULL) {
        bench_die("no temporary directory");
    }
    (void)snprintf(dir, sizeof(dir), "%s/run", out);
    (void)snprintf(dashboard, sizeof(dashboard), "--dashboard=127.0.0.1:%u", port);
    const char *argv[] = {"throughline", "run",     job_file,
                          dashboard,     "--quiet", "--until=seconds=" RUN_SECONDS,
                          "--out",       dir,       "--monitor-every-seconds=1",
                          NULL};
    pid_t run = bench_start(argv, &fd);
    const double http = watch(port, dir, run, &bytes);
    const double all = used_by_all(dir, &monitor);
    close(fd);
    bench_remove_tree(out);
    printf("bench viewers: %d viewers, %.0f kB read: %.3f s of processor time beside "
           "%.1f s of all services: %.4f (below %.2f)  %s\n",
           VIEWERS, (double)bytes / 1e3, http, all, http / all, SHARE_GOAL,
           bench_verdict(http / all < SHARE_GOAL));
    return http / all < SHARE_GOAL ? 0 : 1;
}
