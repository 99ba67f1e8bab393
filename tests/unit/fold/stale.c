/* Stale gradients: each policy beside a plain scalar program that remembers everything.
 *
 * The reference keeps every version there ever was, decides by the text of fold.h and
 * history.c, and computes each element alone with volatile intermediates. */
#include "fold_rig.h"

#include <math.h>

enum { COUNT = 2500, WORKERS = 3, VERSIONS = 160, AFTER = 2 };

struct memory {
    int64_t used, seen; /* versions, -1: none */
};

struct reference {
    struct tl_fold_config config;
    float weights[VERSIONS + 1][COUNT];
    float velocity[COUNT], mean[COUNT], square[COUNT];
    struct memory workers[WORKERS + 1];
    uint64_t version, run;
    double power;
};

static int64_t apart(int64_t a, uint64_t b) {
    return llabs(a - (int64_t)b);
}

/* The version that the gradient is taken to be computed on, -1 for none. */
static int64_t base_of(struct reference *r, uint32_t worker, uint64_t read_version) {
    struct memory *m = &r->workers[worker];
    if (worker >= r->config.workers) {
        return -1;
    }
    if (m->seen >= 0 &&
        (m->used < 0 || apart(m->seen, read_version) <= apart(m->used, read_version))) {
        m->used = m->seen;
        m->seen = -1;
    }
    return m->used;
}

static float backlog(struct reference *r, size_t i, float g) {
    volatile float before = r->run == 1 ? 0.0f : r->mean[i];
    volatile float difference = g - before;
    volatile float change = difference / (float)r->run;
    volatile float mean = before + change;
    r->mean[i] = mean;
    return change;
}

static float gap(const struct reference *r, size_t i, float g, float w, float base) {
    volatile float distance = fabsf(w - base);
    volatile float root = sqrtf(r->square[i]) / (float)sqrt(1.0 - r->power);
    volatile float usual = root + 1e-10f;
    volatile float steps = distance / usual;
    volatile float penalty = 1.0f + steps;
    return g / penalty;
}

static float delay(const struct reference *r, float g, float w, float base) {
    volatile float scaled = (float)r->config.stale.lambda * g;
    volatile float square = scaled * g;
    volatile float difference = w - base;
    volatile float correction = square * difference;
    return g + correction;
}

static float elastic(const struct reference *r, float g, float w, float base) {
    const struct tl_optimizer *o = &r->config.optimizer;
    volatile float spring = (float)((1.0 - o->momentum) / o->learning_rate);
    volatile float difference = w - base;
    volatile float pull = spring * difference;
    volatile float sum = g + pull;
    return (float)r->config.stale.alpha * sum;
}

static float scaled(double scale, float g) {
    volatile float result = g * (float)scale;
    return result;
}

static float corrected(struct reference *r, size_t i, float g, uint64_t staleness,
                       float norm, int64_t base) {
    const struct tl_stale *s = &r->config.stale;
    float w = r->weights[r->version][i];
    float b = base >= 0 ? r->weights[base][i] : 0.0f;
    switch (s->policy) {
    case TL_STALE_BACKLOG:
        return backlog(r, i, g);
    case TL_STALE_INVERSE:
        return scaled(1.0 / (double)staleness, g);
    case TL_STALE_CLIP:
        return (double)norm > s->norm ? scaled(s->norm / (double)norm, g) : g;
    case TL_STALE_GAP:
        return base >= 0 ? gap(r, i, g, w, b) : g;
    case TL_STALE_DELAY:
        return base >= 0 ? delay(r, g, w, b) : g;
    case TL_STALE_ELASTIC:
        return base >= 0 ? elastic(r, g, w, b) : g;
    default:
        return g;
    }
}

/* SGD with or without momentum. */
static void update(struct reference *r, size_t i, float g) {
    const struct tl_optimizer *o = &r->config.optimizer;
    volatile float kept = (float)o->momentum * r->velocity[i];
    volatile float velocity = o->momentum > 0.0 ? kept + g : g;
    volatile float change = (float)o->learning_rate * velocity;
    volatile float before = r->weights[r->version][i];
    volatile float after = before - change;
    r->velocity[i] = velocity;
    r->weights[r->version + 1][i] = after;
    volatile float step = after - before;
    volatile float old = (float)0.999 * r->square[i];
    volatile float rest = (float)(1.0 - 0.999) * step;
    volatile float now = rest * step;
    r->square[i] = old + now;
}

