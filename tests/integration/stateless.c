/* The stateless server: SIGKILLed 32 times at random moments on Redis Streams and as
 * often on Kafka, with one shard and three, sync and async. After each run the log is
 * folded again by the program, and read by this one: what the workers' ledgers say was
 * acknowledged is there, in every shard's log. TL_TEST_SEED repeats a run;
 * TL_TEST_ONLY=NAME runs one of the tests, TL_SOAK_KILLS=N goes on until so many
 * servers have been killed (`make soak`). */
#include "throughline/data.h"
#include "throughline/log.h"
#include "throughline/service.h"

#include "job_run.h"
#include "kafka.h"

#define KILLS               8  /* a round */
#define EACH                25 /* sync: updates between two of them, about */
/* A log for so few gradients of the small model (940 KB each) beyond a checkpoint. */
#define SMALL_LOG           "16777216"
#define SMALL_LOG_GRADIENTS 5
#define EACH_S              0.8 /* async, where what piled up comes at once: seconds */

static struct test_redis redis;
static struct test_kafka kafka;
static unsigned rounds, killed;
static uint64_t acknowledged_in_all;

static int setup(void **state) {
    test_redis_start(&redis);
    test_kafka_start(&kafka);
    return scratch_setup(state);
}

static int teardown(void **state) {
    test_redis_stop(&redis);
    test_kafka_stop(&kafka);
    return scratch_teardown(state);
}

static uint64_t seed_of_run(void) {
    static uint64_t seed;
    const char *text = getenv("TL_TEST_SEED");
    if (seed == 0) {
        seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)test_now_ms();
        print_message("seed %llu\n", (unsigned long long)seed);
    }
    return seed;
}

/* ---- the checker: log and ledgers, joined without the program's help --------------
 */

#define WORKERS      2
#define SHARDS_MOST  3
#define SEQUENCE_MAX 100000

static uint8_t present[SHARDS_MOST][WORKERS][SEQUENCE_MAX];

/* Which log `throughline log` is to speak of. */
struct log_flags {
    char job[PATH_MAX + 32], run[128], log[256];
};

static struct log_flags log_flags_of(const json_t *result, const char *url) {
    struct log_flags f;
    (void)snprintf(f.job, sizeof(f.job), "--job=%s/job.json",
                   json_string_value(json_object_get(result, "out")));
    (void)snprintf(f.run, sizeof(f.run), "--run=%s",
                   json_string_value(json_object_get(result, "run")));
    (void)snprintf(f.log, sizeof(f.log), "--log=%s", url);
    return f;
}

/* Every gradient in the log, by shard, worker and sequence. */
static void read_log(const json_t *result, const char *url, unsigned shards) {
    const struct log_flags flags = log_flags_of(result, url);
    memset(present, 0, sizeof(present));
    for (unsigned s = 0; s < shards; s++) {
        char shard[32];
        (void)snprintf(shard, sizeof(shard), "--shard=%u", s);
        const char *argv[] = {"throughline", "log",     "tail",    "--count=0",
                              "--json",      flags.job, flags.run, flags.log,
                              shard,         NULL};
        struct program p = program_start(argv);
        struct outcome o = program_end(&p, 120);
        assert_int_equal(o.exit_code, 0);
        outcome_done(&o);
        FILE *f = fopen(p.out_path, "r");
        char line[512];
        assert_non_null(f);
        while (fgets(line, sizeof(line), f) != NULL) {
            json_t *entry = json_loads(line, 0, NULL);
            assert_non_null(entry);
            const char *kind = json_string_value(json_object_get(entry, "kind"));
            if (strcmp(kind, "gradient") == 0) {
                unsigned w = (unsigned)number(entry, "worker");
                unsigned n = (unsigned)number(entry, "sequence");
                assert_true(w < WORKERS && n < SEQUENCE_MAX);
                present[s][w][n] = 1;
            }
            json_decref(entry);
        }
        (void)fclose(f);
    }
}

