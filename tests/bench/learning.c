/* learning.c - is training as fast per update as one undisturbed PyTorch process, and
 * does a job of two async workers reach 90 % within five epochs?
 *
 * The curve: the paper's CNN, sync with one worker, is gradient after gradient folded
 * in order; nn and fold do just that here, and are evaluated at the updates that
 * tests/data/pytorch/learning-curves.csv lists. The mean of our seeds must not lie
 * below PyTorch's by more than chance makes it: three standard errors of the
 * difference. (The range of three seeds would be no measure: every fifth time the
 * median of three more draws of the same kind falls below it.) The job: `throughline
 * run`, five epochs, with a learning rate that falls to nothing at their end: at a
 * constant one neighbouring evaluations swing by a point, and the last is luck.
 *
 * It needs all of Fashion-MNIST (training.h says where); without, it says so and does
 * nothing. */
#include "training.h"

#define SEEDS      5
#define SEEDS_MAX  8
#define CHECKS_MAX 16

#define ERRORS_ALLOWED 3.0

#define JOB_GOAL   0.90
#define JOB_EPOCHS 5
#define MOMENTUM   0.9

/* ---- samples ------------------------------------------------------------------- */

/* Accuracies of several seeds at one number of updates. */
struct sample {
    double values[SEEDS_MAX];
    size_t count;
};

static void add(struct sample *s, double value) {
    if (s->count == SEEDS_MAX) {
        bench_die("more seeds than expected");
    }
    s->values[s->count++] = value;
}

static double mean_of(const struct sample *s) {
    double sum = 0.0;
    for (size_t i = 0; i < s->count; i++) {
        sum += s->values[i];
    }
    return sum / (double)s->count;
}

/* Of the mean, from the sample alone. */
static double error_squared(const struct sample *s) {
    double mean = mean_of(s);
    double sum = 0.0;
    for (size_t i = 0; i < s->count; i++) {
        sum += (s->values[i] - mean) * (s->values[i] - mean);
    }
    return sum / (double)(s->count - 1) / (double)s->count;
}

/* What PyTorch reached at each listed number of updates. */
struct reference {
    uint64_t updates[CHECKS_MAX];
    struct sample accuracy[CHECKS_MAX];
    size_t count;
};

static void note(struct reference *r, uint64_t updates, double accuracy) {
    size_t i = 0;
    while (i < r->count && r->updates[i] != updates) {
        i++;
    }
    if (i == CHECKS_MAX) {
        bench_die("more updates in learning-curves.csv than expected");
    }
    if (i == r->count) {
        r->updates[r->count++] = updates;
    }
    add(&r->accuracy[i], accuracy);
}

static struct reference read_reference(void) {
    struct reference r = {.count = 0};
    char line[256];
    FILE *f = fopen(TL_SOURCE_DIR "/tests/data/pytorch/learning-curves.csv", "r");
    if (f == NULL || fgets(line, sizeof(line), f) == NULL) {
        bench_die("tests/data/pytorch/learning-curves.csv cannot be read");
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        char *at = line;
        double momentum = strtod(at, &at);
        (void)strtod(at + 1, &at); /* the seed */
        uint64_t updates = strtoull(at + 1, &at, 10);
        double accuracy = strtod(at + 1, &at);
        if (momentum == MOMENTUM) {
            note(&r, updates, accuracy);
        }
    }
    (void)fclose(f);
    return r;
}

/* ---- ours ---------------------------------------------------------------------- */

static void train(struct training *t, uint64_t seed, const struct reference *r,
                  struct sample accuracies[CHECKS_MAX]) {
    const struct tl_fold_config config = {
        .optimizer = {.kind = TL_SGD, .learning_rate = 0.01, .momentum = MOMENTUM},
    };
    uint64_t done = 0;
    training_begin(t, config, seed, 1);
    for (size_t i = 0; i < r->count; i++) {
        for (; done < r->updates[i]; done++) {
            training_push(t, 0);
            training_read(t, 0);
        }
        add(&accuracies[i], training_accuracy(t));
    }
    training_end(t);
}

