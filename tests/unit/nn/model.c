/* model.c - what a built model promises beyond right derivatives: the examples, first
 * weights, sameness of bits, batches of any size, training apart from evaluation. */
#include "nn_support.h"

#include <string.h>

#define SMALL                                                                          \
    "{\"input\": [2, 8, 8], \"classes\": 4, \"layers\": ["                             \
    "{\"type\": \"conv2d\", \"filters\": 6, \"kernel\": 3, \"padding\": 1}, "          \
    "{\"type\": \"relu\"}, {\"type\": \"max_pool\", \"size\": 2}, "                    \
    "{\"type\": \"batch_norm\"}, "                                                     \
    "{\"type\": \"conv2d\", \"filters\": 5, \"kernel\": 3, \"padding\": 1}, "          \
    "{\"type\": \"relu\"}, {\"type\": \"max_pool\", \"size\": 2}, "                    \
    "{\"type\": \"flatten\"}, {\"type\": \"dropout\", \"rate\": 0.25}, "               \
    "{\"type\": \"dense\", \"units\": 4}]}"

#define MAX_BATCH 16

/* A model with everything that a call needs. */
struct set {
    struct tl_nn *nn;
    size_t count;
    float *weights, *gradient, *inputs;
    uint8_t labels[MAX_BATCH];
};

static struct set make_set(const char *model, size_t max_batch) {
    struct set s = {.nn = build(model, max_batch)};
    s.count = tl_nn_parameters(s.nn);
    s.weights = make_floats(s.count);
    s.gradient = make_floats(s.count);
    s.inputs = make_floats(MAX_BATCH * tl_nn_inputs(s.nn));
    tl_nn_init(s.nn, 3, s.weights);
    fill_by_rule(s.inputs, MAX_BATCH * tl_nn_inputs(s.nn), 17, 2.0);
    for (size_t i = 0; i < MAX_BATCH; i++) {
        s.labels[i] = (uint8_t)(i % tl_nn_classes(s.nn));
    }
    return s;
}

static void free_set(struct set *s) {
    tl_nn_free(s->nn);
    free(s->weights);
    free(s->gradient);
    free(s->inputs);
}

static float gradient(struct set *s, size_t batch, uint64_t seed) {
    float loss = NAN;
    assert_int_equal(tl_nn_gradient(s->nn, s->weights, s->inputs, s->labels, batch,
                                    seed, s->gradient, &loss, NULL),
                     0);
    return loss;
}

static void evaluate(struct set *s, size_t batch, uint64_t *correct, double *loss) {
    assert_int_equal(
        tl_nn_evaluate(s->nn, s->weights, s->inputs, s->labels, batch, correct, loss),
        0);
}

/* ---- shape -------------------------------------------------------------------- */

static void examples_build(void **state) {
    (void)state;
    struct tl_nn *cnn = build_example("fashion-cnn.json", 32);
    assert_int_equal(tl_nn_parameters(cnn), 813258);
    tl_nn_free(cnn);
    struct tl_nn *mlp = build_example("mlp.json", 32);
    assert_int_equal(tl_nn_parameters(mlp), 784 * 256 + 256 + 256 * 128 + 128 + 1290);
    tl_nn_free(mlp);
    tl_nn_free(NULL);
}

static void tensors_are_named_and_side_by_side(void **state) {
    (void)state;
    static const char *const names[] = {"0.conv2d.weight",
                                        "0.conv2d.bias",
                                        "3.batch_norm.scale",
                                        "3.batch_norm.shift",
                                        "3.batch_norm.running_mean",
                                        "3.batch_norm.running_variance",
                                        "4.conv2d.weight",
                                        "4.conv2d.bias",
                                        "9.dense.weight",
                                        "9.dense.bias"};
    struct tl_nn *nn = build(SMALL, 1);
    const size_t count = tl_nn_tensors(nn);
    uint64_t next = 0;
    assert_int_equal(count, sizeof(names) / sizeof(names[0]));
    for (size_t i = 0; i < count; i++) {
        struct tl_nn_tensor t;
        tl_nn_tensor(nn, i, &t);
        assert_string_equal(t.name, names[i]);
        assert_int_equal(t.first, next);
        uint64_t values = 1;
        for (size_t r = 0; r < t.rank; r++) {
            values *= t.shape[r];
        }
        assert_int_equal(t.count, values);
        next += t.count;
    }
    assert_int_equal(next, tl_nn_parameters(nn));
    tl_nn_free(nn);
}

/* ---- first weights ------------------------------------------------------------ */

static void moments(const float *values, size_t count, double *mean,
                    double *deviation) {
    double sum = 0.0;
    double squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    *mean = sum / (double)count;
    *deviation = sqrt(squares / (double)count - *mean * *mean);
}

