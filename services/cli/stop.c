/* stop.c - winding down what is left, in order, in bounded time.
 *
 * Workers first, so that nothing more is acknowledged; then those who write down what
 * there is; then the servers; Redis last, since the others still sign off there. */
#include "run.h"

#include <signal.h>

static const int64_t stop_within_ms = 10000;

/* In which group a service is stopped; the number of groups for none. */
static unsigned int rank_of(enum tl_drill_target kind) {
    switch (kind) {
    case TL_DRILL_WORKER:
        return 0;
    case TL_DRILL_CHECKPOINTER:
    case TL_DRILL_MONITOR:
        return 1;
    case TL_DRILL_SERVER:
    case TL_DRILL_REPLICA:
        return 2;
    default:
        return 3;
    }
}
#define RANKS 4u

static bool is_any_alive(const struct tl_run *run, unsigned int rank) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        if (rank_of(run->fleet.items[i].kind) == rank &&
            tl_process_is_alive(&run->fleet.items[i])) {
            return true;
        }
    }
    return false;
}

static void signal_rank(const struct tl_run *run, unsigned int rank, int signal) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        if (rank_of(run->fleet.items[i].kind) == rank) {
            tl_process_signal(&run->fleet.items[i], signal);
        }
    }
}

static void kill_everything(struct tl_run *run) {
    for (unsigned int rank = 0; rank < RANKS; rank++) {
        signal_rank(run, rank, SIGKILL);
    }
    run->stop_forced = true;
}

void tl_run_stop_step(struct tl_run *run) {
    while (run->stop_rank < RANKS && !is_any_alive(run, run->stop_rank)) {
        run->stop_rank++;
        run->stop_sent = false;
    }
    if (run->stop_rank == RANKS - 1) {
        tl_run_verify(run);
    }
    if (run->stop_rank == RANKS) {
        tl_run_enter(run, TL_RUN_OVER);
        return;
    }
    if (!run->stop_sent) {
        signal_rank(run, run->stop_rank, SIGTERM);
        run->stop_sent = true;
    }
    bool late = tl_run_now(run) - run->phase_ms > stop_within_ms;
    if (!run->stop_forced && (late || run->signals.stops > 1)) {
        kill_everything(run);
    }
}
