/* stale.c - a server is away, the workers go on with the weights they have, and what
 * they computed is folded when it is back: which policy for stale gradients costs
 * least?
 *
 *   stale [MODEL [SEEDS [BACKLOG...]]]   default: fashion-cnn, 1 seed, 200 and 500
 *
 * The paper's CNN (or another of examples/models), two async workers, momentum 0.9,
 * 2,500 gradients in all. After 1,000 the workers compute a backlog of gradients on the
 * weights of that moment, which are then folded in a row; the rest as before. A backlog
 * of 200 is what 15 seconds of three minutes are: the default policy has to be within
 * 0.5 points there. `wait` is what workers that do not go on would reach: as many
 * gradients fewer.
 *
 * Accuracy is the mean of the last EVALUATIONS of a run: with a constant learning rate
 * neighbouring updates differ by more than policies do. Each run is compared with the
 * one of its seed that had no outage; mean and 95 % interval (Student) over the seeds.
 *
 * Without a clock: what depends on the log alone. Runs go side by side, one for each
 * processor. It needs all of Fashion-MNIST (training.h); a seed takes minutes. */
#include "training.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define WORKERS      2
#define GRADIENTS    2500u
#define BEFORE       1000u
#define EVALUATIONS  4u
#define BETWEEN      25u /* gradients, of two evaluations */
#define SEEDS_MAX    31
#define BACKLOGS_MAX 8
#define BACKLOG_MOST (GRADIENTS - BEFORE - EVALUATIONS * BETWEEN)
#define GOAL         0.5 /* points */
#define GOAL_BACKLOG 200
#define DEFAULT      TL_STALE_INVERSE
#define DROP_AFTER   4

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
#define POLICIES (sizeof(policies) / sizeof(policies[0]))
#define WAIT     POLICIES /* workers that compute nothing meanwhile */
#define ROWS     (POLICIES + 1)

/* Which runs there are, and what came out; shared by the processes that make them. */
struct plan {
    size_t seeds, backlog_count;
    uint64_t backlogs[BACKLOGS_MAX];
    _Atomic size_t next;
    double undisturbed[SEEDS_MAX];
    double accuracy[BACKLOGS_MAX][ROWS][SEEDS_MAX];
};

static const char *row_name(size_t row) {
    return row == WAIT ? "wait" : policies[row].name;
}

/* ---- one run ------------------------------------------------------------------- */

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

/* From the outage on: `backlog` gradients are computed during it, `left` after it. */
static double go_on(struct training *t, uint64_t backlog, uint64_t left) {
    double sum = 0.0;
    outage(t, backlog);
    train(t, left - (uint64_t)EVALUATIONS * BETWEEN);
    for (uint32_t i = 0; i < EVALUATIONS; i++) {
        train(t, BETWEEN);
        training_read(t, 0);
        sum += training_accuracy(t);
    }
    return sum / EVALUATIONS;
}

/* In a process of its own, which begins with all that was trained here. */
static void branch(struct training *t, uint64_t backlog, uint64_t left,
                   const char *name, double *ret_accuracy) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        *ret_accuracy = go_on(t, backlog, left);
        (void)fprintf(stderr, "%s, seed %" PRIu64 ", backlog %" PRIu64 ": %.4f\n", name,
                      t->seed, GRADIENTS - BEFORE - left, *ret_accuracy);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        bench_die("a run failed");
    }
}

/* All runs of a seed and a policy: they are one until the outage. */
static void run(struct training *t, struct plan *p, size_t policy, size_t seed) {
    const struct tl_fold_config config = {
        .optimizer = {.kind = TL_SGD, .learning_rate = 0.01, .momentum = 0.9},
        .workers = WORKERS,
        .stale = policies[policy].stale,
        .max_staleness = policies[policy].max_staleness,
    };
    const uint64_t left = GRADIENTS - BEFORE;
    training_begin(t, config, seed + 1, WORKERS);
    train(t, BEFORE);
    for (size_t b = 0; b < p->backlog_count; b++) {
        branch(t, p->backlogs[b], left - p->backlogs[b], row_name(policy),
               &p->accuracy[b][policy][seed]);
    }
    if (policies[policy].stale.policy == DEFAULT) { /* the others' are the same */
        branch(t, 0, left, "no outage", &p->undisturbed[seed]);
        for (size_t b = 0; b < p->backlog_count; b++) {
            branch(t, 0, left - p->backlogs[b], row_name(WAIT),
                   &p->accuracy[b][WAIT][seed]);
        }
    }
    training_end(t);
}

/* ---- all of them --------------------------------------------------------------- */

