/* root.h - IEEE square roots as the machine's own instruction.
 *
 * C's sqrt() may have to set errno, so compilers neither vectorise it nor do without
 * the mathematics library unless a flag tells them. The fold's speed and bits depend on
 * no flag: every machine it is promised for rounds square roots correctly by itself. */
#ifndef TL_FOLD_ROOT_H
#define TL_FOLD_ROOT_H

#include <stddef.h>

#if defined(__x86_64__)
#include <emmintrin.h>

static inline double tl_root(double x) {
    __m128d v = _mm_set_sd(x);
    return _mm_cvtsd_f64(_mm_sqrt_sd(v, v));
}

static inline void tl_root_4(float *out, const float *x) {
    _mm_storeu_ps(out, _mm_sqrt_ps(_mm_loadu_ps(x)));
}

#elif defined(__aarch64__)
#include <arm_neon.h>

static inline double tl_root(double x) {
    return vget_lane_f64(vsqrt_f64(vdup_n_f64(x)), 0);
}

static inline void tl_root_4(float *out, const float *x) {
    vst1q_f32(out, vsqrtq_f32(vld1q_f32(x)));
}

#else
#error "root.h: add this machine's correctly rounded square root"
#endif

/* out[i] = sqrt(x[i]); `n` is a multiple of four. */
static inline void tl_roots(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        tl_root_4(out + i, x + i);
    }
}

#endif