#define WIDE(init)                                                                     \
    "{\"input\": [400], \"classes\": 2, \"init\": \"" init "\", \"layers\": ["         \
    "{\"type\": \"dense\", \"units\": 500}, {\"type\": \"batch_norm\"}, "              \
    "{\"type\": \"dense\", \"units\": 2}]}"
#define WIDE_WEIGHTS ((size_t)400 * 500)

static void he_is_normal(void **state) {
    (void)state;
    struct set s = make_set(WIDE("he"), 1);
    const double expected = sqrt(2.0 / 400.0);
    double mean;
    double deviation;
    moments(s.weights, WIDE_WEIGHTS, &mean, &deviation);
    assert_near("mean", 0, mean, 0.0, 0.0, 4.0 * expected / sqrt(WIDE_WEIGHTS));
    assert_near("deviation", 0, deviation, expected, 0.01, 0.0);
    size_t beyond = 0;
    for (size_t i = 0; i < WIDE_WEIGHTS; i++) {
        beyond += fabs((double)s.weights[i]) > 2.0 * expected ? 1u : 0u;
    }
    assert_near("beyond two deviations", 0, (double)beyond / WIDE_WEIGHTS, 0.0455, 0.1,
                0.0);
    for (size_t i = 0; i < 500; i++) {
        assert_true(s.weights[WIDE_WEIGHTS + i] == 0.0F);        /* bias */
        assert_true(s.weights[WIDE_WEIGHTS + 500 + i] == 1.0F);  /* scale */
        assert_true(s.weights[WIDE_WEIGHTS + 1000 + i] == 0.0F); /* shift */
        assert_true(s.weights[WIDE_WEIGHTS + 1500 + i] == 0.0F); /* running mean */
        assert_true(s.weights[WIDE_WEIGHTS + 2000 + i] == 1.0F); /* and variance */
    }
    free_set(&s);
}

static void pytorch_is_uniform(void **state) {
    (void)state;
    struct set s = make_set(WIDE("pytorch"), 1);
    const double bound = 1.0 / sqrt(400.0);
    double mean;
    double deviation;
    for (size_t i = 0; i < WIDE_WEIGHTS + 500; i++) { /* the bias too */
        assert_true(fabs((double)s.weights[i]) <= bound);
    }
    moments(s.weights, WIDE_WEIGHTS, &mean, &deviation);
    assert_near("deviation", 0, deviation, bound / sqrt(3.0), 0.01, 0.0);
    moments(s.weights + WIDE_WEIGHTS, 500, &mean, &deviation);
    assert_near("deviation of the bias", 0, deviation, bound / sqrt(3.0), 0.1, 0.0);
    free_set(&s);
}

/* These bits are part of every job's state: a change of them is a change of format. */
static void first_weights_are_the_same_everywhere(void **state) {
    (void)state;
    struct set he = make_set(WIDE("he"), 1);
    struct set pytorch = make_set(WIDE("pytorch"), 1);
    static const float expected[2][3] = {
        {0x1.2dc5f4p-3F, -0x1.3311e8p-3F, 0x1.263c68p-5F},
        {0x1.13e726p-5F, 0x1.c264b4p-6F, 0x1.10d2fep-5F}};
    for (size_t i = 0; i < 3; i++) {
        assert_true(he.weights[i] == expected[0][i]);
        assert_true(pytorch.weights[i] == expected[1][i]);
    }
    const float before = he.weights[0];
    tl_nn_init(he.nn, 4, he.weights);
    assert_true(he.weights[0] != before);
    free_set(&he);
    free_set(&pytorch);
}

/* ---- gradients ---------------------------------------------------------------- */

static void same_inputs_give_the_same_bits(void **state) {
    (void)state;
    struct set a = make_set(SMALL, MAX_BATCH);
    struct set b = make_set(SMALL, MAX_BATCH);
    (void)gradient(&a, 7, 99); /* what was computed before must not matter */
    const float first = gradient(&a, MAX_BATCH, 1);
    const float second = gradient(&b, MAX_BATCH, 1);
    assert_true(first == second);
    assert_memory_equal(a.gradient, b.gradient, a.count * sizeof(float));
    (void)gradient(&b, MAX_BATCH, 2); /* another dropout mask */
    assert_memory_not_equal(a.gradient, b.gradient, a.count * sizeof(float));
    free_set(&a);
    free_set(&b);
}

static void small_batches_in_a_large_model(void **state) {
    (void)state;
    struct set large = make_set(SMALL, MAX_BATCH);
    (void)gradient(&large, MAX_BATCH, 5);
    for (size_t batch = 1; batch <= MAX_BATCH; batch += 3) {
        struct set exact = make_set(SMALL, batch);
        const double loss = (double)gradient(&exact, batch, 5);
        assert_near("loss", batch, (double)gradient(&large, batch, 5), loss, 1e-6, 0.0);
        for (size_t i = 0; i < exact.count; i++) {
            assert_near("gradient", i, (double)large.gradient[i],
                        (double)exact.gradient[i], 1e-4, 1e-6);
        }
        free_set(&exact);
    }
    free_set(&large);
}