/* How many gradients were stale. */
static uint64_t reference_push(struct reference *r, uint32_t worker,
                               uint64_t read_version, float norm, const float *g) {
    uint64_t staleness = r->version - read_version;
    int64_t base = base_of(r, worker, read_version);
    bool is_stale = staleness > AFTER;
    r->run = is_stale ? r->run + 1 : 0;
    for (size_t i = 0; i < COUNT; i++) {
        update(r, i, is_stale ? corrected(r, i, g[i], staleness, norm, base) : g[i]);
    }
    r->power *= 0.999;
    r->version++;
    r->workers[worker].seen = (int64_t)r->version;
    return is_stale;
}

static struct tl_fold_config config_of(enum tl_stale_policy policy, double momentum) {
    struct tl_fold_config config = rig_config(COUNT);
    config.optimizer.learning_rate = 0.05;
    config.optimizer.momentum = momentum;
    config.workers = WORKERS; /* of four: the last one has no memory */
    config.stale = (struct tl_stale){
        .policy = policy, .after = AFTER, .norm = 2.0, .lambda = 0.5, .alpha = 0.4};
    return config;
}

static struct reference *reference_new(const struct tl_fold_config *config,
                                       struct tl_fold *f) {
    struct reference *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->config = *config;
    r->power = 1.0;
    rig_weights(f, r->weights[0]);
    for (uint32_t w = 0; w <= WORKERS; w++) {
        assert_int_equal(rig_join(f, w, 1, 0, 0), 0);
        r->workers[w] = (struct memory){.used = -1, .seen = 0};
    }
    return r;
}

static void compare(enum tl_stale_policy policy, double momentum) {
    struct tl_fold_config config = config_of(policy, momentum);
    struct tl_fold *f = rig_new(&config, 3);
    struct reference *r = reference_new(&config, f);
    uint64_t seed = 5 + policy, sequences[WORKERS + 1] = {0}, stale = 0;
    uint64_t read[WORKERS + 1] = {0};
    float got[COUNT], g[COUNT];
    while (r->version < VERSIONS) {
        uint32_t worker = (uint32_t)rig_below(&seed, WORKERS + 1);
        bool outage = r->version >= 40 && r->version < 70;
        uint64_t behind = rig_below(&seed, 5);
        if (!outage) { /* else on what it has; runs of stale ones then pile up */
            read[worker] = r->version - (behind < r->version ? behind : 0);
        }
        float norm = (float)rig_below(&seed, 5);
        rig_fill(g, COUNT, rig_random(&seed));
        assert_int_equal(
            rig_offer(f, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                            .worker = worker,
                                            .incarnation = 1,
                                            .sequence = ++sequences[worker],
                                            .read_version = read[worker],
                                            .norm = norm,
                                            .values = g,
                                            .value_count = COUNT}),
            0);
        stale += reference_push(r, worker, read[worker], norm, g);
        rig_weights(f, got);
        assert_memory_equal(got, r->weights[r->version], sizeof(got));
    }
    assert_true(stale > VERSIONS / 4 && stale < VERSIONS * 3 / 4);
    free(r);
    tl_fold_free(f);
}

static void policies_are_what_they_say(void **state) {
    (void)state;
    for (unsigned policy = 0; policy < TL_STALE_POLICIES; policy++) {
        compare(policy, 0.0);
        compare(policy, 0.9);
    }
}

/* ---- what they are for ----------------------------------------------------------- */

/* A backlog of `n` equal gradients of one worker, all computed on version 1. */
static float moved_by_backlog(enum tl_stale_policy policy, uint64_t n) {
    struct tl_fold_config config = config_of(policy, 0.0);
    struct tl_fold *f = rig_new(&config, 3);
    float g[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        g[i] = 1.0f;
    }
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 0, 1, 0, g), 0);
    float before = rig_weight(f);
    for (uint64_t k = 0; k < n; k++) {
        assert_int_equal(rig_push(f, 0, k + 2, 1, g), 0);
    }
    float moved = before - rig_weight(f);
    tl_fold_free(f);
    return moved / 0.05f; /* in gradients */
}

static void a_backlog_does_less_harm(void **state) {
    (void)state;
    float all = moved_by_backlog(TL_STALE_APPLY, 100);
    assert_true(fabsf(all - 100.0f) < 0.01f);
    /* Three are not stale yet; the other 97 count as one. */
    assert_true(fabsf(moved_by_backlog(TL_STALE_BACKLOG, 100) - 4.0f) < 0.01f);
    /* 3 + 1/3 + ... + 1/99 */
    assert_true(fabsf(moved_by_backlog(TL_STALE_INVERSE, 100) - 6.677f) < 0.01f);
    assert_true(moved_by_backlog(TL_STALE_GAP, 100) < 25.0f);
    assert_true(moved_by_backlog(TL_STALE_ELASTIC, 100) < 3.1f);
}

