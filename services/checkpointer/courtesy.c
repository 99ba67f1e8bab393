/* courtesy.c - copying, hashing and compressing must not take the processor from those
 * who train on this machine.
 *
 * A low priority alone says how much of it we get, not how soon others do: whoever
 * wakes up beside us waits for the end of our turn, milliseconds on current kernels. So
 * the turns are short, too. They are asked for as the kernel (6.12 on) offers it, and
 * others do not mind.
 *
 * What is left is memory and caches, which are shared with no regard to priority. A
 * large state therefore goes to the store at a walk, unless somebody waits for it: at a
 * run it is there sooner, and more steps of training take longer. A small one is there
 * in a moment either way. */
#include "checkpointer.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NICE    10     /* as of nice(1) */
#define TURN_NS 100000 /* the shortest there are */

#define LARGE_BYTES      (8u << 20)
#define WALK_BYTES_PER_S (64.0 * 1048576.0)
#define CATCH_UP_S       0.032 /* what may be made up for, where the store stood still */

/* Of sched_setattr(2), which the C library does not declare: its first version. */
struct schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

/* Never up, and nothing where somebody has chosen another policy for us. */
void step_back(void) {
    struct schedule s = {0};
    long r = syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0u);
    if (r == 0 && s.policy == SCHED_OTHER) {
        s.nice = s.nice > NICE ? s.nice : NICE;
        s.runtime_ns = TURN_NS;
        r = syscall(SYS_sched_setattr, 0, &s, 0u);
    }
    if (r != 0) {
        tl_log_line(TL_DEBUG, "a thread keeps its priority", "why", strerror(errno),
                    NULL);
    }
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

struct tempo tempo_of(uint64_t bytes, uint32_t shards, int64_t interval_ms) {
    struct tempo t = {.bytes_per_s = WALK_BYTES_PER_S, .due_s = tl_now_seconds()};
    if (bytes < LARGE_BYTES) {
        t.bytes_per_s = INFINITY;
    } else if (interval_ms > 0) {
        const double half_s = (double)interval_ms / 2000.0 / shards;
        t.bytes_per_s = larger(t.bytes_per_s, (double)bytes / half_s);
    }
    return t;
}

void tempo_keep(struct tempo *t, uint64_t bytes) {
    const double now_s = tl_now_seconds();
    t->due_s = larger(t->due_s + (double)bytes / t->bytes_per_s, now_s - CATCH_UP_S);
    if (t->due_s > now_s) { /* by less than a second: a piece is small */
        const struct timespec rest = {0, (long)((t->due_s - now_s) * 1e9)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
    }
}