static void assert_acknowledged_is_there(const json_t *result, const char *url,
                                         unsigned shards) {
    uint64_t checked = 0;
    read_log(result, url, shards);
    for (unsigned w = 0; w < WORKERS; w++) {
        uint64_t acknowledged = job_acknowledged(result, w);
        assert_true(acknowledged > 0);
        for (unsigned s = 0; s < shards; s++) {
            for (uint64_t n = 1; n <= acknowledged; n++) {
                if (!present[s][w][n]) {
                    fail_msg(
                        "worker %u saw %llu acknowledged; shard %u's log has no %llu",
                        w, (unsigned long long)acknowledged, s, (unsigned long long)n);
                }
            }
        }
        checked += acknowledged;
    }
    assert_true(checked > 0);
    acknowledged_in_all += checked;
}

static void assert_verified(const json_t *result) {
    size_t i = 0;
    const json_t *shard = NULL;
    if (!json_is_true(json_object_get(result, "log_verified"))) {
        char *text = json_dumps(result, JSON_INDENT(1));
        fail_msg("the log is not what it should be:\n%s", text);
        free(text);
    }
    const json_t *log = json_object_get(result, "log");
    assert_true(json_array_size(log) > 0);
    json_array_foreach(log, i, shard) {
        assert_true(json_is_true(json_object_get(shard, "has_checkpoint")));
        assert_true(json_is_true(json_object_get(shard, "same_bits")));
        assert_true(number(shard, "folded") > 0);
        assert_true(number(shard, "lost") == 0);
        assert_true(number(shard, "duplicated") == 0);
    }
    assert_true(number(result, "lost") == 0);
}

/* ---- runs with kills ---------------------------------------------------------------
 */

static json_t *run_with(const char *url, unsigned shards, const char *consistency,
                        const char *const *more) {
    char log[256];
    char cut[32];
    char mode[64];
    char name[64];
    (void)snprintf(log, sizeof(log), "--log=%s", url);
    (void)snprintf(cut, sizeof(cut), "--shards=%u", shards);
    (void)snprintf(mode, sizeof(mode), "--consistency=%s", consistency);
    (void)snprintf(name, sizeof(name), "round-%u", rounds);
    char run[64];
    (void)snprintf(run, sizeof(run), "--run=round-%u", rounds++);
    char until[32];
    if (strcmp(consistency, "sync") == 0) {
        (void)snprintf(until, sizeof(until), "--until=updates=%d", EACH * (KILLS + 2));
    } else {
        (void)snprintf(until, sizeof(until), "--until=seconds=%.0f",
                       EACH_S * (KILLS + 2));
    }
    const char *argv[PROGRAM_ARGS_MAX] = {"throughline",
                                          "run",
                                          JOB_MLP,
                                          "--json",
                                          "--out",
                                          scratch_path(name),
                                          "--strategy=stateless",
                                          log,
                                          cut,
                                          mode,
                                          run,
                                          until,
                                          "--optimizer-momentum=0",
                                          "--checkpoint-every-updates=40",
                                          "--membership-lease-ms=1000",
                                          "--worker-ledger-sync"};
    size_t n = 16;
    while (*more != NULL) {
        assert_true(n < PROGRAM_ARGS_MAX - 1);
        argv[n++] = *more++;
    }
    return program_json(300, argv);
}

/* Rounds are many, and what they leave behind fills disks. */
static void erase_log(const json_t *result, const char *url) {
    const struct log_flags flags = log_flags_of(result, url);
    const char *argv[] = {"throughline", "log",     "rm", flags.job,
                          flags.run,     flags.log, NULL};
    struct outcome o = program_run(60, argv);
    assert_int_equal(o.exit_code, 0);
    outcome_done(&o);
}

static void one_round(const char *url, unsigned shards, const char *consistency) {
    char kills[KILLS][64];
    const char *more[KILLS + 2] = {"--no-log-trim"};
    uint64_t state = seed_of_run() + rounds;
    for (unsigned i = 0; i < KILLS; i++) {
        double at = 0.8 + (double)i + 0.9 * (double)tl_random_unit(&state);
        unsigned victim = (unsigned)(tl_random_unit(&state) * (float)shards) % shards;
        bool is_sync = strcmp(consistency, "sync") == 0;
        (void)snprintf(kills[i], sizeof(kills[i]), "--kill=server/%u@%s=%.*f,down=0.1s",
                       victim, is_sync ? "updates" : "seconds", is_sync ? 0 : 2,
                       at * (is_sync ? EACH : EACH_S));
        more[i + 1] = kills[i];
    }
    json_t *result = run_with(url, shards, consistency, more);
    for (size_t i = 0; i < KILLS; i++) {
        const json_t *kill = json_array_get(json_object_get(result, "kills"), i);
        assert_true(json_is_true(json_object_get(kill, "happened")));
        killed++;
    }
    assert_true(number(result, "updates") > 0);
    (void)job_assert_versions_rise(result, "server/0");
    assert_verified(result);
    assert_acknowledged_is_there(result, url, shards);
    erase_log(result, url);
    job_assert_nothing_runs();
    json_decref(result);
}

