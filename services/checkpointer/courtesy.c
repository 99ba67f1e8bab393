/* courtesy.c - copying, hashing and compressing must not take the processor from those
 * who train on this machine.
 *
 * A low priority alone says how much of it we get, not how soon others do: whoever
 * wakes up beside us waits for the end of our turn, milliseconds on current kernels. So
 * the turns are short, too. They are asked for as the kernel (6.12 on) offers it, and
 * others do not mind. */
#include "checkpointer.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE    10     /* as of nice(1) */
#define TURN_NS 100000 /* the shortest there are */

/* Of sched_setattr(2), for which the C library has no declaration: its first version.
 */
struct schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void step_back(void) {
    const struct schedule s = {.size = sizeof(s), .nice = NICE, .runtime_ns = TURN_NS};
    if (syscall(SYS_sched_setattr, 0, &s, 0u) != 0 &&
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE) != 0) {
        tl_log_line(TL_DEBUG, "a thread keeps its priority", "why", strerror(errno),
                    NULL);
    }
}
