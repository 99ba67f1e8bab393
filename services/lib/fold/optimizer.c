/* optimizer.c - the scalars of one update.
 *
 * Powers of beta are kept as running products in the state: a recovered fold goes on
 * with the same bits, and no pow() is needed. Scalars are doubles until they meet the
 * elements, as in PyTorch. */
#include "fold_internal.h"
#include "root.h"

static void adam_step(struct tl_fold *f, double rate, struct tl_step *step) {
    const struct tl_optimizer *o = &f->config.optimizer;
    f->beta1_power *= o->beta1;
    f->beta2_power *= o->beta2;
    step->beta1_rest = (float)(1.0 - o->beta1);
    step->beta2 = (float)o->beta2;
    step->beta2_rest = (float)(1.0 - o->beta2);
    step->root = (float)tl_root(1.0 - f->beta2_power);
    step->epsilon = (float)o->epsilon;
    step->step_size = (float)(rate / (1.0 - f->beta1_power));
    step->shrink = 1.0f;
}

struct tl_step tl_optimizer_step(struct tl_fold *f) {
    const struct tl_optimizer *o = &f->config.optimizer;
    double rate = tl_fold_rate(f);
    struct tl_step step = {
        .rate = (float)rate,
        .momentum = (float)o->momentum,
        .decay = (float)o->weight_decay,
    };
    if (o->kind != TL_SGD) {
        adam_step(f, rate, &step);
    }
    if (o->kind == TL_ADAMW) {
        step.decay = 0.0f;
        step.shrink = (float)(1.0 - rate * o->weight_decay);
    }
    return step;
}
