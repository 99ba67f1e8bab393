/* sync: one declared set commits each step once. ssp: nobody runs ahead of the bound.
 */
#include "fold_rig.h"
#include "test.h"

/* Weight 0, rate 1: the weight is minus the sum of what was folded. */
static struct tl_fold *new_fold(struct tl_fold_config config) {
    const float zero = 0.0f;
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, &zero, &f), 0);
    return f;
}

static struct tl_fold_config sync_config(void) {
    struct tl_fold_config config = rig_config(1);
    config.consistency = TL_SYNC;
    return config;
}

static void join(struct tl_fold *f, uint32_t worker, uint64_t step) {
    assert_int_equal(rig_join(f, worker, 1, 0, step), 0);
}

static struct tl_fold *new_sync(struct tl_fold_config config, uint32_t workers) {
    struct tl_fold *f = new_fold(config);
    for (uint32_t w = 0; w < workers; w++) {
        join(f, w, 0);
    }
    return f;
}

/* Worker's next batch, of one value, for `step`. */
static int push(struct tl_fold *f, uint32_t worker, uint64_t step, float value) {
    return rig_push(f, worker, rig_worker(f, worker).sequence + 1, step, &value);
}

static void push_ok(struct tl_fold *f, uint32_t worker, uint64_t step, float value,
                    bool advances) {
    assert_int_equal(push(f, worker, step, value), 0);
    assert_int_equal(rig_effect.advanced, advances);
}

static void a_step_is_the_mean(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 3);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 2, 0, 2.0f, false);
    assert_int_equal(tl_fold_version(f), 0);
    assert_true(rig_weight(f) == 0.0f);
    push_ok(f, 1, 0, 6.0f, true);
    assert_int_equal(tl_fold_version(f), 1);
    assert_true(rig_weight(f) == -3.0f);
    push_ok(f, 1, 1, 3.0f, false);
    push_ok(f, 0, 1, 3.0f, false);
    push_ok(f, 2, 1, 3.0f, true);
    assert_true(rig_weight(f) == -6.0f);
    assert_int_equal(tl_fold_counters(f).folded, 6);
    tl_fold_free(f);
}

static void a_step_is_the_sum(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.reduce = TL_REDUCE_SUM;
    struct tl_fold *f = new_sync(config, 2);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 1, 0, 2.0f, true);
    assert_true(rig_weight(f) == -3.0f);
    tl_fold_free(f);
}

/* Each contribution is clipped, not their sum. */
static void contributions_are_clipped_one_by_one(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.reduce = TL_REDUCE_SUM;
    config.clip_value = 2.0;
    struct tl_fold *f = new_sync(config, 3);
    push_ok(f, 0, 0, 9.0f, false);
    push_ok(f, 1, 0, 1.0f, false);
    push_ok(f, 2, 0, 9.0f, true);
    assert_true(rig_weight(f) == -5.0f);
    tl_fold_free(f);
}

static void a_worker_contributes_once(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(push(f, 0, 0, 5.0f), TL_E_STALE);
    const float other = 5.0f;
    assert_int_equal(rig_push(f, 0, 1, 0, &other), TL_E_DUPLICATE);
    push_ok(f, 1, 0, 1.0f, true);
    assert_true(rig_weight(f) == -1.0f);
    push_ok(f, 0, 1, 1.0f, false); /* the batch refused before is computed again */
    assert_int_equal(rig_worker(f, 0).sequence, 2);
    tl_fold_free(f);
}

static void from_the_future(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 1);
    assert_int_equal(push(f, 0, 1, 1.0f), TL_E_STALE);
    assert_int_equal(push(f, 0, UINT64_MAX, 1.0f), TL_E_STALE);
    assert_int_equal(tl_fold_counters(f).stale, 2);
    assert_int_equal(rig_worker(f, 0).sequence, 0); /* may be computed again */
    push_ok(f, 0, 0, 1.0f, true);
    tl_fold_free(f);
}

static void a_quorum_commits(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.quorum = 2;
    struct tl_fold *f = new_sync(config, 3);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 1, 0, 3.0f, true);
    assert_true(rig_weight(f) == -2.0f);
    assert_int_equal(push(f, 2, 0, 9.0f), TL_E_LATE);
    assert_int_equal(tl_fold_counters(f).late, 1);
    assert_int_equal(rig_worker(f, 2).sequence, 1); /* decided for good */
    assert_true(rig_weight(f) == -2.0f);
    push_ok(f, 2, 1, 1.0f, false);
    push_ok(f, 0, 1, 1.0f, true);
    /* Fewer than the quorum are left: all of them commit. */
    assert_int_equal(rig_leave(f, 0, 1, 2), 0);
    assert_int_equal(rig_leave(f, 1, 1, 2), 0);
    push_ok(f, 2, 2, 1.0f, true);
    tl_fold_free(f);
}