/* Four rounds, or as many as it takes for half of the soak's kills. */
static void all_rounds(const char *url) {
    const char *soak = getenv("TL_SOAK_KILLS");
    unsigned until = killed + (soak != NULL ? (unsigned)atoi(soak) / 2 : 4 * KILLS);
    while (killed < until) {
        one_round(url, 1, "async");
        one_round(url, 1, "sync");
        one_round(url, 3, "async");
        one_round(url, 3, "sync");
    }
    print_message("%u servers killed in %u runs: %llu gradients acknowledged, 0 lost, "
                  "0 duplicated, same bits\n",
                  killed, rounds, (unsigned long long)acknowledged_in_all);
}

static void killed_on_redis_streams(void **state) {
    (void)state;
    all_rounds(redis.url);
}

static void killed_on_kafka(void **state) {
    (void)state;
    all_rounds(kafka.url);
}

/* Workers, the checkpointer, and the Redis that holds the log: all of them, twice; and
 * the log is trimmed. */
static void everybody_else_dies_too(void **state) {
    (void)state;
    static const char *const more[] = {"--kill=worker/0@updates=20,down=0.3s",
                                       "--kill=redis@updates=40,down=0.5s",
                                       "--kill=checkpointer@updates=60,down=0.3s",
                                       "--kill=server@updates=80,down=0.3s",
                                       "--kill=worker/1@updates=100,down=0.3s",
                                       "--kill=redis@updates=130,down=0.5s",
                                       "--kill=worker/0@updates=160,down=0.3s",
                                       "--checkpoint-every-updates=20",
                                       NULL};
    json_t *result = run_with("redis:", 2, "async", more);
    for (size_t i = 0; i < 7; i++) {
        const json_t *kill = json_array_get(json_object_get(result, "kills"), i);
        assert_true(json_is_true(json_object_get(kill, "happened")));
    }
    assert_verified(result);
    const json_t *shard = json_array_get(json_object_get(result, "log"), 0);
    assert_true(number(shard, "from") > 0); /* what lay before was trimmed */
    job_assert_nothing_runs();
    json_decref(result);
}

static void await_trimmed(const char *job, const char *log) {
    const char *argv[] = {"throughline", "log",           "ls", "--json",
                          job,           "--run=trimmed", log,  NULL};
    int64_t deadline_ms = test_now_ms() + 60000;
    double first = 0.0;
    while (first <= 1.0) {
        assert_true(test_now_ms() < deadline_ms);
        struct outcome o = program_run(60, argv);
        json_t *shards = o.exit_code == 0 ? json_loads(o.out, 0, NULL) : NULL;
        first = shards != NULL ? number(json_array_get(shards, 0), "first") : 0.0;
        json_decref(shards);
        outcome_done(&o);
    }
}

/* Of a run that goes on, again and again until once the checkpointer has trimmed the
 * log below the reader's feet: each time there is a verdict, and a good one. */
static void verified_while_the_log_is_trimmed(void **state) {
    (void)state;
    char job[PATH_MAX + 32];
    char ledgers[PATH_MAX + 32];
    char log[256];
    const char *out = scratch_path("trimmed");
    (void)snprintf(job, sizeof(job), "--job=%s/job.json", out);
    (void)snprintf(ledgers, sizeof(ledgers), "--ledgers=%s", out);
    (void)snprintf(log, sizeof(log), "--log=%s", redis.url);
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--json",
                          "--out",
                          out,
                          "--strategy=stateless",
                          log,
                          "--run=trimmed",
                          "--until=seconds=150",
                          "--optimizer-momentum=0",
                          "--checkpoint-every-updates=10",
                          NULL};
    const char *verify[] = {"throughline", "log",           "verify", "--json", job,
                            ledgers,       "--run=trimmed", log,      NULL};
    struct program run = program_start(argv);
    int64_t deadline_ms = test_now_ms() + 120000;
    unsigned verified = 0;
    double overtaken = 0.0;
    await_trimmed(job, log);
    while (overtaken == 0.0) {
        assert_true(test_now_ms() < deadline_ms);
        json_t *shards = program_json(60, verify);
        const json_t *shard = json_array_get(shards, 0);
        assert_true(json_is_true(json_object_get(shard, "same_bits")));
        assert_true(number(shard, "lost") == 0 && number(shard, "duplicated") == 0);
        assert_true(number(shard, "entries") > 0);
        overtaken += number(shard, "overtaken");
        verified++;
        json_decref(shards);
    }
    print_message("verified %u times, overtaken %.0f times\n", verified, overtaken);
    assert_int_equal(kill(run.pid, SIGINT), 0);
    struct outcome o = program_end(&run, 60);
    outcome_done(&o);
    job_assert_nothing_runs();
}

