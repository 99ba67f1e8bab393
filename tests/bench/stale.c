/* stale.c - a server is away, the workers go on with the weights they have, and what
 * they computed is folded when it is back: which policy for stale gradients costs
 * least?
 *
 * The paper's CNN, two async workers, momentum 0.9, 2,500 gradients in all. After 1,000
 * the workers compute `backlog` gradients on the weights of that moment, which are then
 * folded in a row; the rest as before. Accuracy at the end at equal examples, beside
 * that of the same run without the outage; medians over the seeds ($STALE_SEEDS, 1 by
 * default: a seed takes minutes). A backlog of 200 is what 15 seconds of three minutes
 * are: the default policy has to be within 0.5 points there. One of 500 shows what
 * breaks.
 *
 * Without a process or a clock: what depends on the log alone. It needs all of
 * Fashion-MNIST (training.h). */
#include "training.h"

#define WORKERS      2
#define GRADIENTS    2500
#define BEFORE       1000
#define SEEDS_MAX    16
#define GOAL         0.005
#define GOAL_BACKLOG 200
#define DEFAULT      TL_STALE_INVERSE
#define DROP_AFTER   4

/* Each worker computes, is folded, and reads, in turn. */
static void train(struct training *t, uint64_t gradients) {
    for (uint64_t n = 0; n < gradients; n++) {
        uint32_t worker = (uint32_t)(n % WORKERS);
        training_push(t, worker);
        training_read(t, worker);
    }
}

/* Nobody reads before all that piled up is folded. */
static void outage(struct training *t, uint64_t backlog) {
    for (uint64_t n = 0; n < backlog; n++) {
        training_push(t, (uint32_t)(n % WORKERS));
    }
    for (uint32_t w = 0; w < WORKERS && backlog > 0; w++) {
        training_read(t, w);
    }
}

static double accuracy(struct training *t, struct tl_fold_config config, uint64_t seed,
                       uint64_t backlog) {
    training_begin(t, config, seed, WORKERS);
    train(t, BEFORE);
    outage(t, backlog);
    train(t, GRADIENTS - BEFORE - backlog);
    training_read(t, 0);
    double result = training_accuracy(t);
    training_end(t);
    return result;
}

static double median_accuracy(struct training *t, struct tl_fold_config config,
                              uint64_t seeds, uint64_t backlog) {
    double at[SEEDS_MAX];
    for (uint64_t seed = 0; seed < seeds; seed++) {
        at[seed] = accuracy(t, config, seed + 1, backlog);
    }
    return bench_median(at, seeds);
}

struct policy {
    const char *name;
    struct tl_stale stale;
    uint64_t max_staleness;
};

static const struct policy policies[] = {
    {"apply", {.policy = TL_STALE_APPLY}, 0},
    {"backlog", {.policy = TL_STALE_BACKLOG}, 0},
    {"inverse", {.policy = TL_STALE_INVERSE}, 0},
    {"gap", {.policy = TL_STALE_GAP}, 0},
    {"delay", {.policy = TL_STALE_DELAY, .lambda = 0.04}, 0},
    {"clip", {.policy = TL_STALE_CLIP, .norm = 0.1}, 0},
    {"elastic", {.policy = TL_STALE_ELASTIC, .alpha = 0.5}, 0},
    {"drop", {.policy = TL_STALE_APPLY}, DROP_AFTER},
};

static bool compare(struct training *t, uint64_t seeds, uint64_t backlog) {
    struct tl_fold_config config = {
        .optimizer = {.kind = TL_SGD, .learning_rate = 0.01, .momentum = 0.9},
        .workers = WORKERS,
    };
    double undisturbed = median_accuracy(t, config, seeds, 0), chosen = 0.0;
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        config.stale = policies[i].stale;
        config.max_staleness = policies[i].max_staleness;
        double got = median_accuracy(t, config, seeds, backlog);
        chosen = policies[i].stale.policy == DEFAULT ? got : chosen;
        printf("bench stale %s: backlog %llu, accuracy %.4f, without outage %.4f, "
               "ratio %.3f\n",
               policies[i].name, (unsigned long long)backlog, got, undisturbed,
               got / undisturbed);
        (void)fflush(stdout);
    }
    bool holds = backlog > GOAL_BACKLOG || undisturbed - chosen <= GOAL;
    printf(
        "bench stale default: backlog %llu, %+.2f points (goal: at least -%.1f up to "
        "a backlog of %d) %s\n",
        (unsigned long long)backlog, 100.0 * (chosen - undisturbed), 100.0 * GOAL,
        GOAL_BACKLOG, bench_verdict(holds));
    return holds;
}

int main(void) {
    char dir[4096];
    const char *wanted = getenv("STALE_SEEDS");
    uint64_t seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : 1;
    if (!training_find_data(dir, sizeof(dir))) {
        printf("bench stale: all of Fashion-MNIST is needed (datasets/fetch "
               "fashion-mnist): not run\n");
        return 0;
    }
    if (seeds < 1 || seeds > SEEDS_MAX) {
        bench_die("STALE_SEEDS is a number from 1 to 16");
    }
    static struct training t;
    training_init(&t, dir);
    bool ok = compare(&t, seeds, GOAL_BACKLOG);
    ok = compare(&t, seeds, 500) && ok;
    return ok ? 0 : 1;
}