/* Clipping of all gradients comes first; then a stale one has the norm of the policy.
 */
static void clipping_twice_is_clipping_to_the_smaller(void **state) {
    (void)state;
    struct tl_fold_config config = config_of(TL_STALE_CLIP, 0.0);
    config.clip_norm = 4.0;
    struct tl_fold *f = rig_new(&config, 3);
    float g[COUNT], moved[4];
    for (size_t i = 0; i < COUNT; i++) {
        g[i] = 1.0f;
    }
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    for (uint64_t k = 0; k < 4; k++) {
        float before = rig_weight(f);
        assert_int_equal(rig_offer(f, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                                         .incarnation = 1,
                                                         .sequence = k + 1,
                                                         .norm = 8.0f,
                                                         .values = g,
                                                         .value_count = COUNT}),
                         0);
        moved[k] = (before - rig_weight(f)) / 0.05f;
    }
    assert_true(fabsf(moved[2] - 4.0f / 8.0f) < 1e-4f);
    assert_true(fabsf(moved[3] - 2.0f / 8.0f) < 1e-4f);
    tl_fold_free(f);
}

static void adam_takes_smaller_steps(void **state) {
    (void)state;
    struct tl_fold_config config = config_of(TL_STALE_INVERSE, 0.0);
    config.optimizer.kind = TL_ADAM;
    struct tl_fold *f = rig_new(&config, 3);
    float g[COUNT], before[8];
    rig_fill(g, COUNT, 1);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    for (uint64_t k = 0; k < 8; k++) {
        before[k] = rig_weight(f);
        assert_int_equal(rig_push(f, 0, k + 1, 0, g), 0);
    }
    float usual = fabsf(before[2] - before[1]);
    float at_staleness_7 = fabsf(rig_weight(f) - before[7]);
    assert_true(fabsf(at_staleness_7 / usual - 1.0f / 7.0f) < 0.01f);
    tl_fold_free(f);
}

/* What several workers cause by working at the same time is usual. */
static void usual_is_twice_the_active_workers(void **state) {
    (void)state;
    struct tl_fold_config config = config_of(TL_STALE_INVERSE, 0.0);
    config.stale.after = 0;
    struct tl_fold *f = rig_new(&config, 3);
    float g[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        g[i] = 1.0f;
    }
    for (uint32_t w = 0; w < 2; w++) {
        assert_int_equal(rig_join(f, w, 1, 0, 0), 0);
    }
    for (uint64_t k = 0; k < 6; k++) {
        float before = rig_weight(f);
        assert_int_equal(rig_push(f, 0, k + 1, 0, g), 0);
        float moved = (before - rig_weight(f)) / 0.05f;
        assert_true(fabsf(moved - (k <= 4 ? 1.0f : 0.2f)) < 1e-3f);
    }
    tl_fold_free(f);
}

/* ---- settings ------------------------------------------------------------------- */

static void assert_refused(struct tl_fold_config config, const char *names) {
    const float weights[COUNT] = {0};
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, weights, &f), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), names));
}

static void impossible_settings_are_refused(void **state) {
    (void)state;
    struct tl_fold_config config = config_of(TL_STALE_POLICIES, 0.0);
    assert_refused(config, "stale.policy");
    config = config_of(TL_STALE_INVERSE, 0.0);
    config.consistency = TL_SYNC;
    assert_refused(config, "stale.policy");
    config = config_of(TL_STALE_BACKLOG, 0.0);
    config.optimizer.kind = TL_ADAM;
    assert_refused(config, "optimizer.kind");
    config = config_of(TL_STALE_CLIP, 0.0);
    config.stale.norm = 0.0;
    assert_refused(config, "stale.norm");
    config = config_of(TL_STALE_DELAY, 0.0);
    config.stale.lambda = -1.0;
    assert_refused(config, "stale.lambda");
    config = config_of(TL_STALE_ELASTIC, 0.0);
    config.stale.alpha = 1.5;
    assert_refused(config, "stale.alpha");
    config = config_of(TL_STALE_GAP, 0.0);
    config.workers = TL_WORKER_LIMIT + 1;
    assert_refused(config, "workers");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_are_what_they_say),
        cmocka_unit_test(a_backlog_does_less_harm),
        cmocka_unit_test(clipping_twice_is_clipping_to_the_smaller),
        cmocka_unit_test(adam_takes_smaller_steps),
        cmocka_unit_test(usual_is_twice_the_active_workers),
        cmocka_unit_test(impossible_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
