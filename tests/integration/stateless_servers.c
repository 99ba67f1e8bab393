/* Servers of a durable log, started by hand: one of two is away, and a worker takes the
 * other one's weights; one is stopped, replaced, and wakes up again, without a standby
 * and with one. */
#include "throughline/client.h"
#include "throughline/job.h"
#include "throughline/log.h"
#include "throughline/member.h"

#include "redis.h"
#include "shard_rig.h"

#define WAIT_MS 60000

static struct test_redis redis;

static int setup(void **state) {
    test_redis_start(&redis);
    return scratch_setup(state);
}

static int teardown(void **state) {
    test_redis_stop(&redis);
    return scratch_teardown(state);
}

/* ---- processes of one run -----------------------------------------------------------
 */

static struct program start(const char *program, const char *job, const char *run,
                            const char *more, const char *http) {
    char runs[64];
    char url[160];
    char metrics[80];
    (void)snprintf(runs, sizeof(runs), "--run=%s", run);
    (void)snprintf(url, sizeof(url), "--redis=%s", redis.url);
    (void)snprintf(metrics, sizeof(metrics), "--http=%s", http);
    const char *argv[] = {program, job, runs, url, metrics, more, NULL};
    return program_start(argv);
}

struct server {
    struct program program;
    struct rig shown; /* only what it says of itself */
};

static struct server start_one(const char *program, const char *job, const char *run,
                               unsigned number) {
    char index[32];
    struct server s = {.shown = {.server = {0}}};
    (void)snprintf(index, sizeof(index), "--index=%u", number);
    (void)snprintf(s.shown.http, sizeof(s.shown.http), "127.0.0.1:%u", rig_free_port());
    s.program = start(program, job, run, index, s.shown.http);
    return s;
}

static struct server start_server(const char *job, const char *run, unsigned shard) {
    return start_one("tl-server", job, run, shard);
}

static void kill_program(struct program *p, int signal_number) {
    assert_int_equal(kill(p->pid, SIGKILL), 0);
    struct outcome o = program_end(p, 20);
    assert_int_equal(o.exit_code, 128 + signal_number);
    outcome_done(&o);
}

/* ---- one of two shards is away ----------------------------------------------------
 */

struct trainer {
    struct tl_job job;
    struct tl_log *log;
    struct tl_client *client;
    struct tl_client_join joined;
    float *gradient;
    uint64_t sequence;
};

static void join(struct trainer *t, const char *job, const char *run) {
    uint64_t parameters = 784 * 32 + 32 + 32 * 10 + 10;
    uint64_t digest = 0;
    assert_int_equal(tl_job_load(job, &t->job), 0);
    assert_int_equal(tl_job_digest(&t->job, &digest), 0);
    assert_int_equal(tl_log_open_job(&t->job, run, redis.url, parameters, &t->log), 0);
    const struct tl_client_config config = {
        .redis = redis.url,
        .job = t->job.name,
        .run = run,
        .job_digest = digest,
        .patience_ms = WAIT_MS,
        .log = t->log,
        .parameters = parameters,
        .shards = t->job.shards,
        .consistency = t->job.consistency,
        .while_away = t->job.while_away,
    };
    assert_int_equal(tl_client_open(&config, &t->client), 0);
    int rc = tl_client_join(t->client, &t->joined);
    if (rc != 0) {
        fail_msg("join: %s", tl_error_text());
    }
    t->sequence = t->joined.next_sequence;
    t->gradient = calloc(parameters, sizeof(float));
    assert_non_null(t->gradient);
    for (uint64_t i = 0; i < parameters; i++) {
        t->gradient[i] = 1.0F;
    }
}

static void step(struct trainer *t) {
    int rc = tl_client_push_pull(t->client, t->sequence++, t->gradient, NULL);
    if (rc != 0) {
        fail_msg("push: %s", tl_error_text());
    }
}

/* Steps until the worker holds `version` of a shard. */
static void step_until(struct trainer *t, uint32_t shard, uint64_t version) {
    int64_t deadline_ms = tl_now_ms() + WAIT_MS;
    while (tl_client_shard_version(t->client, shard) < version) {
        assert_true(tl_now_ms() < deadline_ms);
        step(t);
    }
}

static void leave(struct trainer *t) {
    tl_client_free(t->client);
    tl_log_close(t->log);
    tl_job_done(&t->job);
    free(t->gradient);
}

static const char *job_of(const char *run, const char *strategy, const char *more) {
    char text[512];
    (void)snprintf(text, sizeof(text),
                   ", \"checkpoint\": {\"store\": \"file://%s/%s\", "
                   "\"every_updates\": 20}, \"membership\": {\"lease_ms\": 1000}%s",
                   scratch, run, more);
    return rig_job(text, strategy);
}

static void a_worker_takes_the_weights_that_are_there(void **state) {
    (void)state;
    const char *job = job_of("apart", "stateless", ", \"shards\": 2");
    struct trainer t = {.sequence = 0};
    struct server servers[2];
    for (unsigned i = 0; i < 2; i++) {
        servers[i] = start_server(job, "apart", i);
        assert_true(rig_reaches(&servers[i].shown, "throughline_epoch", 1));
    }
    join(&t, job, "apart");
    step_until(&t, 0, 5);
    step_until(&t, 1, 5);
    kill_program(&servers[1].program, SIGKILL);
    uint64_t there = tl_client_shard_version(t.client, 0);
    uint64_t away = tl_client_shard_version(t.client, 1);
    float before = tl_client_weights(t.client)[0];
    step_until(&t, 0, there + 20);
    assert_true(tl_client_weights(t.client)[0] < before);
    assert_true(tl_client_shard_version(t.client, 1) <= away + 1);
    struct tl_client_stats stats;
    tl_client_stats(t.client, &stats);
    assert_true(stats.without_server >= 10);
    /* And of both, once it is back with what was appended meanwhile. */
    servers[1] = start_server(job, "apart", 1);
    step_until(&t, 1, there + 20);
    step_until(&t, 0, there + 40);
    leave(&t);
    rig_expect_end(&servers[0].program);
    rig_expect_end(&servers[1].program);
}

