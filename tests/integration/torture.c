/* Random faults, one after another, in one run of a job: each has to have happened,
 * after each the work goes on in time, and in the end the model has learned, every loss
 * has been counted exactly and nobody has grown.
 *
 * The seed also decides whether the job has TLS and whether it has a durable log; a
 * secret it always has. TL_TORTURE_FAULTS sets how many (`make torture`: 500),
 * TL_TEST_SEED repeats a run, TL_TORTURE_ONLY picks the faults whose name it is part
 * of, TL_TORTURE_WITH is "plain", "tls", "log" or "tls+log". */
#include "throughline/data.h"
#include "throughline/member.h"

#include "cluster.h"

#include <ftw.h>

#define FAULTS     50
#define TARGET     0.70  /* accuracy */
#define GOES_ON_MS 20000 /* request_ms, lease, back-off and a restart, with room */
#define YEAR       UINT64_C(31536000) /* seconds */
#define IN_FLIGHT  4 /* appends of a worker to a durable log: log.in_flight */
#define GROWTH     0.10

static struct cluster cluster;
static uint64_t random_state;

static uint64_t below(uint64_t n) {
    return tl_random_next(&random_state) % n;
}

static void soon(bool (*condition)(void *), void *ctx, const char *what) {
    int64_t deadline_ms = tl_now_ms() + 5000;
    while (!condition(ctx)) {
        if (tl_now_ms() > deadline_ms) {
            fail_msg("the fault did not happen: %s", what);
        }
        rig_pause(2);
    }
}

/* ---- processes ------------------------------------------------------------------- */

static void kill_and_restart(enum member m) {
    cluster_kill(&cluster, m);
    rig_pause((int)below(400));
    cluster_start_member(&cluster, m);
}

static void kill_server(void) {
    kill_and_restart(SERVER);
}

static void kill_worker(void) {
    kill_and_restart((enum member)(WORKER_0 + below(CLUSTER_WORKERS)));
}

static void kill_checkpointer(void) {
    kill_and_restart(CHECKPOINTER);
}

static void kill_monitor(void) {
    kill_and_restart(MONITOR);
}

static void kill_all_at_once(void) {
    for (int m = 0; m < MEMBERS; m++) {
        cluster_kill(&cluster, (enum member)m);
    }
    for (int m = 0; m < MEMBERS; m++) {
        cluster_start_member(&cluster, (enum member)m);
    }
}

static bool is_stopped(void *ctx) {
    char path[256];
    char state = '?';
    FILE *f = fopen(cluster_text(path, "/proc/%d/stat", *(pid_t *)ctx), "r");
    bool found = f != NULL && fscanf(f, "%*d (%*[^)]) %c", &state) == 1;
    if (f != NULL) {
        (void)fclose(f);
    }
    return found && state == 'T';
}

static void stop_for_a_while(pid_t pid, int ms) {
    assert_int_equal(kill(pid, SIGSTOP), 0);
    soon(is_stopped, &pid, "SIGSTOP");
    rig_pause(ms);
    assert_int_equal(kill(pid, SIGCONT), 0);
}

static void stop_server(void) {
    stop_for_a_while(cluster.members[SERVER].pid, 100 + (int)below(1500));
}

static void stop_worker(void) {
    stop_for_a_while(cluster.members[WORKER_0 + below(CLUSTER_WORKERS)].pid,
                     100 + (int)below(1500));
}

/* ---- Redis ----------------------------------------------------------------------- */

static void kill_redis(void) {
    test_redis_kill(&cluster.redis);
    rig_pause((int)below(400));
    test_redis_restart(&cluster.redis, true);
}

static void lose_redis(void) {
    test_redis_kill(&cluster.redis);
    rig_pause((int)below(400));
    test_redis_restart(&cluster.redis, false);
}

static void flush_redis(void) {
    test_redis_flush(&cluster.redis);
}

static void stop_redis(void) {
    stop_for_a_while(cluster.redis.pid, 100 + (int)below(1500));
}

/* ---- the durable log: what it acknowledged it keeps ------------------------------ */

static void kill_log(void) {
    test_redis_kill(&cluster.log);
    rig_pause((int)below(400));
    test_redis_restart(&cluster.log, true);
}

static void stop_log(void) {
    stop_for_a_while(cluster.log.pid, 100 + (int)below(1500));
}

/* ---- the network ----------------------------------------------------------------- */

static bool has_fired(void *ctx) {
    return fault_proxy_fired(ctx) > 0;
}

static void disturb(struct fault_proxy *network, struct fault fault, int ms) {
    fault_proxy_set(network, &fault);
    soon(has_fired, network, "on the network");
    rig_pause(ms);
    fault_proxy_set(network, NULL);
}

