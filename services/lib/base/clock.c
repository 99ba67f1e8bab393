/* clock.c - the monotonic clock, the wall clock, and the kernel's random numbers. */
#include "throughline/service.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static struct timespec now(clockid_t clock) {
    struct timespec t = {0};
    (void)clock_gettime(clock, &t);
    return t;
}

int64_t tl_now_ms(void) {
    const struct timespec t = now(CLOCK_MONOTONIC);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

double tl_now_seconds(void) {
    const struct timespec t = now(CLOCK_MONOTONIC);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t tl_unix_ms(void) {
    const struct timespec t = now(CLOCK_REALTIME);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* getrandom() of so few bytes fails only where the system call does not exist:
 * identities that might collide are worse than no process. */
uint64_t tl_random_u64(void) {
    uint64_t v = 0;
    while (v == 0) {
        const ssize_t n = getrandom(&v, sizeof(v), 0);
        if (n != (ssize_t)sizeof(v)) {
            if (n < 0 && errno != EINTR) {
                abort();
            }
            v = 0;
        }
    }
    return v;
}
