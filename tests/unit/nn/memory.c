/* Memory runs out while a model with every kind of layer is built. */
#include "nn_support.h"
#include "scarce.h"

static int make(void *ctx) {
    struct tl_nn *nn = NULL;
    int rc = tl_nn_new(ctx, "model.json", 4, &nn);
    tl_nn_free(nn);
    return rc;
}

static void a_model(void **state) {
    (void)state;
    json_t *model = parse_json(
        "{\"input\": [1, 8, 8], \"classes\": 3, \"layers\": ["
        "{\"type\": \"conv2d\", \"filters\": 2, \"kernel\": 3, \"padding\": 1},"
        "{\"type\": \"batch_norm\"}, {\"type\": \"relu\"},"
        "{\"type\": \"max_pool\", \"size\": 2}, {\"type\": \"flatten\"},"
        "{\"type\": \"dropout\", \"rate\": 0.5}, {\"type\": \"dense\", \"units\": "
        "3}]}");
    scarce_torture(make, model);
    json_decref(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_model)};
    return cmocka_run_group_tests_name("nn/memory", tests, NULL, NULL);
}