/* ---- a zombie ----------------------------------------------------------------------
 */

static void assert_verified(const char *job, const char *run) {
    char runs[64];
    char url[160];
    (void)snprintf(runs, sizeof(runs), "--run=%s", run);
    (void)snprintf(url, sizeof(url), "--redis=%s", redis.url);
    char with[PATH_MAX + 8];
    (void)snprintf(with, sizeof(with), "--job=%s", job);
    const char *argv[] = {"throughline", "log", "verify", with, runs, url, NULL};
    struct outcome o = program_run(60, argv);
    if (o.exit_code != 0 || strstr(o.out, "0 lost, 0 duplicated, same bits") == NULL) {
        fail_msg("exit %d\n%s\n%s", o.exit_code, o.out, o.err);
    }
    outcome_done(&o);
}

/* Stopped beyond its lease, replaced, and awake again: it folds what is in the log and
 * nothing else, serves nobody, and leaves. */
static void a_zombie_does_no_harm(void **state) {
    (void)state;
    const char *job = job_of("zombie", "stateless", "");
    char http[64];
    (void)snprintf(http, sizeof(http), "127.0.0.1:%u", rig_free_port());
    struct server first = start_server(job, "zombie", 0);
    assert_true(rig_reaches(&first.shown, "throughline_epoch", 1));
    struct program checkpointer = start("tl-checkpointer", job, "zombie", NULL, "off");
    struct program worker = start("tl-worker", job, "zombie", "--max-rate=200", "off");
    assert_true(rig_reaches(&first.shown, "throughline_version", 30));
    assert_int_equal(kill(first.program.pid, SIGSTOP), 0);
    struct server second = start_server(job, "zombie", 0);
    assert_true(rig_reaches(&second.shown, "throughline_epoch", 2));
    double version = rig_metric(&second.shown, "throughline_version");
    assert_true(rig_reaches(&second.shown, "throughline_version", version + 60));
    assert_int_equal(kill(first.program.pid, SIGCONT), 0);
    struct outcome o = program_end(&first.program, 60);
    assert_int_equal(o.exit_code, 3); /* fenced */
    assert_non_null(strstr(o.err, "fenced"));
    outcome_done(&o);
    version = rig_metric(&second.shown, "throughline_version");
    assert_true(rig_reaches(&second.shown, "throughline_version", version + 60));
    assert_true(rig_metric(&second.shown, "throughline_epoch") == 2);
    rig_expect_end(&worker);
    rig_expect_end(&checkpointer);
    rig_expect_end(&second.program);
    assert_verified(job, "zombie");
}

/* The same with a standby, which takes over when the lease is over; the one that wakes
 * up stands by in its turn, and takes over when the other one is killed. */
static void a_frozen_server_becomes_a_standby(void **state) {
    (void)state;
    const char *job = job_of("frozen", "hybrid", "");
    struct server both[2];
    for (unsigned i = 0; i < 2; i++) {
        both[i] = start_one("tl-replica", job, "frozen", i);
        assert_true(rig_reaches(&both[0].shown, "throughline_epoch", 1));
    }
    struct program checkpointer = start("tl-checkpointer", job, "frozen", NULL, "off");
    struct program worker = start("tl-worker", job, "frozen", "--max-rate=200", "off");
    assert_true(rig_reaches(&both[0].shown, "throughline_version", 30));
    assert_true(rig_reaches(&both[1].shown, "throughline_version", 30)); /* folds too */
    assert_true(rig_metric(&both[1].shown, "throughline_epoch") == 0);
    assert_int_equal(kill(both[0].program.pid, SIGSTOP), 0);
    assert_true(rig_reaches(&both[1].shown, "throughline_epoch", 2));
    assert_int_equal(kill(both[0].program.pid, SIGCONT), 0);
    assert_true(rig_falls(&both[0].shown, "throughline_epoch", 0));
    double version = rig_metric(&both[1].shown, "throughline_version");
    assert_true(rig_reaches(&both[1].shown, "throughline_version", version + 60));
    assert_true(rig_reaches(&both[0].shown, "throughline_version", version + 60));
    kill_program(&both[1].program, SIGKILL);
    assert_true(rig_reaches(&both[0].shown, "throughline_epoch", 3));
    version = rig_metric(&both[0].shown, "throughline_version");
    assert_true(rig_reaches(&both[0].shown, "throughline_version", version + 60));
    rig_expect_end(&worker);
    rig_expect_end(&checkpointer);
    rig_expect_end(&both[0].program);
    assert_verified(job, "frozen");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_takes_the_weights_that_are_there),
        cmocka_unit_test(a_zombie_does_no_harm),
        cmocka_unit_test(a_frozen_server_becomes_a_standby),
    };
    return cmocka_run_group_tests_name("stateless_servers", tests, setup, teardown);
}