/* A log that is smaller than what lies between two checkpoints, and an outage that
 * fills it: checkpoints are taken as the log fills, workers wait, say why, and go on.
 */
static void a_small_log_fills_up_and_goes_on(void **state) {
    (void)state;
    static const char *const more[] = {"--kill=server@updates=60,down=2s",
                                       "--checkpoint-every-updates=100000",
                                       "--log-max-bytes=" SMALL_LOG, NULL};
    json_t *result = run_with("redis:", 1, "async", more);
    assert_true(json_is_true(json_object_get(
        json_array_get(json_object_get(result, "kills"), 0), "happened")));
    assert_verified(result);
    assert_true(number(result, "updates") > 3 * SMALL_LOG_GRADIENTS);
    char *said = job_worker_log(result);
    const char *full = strstr(said, "waits for the next one");
    assert_non_null(full);
    assert_non_null(strstr(full, "the wait is over"));
    free(said);
    json_decref(result);
}

static void a_log_too_small_for_the_job_is_refused(void **state) {
    (void)state;
    job_assert_refused("--strategy=stateless", "--log-max-bytes=1000000",
                       "\"log.max_bytes\" is 1000000");
    job_assert_refused("--strategy=stateless", "--log-max-bytes=1000000", "at least");
}

/* `checkpoint` loses what came after the checkpoint, and says how much; with a durable
 * log it replays that. Its workers wait for the server either way. */
static void a_checkpoint_is_resumed_or_replayed(void **state) {
    (void)state;
    static const char *const kinds[] = {"--recovery=resume", "--recovery=replay"};
    for (unsigned i = 0; i < 2; i++) {
        char run[32];
        (void)snprintf(run, sizeof(run), "--run=recovery-%u", i);
        json_t *result = job_run(
            scratch_path(kinds[i] + 2), 120, "--strategy=checkpoint", run, kinds[i],
            "--checkpoint-every-updates=100", "--optimizer-momentum=0",
            "--until=updates=1500", "--kill=server@updates=270,down=0.3s", NULL);
        const json_t *kill = job_assert_recovered(result, 0);
        if (i == 0) {
            assert_true(number(result, "lost") > 0);
            assert_null(json_object_get(result, "log"));
        } else {
            assert_verified(result);
            assert_true(number(kill, "resumed_from") >= 270);
        }
        json_decref(result);
    }
}

/* ---- the clock, and the broker ----------------------------------------------------
 */

/* The position that the run's next gradient will have. */
static int next_position(const char *run, int64_t within_ms, uint64_t *ret_next) {
    static struct tl_log *log;
    static char of[64];
    uint64_t first = 0;
    if (strcmp(of, run) != 0) {
        const struct tl_log_config config = {.url = kafka.url,
                                             .job = "fashion-mlp",
                                             .run = run,
                                             .identity = 1,
                                             .shards = 1,
                                             .workers = 2,
                                             .record_bytes = 1 << 20};
        tl_log_close(log);
        (void)snprintf(of, sizeof(of), "%s", run);
        assert_int_equal(tl_log_open(&config, &log), 0);
    }
    return tl_log_range(log, 0, tl_now_ms() + within_ms, &first, ret_next);
}