static void the_start_waits_for_workers(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.start_workers = 3;
    struct tl_fold *f = new_sync(config, 2);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 1, 0, 1.0f, false);
    assert_int_equal(tl_fold_version(f), 0);
    join(f, 2, 0);
    assert_false(rig_effect.advanced);
    push_ok(f, 2, 0, 4.0f, true);
    assert_true(rig_weight(f) == -2.0f);
    tl_fold_free(f);
}

/* The last worker to join starts one step later: its joining completes the first. */
static void joining_completes_the_start(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.start_workers = 2;
    struct tl_fold *f = new_sync(config, 1);
    push_ok(f, 0, 0, 1.0f, false);
    join(f, 1, 1);
    assert_true(rig_effect.advanced);
    assert_int_equal(tl_fold_version(f), 1);
    assert_true(rig_weight(f) == -1.0f);
    push_ok(f, 0, 1, 1.0f, false);
    push_ok(f, 1, 1, 1.0f, true);
    tl_fold_free(f);
}

static void a_joiner_waits_for_its_step(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 1);
    join(f, 1, 2);
    assert_int_equal(push(f, 1, 0, 9.0f), TL_E_NOTJOINED);
    assert_int_equal(rig_worker(f, 1).sequence, 0);
    push_ok(f, 0, 0, 1.0f, true);
    push_ok(f, 0, 1, 1.0f, true);
    push_ok(f, 0, 2, 1.0f, false);
    push_ok(f, 1, 2, 3.0f, true);
    assert_true(rig_weight(f) == -4.0f);
    join(f, 2, 0); /* a step of the past: the open one */
    assert_int_equal(rig_worker(f, 2).from_step, 3);
    tl_fold_free(f);
}

static void a_death_completes_the_step(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 3);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 1, 0, 3.0f, false);
    assert_int_equal(rig_leave(f, 2, 1, 1), 0); /* it owed a part of step 0 */
    assert_true(rig_effect.advanced);
    assert_int_equal(tl_fold_version(f), 1);
    assert_true(rig_weight(f) == -2.0f);
    assert_int_equal(tl_fold_counters(f).missing, 1);
    push_ok(f, 0, 1, 1.0f, false);
    push_ok(f, 1, 1, 1.0f, true);
    assert_int_equal(tl_fold_counters(f).missing, 1);
    tl_fold_free(f);
}

static void leaving_before_a_step_owes_nothing(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    assert_int_equal(rig_leave(f, 1, 1, 0), 0);
    assert_false(rig_effect.advanced);
    assert_int_equal(tl_fold_counters(f).missing, 0);
    push_ok(f, 0, 0, 1.0f, true);
    tl_fold_free(f);
}

/* Who leaves in the middle of a step after contributing stays in the mean. */
static void a_part_outlives_its_worker(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_leave(f, 0, 1, 1), 0);
    assert_false(rig_effect.advanced);
    push_ok(f, 1, 0, 3.0f, true);
    assert_true(rig_weight(f) == -2.0f);
    assert_int_equal(tl_fold_counters(f).missing, 0);
    push_ok(f, 1, 1, 3.0f, true);
    assert_true(rig_weight(f) == -5.0f); /* nothing of the step before in it */
    tl_fold_free(f);
}

static void the_last_part_commits_when_all_have_left(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_leave(f, 0, 1, 1), 0);
    assert_int_equal(rig_leave(f, 1, 1, 1), 0);
    assert_true(rig_effect.advanced);
    assert_true(rig_weight(f) == -1.0f);
    assert_int_equal(rig_leave(f, 1, 1, 2), 0); /* an empty step commits nothing */
    assert_int_equal(tl_fold_version(f), 1);
    tl_fold_free(f);
}

/* A worker that contributed, died and came back does so again from the next step. */
static void a_part_is_not_given_twice(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_join(f, 0, 1, 1, 0), 0);
    assert_int_equal(rig_worker(f, 0).from_step, 1);
    push_ok(f, 1, 0, 3.0f, true);
    assert_true(rig_weight(f) == -2.0f);
    push_ok(f, 0, 1, 1.0f, false);
    push_ok(f, 1, 1, 1.0f, true);
    tl_fold_free(f);
}

/* One that had not contributed is still awaited, whatever step it names. */
static void a_place_in_the_step_is_kept(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_join(f, 1, 1, 0, 1), 0);
    assert_false(rig_effect.advanced);
    push_ok(f, 1, 0, 3.0f, true);
    assert_true(rig_weight(f) == -2.0f);
    tl_fold_free(f);
}

