/* The learning rate as a function of the version, and its change by a record. */
#include "fold_rig.h"
#include "test.h"

#include <math.h>

/* The rate of the fold's next update after `version` updates. */
static double rate_at(struct tl_schedule schedule, double base, uint64_t version) {
    struct tl_fold_config config = rig_config(1);
    config.optimizer.learning_rate = base;
    config.schedule = schedule;
    struct tl_fold *f = rig_new(&config, 1);
    const float g = 0.0f;
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    for (uint64_t v = 0; v < version; v++) {
        assert_int_equal(rig_push(f, 0, v + 1, v, &g), 0);
    }
    double rate = tl_fold_rate(f);
    tl_fold_free(f);
    return rate;
}

static void assert_near(double got, double expected) {
    double error = got > expected ? got - expected : expected - got;
    if (!(error <= 1e-14 * expected + 1e-17)) {
        fail_msg("%.17g is not %.17g", got, expected);
    }
}

static void constant(void **state) {
    (void)state;
    assert_near(rate_at((struct tl_schedule){.kind = TL_CONSTANT}, 0.1, 0), 0.1);
    assert_near(rate_at((struct tl_schedule){.kind = TL_CONSTANT}, 0.1, 99), 0.1);
}

static void warm_up(void **state) {
    (void)state;
    struct tl_schedule s = {.kind = TL_CONSTANT, .warmup = 4};
    const double expected[] = {0.2, 0.4, 0.6, 0.8, 0.8, 0.8};
    for (uint64_t v = 0; v < 6; v++) {
        assert_near(rate_at(s, 0.8, v), expected[v]);
    }
}

static void step(void **state) {
    (void)state;
    struct tl_schedule s = {.kind = TL_STEP, .period = 3, .factor = 0.5};
    const double expected[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.25};
    for (uint64_t v = 0; v < 7; v++) {
        assert_near(rate_at(s, 1.0, v), expected[v]);
    }
    s.factor = 0.9;
    s.period = 1;
    assert_near(rate_at(s, 1.0, 50), 0.005153775207320113); /* 0.9^50 */
}

/* (1 + cos(pi v / 12)) / 2, correctly rounded values. */
static const double half_cosine[] = {
    1.0,
    0.9829629131445341,
    0.9330127018922194,
    0.8535533905932737,
    0.75,
    0.6294095225512604,
    0.5,
    0.3705904774487397,
    0.2500000000000001,
    0.14644660940672627,
    0.06698729810778065,
    0.0170370868554659,
    0.0,
};

static void cosine(void **state) {
    (void)state;
    struct tl_schedule s = {.kind = TL_COSINE, .period = 12, .factor = 0.1};
    for (uint64_t v = 0; v <= 12; v++) {
        assert_near(rate_at(s, 0.3, v), 0.3 * (0.1 + 0.9 * half_cosine[v]));
    }
    assert_near(rate_at(s, 0.3, 12), 0.03);
    assert_near(rate_at(s, 0.3, 300), 0.03);
}

static void warm_up_times_cosine(void **state) {
    (void)state;
    struct tl_schedule s = {
        .kind = TL_COSINE, .warmup = 10, .period = 12, .factor = 0.0};
    assert_near(rate_at(s, 1.0, 4), 0.5 * half_cosine[4]);
}

/* The update uses the rate of its version. */
static void rate_is_used(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(1);
    config.schedule = (struct tl_schedule){.kind = TL_STEP, .period = 1, .factor = 0.5};
    const float zero = 0.0f, g = 1.0f;
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, &zero, &f), 0);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, &g), 0);
    assert_true(rig_weight(f) == -1.0f);
    assert_int_equal(rig_push(f, 0, 2, 1, &g), 0);
    assert_true(rig_weight(f) == -1.5f);
    tl_fold_free(f);
}

static void rate_record(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(1);
    struct tl_fold *f = rig_new(&config, 1);
    struct tl_record r = {.kind = TL_RECORD_RATE, .rate = 0.25};
    assert_int_equal(rig_offer(f, r), 0);
    assert_true(tl_fold_rate(f) == 0.25);
    const double impossible[] = {0.0, -1.0, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        r.rate = impossible[i];
        assert_int_equal(rig_offer(f, r), TL_E_PROTOCOL);
    }
    assert_true(tl_fold_rate(f) == 0.25);
    tl_fold_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant),
        cmocka_unit_test(warm_up),
        cmocka_unit_test(step),
        cmocka_unit_test(cosine),
        cmocka_unit_test(warm_up_times_cosine),
        cmocka_unit_test(rate_is_used),
        cmocka_unit_test(rate_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