/* Layers that do nothing keep the others apart, so that nothing is fused: neither ReLU
 * nor pooling into the convolution, and the dense way back instead of the sparse one.
 */
static void fused_layers_compute_the_same(void **state) {
    (void)state;
#define BETWEEN "{\"type\": \"dropout\", \"rate\": 0}, "
#define STACK(gap)                                                                     \
    "{\"input\": [2, 13, 11], \"classes\": 4, \"layers\": ["                           \
    "{\"type\": \"conv2d\", \"filters\": 8, \"kernel\": 3, \"padding\": 1}, " gap      \
    "{\"type\": \"relu\"}, " gap "{\"type\": \"max_pool\", \"size\": 2}, " gap         \
    "{\"type\": \"conv2d\", \"filters\": 9, \"kernel\": 3, \"padding\": 1}, " gap      \
    "{\"type\": \"relu\"}, " gap "{\"type\": \"max_pool\", \"size\": 2}, " gap         \
    "{\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 7}, " gap               \
    "{\"type\": \"relu\"}, {\"type\": \"dense\", \"units\": 4}]}"
    struct set fused = make_set(STACK(""), MAX_BATCH);
    struct set apart = make_set(STACK(BETWEEN), MAX_BATCH);
    assert_int_equal(fused.count, apart.count);
    memcpy(apart.weights, fused.weights, fused.count * sizeof(float));
    const double loss = (double)gradient(&fused, MAX_BATCH, 1);
    assert_near("loss", 0, (double)gradient(&apart, MAX_BATCH, 1), loss, 1e-6, 0.0);
    for (size_t i = 0; i < fused.count; i++) {
        assert_near("gradient", i, (double)fused.gradient[i], (double)apart.gradient[i],
                    1e-4, 1e-6);
    }
    free_set(&fused);
    free_set(&apart);
}

static void norm_is_the_learned_parameters(void **state) {
    (void)state;
    struct set s = make_set(SMALL, MAX_BATCH);
    float loss;
    float norm;
    assert_int_equal(tl_nn_gradient(s.nn, s.weights, s.inputs, s.labels, MAX_BATCH, 1,
                                    s.gradient, &loss, &norm),
                     0);
    double learned = 0.0;
    double statistics = 0.0;
    for (size_t i = 0; i < tl_nn_tensors(s.nn); i++) {
        struct tl_nn_tensor t;
        tl_nn_tensor(s.nn, i, &t);
        double *sum = strstr(t.name, "running_") != NULL ? &statistics : &learned;
        for (uint64_t k = t.first; k < t.first + t.count; k++) {
            *sum += (double)s.gradient[k] * (double)s.gradient[k];
        }
    }
    assert_near("norm", 0, (double)norm, sqrt(learned), 1e-6, 0.0);
    assert_true(statistics > 0.01 * learned); /* leaving them out makes a difference */
    free_set(&s);
}

static void nan_is_not_hidden(void **state) {
    (void)state;
    struct set s = make_set(SMALL, MAX_BATCH);
    for (size_t i = 0; i < 108; i++) { /* the first convolution's weights */
        s.weights[i] = NAN;
    }
    assert_true(isnan(gradient(&s, MAX_BATCH, 1)));
    free_set(&s);
}

static void wrong_batches_are_refused(void **state) {
    (void)state;
    struct set s = make_set(SMALL, 4);
    float loss = -1.0F;
    uint64_t correct = 0;
    double sum = 0.0;
    assert_int_equal(tl_nn_gradient(s.nn, s.weights, s.inputs, s.labels, 0, 1,
                                    s.gradient, &loss, NULL),
                     TL_E_INVALID);
    assert_int_equal(tl_nn_gradient(s.nn, s.weights, s.inputs, s.labels, 5, 1,
                                    s.gradient, &loss, NULL),
                     TL_E_INVALID);
    assert_string_equal(tl_error_text(),
                        "a batch of 5 examples; this model takes 1 to 4");
    s.labels[2] = 4;
    assert_int_equal(tl_nn_gradient(s.nn, s.weights, s.inputs, s.labels, 4, 1,
                                    s.gradient, &loss, NULL),
                     TL_E_INVALID);
    assert_string_equal(tl_error_text(),
                        "example 2 of the batch has label 4; the model has 4 classes");
    assert_int_equal(
        tl_nn_evaluate(s.nn, s.weights, s.inputs, s.labels, 4, &correct, &sum),
        TL_E_INVALID);
    assert_true(loss == -1.0F && correct == 0 && sum == 0.0);
    free_set(&s);
}

