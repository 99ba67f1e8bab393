/* nn_support.h - models and numbers for the tests of the model stage. */
#ifndef TL_NN_SUPPORT_H
#define TL_NN_SUPPORT_H

#include "throughline/nn.h"

#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A file of tests/data/pytorch. */
static inline json_t *load_reference(const char *name) {
    char path[512];
    json_error_t error;
    (void)snprintf(path, sizeof(path), "%s/pytorch/%s", TL_TEST_DATA, name);
    json_t *json = json_load_file(path, 0, &error);
    if (json == NULL) {
        fail_msg("%s:%d: %s", path, error.line, error.text);
    }
    return json;
}

static inline json_t *parse_json(const char *text) {
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    if (json == NULL) {
        fail_msg("test's own JSON: %s in %s", error.text, text);
    }
    return json;
}

static inline struct tl_nn *build_json(const json_t *model, size_t max_batch) {
    struct tl_nn *nn = NULL;
    if (tl_nn_new(model, "model.json", max_batch, &nn) != 0) {
        fail_msg("%s", tl_error_text());
    }
    return nn;
}

static inline struct tl_nn *build(const char *text, size_t max_batch) {
    json_t *model = parse_json(text);
    struct tl_nn *nn = build_json(model, max_batch);
    json_decref(model);
    return nn;
}

/* A model of the examples folder. */
static inline struct tl_nn *build_example(const char *name, size_t max_batch) {
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/examples/models/%s", TL_SOURCE_DIR, name);
    json_t *model = json_load_file(path, 0, NULL);
    assert_non_null(model);
    struct tl_nn *nn = build_json(model, max_batch);
    json_decref(model);
    return nn;
}

static inline float *make_floats(size_t count) {
    float *values = calloc(count, sizeof(*values));
    assert_non_null(values);
    return values;
}

/* An array of numbers as floats; the caller frees them. */
static inline float *read_floats(const json_t *array, size_t count) {
    float *values = make_floats(count);
    assert_int_equal(json_array_size(array), count);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)json_number_value(json_array_get(array, i));
    }
    return values;
}

/* The rule that rebuilds weights and inputs of the references: a linear congruence. */
static inline void fill_by_rule(float *values, size_t count, uint32_t seed,
                                double scale) {
    uint32_t v = seed;
    for (size_t i = 0; i < count; i++) {
        v = 1664525u * v + 1013904223u;
        values[i] = (float)(((double)v / 0x1p32 - 0.5) * scale);
    }
}

static inline void assert_near(const char *what, size_t i, double value,
                               double expected, double relative, double absolute) {
    if (!(fabs(value - expected) <= relative * fabs(expected) + absolute)) {
        fail_msg("%s[%zu] is %.9g, expected %.9g", what, i, value, expected);
    }
}

#endif
