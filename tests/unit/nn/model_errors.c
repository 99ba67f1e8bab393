/* model_errors.c - what a wrong model file gets: one line that names file, layer, field
 * and, for a misspelt name, the right one. */
#include "nn_support.h"

#include <string.h>

static void refused(const char *model, const char *text) {
    json_t *json = parse_json(model);
    struct tl_nn *nn = NULL;
    assert_int_equal(tl_nn_new(json, "model.json", 4, &nn), TL_E_CONFIG);
    assert_null(nn);
    assert_string_equal(tl_error_text(), text);
    json_decref(json);
}

/* One layer on an 8 x 8 image. */
static void layer_refused(const char *layer, const char *text) {
    char model[512];
    char whole[512];
    (void)snprintf(model, sizeof(model),
                   "{\"input\": [1, 8, 8], \"classes\": 2, \"layers\": [%s]}", layer);
    (void)snprintf(whole, sizeof(whole), "model.json: layers[0]%s", text);
    refused(model, whole);
}

static void misspelt_names(void **state) {
    (void)state;
    refused("{\"inputs\": [4], \"classes\": 2, \"layers\": []}",
            "model.json: unknown key \"inputs\"; did you mean \"input\"?");
    refused("{\"input\": [4], \"classes\": 2, \"colour\": 1}",
            "model.json: unknown key \"colour\"; known: input, classes, layers, init");
    refused("{\"input\": [4], \"classes\": 2, \"init\": \"pytroch\"}",
            "model.json: unknown \"init\" \"pytroch\"; did you mean \"pytorch\"?");
    layer_refused("{\"type\": \"conv2\"}",
                  ": unknown type \"conv2\"; did you mean \"conv2d\"?");
    layer_refused("{\"type\": \"lstm\"}",
                  ": unknown type \"lstm\"; known: conv2d, max_pool, relu, dense, "
                  "dropout, flatten, batch_norm");
    layer_refused("{\"type\": \"conv2d\", \"fliters\": 3, \"kernel\": 3}",
                  " (conv2d): unknown key \"fliters\"; did you mean \"filters\"?");
    layer_refused("{\"type\": \"relu\", \"slope\": 1}",
                  " (relu): unknown key \"slope\"; known: type");
}

static void missing_or_ill_typed_values(void **state) {
    (void)state;
    refused("[]", "model.json: the model must be a JSON object");
    refused("{\"input\": [4], \"layers\": []}",
            "model.json: \"classes\" must be a whole number from 2 to 256, is missing");
    refused("{\"input\": [4], \"classes\": \"ten\"}",
            "model.json: \"classes\" must be a whole number from 2 to 256, is \"ten\"");
    refused("{\"input\": [4], \"classes\": 2}",
            "model.json: \"layers\" must be an array of 1 to 256 layers");
    refused("{\"input\": [4], \"classes\": 2, \"init\": 3}",
            "model.json: \"init\" must be \"he\" or \"pytorch\"");
    layer_refused("7", ": must be an object with a \"type\", such as {\"type\": "
                       "\"relu\"}");
    layer_refused(
        "{\"type\": \"dense\"}",
        " (dense): \"units\" must be a whole number from 1 to 1.04858e+06, is "
        "missing");
    layer_refused("{\"type\": \"conv2d\", \"filters\": 3.0, \"kernel\": 3}",
                  " (conv2d): \"filters\" must be a whole number from 1 to 65536, is "
                  "3.0");
    layer_refused("{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": 32}",
                  " (conv2d): \"kernel\" must be a whole number from 1 to 31, is 32");
    layer_refused("{\"type\": \"dropout\", \"rate\": 1}",
                  " (dropout): \"rate\" must be a number from 0 to below 1, is 1");
    layer_refused("{\"type\": \"batch_norm\", \"epsilon\": -1e-5}",
                  " (batch_norm): \"epsilon\" must be a number from 1e-12 to 1, is "
                  "-1.0000000000000001e-5");
}

