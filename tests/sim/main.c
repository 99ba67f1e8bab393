/* main.c - many runs, or one told in full; with a mutant, until it is caught.
 *
 *   sim [--runs N] [--seed S] [--mutant NAME] [--mutants] [--tell] [--seconds T] */
#include "sim.h"

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum tl_mutant tl_mutant = TL_MUTANT_none;

static const char *const names[] = {"none",
#define NAME(name, text) #name,
                                    TL_MUTANT_LIST(NAME)
#undef NAME
};
static const char *const texts[] = {"",
#define TEXT(name, text) text,
                                    TL_MUTANT_LIST(TEXT)
#undef TEXT
};

struct totals {
    uint64_t runs, events, commits, duplicates, rejected, removals, transfers, broken;
};

static double now_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void tell(struct sim *s, uint64_t seed) {
    uint32_t mask = sim_minimise(s, seed);
    s->trace = malloc(SIM_TRACE_MAX * 16);
    sim_run(s, seed, mask, true);
    if (s->trace != NULL) {
        (void)fputs(s->trace, stdout);
    }
    (void)printf("seed %llu, faults 0x%x of %u: %s\n", (unsigned long long)seed, mask,
                 s->fault_count, s->verdict);
    free(s->trace);
    s->trace = NULL;
}

/* Some seeds are other worlds: snapshots in a store, a durable log. */
static bool is_store(uint64_t seed) {
    return seed % 64 == 63;
}

static bool is_log(uint64_t seed) {
    return seed % 64 == 31;
}

/* Whether `seed` is well; `why` gets what is not. */
static bool run_one(struct sim *s, uint64_t seed, struct totals *t, char *why,
                    size_t size) {
    bool is_well;
    if (is_store(seed)) {
        is_well = sim_store_run(seed, why, size);
    } else if (is_log(seed)) {
        is_well = sim_log_run(seed, why, size);
    } else {
        sim_run(s, seed, UINT32_MAX, false);
        is_well = !s->has_failed;
        (void)snprintf(why, size, "%s", s->verdict);
        t->events += s->events_done;
        t->commits += s->commits;
        t->duplicates += s->duplicates;
        t->rejected += s->rejected;
        t->removals += s->removals;
        t->transfers += s->transfers;
        t->broken += s->history.broken;
    }
    t->runs++;
    return is_well;
}

static bool is_repeatable(struct sim *s, uint64_t seed) {
    sim_run(s, seed, UINT32_MAX, false);
    uint64_t hash = s->trace_hash;
    sim_run(s, seed, UINT32_MAX, false);
    return s->trace_hash == hash;
}

static int run_many(struct sim *s, uint64_t seed, uint64_t runs, double seconds) {
    struct totals t = {0};
    char why[512];
    double start = now_seconds();
    for (uint64_t i = 0; i < runs; i++) {
        if (!run_one(s, seed + i, &t, why, sizeof(why))) {
            (void)printf("FAILED seed %llu: %s\n", (unsigned long long)(seed + i), why);
            if (!is_store(seed + i) && !is_log(seed + i)) {
                tell(s, seed + i);
            }
            return 1;
        }
        if (i % 10000 == 0 && !is_repeatable(s, seed + i)) {
            (void)printf("FAILED seed %llu: two runs differ\n",
                         (unsigned long long)(seed + i));
            return 1;
        }
        if (seconds > 0 && now_seconds() - start > seconds) {
            break;
        }
    }
    (void)printf(
        "sim: %llu schedules from seed %llu in %.1f s: %llu steps, %llu commits, "
        "%llu duplicates, %llu removals, %llu transfers, %llu messages rejected, "
        "%llu chains lost whole; no invariant broken\n",
        (unsigned long long)t.runs, (unsigned long long)seed, now_seconds() - start,
        (unsigned long long)t.events, (unsigned long long)t.commits,
        (unsigned long long)t.duplicates, (unsigned long long)t.removals,
        (unsigned long long)t.transfers, (unsigned long long)t.rejected,
        (unsigned long long)t.broken);
    bool has_happened = runs < 1000 || (t.removals > 0 && t.rejected > 0 &&
                                        t.transfers > 0 && t.duplicates > 0);
    return has_happened ? 0 : 1;
}

/* Caught: some schedule breaks an invariant within `runs`. */
static bool hunt(struct sim *s, uint64_t seed, uint64_t runs) {
    struct totals t = {0};
    char why[512];
    for (uint64_t i = 0; i < runs; i++) {
        if (!run_one(s, seed + i, &t, why, sizeof(why))) {
            (void)printf("mutant %-22s caught by seed %llu: %.90s\n", names[tl_mutant],
                         (unsigned long long)(seed + i), why);
            return true;
        }
    }
    (void)printf("mutant %-22s NOT CAUGHT in %llu schedules: %s\n", names[tl_mutant],
                 (unsigned long long)runs, texts[tl_mutant]);
    return false;
}

static int hunt_all(struct sim *s, uint64_t seed, uint64_t runs) {
    int missed = 0;
    for (int m = TL_MUTANT_none + 1; m < TL_MUTANT_COUNT; m++) {
        tl_mutant = (enum tl_mutant)m;
        missed += hunt(s, seed, runs) ? 0 : 1;
    }
    (void)printf("mutants: %d of %d caught\n", TL_MUTANT_COUNT - 1 - missed,
                 TL_MUTANT_COUNT - 1);
    return missed == 0 ? 0 : 1;
}

static bool choose_mutant(const char *name) {
    for (int m = 0; m < TL_MUTANT_COUNT; m++) {
        if (strcmp(names[m], name) == 0) {
            tl_mutant = (enum tl_mutant)m;
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    static struct sim s;
    static const struct option options[] = {
        {"runs", 1, NULL, 'r'},    {"seed", 1, NULL, 's'}, {"mutant", 1, NULL, 'm'},
        {"mutants", 0, NULL, 'a'}, {"tell", 0, NULL, 't'}, {"seconds", 1, NULL, 'T'},
        {NULL, 0, NULL, 0}};
    uint64_t runs = 1000, seed = 1;
    double seconds = 0;
    bool all = false, is_told = false;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'r') {
            runs = strtoull(optarg, NULL, 10);
        } else if (o == 's') {
            seed = strtoull(optarg, NULL, 10);
        } else if (o == 'T') {
            seconds = strtod(optarg, NULL);
        } else if (o == 'a') {
            all = true;
        } else if (o == 't') {
            is_told = true;
        } else if (o != 'm' || !choose_mutant(optarg)) {
            (void)fprintf(stderr, "sim: see the head of tests/sim/main.c\n");
            return 64;
        }
    }
    int code = 0;
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20); /* the next run needs it again */
    if (all) {
        code = hunt_all(&s, seed, runs);
    } else if (is_told) {
        tell(&s, seed);
    } else {
        code = run_many(&s, seed, runs, seconds);
    }
    sim_done(&s);
    return code;
}
