/* layers.c - every kind of layer, forward and backward, against PyTorch's values.
 *
 * The references have channels first, the stage's layers work with channels last: the
 * tests turn what goes in and what comes out. */
#include "nn_internal.h"
#include "nn_support.h"

#include <string.h>

/* A layer between its reference's tensors. */
struct bench {
    struct tl_nn *nn;
    struct tl_nn_layer *layer;
    struct tl_nn_pass pass;
    float *weights, *gradient, *in, *d_in;
};

static json_t *find(const json_t *all, const char *name) {
    size_t i;
    json_t *reference;
    json_array_foreach(all, i, reference) {
        if (strcmp(json_string_value(json_object_get(reference, "name")), name) == 0) {
            return reference;
        }
    }
    fail_msg("no reference named %s", name);
    return NULL;
}

static size_t element(const json_t *reference, const char *key, size_t i) {
    return (size_t)json_integer_value(
        json_array_get(json_object_get(reference, key), i));
}

static size_t product(const json_t *reference, const char *key, size_t from) {
    const size_t rank = json_array_size(json_object_get(reference, key));
    size_t count = 1;
    for (size_t i = from; i < rank; i++) {
        count *= element(reference, key, i);
    }
    return count;
}

/* Images of `shape` from channels first to last, or back. */
static void turn(const struct tl_nn_shape *shape, size_t batch, bool to_last,
                 const float *from, float *to) {
    const size_t pixels = tl_nn_pixels(shape);
    for (size_t n = 0; n < batch; n++) {
        const size_t at = n * tl_nn_size(shape);
        tl_nn_transpose(from + at, to_last ? shape->channels : pixels,
                        to_last ? pixels : shape->channels, to + at);
    }
}

static float *read_turned(const json_t *reference, const char *key,
                          const struct tl_nn_shape *shape, size_t batch) {
    float *first =
        read_floats(json_object_get(reference, key), batch * tl_nn_size(shape));
    float *last = make_floats(batch * tl_nn_size(shape));
    turn(shape, batch, true, first, last);
    free(first);
    return last;
}

/* A valid model whose first layer is the one to be tried. */
static struct tl_nn *build_around(const json_t *reference, const char *layer) {
    char text[512];
    char input[64];
    const size_t rank = json_array_size(json_object_get(reference, "input_shape"));
    if (rank == 4) {
        (void)snprintf(
            input, sizeof(input), "%zu, %zu, %zu", element(reference, "input_shape", 1),
            element(reference, "input_shape", 2), element(reference, "input_shape", 3));
    } else {
        (void)snprintf(input, sizeof(input), "%zu",
                       element(reference, "input_shape", 1));
    }
    (void)snprintf(text, sizeof(text),
                   "{\"input\": [%s], \"classes\": 2, \"layers\": [%s, {\"type\": "
                   "\"flatten\"}, {\"type\": \"dense\", \"units\": 2}]}",
                   input, layer);
    return build(text, element(reference, "input_shape", 0));
}

static void fill_slot(const struct bench *b, size_t slot, const json_t *values) {
    const struct tl_nn_tensor *t = &b->layer->slot[slot].tensor;
    float *floats = read_floats(values, t->count);
    memcpy(b->weights + t->first, floats, t->count * sizeof(float));
    free(floats);
}

static void open_bench(struct bench *b, const json_t *reference, const char *layer) {
    const size_t batch = element(reference, "input_shape", 0);
    b->nn = build_around(reference, layer);
    b->layer = &b->nn->layer[0];
    b->weights = make_floats(b->nn->parameters);
    b->gradient = make_floats(b->nn->parameters);
    b->in = read_turned(reference, "input", &b->layer->in, batch);
    b->d_in = make_floats(batch * tl_nn_size(&b->layer->in));
    b->pass = (struct tl_nn_pass){.weights = b->weights,
                                  .gradient = b->gradient,
                                  .batch = batch,
                                  .training = true,
                                  .scratch = b->nn->scratch};
    const json_t *params = json_object_get(reference, "params");
    const char *const names[] = {"weight", "bias"};
    for (size_t i = 0; i < 2 && json_object_size(params) > 0; i++) {
        const json_t *param = json_object_get(params, names[i]);
        fill_slot(b, i, json_object_get(param, "values"));
    }
}

static void close_bench(struct bench *b) {
    tl_nn_free(b->nn);
    free(b->weights);
    free(b->gradient);
    free(b->in);
    free(b->d_in);
}

static void compare(const char *what, const float *values, const json_t *expected,
                    size_t count) {
    assert_int_equal(json_array_size(expected), count);
    for (size_t i = 0; i < count; i++) {
        assert_near(what, i, (double)values[i],
                    json_number_value(json_array_get(expected, i)), 2e-5, 2e-6);
    }
}

static void compare_turned(const char *what, const float *values,
                           const struct tl_nn_shape *shape, const struct bench *b,
                           const json_t *expected) {
    const size_t count = b->pass.batch * tl_nn_size(shape);
    float *first = make_floats(count);
    turn(shape, b->pass.batch, false, values, first);
    compare(what, first, expected, count);
    free(first);
}

static void run_forward(struct bench *b, const json_t *reference) {
    assert_int_equal(product(reference, "output_shape", 1), tl_nn_size(&b->layer->out));
    b->layer->kind->forward(b->layer, &b->pass, b->in);
    compare_turned("output", b->layer->values, &b->layer->out, b,
                   json_object_get(reference, "output"));
}

