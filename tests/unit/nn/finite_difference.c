/* finite_difference.c - every gradient against the loss's own differences.
 *
 * For each parameter tensor, in several random directions: the loss a small step
 * forward minus the loss a small step back must be what the gradient says. A tensor low
 * in the model also checks what every layer above hands down.
 *
 * ReLU and the maximum have kinks, and a difference across one is no derivative: the
 * best of a few steps counts, and a quarter of the directions may be off. A wrong
 * gradient is right by chance in hardly one. */
#include "throughline/data.h"

#include "nn_support.h"

#include <string.h>

#define BATCH      6
#define DIRECTIONS 8
#define ENOUGH     6 /* directions that must agree */

struct trial {
    struct tl_nn *nn;
    float *weights, *moved, *gradient, *ignored, *inputs;
    uint8_t labels[BATCH];
};

static void open_trial(struct trial *t, const char *model) {
    t->nn = build(model, BATCH);
    const size_t count = tl_nn_parameters(t->nn);
    t->weights = make_floats(count);
    t->moved = make_floats(count);
    t->gradient = make_floats(count);
    t->ignored = make_floats(count);
    t->inputs = make_floats(BATCH * tl_nn_inputs(t->nn));
    tl_nn_init(t->nn, 7, t->weights);
    fill_by_rule(t->inputs, BATCH * tl_nn_inputs(t->nn), 5, 2.0);
    for (size_t i = 0; i < BATCH; i++) {
        t->labels[i] = (uint8_t)(i % tl_nn_classes(t->nn));
    }
}

static void close_trial(struct trial *t) {
    tl_nn_free(t->nn);
    free(t->weights);
    free(t->moved);
    free(t->gradient);
    free(t->ignored);
    free(t->inputs);
}

static double loss_at(struct trial *t, const float *weights, float *gradient) {
    float loss = 0.0F;
    assert_int_equal(tl_nn_gradient(t->nn, weights, t->inputs, t->labels, BATCH, 11,
                                    gradient, &loss, NULL),
                     0);
    return (double)loss;
}

/* A direction of length 1 over one tensor. */
static float *make_direction(const struct tl_nn_tensor *tensor, uint64_t *random) {
    float *direction = make_floats(tensor->count);
    double squares = 0.0;
    for (size_t i = 0; i < tensor->count; i++) {
        direction[i] = 2.0F * tl_random_unit(random) - 1.0F;
        squares += (double)(direction[i] * direction[i]);
    }
    for (size_t i = 0; i < tensor->count; i++) {
        direction[i] /= (float)sqrt(squares);
    }
    return direction;
}

static double loss_moved(struct trial *t, const struct tl_nn_tensor *tensor,
                         const float *direction, float step) {
    memcpy(t->moved, t->weights, tl_nn_parameters(t->nn) * sizeof(float));
    for (size_t i = 0; i < tensor->count; i++) {
        t->moved[tensor->first + i] += step * direction[i];
    }
    return loss_at(t, t->moved, t->ignored);
}

/* The difference quotient, of several steps, that is nearest to `slope`. */
static double nearest_quotient(struct trial *t, const struct tl_nn_tensor *tensor,
                               const float *direction, double slope) {
    static const float steps[] = {4e-3F, 1e-3F, 2.5e-4F};
    double nearest = INFINITY;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const double ahead = loss_moved(t, tensor, direction, steps[i]);
        const double back = loss_moved(t, tensor, direction, -steps[i]);
        const double quotient = (ahead - back) / (2.0 * (double)steps[i]);
        if (fabs(quotient - slope) < fabs(nearest - slope)) {
            nearest = quotient;
        }
    }
    return nearest;
}

static void check_tensor(struct trial *t, size_t index) {
    struct tl_nn_tensor tensor;
    tl_nn_tensor(t->nn, index, &tensor);
    if (strstr(tensor.name, "running_") != NULL) {
        return; /* not learned from the loss */
    }
    uint64_t random = tl_random_mix(1, index, 0);
    size_t agree = 0;
    for (size_t d = 0; d < DIRECTIONS; d++) {
        float *direction = make_direction(&tensor, &random);
        double slope = 0.0;
        for (size_t i = 0; i < tensor.count; i++) {
            slope += (double)t->gradient[tensor.first + i] * (double)direction[i];
        }
        const double error =
            fabs(nearest_quotient(t, &tensor, direction, slope) - slope);
        agree += error <= 0.01 * fabs(slope) + 8e-4 ? 1u : 0u;
        free(direction);
    }
    if (agree < ENOUGH) {
        fail_msg("%s: the gradient agrees with the loss in %zu of %d directions",
                 tensor.name, agree, DIRECTIONS);
    }
}