static enum fault_direction any_direction(void) {
    return below(2) == 0 ? FAULT_REQUESTS : FAULT_REPLIES;
}

static void net_delay(void) {
    disturb(cluster.network,
            (struct fault){.kind = FAULT_DELAY, .amount = 5 + below(50)}, 300);
}

static void net_throttle(void) {
    disturb(cluster.network,
            (struct fault){.kind = FAULT_THROTTLE, .amount = 200000 + below(800000)},
            500);
}

static void net_partition(void) {
    disturb(cluster.network, (struct fault){.kind = FAULT_STALL},
            100 + (int)below(3000));
}

static void net_stall_one_way(void) {
    disturb(cluster.network,
            (struct fault){.kind = FAULT_STALL, .direction = any_direction()},
            100 + (int)below(3000));
}

/* At a random byte of what one connection says next. With a durable log servers are
 * only asked for weights: little goes there. */
static void net_at_a_byte(enum fault_kind kind) {
    const enum fault_direction direction = any_direction();
    const bool is_little = cluster.has_log && direction == FAULT_REQUESTS;
    disturb(cluster.network,
            (struct fault){.kind = kind,
                           .direction = direction,
                           .after = below(is_little ? 1000 : 150000),
                           .times = 1},
            0);
}

static void net_half_open(void) {
    net_at_a_byte(FAULT_HALF_OPEN);
}

static void net_reset(void) {
    net_at_a_byte(FAULT_RESET);
}

static void net_truncate(void) {
    net_at_a_byte(FAULT_TRUNCATE);
}

static void net_flip(void) {
    net_at_a_byte(FAULT_FLIP);
}

static void redis_partition(void) {
    disturb(cluster.redis_network, (struct fault){.kind = FAULT_STALL},
            100 + (int)below(2000));
}

static void redis_slow(void) {
    disturb(cluster.redis_network, (struct fault){.kind = FAULT_DELAY, .amount = 100},
            500);
}

static void redis_reset(void) {
    disturb(cluster.redis_network,
            (struct fault){
                .kind = FAULT_RESET, .direction = any_direction(), .after = below(200)},
            100);
}

/* ---- intruders ------------------------------------------------------------------- */

static int dial_server(void) {
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)cluster.port)};
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    return fd;
}

/* A tally of the server's, and what it was. */
struct tally {
    double (*count)(void);
    double before;
};

static struct tally tally_of(double (*count)(void)) {
    return (struct tally){count, count()};
}

static bool has_risen(void *ctx) {
    const struct tally *t = ctx;
    return t->count() > t->before;
}

/* Bad frames, or what TLS does not even take for one. */
static double intruders(void) {
    return cluster_metric(&cluster, SERVER, "throughline_bad_frames_total") +
           cluster_metric(&cluster, SERVER, "throughline_auth_failures_total");
}

static double dropped_strangers(void) {
    return cluster_metric(&cluster, SERVER, "throughline_strangers_dropped_total");
}

static void intruder(void) {
    char bytes[512];
    struct tally bad = tally_of(intruders);
    int fd = dial_server();
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)below(256);
    }
    assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
    soon(has_risen, &bad, "an intruder was not counted");
    (void)close(fd);
}

static void idle_crowd(void) {
    int fd[100];
    struct tally dropped = tally_of(dropped_strangers);
    for (int i = 0; i < 100; i++) {
        fd[i] = dial_server();
    }
    soon(has_risen, &dropped, "an idle connection was not closed");
    for (int i = 0; i < 100; i++) {
        (void)close(fd[i]);
    }
}

/* ---- the machine ----------------------------------------------------------------- */

static void disk_full(void) {
    char path[256];
    char block[65536] = {0};
    (void)cluster_text(path, "%s/ballast", cluster.store);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    ssize_t n = 0;
    while ((n = write(fd, block, sizeof(block))) > 0) {
    }
    assert_true(n < 0 && errno == ENOSPC);
    (void)close(fd);
    rig_pause(300 + (int)below(700));
    assert_int_equal(unlink(path), 0);
}

