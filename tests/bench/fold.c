/* How long a fold of the paper's 813,258 parameters takes, beside a bare loop that
 * moves the same bytes through the same number of arrays: what the memory allows.
 *
 *   bench fold sgd: 0.21 ms, stream 0.18 ms, ratio 1.17, 46.0 GB/s
 *
 * Fold and loop take turns; medians. Goals on the reference machine: sgd in 0.25 ms,
 * momentum in 0.35 ms. */
#include "throughline/fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { COUNT = 813258, ROUNDS = 401, ARRAYS_MAX = 3, GRADIENTS = 2 };

/* As the fold's own loops are built (services/lib/fold/kernels.c). */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&    \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

static double now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

static void die(const char *what, const char *why) {
    (void)fprintf(stderr, "bench fold: %s: %s\n", what, why);
    exit(1);
}

static void check(int rc) {
    if (rc != 0) {
        die(tl_error_name(rc), tl_error_text());
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
    double start = now_ms();
    check(tl_fold_apply(f, &r, &effect));
    double took = now_ms() - start;
    tl_view_release(view);
    return took;
}

static double stream_timed(const struct stream *s, const float *gradient) {
    double start = now_ms();
    stream_once(s, gradient);
    return now_ms() - start;
}

/* In large pages, as the fold's own memory. Lives as long as the process. */
static float *new_array(float value) {
    void *p = mmap(NULL, COUNT * sizeof(float), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        die("mmap", "out of memory");
    }
    (void)madvise(p, COUNT * sizeof(float), MADV_HUGEPAGE);
    float *a = p;
    for (size_t i = 0; i < COUNT; i++) {
        a[i] = value;
    }
    return a;
}

static void run(const struct bench *b, struct stream s, float *const *gradients) {
    static double fold_ms[ROUNDS], stream_ms[ROUNDS];
    s.array_count = b->arrays;
    struct tl_fold *f = new_fold(b, s.arrays[0]);
    for (uint64_t n = 0; n < ROUNDS; n++) {
        const float *g = gradients[n % GRADIENTS];
        fold_ms[n] = fold_once(b, f, n, g);
        stream_ms[n] = stream_timed(&s, g);
    }
    double fold = median(fold_ms, ROUNDS), stream = median(stream_ms, ROUNDS);
    double bytes = (double)COUNT * sizeof(float) * (1.0 + 2.0 * (double)b->arrays);
    printf("bench fold %s: %.3f ms, stream %.3f ms, ratio %.2f, %.1f GB/s\n", b->name,
           fold, stream, fold / stream, bytes / fold * 1e-6);
    tl_fold_free(f);
}

static struct bench bench_of(const char *name, enum tl_optimizer_kind kind,
                             double momentum) {
    return (struct bench){
        .name = name,
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
        bench_of("sgd", TL_SGD, 0.0),
        bench_of("momentum", TL_SGD, 0.9),
        bench_of("nesterov", TL_SGD, 0.9),
        bench_of("adam", TL_ADAM, 0.0),
        bench_of("momentum, finite", TL_SGD, 0.9),
        bench_of("momentum, clipped", TL_SGD, 0.9),
        bench_of("momentum, finite, while a view is held", TL_SGD, 0.9),
        bench_of("sgd, finite, while a view is held", TL_SGD, 0.0),
        bench_of("momentum, sync of two, per gradient", TL_SGD, 0.9),
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
    for (size_t i = 0; i < CASES; i++) {
        run(&b[i], s, gradients);
    }
    return 0;
}