static void make_runs(struct training *t, struct plan *p) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 0; i < processors; i++) {
        pid_t pid = fork();
        size_t at = 0;
        while (pid == 0 && (at = p->next++) < p->seeds * POLICIES) {
            run(t, p, at % POLICIES, at / POLICIES);
        }
        if (pid == 0) {
            _exit(0);
        }
        if (pid < 0) {
            bench_die("no process for the runs");
        }
    }
    int status = 0;
    while (wait(&status) > 0) {
        if (status != 0) {
            bench_die("a process that made runs failed");
        }
    }
}

/* ---- figures ------------------------------------------------------------------- */

struct figure {
    double mean, half; /* of the 95 % interval; NAN: one value has none */
};

static struct figure figure_of(const double *values, size_t count) {
    static const double student[] = {
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
        2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
        2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
    }
    struct figure f = {sum / (double)count, NAN};
    for (size_t i = 0; i < count; i++) {
        squares += (values[i] - f.mean) * (values[i] - f.mean);
    }
    if (count > 1) {
        double n = (double)count;
        f.half = student[count - 2] * sqrt(squares / (n - 1.0) / n);
    }
    return f;
}

/* Points above the run of the same seed without an outage. */
static struct figure points(const struct plan *p, size_t backlog, size_t row) {
    double differences[SEEDS_MAX];
    for (size_t seed = 0; seed < p->seeds; seed++) {
        differences[seed] =
            100.0 * (p->accuracy[backlog][row][seed] - p->undisturbed[seed]);
    }
    return figure_of(differences, p->seeds);
}

/* As in docs/results.md. */
static void print_table(const struct plan *p) {
    struct figure whole = figure_of(p->undisturbed, p->seeds);
    printf("\nno outage: %.4f +- %.4f; points from that, %zu seeds\n\n| policy |",
           whole.mean, whole.half, p->seeds);
    for (size_t b = 0; b < p->backlog_count; b++) {
        printf(" backlog of %" PRIu64 " |", p->backlogs[b]);
    }
    printf("\n|---|");
    for (size_t b = 0; b < p->backlog_count; b++) {
        printf("---:|");
    }
    for (size_t i = 0; i < ROWS; i++) {
        printf("\n| `%s` |", row_name(i));
        for (size_t b = 0; b < p->backlog_count; b++) {
            struct figure f = points(p, b, i);
            printf(" %+.2f ± %.2f |", f.mean, f.half);
        }
    }
    printf("\n\n");
}

static bool judge(const struct plan *p) {
    bool ok = true;
    for (size_t b = 0; b < p->backlog_count; b++) {
        for (size_t i = 0; i < POLICIES; i++) {
            bool is_default = policies[i].stale.policy == DEFAULT;
            if (!is_default || p->backlogs[b] > GOAL_BACKLOG) {
                continue;
            }
            struct figure f = points(p, b, i);
            printf("bench stale: default (%s), backlog %" PRIu64
                   ", %+.2f points from no outage (goal: at least -%.1f) %s\n",
                   policies[i].name, p->backlogs[b], f.mean, GOAL,
                   bench_verdict(f.mean >= -GOAL));
            ok = ok && f.mean >= -GOAL;
        }
    }
    return ok;
}

static void usage(void) {
    bench_die("stale [MODEL [SEEDS [BACKLOG...]]]: at most 31 seeds, 8 backlogs of up "
              "to 1400");
}

static uint64_t number(const char *text, uint64_t most) {
    char *end = NULL;
    uint64_t n = strtoull(text, &end, 10);
    if (*end != '\0' || n < 1 || n > most) {
        usage();
    }
    return n;
}

static struct plan *new_plan(int argc, char **argv) {
    struct plan *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        bench_die("no memory");
    }
    p->seeds = argc > 2 ? number(argv[2], SEEDS_MAX) : 1;
    p->backlogs[0] = GOAL_BACKLOG;
    p->backlogs[1] = 500;
    p->backlog_count = argc > 3 ? (size_t)argc - 3 : 2;
    if (p->backlog_count > BACKLOGS_MAX) {
        usage();
    }
    for (int i = 3; i < argc; i++) {
        p->backlogs[i - 3] = number(argv[i], BACKLOG_MOST);
    }
    return p;
}

int main(int argc, char **argv) {
    static struct training t;
    char dir[4096];
    struct plan *p = new_plan(argc, argv);
    if (!training_find_data(dir, sizeof(dir))) {
        printf("bench stale: all of Fashion-MNIST is needed (datasets/fetch "
               "fashion-mnist): not run\n");
        return 0;
    }
    training_init(&t, dir, argc > 1 ? argv[1] : "fashion-cnn");
    make_runs(&t, p);
    print_table(p);
    return judge(p) ? 0 : 1;
}
