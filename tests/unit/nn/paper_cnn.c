/* paper_cnn.c - the paper's network against PyTorch's loss, logits and gradient. */
#include "nn_support.h"

#include <string.h>

#define BATCH 32

struct paper {
    struct tl_nn *nn;
    json_t *reference;
    float *weights, *inputs, *gradient;
    uint8_t labels[BATCH];
};

/* The example, without dropout, which the reference has not. */
static struct tl_nn *build_without_dropout(void) {
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/examples/models/fashion-cnn.json",
                   TL_SOURCE_DIR);
    json_t *model = json_load_file(path, 0, NULL);
    assert_non_null(model);
    json_t *layers = json_object_get(model, "layers");
    for (size_t i = json_array_size(layers); i-- > 0;) {
        const json_t *type = json_object_get(json_array_get(layers, i), "type");
        if (strcmp(json_string_value(type), "dropout") == 0) {
            assert_int_equal(json_array_remove(layers, i), 0);
        }
    }
    struct tl_nn *nn = build_json(model, BATCH);
    json_decref(model);
    return nn;
}

static void fill_weights(const struct paper *p) {
    for (size_t i = 0; i < tl_nn_tensors(p->nn); i++) {
        struct tl_nn_tensor t;
        tl_nn_tensor(p->nn, i, &t);
        const uint64_t fan_in = t.rank > 1 ? t.count / t.shape[0] : 0;
        fill_by_rule(p->weights + t.first, t.count, (uint32_t)i + 1u,
                     t.rank > 1 ? 2.0 * sqrt(6.0 / (double)fan_in) : 0.02);
    }
}

static int set_up(void **state) {
    struct paper *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->nn = build_without_dropout();
    p->reference = load_reference("paper-cnn-gradient.json");
    p->weights = make_floats(tl_nn_parameters(p->nn));
    p->gradient = make_floats(tl_nn_parameters(p->nn));
    p->inputs = make_floats(BATCH * tl_nn_inputs(p->nn));
    fill_weights(p);
    fill_by_rule(p->inputs, BATCH * tl_nn_inputs(p->nn), 99, 2.0);
    for (size_t i = 0; i < BATCH; i++) {
        p->labels[i] = (uint8_t)(i % 10);
    }
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    struct paper *p = *state;
    tl_nn_free(p->nn);
    json_decref(p->reference);
    free(p->weights);
    free(p->gradient);
    free(p->inputs);
    free(p);
    return 0;
}

static double reference_number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void has_the_papers_parameters(void **state) {
    struct paper *p = *state;
    assert_int_equal(tl_nn_parameters(p->nn), 813258);
    assert_int_equal(tl_nn_inputs(p->nn), 784);
    assert_int_equal(tl_nn_classes(p->nn), 10);
    assert_int_equal(tl_nn_tensors(p->nn), 8);
}

static void logits_are_pytorchs(void **state) {
    struct paper *p = *state;
    float logits[BATCH * 10];
    assert_int_equal(tl_nn_forward(p->nn, p->weights, p->inputs, BATCH, logits), 0);
    const json_t *expected = json_object_get(p->reference, "logits_first_two_rows");
    assert_int_equal(json_array_size(expected), 20);
    for (size_t i = 0; i < 20; i++) {
        assert_near("logits", i, (double)logits[i],
                    json_number_value(json_array_get(expected, i)), 1e-5, 1e-5);
    }
}

static void compare_tensor(const struct paper *p, size_t index,
                           const json_t *expected) {
    struct tl_nn_tensor t;
    tl_nn_tensor(p->nn, index, &t);
    const float *g = p->gradient + t.first;
    double squares = 0.0;
    for (size_t i = 0; i < t.count; i++) {
        squares += (double)g[i] * (double)g[i];
    }
    const double norm = reference_number(expected, "gradient_l2");
    assert_near(t.name, 0, sqrt(squares), norm, 1e-5, 0.0);

    const json_t *at = json_object_get(expected, "sample_index");
    const json_t *value = json_object_get(expected, "sample_gradient");
    assert_true(json_array_size(at) > 0);
    for (size_t i = 0; i < json_array_size(at); i++) {
        const size_t k = (size_t)json_integer_value(json_array_get(at, i));
        assert_true(k < t.count);
        assert_near(t.name, k, (double)g[k],
                    json_number_value(json_array_get(value, i)), 1e-4, 2e-6);
    }
}

static void gradient_is_pytorchs(void **state) {
    struct paper *p = *state;
    float loss = 0.0F;
    float norm = 0.0F;
    assert_int_equal(tl_nn_gradient(p->nn, p->weights, p->inputs, p->labels, BATCH, 0,
                                    p->gradient, &loss, &norm),
                     0);
    assert_near("loss", 0, (double)loss, reference_number(p->reference, "loss"), 1e-6,
                0.0);
    const json_t *tensors = json_object_get(p->reference, "tensors");
    double squares = 0.0;
    assert_int_equal(json_array_size(tensors), tl_nn_tensors(p->nn));
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *expected = json_array_get(tensors, i);
        compare_tensor(p, i, expected);
        squares += pow(reference_number(expected, "gradient_l2"), 2.0);
    }
    assert_near("norm", 0, (double)norm, sqrt(squares), 1e-5, 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_papers_parameters),
        cmocka_unit_test(logits_are_pytorchs),
        cmocka_unit_test(gradient_is_pytorchs),
    };
    return cmocka_run_group_tests_name("nn paper_cnn", tests, set_up, tear_down);
}
