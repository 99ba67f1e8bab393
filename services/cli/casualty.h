/* casualty.h - what became of each scheduled kill: how long down, how long to recover.
 *
 * Pure: it is told what is seen, when. */
#ifndef THROUGHLINE_CLI_CASUALTY_H
#define THROUGHLINE_CLI_CASUALTY_H

#include <stdbool.h>
#include <stdint.h>

struct tl_casualty {
    bool killed;
    int64_t killed_ms; /* since the run's start, as every time here */
    bool has_version;
    uint64_t version; /* of the job at the kill */
    uint64_t writer;  /* a server: who answered then */
    bool restarted;
    int64_t restarted_ms;
    bool has_base;
    uint64_t base; /* how far the replacement was when it was first seen */
    bool recovered;
    int64_t recovered_ms;
};

/* Something of the replacement was seen. A server or worker (`counts`) has recovered
 * when it has gone beyond where it was first seen: the first update that it folded, the
 * first batch that was acknowledged to it. Of the others being seen is enough. */
void tl_casualty_seen(struct tl_casualty *c, int64_t now_ms, bool counts,
                      uint64_t progress);
/* Seconds from the kill to the restart, and to the recovery; negative: not yet. */
double tl_casualty_down_seconds(const struct tl_casualty *c);
double tl_casualty_recovery_seconds(const struct tl_casualty *c);

#endif