/* A part that was given up can be had after all while the step is open. */
static void a_worker_that_is_back_in_time_is_not_missed(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 3);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_leave(f, 2, 1, 1), 0);
    assert_int_equal(tl_fold_counters(f).missing, 1);
    join(f, 2, 0);
    assert_int_equal(rig_worker(f, 2).from_step, 0);
    assert_int_equal(tl_fold_counters(f).missing, 0);
    push_ok(f, 2, 0, 8.0f, false);
    push_ok(f, 1, 0, 3.0f, true);
    assert_true(rig_weight(f) == -4.0f);
    tl_fold_free(f);
}

/* However far away the step that a LEAVE names, only the open one is given up. */
static void leaving_locks_nobody_out(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 2);
    push_ok(f, 0, 0, 1.0f, false);
    assert_int_equal(rig_leave(f, 1, 1, UINT64_MAX), 0);
    assert_int_equal(tl_fold_counters(f).missing, 1);
    assert_int_equal(tl_fold_version(f), 1);
    join(f, 1, 0);
    assert_int_equal(rig_worker(f, 1).from_step, 1);
    assert_int_equal(tl_fold_counters(f).missing, 1);
    tl_fold_free(f);
}

static void the_end_of_sync(void **state) {
    (void)state;
    struct tl_fold_config config = sync_config();
    config.until_version = 1;
    struct tl_fold *f = new_sync(config, 2);
    push_ok(f, 0, 0, 1.0f, false);
    push_ok(f, 1, 0, 1.0f, true);
    assert_int_equal(push(f, 0, 1, 1.0f), TL_E_ENDED);
    assert_int_equal(rig_leave(f, 0, 1, 1), 0);
    assert_int_equal(tl_fold_version(f), 1);
    tl_fold_free(f);
}

/* The fused commit of a step of many blocks equals the mean element by element. */
static void a_step_of_many_blocks(void **state) {
    (void)state;
    enum { WORKERS = 3 };
    const size_t count = 2 * TL_BLOCK_FLOATS + 2051;
    struct tl_fold_config config = sync_config();
    config.count = count;
    struct tl_fold *f = rig_new(&config, 1);
    float *g[WORKERS], *before = rig_floats(count, 1), *after = rig_floats(count, 2);
    for (uint32_t w = 0; w < WORKERS; w++) {
        g[w] = rig_floats(count, 10 + w);
        join(f, w, 0);
    }
    for (uint32_t w = 0; w < WORKERS; w++) {
        assert_int_equal(rig_push(f, w, 1, 0, g[w]), 0);
    }
    rig_weights(f, after);
    for (size_t i = 0; i < count; i++) {
        volatile float two = g[0][i] + g[1][i];
        volatile float sum = two + g[2][i];
        volatile float mean = sum / (float)WORKERS;
        assert_true(after[i] == before[i] - mean);
    }
    for (uint32_t w = 0; w < WORKERS; w++) {
        free(g[w]);
    }
    free(before);
    free(after);
    tl_fold_free(f);
}

/* ---- ssp ------------------------------------------------------------------------ */

static struct tl_fold_config ssp_config(uint64_t staleness) {
    struct tl_fold_config config = rig_config(1);
    config.consistency = TL_SSP;
    config.staleness = staleness;
    return config;
}

static void ssp_waits_for_the_slowest(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(ssp_config(2), 2);
    for (int i = 0; i < 3; i++) {
        assert_true(tl_fold_may_read(f, 0));
        push_ok(f, 0, 0, 1.0f, true);
    }
    assert_false(tl_fold_may_read(f, 0));
    assert_int_equal(push(f, 0, 0, 1.0f), TL_E_STALE);
    assert_int_equal(tl_fold_counters(f).stale, 1);
    assert_true(tl_fold_may_read(f, 1));
    push_ok(f, 1, 0, 1.0f, true);
    assert_true(tl_fold_may_read(f, 0));
    push_ok(f, 0, 0, 1.0f, true);
    assert_false(tl_fold_may_read(f, 0));
    assert_int_equal(rig_leave(f, 1, 1, 0), 0); /* the slowest leaves */
    assert_true(tl_fold_may_read(f, 0));
    tl_fold_free(f);
}

/* A newcomer starts level with the slowest, else everybody would wait for it to make up
 * for all that it never saw. */
static void ssp_newcomers_hold_nobody_back(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(ssp_config(1), 2);
    for (int i = 0; i < 50; i++) {
        push_ok(f, 0, 0, 1.0f, true);
        push_ok(f, 1, 0, 1.0f, true);
    }
    join(f, 2, 0);
    assert_true(tl_fold_may_read(f, 0));
    push_ok(f, 0, 0, 1.0f, true);
    push_ok(f, 0, 0, 1.0f, true);
    assert_false(tl_fold_may_read(f, 0));
    push_ok(f, 1, 0, 1.0f, true);
    assert_false(tl_fold_may_read(f, 0)); /* 2 counts now */
    push_ok(f, 2, 0, 1.0f, true);
    assert_true(tl_fold_may_read(f, 0));
    tl_fold_free(f);
}

