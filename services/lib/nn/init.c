/* init.c - a model's first weights, the same on every machine: only integers, and
 * float operations that IEEE 754 defines exactly (no logarithm, no cosine). */
#include "throughline/data.h"

#include "nn_internal.h"

#include <math.h>

/* Nearly normal, mean 0, variance 1: the sum of twelve uniform numbers of 16 bits
 * (Irwin-Hall), without tails beyond six standard deviations. */
static float normal(uint64_t *random) {
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        const uint64_t draw = tl_random_next(random);
        sum += (uint32_t)((draw & 0xffffu) + ((draw >> 16) & 0xffffu) +
                          ((draw >> 32) & 0xffffu) + (draw >> 48));
    }
    const int32_t centred = (int32_t)sum - 6 * 0xffff;
    return (float)centred / 65536.0F;
}

static float uniform(uint64_t *random) {
    return 2.0F * tl_random_unit(random) - 1.0F;
}

static void fill_he(const struct tl_nn_slot *s, uint64_t random, float *values) {
    const float deviation = sqrtf(2.0F / (float)s->fan_in);
    for (uint64_t i = 0; i < s->tensor.count; i++) {
        values[i] = s->fill == TL_NN_FILL_WEIGHT ? normal(&random) * deviation : 0.0F;
    }
}

static void fill_pytorch(const struct tl_nn_slot *s, uint64_t random, float *values) {
    const float bound = 1.0F / sqrtf((float)s->fan_in);
    for (uint64_t i = 0; i < s->tensor.count; i++) {
        values[i] = uniform(&random) * bound;
    }
}

static void fill(const struct tl_nn_slot *s, enum tl_nn_rule rule, uint64_t random,
                 float *values) {
    if (s->fill == TL_NN_FILL_ONE || s->fill == TL_NN_FILL_ZERO) {
        for (uint64_t i = 0; i < s->tensor.count; i++) {
            values[i] = s->fill == TL_NN_FILL_ONE ? 1.0F : 0.0F;
        }
    } else if (rule == TL_NN_HE) {
        fill_he(s, random, values);
    } else {
        fill_pytorch(s, random, values);
    }
}

void tl_nn_init(const struct tl_nn *nn, uint64_t seed, float *weights) {
    for (size_t i = 0; i < nn->layers; i++) {
        const struct tl_nn_layer *l = &nn->layer[i];
        for (size_t s = 0; s < l->slots; s++) {
            fill(&l->slot[s], nn->rule, tl_random_mix(seed, l->index, s),
                 weights + l->slot[s].tensor.first);
        }
    }
}