static void run_backward(struct bench *b, const json_t *reference) {
    float *d_out =
        read_turned(reference, "output_gradient", &b->layer->out, b->pass.batch);
    b->layer->kind->backward(b->layer, &b->pass, b->in, d_out, b->d_in);
    free(d_out);
    compare_turned("input gradient", b->d_in, &b->layer->in, b,
                   json_object_get(reference, "input_gradient"));
    const json_t *params = json_object_get(reference, "params");
    const char *const names[] = {"weight", "bias"};
    for (size_t i = 0; i < 2 && json_object_size(params) > 0; i++) {
        const struct tl_nn_tensor *t = &b->layer->slot[i].tensor;
        const json_t *param = json_object_get(params, names[i]);
        compare(t->name, b->gradient + t->first, json_object_get(param, "gradient"),
                t->count);
    }
}

static void check_layer(const char *name, const char *layer) {
    json_t *all = load_reference("layers.json");
    const json_t *reference = find(all, name);
    struct bench b;
    open_bench(&b, reference, layer);
    run_forward(&b, reference);
    run_backward(&b, reference);
    close_bench(&b);
    json_decref(all);
}

static void conv2d(void **state) {
    (void)state;
    check_layer("conv2d", "{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": 3, "
                          "\"padding\": 1}");
    check_layer("conv2d_stride2", "{\"type\": \"conv2d\", \"filters\": 4, \"kernel\": "
                                  "3, \"padding\": 1, \"stride\": 2}");
    check_layer("conv2d_5x5_nopad",
                "{\"type\": \"conv2d\", \"filters\": 2, \"kernel\": 5}");
}

static void max_pool(void **state) {
    (void)state;
    check_layer("maxpool", "{\"type\": \"max_pool\", \"size\": 2}");
    check_layer("maxpool_odd", "{\"type\": \"max_pool\", \"size\": 2}");
}

static void dense(void **state) {
    (void)state;
    check_layer("dense", "{\"type\": \"dense\", \"units\": 5}");
}

static void relu(void **state) {
    (void)state;
    check_layer("relu", "{\"type\": \"relu\"}");
}

static void batch_norm_training(void **state) {
    (void)state;
    json_t *all = load_reference("layers.json");
    const json_t *reference = find(all, "batchnorm2d_train");
    const size_t channels = element(reference, "input_shape", 1);
    struct bench b;
    open_bench(&b, reference, "{\"type\": \"batch_norm\"}");
    float *mean = b.weights + b.layer->slot[2].tensor.first;
    float *variance = b.weights + b.layer->slot[3].tensor.first;
    for (size_t c = 0; c < channels; c++) {
        variance[c] = 1.0F;
    }
    run_forward(&b, reference);
    run_backward(&b, reference);

    /* PyTorch's running statistics move by its momentum what ours move by an update
     * with that learning rate. */
    const float step = (float)json_number_value(json_object_get(reference, "momentum"));
    for (size_t c = 0; c < channels; c++) {
        mean[c] -= step * b.gradient[b.layer->slot[2].tensor.first + c];
        variance[c] -= step * b.gradient[b.layer->slot[3].tensor.first + c];
    }
    compare("running mean", mean, json_object_get(reference, "running_mean_after"),
            channels);
    compare("running variance", variance,
            json_object_get(reference, "running_var_after"), channels);
    close_bench(&b);
    json_decref(all);
}

static void batch_norm_evaluation(void **state) {
    (void)state;
    json_t *all = load_reference("layers.json");
    const json_t *reference = find(all, "batchnorm2d_eval");
    struct bench b;
    open_bench(&b, reference, "{\"type\": \"batch_norm\"}");
    fill_slot(&b, 2, json_object_get(reference, "running_mean"));
    fill_slot(&b, 3, json_object_get(reference, "running_var"));
    b.pass.training = false;
    run_forward(&b, reference);
    close_bench(&b);
    json_decref(all);
}

static void check_loss(const json_t *all, const char *name) {
    const json_t *reference = find(all, name);
    const size_t batch = element(reference, "input_shape", 0);
    const size_t classes = element(reference, "input_shape", 1);
    float *logits = read_floats(json_object_get(reference, "input"), batch * classes);
    float *d_logits = make_floats(batch * classes);
    uint8_t labels[16];
    assert_true(batch <= sizeof(labels));
    for (size_t i = 0; i < batch; i++) {
        labels[i] = (uint8_t)element(reference, "labels", i);
    }
    const double loss = tl_nn_loss(logits, labels, batch, classes, d_logits);
    assert_near("loss", 0, loss / (double)batch,
                json_number_value(json_object_get(reference, "loss")), 1e-6, 0.0);
    compare("input gradient", d_logits, json_object_get(reference, "input_gradient"),
            batch * classes);
    free(logits);
    free(d_logits);
}

static void softmax_cross_entropy(void **state) {
    (void)state;
    json_t *all = load_reference("layers.json");
    check_loss(all, "softmax_cross_entropy");
    check_loss(all, "softmax_cross_entropy_extreme");
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv2d),
        cmocka_unit_test(max_pool),
        cmocka_unit_test(dense),
        cmocka_unit_test(relu),
        cmocka_unit_test(batch_norm_training),
        cmocka_unit_test(batch_norm_evaluation),
        cmocka_unit_test(softmax_cross_entropy),
    };
    return cmocka_run_group_tests_name("nn layers", tests, NULL, NULL);
}
