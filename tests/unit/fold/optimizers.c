/* The update rules: PyTorch's values, and the same bits as a plain scalar program. */
#include "fold_rig.h"
#include "test.h"

#include <jansson.h>

/* PyTorch fuses some multiplications and additions; a step's rounding differs by an ulp
 * or two of the weight, and eight steps add up. */
#define TOLERANCE 1e-6

static struct tl_optimizer optimizer_of(const char *name, json_t *settings) {
    json_t *betas = json_object_get(settings, "betas");
    return (struct tl_optimizer){
        .kind = strcmp(name, "adamw") == 0  ? TL_ADAMW
                : strcmp(name, "adam") == 0 ? TL_ADAM
                                            : TL_SGD,
        .learning_rate = json_number_value(json_object_get(settings, "lr")),
        .momentum = json_number_value(json_object_get(settings, "momentum")),
        .nesterov = json_is_true(json_object_get(settings, "nesterov")),
        .weight_decay = json_number_value(json_object_get(settings, "weight_decay")),
        .beta1 = json_number_value(json_array_get(betas, 0)),
        .beta2 = json_number_value(json_array_get(betas, 1)),
        .epsilon = json_number_value(json_object_get(settings, "eps")),
    };
}

static size_t numbers(json_t *array, float *out, size_t max) {
    size_t n = json_array_size(array);
    assert_true(n > 0 && n <= max);
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)json_number_value(json_array_get(array, i));
    }
    return n;
}

static double relative_error(float got, float expected) {
    double size = expected < 0.0f ? -(double)expected : (double)expected;
    double error = (double)got - (double)expected;
    return (error < 0.0 ? -error : error) / (size > 0.01 ? size : 0.01);
}

enum { VALUES_MAX = 64 };

static void compare_case(json_t *c) {
    const char *name = json_string_value(json_object_get(c, "name"));
    float values[VALUES_MAX], expected[VALUES_MAX], got[VALUES_MAX];
    size_t n = numbers(json_object_get(c, "initial"), values, VALUES_MAX);
    struct tl_fold_config config = rig_config(n);
    config.optimizer = optimizer_of(name, json_object_get(c, "settings"));
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, values, &f), 0);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    json_t *gradients = json_object_get(c, "gradients");
    json_t *after = json_object_get(c, "after_each_step");
    assert_int_equal(json_array_size(gradients), 8);
    double worst = 0.0;
    for (size_t step = 0; step < json_array_size(gradients); step++) {
        assert_int_equal(numbers(json_array_get(gradients, step), values, n), n);
        assert_int_equal(numbers(json_array_get(after, step), expected, n), n);
        assert_int_equal(rig_push(f, 0, step + 1, step, values), 0);
        rig_weights(f, got);
        for (size_t i = 0; i < n; i++) {
            double error = relative_error(got[i], expected[i]);
            worst = error > worst ? error : worst;
        }
    }
    print_message("%-18s largest error %.2g\n", name, worst);
    assert_true(worst <= TOLERANCE);
    tl_fold_free(f);
}

static void pytorch_values(void **state) {
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file(TL_TEST_DATA "/optimizers.json", 0, &error);
    assert_non_null(cases);
    assert_int_equal(json_array_size(cases), 6);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        compare_case(json_array_get(cases, i));
    }
    json_decref(cases);
}

/* ---- the same bits ---------------------------------------------------------------
 * The kernels in use are vectorised for the machine. A program that the compiler can't
 * vectorise or reorder, since every intermediate is volatile, must find the same. */

/* Newton's method in double, rounded to float: no square root instruction involved. */
static float root_of(float x) {
    double root = x > 1.0f ? (double)x : 1.0;
    for (int i = 0; i < 40 && x > 0.0f; i++) {
        root = 0.5 * (root + (double)x / root);
    }
    return x > 0.0f ? (float)root : 0.0f;
}

/* The same in double, which is a unit in the last place off at most. */
static double root_of_double(double x) {
    double root = 1.0;
    for (int i = 0; i < 40; i++) {
        root = 0.5 * (root + x / root);
    }
    return root;
}

struct reference {
    float w, slot[2];
    double power1, power2;
};

static void reference_sgd(struct reference *r, const struct tl_optimizer *o, float g) {
    volatile float scaled = (float)o->weight_decay * r->w;
    volatile float decayed = g + scaled;
    volatile float step = decayed;
    if (o->momentum > 0.0) {
        volatile float kept = (float)o->momentum * r->slot[0];
        volatile float velocity = kept + decayed;
        r->slot[0] = velocity;
        volatile float ahead = (float)o->momentum * velocity;
        step = o->nesterov ? decayed + ahead : velocity;
    }
    volatile float change = (float)o->learning_rate * step;
    r->w = r->w - change;
}

