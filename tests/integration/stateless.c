/* The stateless server: SIGKILLed 32 times at random moments on Redis Streams and as
 * often on Kafka, with one shard and three, sync and async. After each run the log is
 * folded again by the program, and read by this one: what the workers' ledgers say was
 * acknowledged is there, in every shard's log. TL_TEST_SEED repeats a run. */
#include "throughline/data.h"

#include "job_run.h"
#include "kafka.h"

#define KILLS  8   /* a round */
#define EACH   25  /* sync: updates between two of them, about */
#define EACH_S 1.5 /* async, where what piled up comes at once: seconds */

static struct test_redis redis;
static struct test_kafka kafka;
static unsigned rounds;

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

/* Every gradient in the log, by shard, worker and sequence. */
static void read_log(const json_t *result, const char *url, unsigned shards) {
    char job[PATH_MAX + 32];
    memset(present, 0, sizeof(present));
    (void)snprintf(job, sizeof(job), "--job=%s/job.json",
                   json_string_value(json_object_get(result, "out")));
    for (unsigned s = 0; s < shards; s++) {
        char run[128];
        char log[256];
        char shard[32];
        (void)snprintf(run, sizeof(run), "--run=%s",
                       json_string_value(json_object_get(result, "run")));
        (void)snprintf(log, sizeof(log), "--log=%s", url);
        (void)snprintf(shard, sizeof(shard), "--shard=%u", s);
        const char *argv[] = {"throughline", "log", "tail", "--count=0", "--json",
                              job,           run,   log,    shard,       NULL};
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
                                          "--membership-lease-ms=1000"};
    size_t n = 15;
    while (*more != NULL) {
        assert_true(n < PROGRAM_ARGS_MAX - 1);
        argv[n++] = *more++;
    }
    return program_json(300, argv);
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
    }
    assert_true(number(result, "updates") > 0);
    (void)job_assert_versions_rise(result, "server/0");
    assert_verified(result);
    assert_acknowledged_is_there(result, url, shards);
    job_assert_nothing_runs();
    json_decref(result);
}

static void all_rounds(const char *url) {
    one_round(url, 1, "async");
    one_round(url, 1, "sync");
    one_round(url, 3, "async");
    one_round(url, 3, "sync");
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

/* ---- the broker itself
 * --------------------------------------------------------------- */

static struct program start_on_kafka(const char *name) {
    static char log[128];
    static char run[64];
    (void)snprintf(log, sizeof(log), "--log=%s", kafka.url);
    (void)snprintf(run, sizeof(run), "--run=%s", name);
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--json",
                          "--out",
                          scratch_path(name),
                          "--strategy=stateless",
                          log,
                          run,
                          "--optimizer-momentum=0",
                          "--until=seconds=25",
                          NULL};
    return program_start(argv);
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

static void sleep_ms(int64_t ms) {
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static void the_broker_is_killed_and_comes_back(void **state) {
    (void)state;
    struct program p = start_on_kafka("broker-killed");
    sleep_ms(5000);
    test_kafka_kill(&kafka);
    test_kafka_run(&kafka);
    assert_good_end(&p);
}

static void the_broker_is_not_reached_for_a_while(void **state) {
    (void)state;
    struct program p = start_on_kafka("broker-stopped");
    sleep_ms(4000);
    assert_int_equal(kill(kafka.pid, SIGSTOP), 0);
    sleep_ms(8000);
    assert_int_equal(kill(kafka.pid, SIGCONT), 0);
    assert_good_end(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_on_redis_streams),
        cmocka_unit_test(killed_on_kafka),
        cmocka_unit_test(everybody_else_dies_too),
        cmocka_unit_test(the_broker_is_killed_and_comes_back),
        cmocka_unit_test(the_broker_is_not_reached_for_a_while),
    };
    return cmocka_run_group_tests_name("stateless", tests, setup, teardown);
}
