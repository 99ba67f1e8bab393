/* courtesy.c - copying, hashing and compressing must not take the processor from those
 * who train on this machine.
 *
 * A low priority alone says how much of it we get, not when: whoever wakes up beside us
 * waits for the end of our turn, milliseconds on current kernels, and when we wake up
 * we may interrupt others at once. So we work as a batch, which waits for its turn when
 * it wakes up, and in short turns, which are asked for as the kernel (6.12 on) offers
 * it; others do not mind. */
#include "checkpointer.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NICE    10     /* as of nice(1) */
#define TURN_NS 100000 /* the shortest there are */

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
        s.policy = SCHED_BATCH;
        s.nice = s.nice > NICE ? s.nice : NICE;
        s.runtime_ns = TURN_NS;
        r = syscall(SYS_sched_setattr, 0, &s, 0u);
    }
    if (r != 0) {
        tl_log_line(TL_DEBUG, "a thread keeps its priority", "why", strerror(errno),
                    NULL);
    }
}