static void await_position(const char *run, uint64_t position) {
    int64_t deadline_ms = tl_now_ms() + 90000;
    uint64_t next = 0;
    while (next <= position) {
        int rc = next_position(run, 5000, &next);
        assert_true(rc == 0 || rc == TL_E_NOTFOUND || rc == TL_E_UNAVAILABLE);
        assert_true(tl_now_ms() < deadline_ms);
        test_redis_pause();
    }
}

static void assert_good_end(struct program *p) {
    struct outcome o = program_end(p, 180);
    if (o.exit_code != 0) {
        fail_msg("exit %d\n%s\n%s", o.exit_code, o.err, o.out);
    }
    json_t *result = json_loads(o.out, 0, NULL);
    assert_non_null(result);
    assert_verified(result);
    json_decref(result);
    outcome_done(&o);
}

/* Killed and back with its data; then there, and silent. Both in the middle of a run:
 * positions show it. */
static void the_broker_dies_and_is_not_reached(void **state) {
    (void)state;
    const char *seconds = getenv("TL_OUTAGE_SECONDS"); /* longer in `make soak` */
    int64_t silent_ms = INT64_C(1000) * (seconds != NULL ? atoi(seconds) : 5);
    char log[128];
    (void)snprintf(log, sizeof(log), "--log=%s", kafka.url);
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--json",
                          "--out",
                          scratch_path("broker"),
                          "--strategy=stateless",
                          log,
                          "--run=broker",
                          "--optimizer-momentum=0",
                          "--no-log-trim",
                          "--until=updates=900",
                          NULL};
    struct program p = program_start(argv);
    uint64_t next = 0;
    int status = 0;
    await_position("broker", 100);
    test_kafka_kill(&kafka);
    test_kafka_run(&kafka);
    await_position("broker", 300);
    assert_int_equal(kill(kafka.pid, SIGSTOP), 0);
    assert_int_equal(waitpid(kafka.pid, &status, WUNTRACED), kafka.pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(next_position("broker", silent_ms, &next), TL_E_UNAVAILABLE);
    assert_int_equal(kill(kafka.pid, SIGCONT), 0);
    assert_int_equal(next_position("broker", 60000, &next), 0);
    assert_true(next < 900); /* it was not over yet */
    assert_good_end(&p);
}

static void set_clock(const char *path, int64_t seconds) {
    FILE *f = fopen(path, "r+b");
    f = f != NULL ? f : fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&seconds, sizeof(seconds), 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* Everybody's but the broker's: an hour on, and two back. */
static void the_clock_jumps(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* nothing may be loaded before the sanitizer */
#endif
    char clock[PATH_MAX];
    char log[128];
    (void)snprintf(clock, sizeof(clock), "%s", scratch_path("clock"));
    (void)snprintf(log, sizeof(log), "--log=%s", kafka.url);
    set_clock(clock, 0);
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--json",
                          "--out",
                          scratch_path("clock-jumps"),
                          "--strategy=stateless",
                          log,
                          "--run=clock",
                          "--optimizer-momentum=0",
                          "--no-log-trim",
                          "--kill=server@updates=250,down=0.2s",
                          "--until=updates=700",
                          NULL};
    (void)setenv("TL_TEST_CLOCK", clock, 1);
    (void)setenv("LD_PRELOAD", TL_CLOCK_JUMP, 1);
    struct program p = program_start(argv);
    (void)unsetenv("LD_PRELOAD");
    (void)unsetenv("TL_TEST_CLOCK");
    await_position("clock", 100);
    set_clock(clock, 3600);
    await_position("clock", 350);
    set_clock(clock, -3600);
    uint64_t next = 0;
    assert_int_equal(next_position("clock", 5000, &next), 0);
    assert_true(next < 700);
    assert_good_end(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_on_redis_streams),
        cmocka_unit_test(killed_on_kafka),
        cmocka_unit_test(everybody_else_dies_too),
        cmocka_unit_test(verified_while_the_log_is_trimmed),
        cmocka_unit_test(a_small_log_fills_up_and_goes_on),
        cmocka_unit_test(a_log_too_small_for_the_job_is_refused),
        cmocka_unit_test(a_checkpoint_is_resumed_or_replayed),
        cmocka_unit_test(the_clock_jumps),
        cmocka_unit_test(the_broker_dies_and_is_not_reached),
    };
    cmocka_set_test_filter(getenv("TL_TEST_ONLY"));
    return cmocka_run_group_tests_name("stateless", tests, setup, teardown);
}