static void ssp_start(void **state) {
    (void)state;
    struct tl_fold_config config = ssp_config(5);
    config.start_workers = 2;
    struct tl_fold *f = new_sync(config, 1);
    assert_false(tl_fold_may_read(f, 0));
    assert_int_equal(push(f, 0, 0, 1.0f), TL_E_STALE);
    assert_int_equal(tl_fold_version(f), 0);
    join(f, 1, 0);
    assert_true(tl_fold_may_read(f, 0));
    push_ok(f, 0, 0, 1.0f, true);
    tl_fold_free(f);
}

static void only_ssp_holds_readers_back(void **state) {
    (void)state;
    struct tl_fold *f = new_sync(sync_config(), 1);
    assert_true(tl_fold_may_read(f, 0));
    assert_true(tl_fold_may_read(f, 77));
    assert_true(tl_fold_may_read(f, UINT32_MAX));
    tl_fold_free(f);
    f = new_sync(ssp_config(0), 2);
    push_ok(f, 0, 0, 1.0f, true);
    assert_false(tl_fold_may_read(f, 0));
    assert_true(tl_fold_may_read(f, UINT32_MAX)); /* an observer */
    assert_int_equal(rig_leave(f, 0, 1, 0), 0);
    assert_true(tl_fold_may_read(f, 0));
    tl_fold_free(f);
}

/* Random workers, joining and leaving: at no time is an active one further ahead of
 * another than the bound and the gradient that the bound let it begin. */
static void ssp_bound_holds_always(void **state) {
    (void)state;
    enum { WORKERS = 5, BOUND = 3 };
    uint64_t seed = 42, refused = 0, folded = 0;
    struct tl_fold *f = new_sync(ssp_config(BOUND), WORKERS);
    for (int i = 0; i < 20000; i++) {
        uint32_t w = (uint32_t)rig_below(&seed, WORKERS);
        uint64_t what = rig_below(&seed, 40);
        if (what == 0) {
            assert_int_equal(rig_leave(f, w, 1, 0), 0);
        } else if (what == 1) {
            assert_int_equal(rig_join(f, w, 1, rig_worker(f, w).sequence, 0), 0);
        } else if (rig_worker(f, w).active) {
            bool may_read = tl_fold_may_read(f, w);
            assert_int_equal(push(f, w, 0, 1.0f), may_read ? 0 : TL_E_STALE);
            folded += may_read;
            refused += !may_read;
        }
        for (uint32_t a = 0; a < WORKERS; a++) {
            for (uint32_t b = 0; b < WORKERS; b++) {
                struct tl_fold_worker x = rig_worker(f, a), y = rig_worker(f, b);
                assert_true(!x.active || !y.active || x.clock <= y.clock + BOUND + 1);
            }
        }
    }
    assert_true(refused > 100 && folded > 1000);
    assert_int_equal(tl_fold_version(f), folded);
    tl_fold_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_the_mean),
        cmocka_unit_test(a_step_is_the_sum),
        cmocka_unit_test(contributions_are_clipped_one_by_one),
        cmocka_unit_test(a_worker_contributes_once),
        cmocka_unit_test(from_the_future),
        cmocka_unit_test(a_quorum_commits),
        cmocka_unit_test(the_start_waits_for_workers),
        cmocka_unit_test(joining_completes_the_start),
        cmocka_unit_test(a_joiner_waits_for_its_step),
        cmocka_unit_test(a_death_completes_the_step),
        cmocka_unit_test(leaving_before_a_step_owes_nothing),
        cmocka_unit_test(a_part_outlives_its_worker),
        cmocka_unit_test(the_last_part_commits_when_all_have_left),
        cmocka_unit_test(a_part_is_not_given_twice),
        cmocka_unit_test(a_place_in_the_step_is_kept),
        cmocka_unit_test(a_worker_that_is_back_in_time_is_not_missed),
        cmocka_unit_test(leaving_locks_nobody_out),
        cmocka_unit_test(the_end_of_sync),
        cmocka_unit_test(a_step_of_many_blocks),
        cmocka_unit_test(ssp_waits_for_the_slowest),
        cmocka_unit_test(ssp_newcomers_hold_nobody_back),
        cmocka_unit_test(ssp_start),
        cmocka_unit_test(only_ssp_holds_readers_back),
        cmocka_unit_test(ssp_bound_holds_always),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
