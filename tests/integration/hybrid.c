/* Standbys on a durable log: whoever serves is SIGKILLed at random moments, again and
 * again, and the next one serves what was acknowledged; `throughline log verify` folds
 * the log again after each run. TL_TEST_SEED repeats a run. */
#include "throughline/data.h"

#include "job_run.h"

#define KILLS  4
#define EACH_S 1.0
#define REST_S                                                                         \
    10.0 /* for takeovers on a slow machine: a kill waits until one serves             \
          */

static uint64_t seed_of_run(void) {
    const char *text = getenv("TL_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)test_now_ms();
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static json_t *run_with_kills(const char *consistency, unsigned shards,
                              unsigned standbys) {
    char kills[KILLS][64];
    char mode[64];
    char cut[32];
    char beside[32];
    char until[32];
    uint64_t state = seed_of_run();
    (void)snprintf(mode, sizeof(mode), "--consistency=%s", consistency);
    (void)snprintf(cut, sizeof(cut), "--shards=%u", shards);
    (void)snprintf(beside, sizeof(beside), "--standbys=%u", standbys);
    (void)snprintf(until, sizeof(until), "--until=seconds=%.0f",
                   EACH_S * KILLS + REST_S);
    const char *argv[PROGRAM_ARGS_MAX] = {"throughline",
                                          "run",
                                          JOB_MLP,
                                          "--json",
                                          "--out",
                                          scratch_path(consistency),
                                          "--strategy=hybrid",
                                          mode,
                                          cut,
                                          beside,
                                          until,
                                          "--optimizer-momentum=0",
                                          "--checkpoint-every-updates=50",
                                          "--worker-ledger-sync"};
    for (unsigned i = 0; i < KILLS; i++) {
        double at = EACH_S * (0.8 + (double)i + 0.9 * (double)tl_random_unit(&state));
        unsigned shard = (unsigned)(tl_random_unit(&state) * (float)shards) % shards;
        (void)snprintf(kills[i], sizeof(kills[i]),
                       "--kill=server/%u@seconds=%.2f,down=0.2s", shard, at);
        argv[14 + i] = kills[i];
    }
    return program_json(120, argv);
}

static void assert_nothing_lost(const json_t *result, unsigned shards) {
    size_t i = 0;
    const json_t *shard = NULL;
    if (!json_is_true(json_object_get(result, "log_verified"))) {
        char *text = json_dumps(result, JSON_INDENT(1));
        fail_msg("the log is not what it should be:\n%s", text);
        free(text);
    }
    assert_int_equal(json_array_size(json_object_get(result, "log")), shards);
    json_array_foreach(json_object_get(result, "log"), i, shard) {
        assert_true(json_is_true(json_object_get(shard, "has_checkpoint")));
        assert_true(json_is_true(json_object_get(shard, "same_bits")));
        assert_true(number(shard, "folded") > 0);
        assert_true(number(shard, "lost") == 0);
        assert_true(number(shard, "duplicated") == 0);
    }
    for (i = 0; i < KILLS; i++) {
        const json_t *kill = json_array_get(json_object_get(result, "kills"), i);
        assert_true(json_is_true(json_object_get(kill, "happened")));
    }
    assert_true(job_acknowledged(result, 0) > 0 && job_acknowledged(result, 1) > 0);
    job_assert_nothing_runs();
}

static void the_next_one_serves(void **state) {
    (void)state;
    json_t *result = run_with_kills("async", 1, 2);
    assert_nothing_lost(result, 1);
    json_decref(result);
}

static void also_in_step_and_of_each_shard(void **state) {
    (void)state;
    json_t *result = run_with_kills("sync", 2, 1);
    assert_nothing_lost(result, 2);
    json_decref(result);
}

/* The bytes that each process beside the server has sent, in the last sample that has
 * it stand by. */
static double sent_by_standbys(const json_t *line, double before) {
    double sent = 0.0;
    size_t i = 0;
    const json_t *process = NULL;
    json_array_foreach(json_object_get(line, "processes"), i, process) {
        const char *position = json_string_value(json_object_get(process, "position"));
        if (position != NULL && strcmp(position, "standby") == 0) {
            sent += number(process, "sent_bytes");
        }
    }
    return sent > 0.0 ? sent : before;
}

/* Workers never ask a standby: what it sends goes to the monitor. */
static void a_standby_is_read_by_the_monitor(void **state) {
    (void)state;
    json_t *result =
        job_run(scratch_path("read"), 60, "--strategy=hybrid", "--standbys=1",
                "--shards=2", "--until=updates=600", "--monitor-every-seconds=0.2",
                "--monitor-examples=200", NULL);
    FILE *f = job_timeline(result);
    static char text[1 << 16];
    double sent = 0.0, version = 0.0, scored = 0.0;
    while (fgets(text, sizeof(text), f) != NULL) {
        json_t *line = json_loads(text, 0, NULL);
        sent = sent_by_standbys(line, sent);
        if (json_is_number(json_object_get(line, "accuracy"))) {
            assert_true(number(line, "version") >= version);
            version = number(line, "version");
            scored++;
        }
        json_decref(line);
    }
    (void)fclose(f);
    /* 235,146 parameters, at least twice; the last time is the server's. */
    assert_true(scored >= 3.0);
    assert_true(sent > 2.0 * 235146.0 * sizeof(float));
    assert_true(version == 600.0);
    json_decref(result);
}

static void what_cannot_be_killed_is_named(void **state) {
    (void)state;
    job_assert_refused("--strategy=hybrid", "--kill=middle@updates=10",
                       "standbys are in no row");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_one_serves),
        cmocka_unit_test(also_in_step_and_of_each_shard),
        cmocka_unit_test(a_standby_is_read_by_the_monitor),
        cmocka_unit_test(what_cannot_be_killed_is_named),
    };
    return cmocka_run_group_tests_name("hybrid", tests, scratch_setup,
                                       scratch_teardown);
}