static void reference_adam(struct reference *r, const struct tl_optimizer *o, float g) {
    r->power1 *= o->beta1;
    r->power2 *= o->beta2;
    bool decoupled = o->kind == TL_ADAMW;
    volatile float scaled = (float)(decoupled ? 0.0 : o->weight_decay) * r->w;
    volatile float decayed = g + scaled;
    volatile float difference = decayed - r->slot[0];
    volatile float moved = (float)(1.0 - o->beta1) * difference;
    volatile float first = r->slot[0] + moved;
    volatile float kept = (float)o->beta2 * r->slot[1];
    volatile float weighted = (float)(1.0 - o->beta2) * decayed;
    volatile float square = weighted * decayed;
    volatile float second = kept + square;
    volatile float root = root_of(second);
    volatile float corrected = root / (float)root_of_double(1.0 - r->power2);
    volatile float divisor = corrected + (float)o->epsilon;
    volatile float step = (float)(o->learning_rate / (1.0 - r->power1)) * first;
    volatile float change = step / divisor;
    double shrink = decoupled ? 1.0 - o->learning_rate * o->weight_decay : 1.0;
    volatile float kept_weight = (float)shrink * r->w;
    r->w = kept_weight - change;
    r->slot[0] = first;
    r->slot[1] = second;
}

static void compare_bits(const struct tl_optimizer *o, size_t count) {
    enum { STEPS = 5 };
    struct tl_fold_config config = rig_config(count);
    config.optimizer = *o;
    struct tl_fold *f = rig_new(&config, 11);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    float *got = rig_floats(count, 11);
    struct reference *expected = calloc(count, sizeof(*expected));
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        expected[i] = (struct reference){.w = got[i], .power1 = 1.0, .power2 = 1.0};
    }
    for (uint64_t step = 1; step <= STEPS; step++) {
        float *g = rig_floats(count, 100 + step);
        assert_int_equal(rig_push(f, 0, step, step - 1, g), 0);
        for (size_t i = 0; i < count; i++) {
            (o->kind == TL_SGD ? reference_sgd : reference_adam)(&expected[i], o, g[i]);
        }
        free(g);
    }
    rig_weights(f, got);
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(&got[i], &expected[i].w, sizeof(float));
    }
    free(expected);
    free(got);
    tl_fold_free(f);
}

static void same_bits_as_scalar_code(void **state) {
    (void)state;
    const struct tl_optimizer cases[] = {
        {.kind = TL_SGD, .learning_rate = 0.01},
        {.kind = TL_SGD, .learning_rate = 0.013, .weight_decay = 0.003},
        {.kind = TL_SGD, .learning_rate = 0.01, .momentum = 0.9},
        {.kind = TL_SGD, .learning_rate = 0.3, .momentum = 0.7, .weight_decay = 0.1},
        {.kind = TL_SGD, .learning_rate = 0.01, .momentum = 0.9, .nesterov = true},
        {.kind = TL_ADAM,
         .learning_rate = 0.001,
         .beta1 = 0.9,
         .beta2 = 0.999,
         .epsilon = 1e-8,
         .weight_decay = 0.02},
        {.kind = TL_ADAMW,
         .learning_rate = 0.001,
         .beta1 = 0.8,
         .beta2 = 0.99,
         .epsilon = 1e-8,
         .weight_decay = 0.02},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        compare_bits(&cases[i], 1);
        compare_bits(&cases[i], 37);
        compare_bits(&cases[i], TL_BLOCK_FLOATS + 1003);
    }
}

/* A block that somebody holds is written elsewhere: the result is the same. */
static void same_bits_in_place_and_not(void **state) {
    (void)state;
    const size_t count = TL_BLOCK_FLOATS + 77;
    struct tl_fold_config config = rig_config(count);
    config.optimizer.momentum = 0.9;
    struct tl_fold *a = rig_new(&config, 5), *b = rig_new(&config, 5);
    assert_int_equal(rig_join(a, 0, 1, 0, 0), 0);
    assert_int_equal(rig_join(b, 0, 1, 0, 0), 0);
    for (uint64_t step = 1; step <= 6; step++) {
        float *g = rig_floats(count, step);
        struct tl_view *v = NULL;
        assert_int_equal(tl_fold_view(b, &v), 0);
        assert_int_equal(rig_push(a, 0, step, step - 1, g), 0);
        assert_int_equal(rig_push(b, 0, step, step - 1, g), 0);
        tl_view_release(v);
        free(g);
    }
    rig_assert_same_state(a, b);
    tl_fold_free(a);
    tl_fold_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_values),
        cmocka_unit_test(same_bits_as_scalar_code),
        cmocka_unit_test(same_bits_in_place_and_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