static void disk_read_only(void) {
    char path[256];
    /* While somebody writes there the kernel refuses. */
    int64_t deadline_ms = tl_now_ms() + 5000;
    while (mount(NULL, cluster.store, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0) {
        assert_true(errno == EBUSY && tl_now_ms() < deadline_ms);
        rig_pause(1);
    }
    assert_int_equal(open(cluster_text(path, "%s/x", cluster.store), O_CREAT, 0600),
                     -1);
    assert_int_equal(errno, EROFS);
    rig_pause(300 + (int)below(700));
    assert_int_equal(mount(NULL, cluster.store, NULL, MS_REMOUNT, NULL), 0);
}

static char newest_part[PATH_MAX];

static int look_for_part(const char *path, const struct stat *st, int type,
                         struct FTW *ftw) {
    (void)ftw;
    if (type == FTW_F && st->st_size > 0 && strstr(path, "/part-") != NULL &&
        strcmp(path, newest_part) > 0) {
        (void)snprintf(newest_part, sizeof(newest_part), "%s", path);
    }
    return 0;
}

/* A bit of the newest snapshot is another one, and the server needs it at once. */
static void damage_a_snapshot(void) {
    newest_part[0] = '\0';
    assert_int_equal(nftw(cluster.store, look_for_part, 8, FTW_PHYS), 0);
    int fd = open(newest_part, O_RDWR | O_CLOEXEC);
    char byte = 0;
    if (fd >= 0 && pread(fd, &byte, 1, 1000) == 1) { /* not pruned meanwhile */
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 1000), 1);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    kill_server();
}

/* Above every descriptor that it has open: poll() wants no more of them than that. */
static rlim_t highest_descriptor(pid_t pid) {
    char path[256];
    rlim_t highest = 0;
    DIR *d = opendir(cluster_text(path, "/proc/%d/fd", pid));
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        rlim_t fd = strtoul(e->d_name, NULL, 10);
        highest = fd > highest ? fd : highest;
    }
    (void)closedir(d);
    return highest;
}

