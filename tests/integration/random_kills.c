/* SIGKILL of every service at random moments, 20 times each: no deadlock, no torn
 * snapshot, losses counted exactly. TL_TEST_SEED repeats a run. */
#include "throughline/data.h"

#include "job_run.h"

#define ROUNDS        5
#define KILLS_A_ROUND 4 /* of each service */

static const char *const victims[] = {"server",       "worker/0", "worker/1",
                                      "checkpointer", "monitor",  "redis"};
#define VICTIMS (sizeof(victims) / sizeof(victims[0]))

static uint64_t first_seed(void) {
    const char *text = getenv("TL_TEST_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : (uint64_t)test_now_ms();
}

static void one_round(uint64_t seed, const char *consistency) {
    print_message("seed %llu, %s\n", (unsigned long long)seed, consistency);
    char kills[VICTIMS * KILLS_A_ROUND][64];
    char mode[64];
    char name[64];
    (void)snprintf(mode, sizeof(mode), "--consistency=%s", consistency);
    (void)snprintf(name, sizeof(name), "round-%llu", (unsigned long long)seed);
    const char *argv[PROGRAM_ARGS_MAX] = {"throughline",
                                          "run",
                                          JOB_MLP,
                                          "--json",
                                          "--out",
                                          scratch_path(name),
                                          mode,
                                          "--until=seconds=25",
                                          "--checkpoint-every-updates=50",
                                          "--membership-lease-ms=1000"};
    size_t n = 10;
    uint64_t state = seed;
    for (size_t i = 0; i < VICTIMS * KILLS_A_ROUND; i++) {
        /* Each victim dies once in each quarter, at a moment of its own. */
        size_t quarter = i / VICTIMS;
        double at = 1.0 + 5.0 * (double)quarter + 3.5 * (double)tl_random_unit(&state);
        (void)snprintf(kills[i], sizeof(kills[i]), "--kill=%s@seconds=%.2f,down=0.3s",
                       victims[i % VICTIMS], at);
        argv[n++] = kills[i];
    }
    json_t *result = program_json(120, argv);
    for (size_t i = 0; i < VICTIMS * KILLS_A_ROUND; i++) {
        const json_t *kill = json_array_get(json_object_get(result, "kills"), i);
        assert_true(json_is_true(json_object_get(kill, "happened")));
    }
    assert_true(number(result, "updates") > 0);
    assert_true(job_assert_versions_rise(result, "server/0") > 2);
    job_assert_losses_exact(result, 2);
    job_assert_snapshots_valid(result);
    job_assert_nothing_runs();
    json_decref(result);
}

static void every_service_dies_twenty_times(void **state) {
    (void)state;
    static const char *const modes[] = {"async", "sync", "ssp"};
    uint64_t seed = first_seed();
    for (unsigned i = 0; i < ROUNDS; i++) {
        one_round(seed + i, modes[i % 3]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_service_dies_twenty_times)};
    return cmocka_run_group_tests_name("random_kills", tests, scratch_setup,
                                       scratch_teardown);
}