/* ---- evaluation --------------------------------------------------------------- */

static void evaluation_adds_up(void **state) {
    (void)state;
    struct set s = make_set(SMALL, MAX_BATCH);
    float logits[MAX_BATCH * 4];
    assert_int_equal(tl_nn_forward(s.nn, s.weights, s.inputs, MAX_BATCH, logits), 0);
    uint64_t correct = 100;
    double loss = 1000.0;
    evaluate(&s, MAX_BATCH, &correct, &loss);
    uint64_t expected_correct = 100;
    double expected_loss = 1000.0;
    for (size_t n = 0; n < MAX_BATCH; n++) {
        const float *row = logits + n * 4;
        double sum = 0.0;
        size_t best = 0;
        for (size_t c = 0; c < 4; c++) {
            sum += exp((double)row[c]);
            best = row[c] > row[best] ? c : best;
        }
        expected_loss += log(sum) - (double)row[s.labels[n]];
        expected_correct += best == s.labels[n] ? 1u : 0u;
    }
    assert_int_equal(correct, expected_correct);
    assert_near("loss", 0, loss, expected_loss, 1e-6, 0.0);
    free_set(&s);
}

/* With statistics that an optimizer has followed to the end, evaluation sees what
 * training saw. */
static void running_statistics_arrive(void **state) {
    (void)state;
    struct set s = make_set(WIDE("he"), MAX_BATCH);
    const double training = (double)gradient(&s, MAX_BATCH, 1);
    const size_t first = WIDE_WEIGHTS + 1500; /* mean and variance, 500 each */
    for (int update = 0; update < 200; update++) {
        (void)gradient(&s, MAX_BATCH, 1);
        for (size_t i = first; i < first + 1000; i++) {
            s.weights[i] -= 0.1F * s.gradient[i];
        }
    }
    uint64_t correct = 0;
    double loss = 0.0;
    evaluate(&s, MAX_BATCH, &correct, &loss);
    /* The running variance is the unbiased one: a thirtieth larger on 16 examples. */
    assert_near("loss", 0, loss / MAX_BATCH, training, 0.05, 0.0);
    free_set(&s);
}

static void one_example_leaves_the_statistics(void **state) {
    (void)state;
    struct set s = make_set(WIDE("he"), 1);
    (void)gradient(&s, 1, 1);
    for (size_t i = WIDE_WEIGHTS + 1500; i < WIDE_WEIGHTS + 2500; i++) {
        assert_true(s.gradient[i] == 0.0F);
    }
    free_set(&s);
}

static void dropout_is_for_training(void **state) {
    (void)state;
    static const char *const model =
        "{\"input\": [1000], \"classes\": 2, \"layers\": [{\"type\": \"dropout\", "
        "\"rate\": 0.25}, {\"type\": \"dense\", \"units\": 2}]}";
    struct set s = make_set(model, 1);
    for (size_t i = 0; i < 1000; i++) {
        s.inputs[i] = 1.0F;
        s.weights[i] = 0.001F;
        s.weights[1000 + i] = 0.0F;
    }
    float logits[2];
    assert_int_equal(tl_nn_forward(s.nn, s.weights, s.inputs, 1, logits), 0);
    assert_near("logit", 0, (double)logits[0], 1.0, 1e-4, 0.0);

    /* A weight's derivative is its input times one factor: 0, or 4/3 as large. */
    (void)gradient(&s, 1, 8);
    size_t dropped = 0;
    const float kept = s.gradient[0] != 0.0F ? s.gradient[0] : s.gradient[1];
    for (size_t i = 0; i < 1000; i++) {
        dropped += s.gradient[i] == 0.0F ? 1u : 0u;
        assert_true(s.gradient[i] == 0.0F || s.gradient[i] == kept);
    }
    assert_in_range(dropped, 200, 300);
    free_set(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_build),
        cmocka_unit_test(tensors_are_named_and_side_by_side),
        cmocka_unit_test(he_is_normal),
        cmocka_unit_test(pytorch_is_uniform),
        cmocka_unit_test(first_weights_are_the_same_everywhere),
        cmocka_unit_test(same_inputs_give_the_same_bits),
        cmocka_unit_test(small_batches_in_a_large_model),
        cmocka_unit_test(fused_layers_compute_the_same),
        cmocka_unit_test(norm_is_the_learned_parameters),
        cmocka_unit_test(nan_is_not_hidden),
        cmocka_unit_test(wrong_batches_are_refused),
        cmocka_unit_test(evaluation_adds_up),
        cmocka_unit_test(running_statistics_arrive),
        cmocka_unit_test(one_example_leaves_the_statistics),
        cmocka_unit_test(dropout_is_for_training),
    };
    return cmocka_run_group_tests_name("nn model", tests, NULL, NULL);
}
