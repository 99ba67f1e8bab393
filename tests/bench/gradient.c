/* gradient.c - the gradient of the paper's CNN, batch 32, one thread: its time beside
 * PyTorch's and beside its bare matrix products', and the memory of a worker.
 *
 * The three are measured in turns, so that a busy machine is busy for all of them.
 * PyTorch runs as a child of $PYTHON (python3) and is left out where it is missing. */
#include "throughline/nn.h"

#include "bench.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH  32
#define ROUNDS 15
#define REPEAT 20 /* gradients in a round */

#define PYTORCH_GOAL 0.50
#define PRODUCT_GOAL 0.60
#define MEMORY_GOAL  64.0

static float *make_floats(size_t count) {
    float *values = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (values == NULL) {
        bench_die("out of memory");
    }
    uint32_t v = 1;
    for (size_t i = 0; i < count; i++) {
        v = 1664525u * v + 1013904223u;
        values[i] = (float)((double)v / 0x1p31 - 1.0);
    }
    return values;
}

/* ---- ours --------------------------------------------------------------------- */

struct ours {
    struct tl_nn *nn;
    float *weights, *gradient, *inputs;
    uint8_t labels[BATCH];
    uint64_t batches;
};

static void ours_open(struct ours *o) {
    const char *path = TL_SOURCE_DIR "/examples/models/fashion-cnn.json";
    json_t *model = json_load_file(path, 0, NULL);
    if (model == NULL || tl_nn_new(model, path, BATCH, &o->nn) != 0) {
        bench_die(model == NULL ? "examples/models/fashion-cnn.json cannot be read"
                                : tl_error_text());
    }
    json_decref(model);
    o->weights = make_floats(tl_nn_parameters(o->nn));
    o->gradient = make_floats(tl_nn_parameters(o->nn));
    o->inputs = make_floats(BATCH * tl_nn_inputs(o->nn));
    o->batches = 0;
    tl_nn_init(o->nn, 1, o->weights);
    for (size_t i = 0; i < BATCH; i++) {
        o->labels[i] = (uint8_t)(i % tl_nn_classes(o->nn));
    }
}

static void ours_close(struct ours *o) {
    tl_nn_free(o->nn);
    free(o->weights);
    free(o->gradient);
    free(o->inputs);
}

static double ours_ms(struct ours *o) {
    double times[REPEAT];
    for (size_t i = 0; i < REPEAT; i++) {
        float loss;
        const double start = bench_now() * 1e3;
        if (tl_nn_gradient(o->nn, o->weights, o->inputs, o->labels, BATCH, ++o->batches,
                           o->gradient, &loss, NULL) != 0) {
            bench_die(tl_error_text());
        }
        times[i] = bench_now() * 1e3 - start;
    }
    return bench_median(times, REPEAT);
}

/* Resident memory of this process: what a worker has, without a data set. */
static double resident_mib(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%*d %ld", &pages) != 1) {
        bench_die("/proc/self/statm cannot be read");
    }
    (void)fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1024.0 * 1024.0);
}

/* ---- the bare matrix products ------------------------------------------------- */

/* c[m][n] = a[m][k] b[k][n], either one stored transposed. */
struct product {
    bool a_flipped, b_flipped;
    int m, n, k;
};

/* Forward, by weights, by inputs; the first layer's inputs need no derivative. */
static const struct product products[] = {
    {false, true, BATCH * 784, 16, 9},    {true, false, 16, 9, BATCH * 784},
    {false, true, BATCH * 196, 32, 144},  {true, false, 32, 144, BATCH * 196},
    {false, false, BATCH * 196, 144, 32}, {false, true, BATCH, 512, 1568},
    {true, false, 512, 1568, BATCH},      {false, false, BATCH, 1568, 512},
    {false, true, BATCH, 10, 512},        {true, false, 10, 512, BATCH},
    {false, false, BATCH, 512, 10},
};
#define PRODUCTS   (sizeof(products) / sizeof(products[0]))
#define MATRIX_MAX ((size_t)BATCH * 196 * 144)

struct bare {
    float *a, *b, *c;
};

static void multiply_all(const struct bare *s) {
    for (size_t i = 0; i < PRODUCTS; i++) {
        const struct product *p = &products[i];
        cblas_sgemm(CblasRowMajor, p->a_flipped ? CblasTrans : CblasNoTrans,
                    p->b_flipped ? CblasTrans : CblasNoTrans, p->m, p->n, p->k, 1.0F,
                    s->a, p->a_flipped ? p->m : p->k, s->b, p->b_flipped ? p->k : p->n,
                    0.0F, s->c, p->n);
    }
}

static double bare_ms(const struct bare *s) {
    double times[REPEAT];
    for (size_t i = 0; i < REPEAT; i++) {
        const double start = bench_now() * 1e3;
        multiply_all(s);
        times[i] = bench_now() * 1e3 - start;
    }
    return bench_median(times, REPEAT);
}

