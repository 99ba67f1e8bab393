/* gemm.c - every matrix product of the stage goes through here to OpenBLAS.
 *
 * One place to hold the thread limit, the conversion to OpenBLAS's int sizes (buffers
 * are bounded so that they fit) and, in a profiling build, the clock. */
#include "nn_internal.h"

#include <cblas.h>
#include <stdlib.h>
#ifdef TL_NN_PROFILE
#include <time.h>

static _Thread_local double spent_seconds;

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

/* More threads would take cores from the other workers, and the order of OpenBLAS's
 * sums, hence the bits of a gradient, would depend on their number. */
void tl_nn_limit_threads(void) {
    if (getenv("OPENBLAS_NUM_THREADS") == NULL) {
        openblas_set_num_threads(1);
    }
}

void tl_nn_multiply(struct tl_nn_matrix a, struct tl_nn_matrix b, bool add, float *c) {
#ifdef TL_NN_PROFILE
    const double start = now_seconds();
#endif
    cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                b.transposed ? CblasTrans : CblasNoTrans, (int)a.rows, (int)b.columns,
                (int)a.columns, 1.0F, a.values,
                (int)(a.transposed ? a.rows : a.columns), b.values,
                (int)(b.transposed ? b.rows : b.columns), add ? 1.0F : 0.0F, c,
                (int)b.columns);
#ifdef TL_NN_PROFILE
    spent_seconds += now_seconds() - start;
#endif
}

double tl_nn_gemm_seconds(struct tl_nn *nn) {
    (void)nn;
#ifdef TL_NN_PROFILE
    const double spent = spent_seconds;
    spent_seconds = 0.0;
    return spent;
#else
    return 0.0;
#endif
}
