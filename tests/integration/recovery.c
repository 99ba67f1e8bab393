/* Jobs that lose a service to SIGKILL and go on: real processes, real Redis, real data.
 */
#include "job_run.h"

static void assert_survived_two_server_kills(const json_t *result) {
    assert_true(number(result, "updates") >= 4000);
    for (size_t i = 0; i < 2; i++) {
        const json_t *kill = job_assert_recovered(result, i);
        /* The failure was one: the server went on from an older version. */
        assert_true(number(kill, "resumed_from") > 0);
        assert_true(number(kill, "resumed_from") <= number(kill, "version"));
    }
    assert_true(number(result, "accuracy") > 0.7);
    assert_true(job_assert_versions_rise(result, "server/0") > 1);
    job_assert_losses_exact(result, 2);
    job_assert_snapshots_valid(result);
    job_assert_nothing_runs();
}

/* Who waits for longer than 2 s says for whom, and that it is over. */
static void assert_worker_told_its_wait(const json_t *result) {
    char *said = job_worker_log(result);
    const char *waiting = strstr(said, "msg=waiting why=\"shard 0, epoch 2: ");
    assert_non_null(waiting);
    assert_non_null(strstr(waiting, "the wait is over"));
    free(said);
}

static void async_checkpointing(void **state) {
    (void)state;
    json_t *result = job_run(scratch_path("async"), 120, "--monitor-every-seconds=0.3",
                             "--until=updates=4000", "--checkpoint-every-updates=100",
                             "--kill=server@updates=1500,down=1s",
                             "--kill=server@updates=3000,down=3s", NULL);
    assert_survived_two_server_kills(result);
    assert_worker_told_its_wait(result);
    json_decref(result);
}

/* Each shard goes back to a snapshot of its own. */
static void async_with_two_shards(void **state) {
    (void)state;
    json_t *result =
        job_run(scratch_path("two"), 120, "--monitor-every-seconds=0.3",
                "--until=updates=3000", "--shards=2", "--checkpoint-every-updates=100",
                "--kill=server/0@updates=1000,down=0.5s",
                "--kill=server/1@updates=2000,down=0.5s", NULL);
    (void)job_assert_recovered(result, 0);
    (void)job_assert_recovered(result, 1);
    assert_true(number(result, "lost") > 0);
    job_assert_shards_exact(result, 2);
    job_assert_snapshots_valid(result);
    json_decref(result);
}

static void sync_checkpointing(void **state) {
    (void)state;
    json_t *result =
        job_run(scratch_path("sync"), 120, "--monitor-every-seconds=0.3",
                "--until=updates=4000", "--consistency=sync",
                "--checkpoint-every-updates=100", "--kill=server@updates=1500,down=1s",
                "--kill=server@updates=3000,down=1s", NULL);
    assert_survived_two_server_kills(result);
    json_decref(result);
}

static void ssp_with_three_shards(void **state) {
    (void)state;
    json_t *result =
        job_run(scratch_path("ssp"), 120, "--until=updates=600", "--consistency=ssp",
                "--shards=3", "--checkpoint-every-updates=50",
                "--kill=server/1@updates=300,down=1s", NULL);
    (void)job_assert_recovered(result, 0);
    assert_true(number(result, "accuracy") > 0.7);
    job_assert_snapshots_valid(result);
    json_decref(result);
    job_assert_nothing_runs();
}

static void without_checkpoints_all_is_lost_and_counted(void **state) {
    (void)state;
    json_t *result =
        job_run(scratch_path("none"), 120, "--until=updates=400", "--strategy=none",
                "--kill=server@updates=200,down=1s", NULL);
    const json_t *kill = job_assert_recovered(result, 0);
    /* The first version seen after it began anew. */
    assert_true(number(kill, "resumed_from") < number(kill, "version"));
    assert_true(number(result, "lost") >= 200);
    job_assert_losses_exact(result, 2);
    json_decref(result);
}