static bool report(uint64_t updates, const struct sample *ours,
                   const struct sample *theirs) {
    double difference = mean_of(ours) - mean_of(theirs);
    double error = sqrt(error_squared(ours) + error_squared(theirs));
    bool holds = difference >= -ERRORS_ALLOWED * error;
    printf("bench learning %5llu updates: accuracy %.4f, PyTorch's %.4f, ratio %.3f, "
           "difference %+.1f standard errors (goal >= %.0f) %s\n",
           (unsigned long long)updates, mean_of(ours), mean_of(theirs),
           mean_of(ours) / mean_of(theirs), difference / error, -ERRORS_ALLOWED,
           bench_verdict(holds));
    (void)fflush(stdout);
    return holds;
}

static bool compare_curves(struct training *t) {
    const struct reference r = read_reference();
    struct sample ours[CHECKS_MAX] = {0};
    bool ok = true;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        train(t, seed, &r, ours);
    }
    for (size_t i = 0; i < r.count; i++) {
        ok = report(r.updates[i], &ours[i], &r.accuracy[i]) && ok;
    }
    return ok;
}

/* ---- the job ---------------------------------------------------------------- */

static bool run_job(const char *dir, size_t examples) {
    char out[] = "/tmp/tl-bench-XXXXXX";
    char flags[7][4300];
    size_t updates = JOB_EPOCHS * examples / TRAINING_BATCH;
    static const char *const names[] = {"train-images", "train-labels", "test-images",
                                        "test-labels"};
    static const char *const files[] = {"train-images-idx3", "train-labels-idx1",
                                        "t10k-images-idx3", "t10k-labels-idx1"};
    if (mkdtemp(out) == NULL) {
        bench_die("no temporary directory");
    }
    for (int i = 0; i < 4; i++) {
        (void)snprintf(flags[i], sizeof(flags[i]), "--data-%s=%s/%s-ubyte.gz", names[i],
                       dir, files[i]);
    }
    (void)snprintf(flags[4], sizeof(flags[4]), "--until=updates=%zu", updates);
    (void)snprintf(flags[5], sizeof(flags[5]), "--out=%s/run", out);
    (void)snprintf(flags[6], sizeof(flags[6]), "--schedule-period=%zu", updates);
    const char *argv[] = {"throughline",
                          "run",
                          TL_SOURCE_DIR "/examples/fashion-cnn.json",
                          flags[0],
                          flags[1],
                          flags[2],
                          flags[3],
                          flags[4],
                          flags[5],
                          flags[6],
                          "--schedule-kind=cosine",
                          "--quiet",
                          "--json",
                          "--monitor-every-seconds=20",
                          NULL};
    char text[16384];
    int fd = -1;
    pid_t pid = bench_start(argv, &fd);
    bench_finish(pid, fd, text, sizeof(text));
    double accuracy = bench_number(text, "accuracy");
    bench_remove_tree(out);
    bool holds = accuracy >= JOB_GOAL;
    printf(
        "bench learning job: two async workers, %d epochs, accuracy %.4f, ratio %.3f "
        "to the goal of %.2f %s\n",
        JOB_EPOCHS, accuracy, accuracy / JOB_GOAL, JOB_GOAL, bench_verdict(holds));
    return holds;
}

int main(void) {
    char dir[4096];
    if (!training_find_data(dir, sizeof(dir))) {
        printf("bench learning: all of Fashion-MNIST is needed (datasets/fetch "
               "fashion-mnist): not run\n");
        return 0;
    }
    static struct training t;
    training_init(&t, dir, "fashion-cnn");
    size_t examples = tl_dataset_count(t.train);
    bool ok = compare_curves(&t);
    ok = run_job(dir, examples) && ok;
    return ok ? 0 : 1;
}