/* No more descriptors: nobody new is served, whoever is connected goes on. */
static void no_descriptors(void) {
    enum member m = below(2) == 0 ? SERVER : CHECKPOINTER;
    struct rlimit before;
    struct rlimit none = {.rlim_cur = highest_descriptor(cluster.members[m].pid) + 1};
    assert_int_equal(prlimit(cluster.members[m].pid, RLIMIT_NOFILE, NULL, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(prlimit(cluster.members[m].pid, RLIMIT_NOFILE, &none, NULL), 0);
    (void)close(dial_server());
    rig_pause(200 + (int)below(500));
    assert_int_equal(prlimit(cluster.members[m].pid, RLIMIT_NOFILE, &before, NULL), 0);
}

/* By up to a year, for every process; `date` is one of them. */
static void clock_jump(void) {
    if (cluster.clock == NULL) {
        return;
    }
    const char *argv[] = {"/bin/date", "+%s", NULL};
    *cluster.clock = (int64_t)below(2 * YEAR) - (int64_t)YEAR;
    struct outcome o = program_run(5, argv);
    int64_t off = strtoll(o.out, NULL, 10) - (int64_t)time(NULL) - *cluster.clock;
    outcome_done(&o);
    assert_in_range(off + 5, 0, 10);
}

/* ---- the run --------------------------------------------------------------------- */

enum need { NOTHING, A_MOUNT, A_LOG };

static const struct {
    const char *name;
    void (*strike)(void);
    enum need need;
} faults[] = {
    {"kill server", kill_server, NOTHING},
    {"kill server", kill_server, NOTHING}, /* what it is all about: twice as often */
    {"kill worker", kill_worker, NOTHING},
    {"kill checkpointer", kill_checkpointer, NOTHING},
    {"kill monitor", kill_monitor, NOTHING},
    {"kill all five at once", kill_all_at_once, NOTHING},
    {"stop server", stop_server, NOTHING},
    {"stop worker", stop_worker, NOTHING},
    {"kill Redis", kill_redis, NOTHING},
    {"kill Redis, lose its data", lose_redis, NOTHING},
    {"flush Redis", flush_redis, NOTHING},
    {"stop Redis", stop_redis, NOTHING},
    {"network: delay", net_delay, NOTHING},
    {"network: throttle", net_throttle, NOTHING},
    {"network: partition", net_partition, NOTHING},
    {"network: stall one way", net_stall_one_way, NOTHING},
    {"network: half-open", net_half_open, NOTHING},
    {"network: reset", net_reset, NOTHING},
    {"network: truncate", net_truncate, NOTHING},
    {"network: flip a bit", net_flip, NOTHING},
    {"Redis: partition", redis_partition, NOTHING},
    {"Redis: slow", redis_slow, NOTHING},
    {"Redis: reset", redis_reset, NOTHING},
    {"intruder", intruder, NOTHING},
    {"a hundred idle connections", idle_crowd, NOTHING},
    {"disk full", disk_full, A_MOUNT},
    {"disk read-only", disk_read_only, A_MOUNT},
    {"newest snapshot damaged, server killed", damage_a_snapshot, NOTHING},
    {"no descriptors", no_descriptors, NOTHING},
    {"clock jumps", clock_jump, NOTHING},
    {"log: kill", kill_log, A_LOG},
    {"log: stop", stop_log, A_LOG},
};
#define KINDS (sizeof(faults) / sizeof(faults[0]))

static bool has_ended(enum member m) {
    struct pollfd fd = {.fd = cluster.members[m].pidfd, .events = POLLIN};
    return poll(&fd, 1, 0) != 0;
}

/* Whoever ended by itself did so against the rules. */
static void assert_all_alive(const char *after) {
    for (int m = 0; m < MEMBERS; m++) {
        if (has_ended((enum member)m)) {
            siginfo_t how = {0};
            (void)waitid(P_PID, (id_t)cluster.members[m].pid, &how, WEXITED | WNOWAIT);
            cluster_tell(&cluster);
            fail_msg("%s ended by itself, with %s %d, after: %s", member_names[m],
                     how.si_code == CLD_EXITED ? "exit code" : "signal", how.si_status,
                     after);
        }
    }
}

static int64_t strike(unsigned number, size_t kind) {
    int64_t start_ms = tl_now_ms();
    faults[kind].strike();
    int64_t lifted_ms = tl_now_ms();
    int64_t wait_ms = cluster_goes_on(&cluster, 3, GOES_ON_MS);
    print_message("%3u  %-40s %5lld ms, then on within %5lld ms\n", number,
                  faults[kind].name, (long long)(lifted_ms - start_ms),
                  (long long)wait_ms);
    if (wait_ms < 0) {
        cluster_tell(&cluster);
        fail_msg("no progress within %d ms of: %s", GOES_ON_MS, faults[kind].name);
    }
    assert_all_alive(faults[kind].name);
    return wait_ms;
}

static bool can_strike(size_t kind) {
    return faults[kind].need == NOTHING ||
           (faults[kind].need == A_MOUNT ? cluster.store_is_mounted : cluster.has_log);
}

static int64_t strike_all(unsigned count) {
    const char *only = getenv("TL_TORTURE_ONLY");
    int64_t longest_ms = 0;
    for (unsigned i = 1; i <= count;) {
        size_t kind = below(KINDS);
        if (only != NULL && strstr(faults[kind].name, only) == NULL) {
            continue;
        }
        if (can_strike(kind)) {
            int64_t ms = strike(i++, kind);
            longest_ms = ms > longest_ms ? ms : longest_ms;
        }
    }
    return longest_ms;
}

static double accuracy(void) {
    char redis[256];
    const char *argv[] = {"throughline",
                          "evaluate",
                          cluster.job,
                          cluster_text(redis, "--redis=%s", cluster.redis_url),
                          "--run=torture",
                          "--json",
                          NULL};
    json_t *result = program_json(30, argv);
    double v = number(result, "accuracy");
    json_decref(result);
    return v;
}

static void learns(void) {
    int64_t deadline_ms = tl_now_ms() + 60000;
    double v = accuracy();
    while (v < TARGET && tl_now_ms() < deadline_ms) {
        rig_pause(500);
        v = accuracy();
    }
    print_message("accuracy %.3f\n", v);
    assert_true(v >= TARGET);
}

/* Declared as the monitor would; everybody winds down by himself. */
static void declare_end(void) {
    const struct tl_member_config config = {
        .redis = cluster.redis_url, .job = "rig", .run = "torture", .lease_ms = 1000};
    struct tl_member *m = NULL;
    assert_int_equal(tl_member_open(&config, &m), 0);
    assert_int_equal(tl_member_declare_end(m, "enough", tl_now_ms() + 5000), 0);
    tl_member_close(m);
}

/* What the workers saw acknowledged, by their ledgers. */
static double acknowledged_in_all(void) {
    double acknowledged = 0;
    for (unsigned w = 0; w < CLUSTER_WORKERS; w++) {
        acknowledged += (double)cluster_acknowledged(w);
    }
    return acknowledged;
}

/* The other side is in the server's state: in its last words, since it folds nothing
 * more after the end. */
static void the_end_accounts_for_every_gradient(void) {
    double folded = -1;
    double lost = -1;
    declare_end();
    while (!has_ended(SERVER)) {
        (void)cluster_try_metric(&cluster, SERVER, "throughline_gradients_folded_total",
                                 &folded);
        (void)cluster_try_metric(&cluster, SERVER, "throughline_gradients_lost_total",
                                 &lost);
        rig_pause(10);
    }
    for (int m = 0; m < MEMBERS; m++) {
        cluster_expect_end(&cluster, (enum member)m);
    }
    print_message("%.0f acknowledged, %.0f in the state, %.0f lost\n",
                  acknowledged_in_all(), folded, lost);
    assert_true(acknowledged_in_all() == folded + lost);
}

/* What the log acknowledged is folded in the end, each gradient once: beyond it are at
 * most those that were on their way when their worker stopped. */
static void the_log_accounts_for_every_gradient(void) {
    const int64_t deadline_ms = tl_now_ms() + 60000;
    double folded = 0;
    for (int m = WORKER_0; m <= WORKER_1; m++) {
        assert_int_equal(kill(cluster.members[m].pid, SIGTERM), 0);
        cluster_expect_end(&cluster, (enum member)m);
    }
    const double acknowledged = acknowledged_in_all();
    while (folded < acknowledged && tl_now_ms() < deadline_ms) {
        (void)cluster_try_metric(&cluster, SERVER, "throughline_gradients_folded_total",
                                 &folded);
        rig_pause(20);
    }
    print_message("%.0f acknowledged, %.0f in the state\n", acknowledged, folded);
    assert_true(folded >= acknowledged &&
                folded <= acknowledged + CLUSTER_WORKERS * IN_FLIGHT);
    assert_true(cluster_metric(&cluster, SERVER, "throughline_gradients_lost_total") ==
                0);
    declare_end();
    cluster_expect_end(&cluster, SERVER);
    cluster_expect_end(&cluster, CHECKPOINTER);
    cluster_expect_end(&cluster, MONITOR);
}

/* Warm is who has been through it once: a recovery, a crowd, a queue of gradients. */
static void warm_up(struct cluster_memory ret_kib[MEMBERS]) {
    for (int m = 0; m < MEMBERS; m++) {
        kill_and_restart((enum member)m);
    }
    assert_true(cluster_goes_on(&cluster, 100, GOES_ON_MS) >= 0);
    idle_crowd();
    net_throttle();
    net_partition();
    assert_true(cluster_goes_on(&cluster, 300, GOES_ON_MS) >= 0);
    for (int m = 0; m < MEMBERS; m++) {
        ret_kib[m] = cluster_memory(&cluster, (enum member)m);
    }
}

/* Each process against itself when it was warm, in this life or an earlier one. */
static void assert_nobody_has_grown(const struct cluster_memory warm[MEMBERS]) {
    for (int m = 0; m < MEMBERS; m++) {
        const struct cluster_memory now = cluster_memory(&cluster, (enum member)m);
        const double grown = (double)(now.own - warm[m].own) / (double)warm[m].resident;
        print_message("%-13s %6ld KiB, was %6ld; of its own %6ld, was %6ld: %+.1f %%\n",
                      member_names[m], now.resident, warm[m].resident, now.own,
                      warm[m].own, 100.0 * grown);
        assert_true(grown <= GROWTH);
    }
}

static void a_job_survives_random_faults(void **state) {
    (void)state;
    const char *count = getenv("TL_TORTURE_FAULTS");
    struct cluster_memory warm[MEMBERS];
    warm_up(warm);
    unsigned n = count != NULL ? (unsigned)strtoul(count, NULL, 10) : FAULTS;
    int64_t longest_ms = strike_all(n);
    print_message("%u faults; longest wait for the work to go on: %lld ms\n", n,
                  (long long)longest_ms);
    learns();
    assert_nobody_has_grown(warm);
    if (cluster.has_log) {
        the_log_accounts_for_every_gradient();
    } else {
        the_end_accounts_for_every_gradient();
    }
}

static int start(void **state) {
    static const char *const ways[] = {"plain", "tls", "log", "tls+log"};
    const char *seed = getenv("TL_TEST_SEED");
    const char *with = getenv("TL_TORTURE_WITH");
    int rc = scratch_setup(state);
    random_state = seed != NULL && seed[0] != '\0' ? strtoull(seed, NULL, 10)
                                                   : (uint64_t)tl_now_ms();
    print_message("TL_TEST_SEED=%llu\n", (unsigned long long)random_state);
    const char *drawn = ways[below(4)];
    with = with != NULL && with[0] != '\0' ? with : drawn;
    print_message("with a secret, and: %s\n", with);
    cluster_start(&cluster, strstr(with, "tls") != NULL, strstr(with, "log") != NULL);
    return rc;
}

static int stop(void **state) {
    cluster_stop(&cluster);
    return scratch_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_job_survives_random_faults)};
    return cmocka_run_group_tests_name("torture", tests, start, stop);
}