static void check(const char *model) {
    struct trial t;
    open_trial(&t, model);
    (void)loss_at(&t, t.weights, t.gradient);
    double largest = 0.0;
    for (uint64_t i = 0; i < tl_nn_parameters(t.nn); i++) {
        largest = fmax(largest, fabs((double)t.gradient[i]));
    }
    assert_true(largest > 0.01); /* there is something to be wrong */
    for (size_t i = 0; i < tl_nn_tensors(t.nn); i++) {
        check_tensor(&t, i);
    }
    close_trial(&t);
}

#define MODEL(input, layers)                                                           \
    "{\"input\": [" input "], \"classes\": 3, \"layers\": [" layers                    \
    "{\"type\": \"dense\", \"units\": 3}]}"
#define CONV(filters, more)                                                            \
    "{\"type\": \"conv2d\", \"filters\": " filters ", \"kernel\": 3" more "}, "
#define RELU       "{\"type\": \"relu\"}, "
#define POOL(size) "{\"type\": \"max_pool\", \"size\": " size "}, "
#define DENSE      "{\"type\": \"dense\", \"units\": 9}, "
#define DROPOUT    "{\"type\": \"dropout\", \"rate\": 0.3}, "
#define NORM       "{\"type\": \"batch_norm\"}, "
#define FLATTEN    "{\"type\": \"flatten\"}, "

static void dense(void **state) {
    (void)state;
    check(MODEL("7", DENSE));
    check(MODEL("7", DENSE RELU DENSE RELU));
}

static void conv2d(void **state) {
    (void)state;
    check(MODEL("2, 6, 5", CONV("4", "") CONV("3", "") FLATTEN));
    check(MODEL("1, 9, 8", CONV("4", ", \"padding\": 1, \"stride\": 2")
                               CONV("3", ", \"padding\": 2") FLATTEN));
}

static void conv2d_with_relu(void **state) {
    (void)state;
    check(MODEL("2, 6, 5",
                CONV("6", "") RELU CONV("5", ", \"padding\": 1") RELU FLATTEN));
}

/* Three channels are below the length from which the sparse way is taken, six above. */
static void conv2d_with_pooling(void **state) {
    (void)state;
    check(MODEL("2, 9, 11", CONV("3", "") POOL("2") CONV("4", ", \"padding\": 1")
                                POOL("2") FLATTEN));
    check(MODEL("1, 12, 13", CONV("6", ", \"padding\": 1") RELU POOL("2")
                                 CONV("7", ", \"padding\": 1") RELU POOL("2") FLATTEN));
    check(MODEL("6, 11, 13", CONV("6", "") POOL("3") RELU FLATTEN));
    check(MODEL("7, 20, 21", CONV("6", ", \"stride\": 2") RELU POOL("2")
                                 CONV("6", ", \"padding\": 1") POOL("3") FLATTEN));
}

static void max_pool_alone(void **state) {
    (void)state;
    check(MODEL("2, 9, 8", CONV("4", "") POOL("2") POOL("3") FLATTEN));
    check(MODEL("2, 9, 8", CONV("4", "") NORM POOL("2") RELU FLATTEN));
}

static void batch_norm(void **state) {
    (void)state;
    check(MODEL("2, 5, 5", CONV("4", "") NORM RELU CONV("3", "") FLATTEN));
    check(MODEL("7", DENSE NORM RELU));
    check(MODEL("3, 4, 4", NORM FLATTEN DENSE));
}

static void dropout(void **state) {
    (void)state;
    check(MODEL("7", DENSE RELU DROPOUT));
    check(MODEL("7", DROPOUT DENSE DROPOUT RELU DENSE));
    check(MODEL("2, 6, 5", CONV("4", "") RELU DROPOUT CONV("3", "") DROPOUT FLATTEN));
}

static void flatten(void **state) {
    (void)state;
    check(MODEL("3, 4, 5", FLATTEN DENSE RELU));
    check(MODEL("1, 4, 5", RELU FLATTEN FLATTEN DENSE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense),
        cmocka_unit_test(conv2d),
        cmocka_unit_test(conv2d_with_relu),
        cmocka_unit_test(conv2d_with_pooling),
        cmocka_unit_test(max_pool_alone),
        cmocka_unit_test(batch_norm),
        cmocka_unit_test(dropout),
        cmocka_unit_test(flatten),
    };
    return cmocka_run_group_tests_name("nn finite_difference", tests, NULL, NULL);
}
