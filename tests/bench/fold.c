/* How long a fold of the paper's 813,258 parameters takes, beside a bare loop that
 * moves the same bytes through the same number of arrays: what the memory allows.
 *
 *   bench fold sgd: 0.14 ms, 70 GB/s, stream 0.13 ms, ratio 1.07 (goal <= 1.30) PASS
 *
 * Fold and loop take turns; medians. Cases that read or write more than the loop (a
 * scan for NaN, a copy since somebody holds the version, a barrier's sum) have a goal
 * that leaves room for it. */
#include "throughline/fold.h"

#include "bench.h"

#include <sys/mman.h>

enum { COUNT = 813258, ROUNDS = 401, ARRAYS_MAX = 3, GRADIENTS = 2 };

/* As the fold's own loops are built (services/lib/fold/kernels.c). */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&    \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

static void check(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

/* ---- the bare loop --------------------------------------------------------------- */

struct stream {
    float *arrays[ARRAYS_MAX];
    size_t array_count;
};

WIDE static void stream_1(float *restrict a, const float *restrict g) {
    for (size_t i = 0; i < COUNT; i++) {
        a[i] += g[i];
    }
}

WIDE static void stream_2(float *restrict a, float *restrict b,
                          const float *restrict g) {
    for (size_t i = 0; i < COUNT; i++) {
        b[i] += g[i];
        a[i] += b[i];
    }
}

WIDE static void stream_3(float *restrict a, float *restrict b, float *restrict c,
                          const float *restrict g) {
    for (size_t i = 0; i < COUNT; i++) {
        c[i] += g[i];
        b[i] += c[i];
        a[i] += b[i];
    }
}

/* Read the gradient, read and write every array, in one pass. */
static void stream_once(const struct stream *s, const float *gradient) {
    float *const *a = s->arrays;
    switch (s->array_count) {
    case 1:
        stream_1(a[0], gradient);
        break;
    case 2:
        stream_2(a[0], a[1], gradient);
        break;
    default:
        stream_3(a[0], a[1], a[2], gradient);
        break;
    }
}

/* ---- the fold -------------------------------------------------------------------- */

struct bench {
    const char *name;
    struct tl_fold_config config;
    double goal;      /* times the bare loop */
    size_t arrays;    /* read and written by an update */
    bool holds_views; /* as a server does: a version is being sent while the next is
                         made */
};

static struct tl_fold *new_fold(const struct bench *b, const float *weights) {
    struct tl_fold *f = NULL;
    struct tl_fold_effect effect;
    check(tl_fold_new(&b->config, weights, &f));
    for (uint32_t w = 0; w < 2; w++) {
        struct tl_record r = {.kind = TL_RECORD_JOIN,
                              .worker = w,
                              .position = tl_fold_position(f) + 1,
                              .incarnation = 1};
        check(tl_fold_apply(f, &r, &effect));
    }
    return f;
}

static double fold_once(const struct bench *b, struct tl_fold *f, uint64_t n,
                        const float *gradient) {
    struct tl_record r = {.kind = TL_RECORD_GRADIENT,
                          .worker = (uint32_t)(n % 2),
                          .position = tl_fold_position(f) + 1,
                          .incarnation = 1,
                          .sequence = 1 + n / 2,
                          .read_version = tl_fold_version(f),
                          .norm = 2.0f,
                          .values = gradient,
                          .value_count = COUNT};
    struct tl_fold_effect effect;
    struct tl_view *view = NULL;
    if (b->holds_views) {
        check(tl_fold_view(f, &view));
    }
    double start = bench_now();
    check(tl_fold_apply(f, &r, &effect));
    double took = bench_now() - start;
    tl_view_release(view);
    return took;
}

static double stream_timed(const struct stream *s, const float *gradient) {
    double start = bench_now();
    stream_once(s, gradient);
    return bench_now() - start;
}

/* In large pages, as the fold's own memory. Lives as long as the process. */
static float *new_array(float value) {
    void *p = mmap(NULL, COUNT * sizeof(float), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        bench_die("out of memory");
    }
    (void)madvise(p, COUNT * sizeof(float), MADV_HUGEPAGE);
    float *a = p;
    for (size_t i = 0; i < COUNT; i++) {
        a[i] = value;
    }
    return a;
}

static bool report(const struct bench *b, double fold, double stream) {
    double bytes = (double)COUNT * sizeof(float) * (1.0 + 2.0 * (double)b->arrays);
    bool holds = fold / stream <= b->goal;
    (void)printf("bench fold %s: %.2f ms, %.0f GB/s, stream %.2f ms, ratio %.2f "
                 "(goal <= %.2f) %s\n",
                 b->name, fold * 1e3, bytes / fold * 1e-9, stream * 1e3, fold / stream,
                 b->goal, bench_verdict(holds));
    return holds;
}

static bool run(const struct bench *b, struct stream s, float *const *gradients) {
    static double fold_s[ROUNDS], stream_s[ROUNDS];
    s.array_count = b->arrays;
    struct tl_fold *f = new_fold(b, s.arrays[0]);
    for (uint64_t n = 0; n < ROUNDS; n++) {
        const float *g = gradients[n % GRADIENTS];
        fold_s[n] = fold_once(b, f, n, g);
        stream_s[n] = stream_timed(&s, g);
    }
    tl_fold_free(f);
    return report(b, bench_median(fold_s, ROUNDS), bench_median(stream_s, ROUNDS));
}

static struct bench bench_of(const char *name, double goal, enum tl_optimizer_kind kind,
                             double momentum) {
    return (struct bench){
        .name = name,
        .goal = goal,
        .arrays = kind != TL_SGD   ? 3
                  : momentum > 0.0 ? 2
                                   : 1,
        .config = {.shards = 1,
                   .count = COUNT,
                   .spare_copies = 2,
                   .optimizer = {.kind = kind,
                                 .learning_rate = 1e-6,
                                 .momentum = momentum,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .epsilon = 1e-8}},
    };
}

int main(void) {
    enum { CASES = 9 };
    struct bench b[CASES] = {
        bench_of("sgd", 1.3, TL_SGD, 0.0),
        bench_of("momentum", 1.3, TL_SGD, 0.9),
        bench_of("nesterov", 1.3, TL_SGD, 0.9),
        bench_of("adam", 2.0, TL_ADAM, 0.0),
        bench_of("momentum, finite", 1.8, TL_SGD, 0.9),
        bench_of("momentum, clipped", 1.8, TL_SGD, 0.9),
        bench_of("momentum, finite, view held", 2.5, TL_SGD, 0.9),
        bench_of("sgd, finite, view held", 3.0, TL_SGD, 0.0),
        bench_of("momentum, sync of two", 2.5, TL_SGD, 0.9),
    };
    b[2].config.optimizer.nesterov = true;
    b[4].config.refuse_nonfinite = true;
    b[5].config.clip_norm = 1.0;
    b[6].config.refuse_nonfinite = true;
    b[6].holds_views = true;
    b[7].config.refuse_nonfinite = true;
    b[7].holds_views = true;
    b[8].config.consistency = TL_SYNC;
    struct stream s;
    for (size_t k = 0; k < ARRAYS_MAX; k++) {
        s.arrays[k] = new_array(0.0f);
    }
    float *const gradients[GRADIENTS] = {new_array(1e-3f), new_array(2e-3f)};
    bool all_hold = true;
    for (size_t i = 0; i < CASES; i++) {
        all_hold = run(&b[i], s, gradients) && all_hold;
    }
    return all_hold ? 0 : 1;
}