/* ---- PyTorch ------------------------------------------------------------------ */

struct pytorch {
    pid_t pid;
    FILE *to, *from; /* NULL: not installed */
};

static const char *python(void) {
    const char *name = getenv("PYTHON");
    return name != NULL && *name != '\0' ? name : "python3";
}

static void run_child(const int request[2], const int reply[2]) {
    (void)dup2(request[0], STDIN_FILENO);
    (void)dup2(reply[1], STDOUT_FILENO);
    (void)close(request[1]);
    (void)close(reply[0]);
    if (freopen("/dev/null", "w", stderr) != NULL) {
        execlp(python(), python(), TL_SOURCE_DIR "/tests/bench/gradient_pytorch.py",
               (char *)NULL);
    }
    _exit(127);
}

static void pytorch_open(struct pytorch *t) {
    int request[2];
    int reply[2];
    char line[64];
    if (pipe(request) != 0 || pipe(reply) != 0) {
        bench_die("no pipe");
    }
    t->pid = fork();
    if (t->pid == 0) {
        run_child(request, reply);
    }
    (void)close(request[0]);
    (void)close(reply[1]);
    t->to = fdopen(request[1], "w");
    t->from = fdopen(reply[0], "r");
    if (t->pid < 0 || t->to == NULL || t->from == NULL) {
        bench_die("no child process");
    }
    if (fgets(line, sizeof(line), t->from) == NULL || strcmp(line, "ready\n") != 0) {
        (void)fclose(t->to);
        (void)fclose(t->from);
        t->to = t->from = NULL;
        (void)waitpid(t->pid, NULL, 0);
    }
}

static void pytorch_close(struct pytorch *t) {
    if (t->to != NULL) {
        (void)fclose(t->to);
        (void)fclose(t->from);
        (void)waitpid(t->pid, NULL, 0);
    }
}

static double pytorch_ms(const struct pytorch *t) {
    char line[64];
    if (fprintf(t->to, "%d\n", REPEAT) < 0 || fflush(t->to) != 0 ||
        fgets(line, sizeof(line), t->from) == NULL) {
        bench_die("PyTorch stopped in the middle");
    }
    return strtod(line, NULL);
}

/* ---- report ------------------------------------------------------------------- */

static bool report_pytorch(double ours, double *times, bool installed) {
    if (!installed) {
        (void)printf("bench gradient: ours %.1f ms, %s has no PyTorch: not compared\n",
                     ours, python());
        return true;
    }
    const double theirs = bench_median(times, ROUNDS);
    const bool pass = ours / theirs <= PYTORCH_GOAL;
    (void)printf("bench gradient: ours %.1f ms, pytorch %.1f ms, ratio %.2f "
                 "(goal <= %.2f) %s\n",
                 ours, theirs, ours / theirs, PYTORCH_GOAL, pass ? "PASS" : "FAIL");
    return pass;
}

static bool report_products(double ours, double bare) {
    const bool pass = bare / ours >= PRODUCT_GOAL;
    (void)printf(
        "bench gradient-products: ours %.1f ms, bare sgemm %.1f ms, ratio %.2f "
        "(goal >= %.2f) %s\n",
        ours, bare, bare / ours, PRODUCT_GOAL, pass ? "PASS" : "FAIL");
    return pass;
}

static bool report_memory(double mib) {
    const bool pass = mib <= MEMORY_GOAL;
    (void)printf("bench gradient-memory: %.1f MiB beyond data (goal <= %.0f) %s\n", mib,
                 MEMORY_GOAL, pass ? "PASS" : "FAIL");
    return pass;
}

int main(void) {
    struct ours ours;
    ours_open(&ours);
    (void)ours_ms(&ours);
    const double mib = resident_mib();
    const struct bare bare = {make_floats(MATRIX_MAX), make_floats(MATRIX_MAX),
                              make_floats(MATRIX_MAX)};
    struct pytorch pytorch;
    pytorch_open(&pytorch);

    double times[3][ROUNDS] = {{0}};
    for (size_t r = 0; r < ROUNDS; r++) {
        times[0][r] = ours_ms(&ours);
        times[1][r] = bare_ms(&bare);
        times[2][r] = pytorch.to != NULL ? pytorch_ms(&pytorch) : 0.0;
    }
    const double ours_median = bench_median(times[0], ROUNDS);
    bool pass = report_pytorch(ours_median, times[2], pytorch.to != NULL);
    pass = report_products(ours_median, bench_median(times[1], ROUNDS)) && pass;
    pass = report_memory(mib) && pass;

    pytorch_close(&pytorch);
    ours_close(&ours);
    free(bare.a);
    free(bare.b);
    free(bare.c);
    return pass ? 0 : 1;
}
