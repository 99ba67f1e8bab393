/* A model's JSON: what is taken can be used, and small ones are. */
#include "throughline/config.h"
#include "throughline/nn.h"

#include "fuzz.h"

#define SMALL 4096u

static void use(struct tl_nn *nn) {
    uint64_t parameters = tl_nn_parameters(nn);
    size_t inputs = tl_nn_inputs(nn);
    if (parameters > SMALL || inputs > SMALL) {
        return;
    }
    float *weights = calloc(parameters + 1, sizeof(float));
    float *gradient = calloc(parameters + 1, sizeof(float));
    float *batch = calloc(2 * inputs + 1, sizeof(float));
    const uint8_t labels[2] = {0, 0};
    float loss = 0.0F;
    float norm = 0.0F;
    must(weights != NULL && gradient != NULL && batch != NULL);
    tl_nn_init(nn, 1, weights);
    must(tl_nn_gradient(nn, weights, batch, labels, 2, 1, gradient, &loss, &norm) == 0);
    free(weights);
    free(gradient);
    free(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *json = NULL;
    struct tl_nn *nn = NULL;
    if (tl_json_parse((const char *)data, size, "model", TL_E_CONFIG, &json) != 0) {
        return 0;
    }
    if (tl_nn_new(json, "model", 2, &nn) == 0) {
        use(nn);
        tl_nn_free(nn);
    }
    json_decref(json);
    return 0;
}