static void wrong_inputs(void **state) {
    (void)state;
    const char *const inputs[] = {"4",      "[]",           "[0]",
                                  "[1, 8]", "[1, 8, 8, 8]", "[1, 8, 65537]",
                                  "[1.5]",  "[\"4\"]",      "[-4]"};
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        char model[128];
        (void)snprintf(model, sizeof(model),
                       "{\"input\": %s, \"classes\": 2, \"layers\": []}", inputs[i]);
        refused(model, "model.json: \"input\" must be [channels, height, width] or "
                       "[values], whole numbers from 1 to 65536");
    }
}

static void layers_that_do_not_fit(void **state) {
    (void)state;
    layer_refused(
        "{\"type\": \"dense\", \"units\": 3}",
        " (dense): needs a flat row, but the layer before gives an image: put "
        "a \"flatten\" layer between");
    layer_refused("{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": 9}",
                  " (conv2d): \"kernel\" is larger than the padded image");
    layer_refused("{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": 3, \"padding\": "
                  "3}",
                  " (conv2d): \"padding\" must be smaller than \"kernel\"");
    layer_refused(
        "{\"type\": \"max_pool\", \"size\": 9}",
        " (max_pool): \"size\" is larger than the image that the layer before "
        "gives");
    refused(
        "{\"input\": [8], \"classes\": 2, \"layers\": [{\"type\": \"relu\"}, "
        "{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": 3}]}",
        "model.json: layers[1] (conv2d): needs an image, but the layer before gives "
        "a flat row");
    refused("{\"input\": [8], \"classes\": 2, \"layers\": [{\"type\": \"max_pool\", "
            "\"size\": 2}]}",
            "model.json: layers[0] (max_pool): needs an image, but the layer before "
            "gives a flat row");
    refused(
        "{\"input\": [8], \"classes\": 2, \"layers\": [{\"type\": \"dense\", "
        "\"units\": 3}]}",
        "model.json: the last layer must give a flat row of 2 values (\"classes\"), "
        "but gives a row of 3");
    refused(
        "{\"input\": [1, 8, 8], \"classes\": 64, \"layers\": [{\"type\": "
        "\"relu\"}]}",
        "model.json: the last layer must give a flat row of 64 values (\"classes\"), "
        "but gives an image of 64");
    refused("{\"input\": [8], \"classes\": 8, \"layers\": [{\"type\": \"relu\"}]}",
            "model.json: the layers must have 1 to 1073741824 parameters");
}

static void sizes_beyond_the_bounds(void **state) {
    (void)state;
    refused("{\"input\": [65536, 65536, 65536], \"classes\": 2, \"layers\": []}",
            "model.json: \"input\" is too large for batches of 4");
    refused("{\"input\": [1, 16384, 16384], \"classes\": 2, \"layers\": [{\"type\": "
            "\"conv2d\", \"filters\": 65536, \"kernel\": 31}]}",
            "model.json: layers[0] (conv2d): gives 17527820517376 values for each "
            "example, too many for batches of 4");
    refused("{\"input\": [65536], \"classes\": 2, \"layers\": [{\"type\": \"dense\", "
            "\"units\": 65536}]}",
            "model.json: layers[0] (dense): has more than 1073741824 parameters");
    refused(
        "{\"input\": [1, 8192, 8192], \"classes\": 2, \"layers\": [{\"type\": "
        "\"conv2d\", \"filters\": 1, \"kernel\": 9, \"padding\": 4}, {\"type\": "
        "\"max_pool\", \"size\": 15}, {\"type\": \"flatten\"}, {\"type\": \"dense\", "
        "\"units\": 2}]}",
        "model.json: a layer needs a buffer of more than 2147483647 values for "
        "batches of 4: use smaller layers or batches");

    json_t *json = parse_json("{}");
    struct tl_nn *nn = NULL;
    assert_int_equal(tl_nn_new(json, "model.json", 0, &nn), TL_E_CONFIG);
    assert_string_equal(tl_error_text(),
                        "model.json: batch must be from 1 to 65536, is 0");
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misspelt_names),
        cmocka_unit_test(missing_or_ill_typed_values),
        cmocka_unit_test(wrong_inputs),
        cmocka_unit_test(layers_that_do_not_fit),
        cmocka_unit_test(sizes_beyond_the_bounds),
    };
    return cmocka_run_group_tests_name("nn model_errors", tests, NULL, NULL);
}