static void a_dead_worker_does_not_stop_a_sync_job(void **state) {
    (void)state;
    /* Down for longer than its lease: the other goes on alone, then with it again. */
    json_t *result = job_run(scratch_path("worker"), 120, "--until=seconds=10",
                             "--consistency=sync", "--membership-lease-ms=1000",
                             "--kill=worker/1@updates=200,down=3s", NULL);
    (void)job_assert_recovered(result, 0);
    assert_true(number(result, "lost") == 0);
    job_assert_losses_exact(result, 2);
    json_decref(result);
}

/* A shard without its snapshots starts over while a worker is being replaced: the
 * others are at step 15 here and at step 0 there, and nobody may wait for who waits for
 * him. */
static void shards_that_are_far_apart_do_not_stand_still(void **state) {
    (void)state;
    for (int round = 0; round < 3; round++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "apart-%d", round);
        json_t *result =
            job_run(scratch_path(name), 60, "--until=updates=150", "--consistency=sync",
                    "--shards=2", "--workers=3", "--strategy=none",
                    "--worker-patience-ms=20000", "--membership-lease-ms=1000",
                    "--kill=server/1@updates=15,down=300ms",
                    "--kill=worker/1@updates=16", NULL);
        (void)job_assert_recovered(result, 0);
        json_decref(result);
    }
}

static void losing_a_helper_is_not_losing_the_job(void **state) {
    (void)state;
    json_t *result = job_run(scratch_path("helpers"), 120, "--until=seconds=12",
                             "--kill=redis@seconds=1,down=1s",
                             "--kill=checkpointer@seconds=3,down=1s",
                             "--kill=monitor@seconds=5,down=1s", NULL);
    for (size_t i = 0; i < 3; i++) {
        (void)job_assert_recovered(result, i);
    }
    assert_true(number(result, "lost") == 0);
    assert_true(number(result, "updates") > 100);
    job_assert_losses_exact(result, 2);
    job_assert_snapshots_valid(result);
    json_decref(result);
}

/* The server dies when it has its last version and nobody, or somebody, or everybody
 * knows: the job ends with that version all the same. Now and then the end is faster
 * than the kill; the run says so. */
static void a_death_at_the_end_is_like_any_other(void **state) {
    (void)state;
    int kills = 0;
    for (int round = 0; round < 6; round++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "end-%d", round);
        const char *out = scratch_path(name);
        const char *argv[] = {"throughline",
                              "run",
                              JOB_MLP,
                              "--json",
                              "--out",
                              out,
                              "--until=updates=600",
                              "--checkpoint-every-updates=50",
                              "--kill=server@updates=590",
                              NULL};
        struct program p = program_start(argv);
        struct outcome o = program_end(&p, 60);
        json_t *result = json_loads(o.out, 0, NULL);
        bool was_killed = o.exit_code == 0;
        if (!was_killed && strstr(o.err, "never happened") == NULL) {
            fail_msg("%s", o.err);
        }
        assert_non_null(result);
        assert_true(number(result, "updates") >= 600);
        job_assert_losses_exact(result, 2);
        kills += was_killed ? 1 : 0;
        json_decref(result);
        outcome_done(&o);
    }
    assert_true(kills > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(async_checkpointing),
        cmocka_unit_test(async_with_two_shards),
        cmocka_unit_test(sync_checkpointing),
        cmocka_unit_test(ssp_with_three_shards),
        cmocka_unit_test(without_checkpoints_all_is_lost_and_counted),
        cmocka_unit_test(a_dead_worker_does_not_stop_a_sync_job),
        cmocka_unit_test(shards_that_are_far_apart_do_not_stand_still),
        cmocka_unit_test(losing_a_helper_is_not_losing_the_job),
        cmocka_unit_test(a_death_at_the_end_is_like_any_other),
    };
    return cmocka_run_group_tests_name("recovery", tests, scratch_setup,
                                       scratch_teardown);
}
