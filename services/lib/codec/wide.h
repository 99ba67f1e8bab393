/* wide.h - how loops over elements are compiled: portable C, as wide as the machine.
 *
 * Each element is computed alone by IEEE operations in the order written, so vector
 * width changes no bit: the compiler may use whatever there is. */
#ifndef TL_CODEC_WIDE_H
#define TL_CODEC_WIDE_H

/* Outputs are the inputs' own memory or disjoint: no iteration depends on another. */
#if defined(__clang__)
/* A loop that sanitizers keep from being vectorised is slow, not wrong. */
#pragma clang diagnostic ignored "-Wpass-failed"
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* One binary for every x86-64, wider vectors where there are some. Not with sanitizers,
 * which instrument the function that chooses although it runs before they are ready;
 * and not with clang, whose version 14 gives such functions another name. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&    \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

#endif
