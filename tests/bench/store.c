/* How fast a state of 400 MB becomes a snapshot in a bucket, beside curl that uploads
 * the same bytes to the same server (unsigned, so that it need not hash them as it does
 * ours); by how much memory grows; and what compression costs.
 *
 *   bench store: snapshot of 400 MB 335 MB/s, curl 380 MB/s, ratio 0.88 (goal >= 0.80)
 * PASS
 *
 * A snapshot is more than its upload: hashed, proven, listed, published. The two take
 * turns, and the server, a Java program, is warm by then; medians. The second line is
 * the same in objects of 64 MiB, as multipart uploads, which this server stores twice.
 * Random bytes do not compress; the zstd lines are for normally distributed weights. */
#include "bench_s3.h"

#include <math.h>
#include <sys/resource.h>

enum { WARM_UP = 3, ROUNDS = 7, STATE_BYTES = 400000000, ZSTD_BYTES = 40000000 };

#define URL "s3://throughline/bench"

#define RATE_GOAL   0.80
#define MEMORY_GOAL 32.0 /* MiB */

/* ---- a snapshot ------------------------------------------------------------------ */

struct arm {
    uint64_t part_bytes;
    uint32_t zstd_level;
    size_t size;
};

static int discard(void *ctx, const char *name, uint64_t size) {
    (void)size;
    struct tl_store *s = ctx;
    return s->ops->remove(s, name);
}

/* A handle of its own, since a listing may not change what it lists. */
static void empty(struct tl_store *store) {
    struct tl_store *other = bench_s3_open(URL);
    bench_s3_check(store->ops->list(store, "", discard, other));
    tl_store_close(other);
}

static double snapshot_once(struct tl_store *store, const struct arm *arm,
                            const char *state, uint64_t *ret_stored) {
    const struct tl_snapshot_options options = {.zstd_level = arm->zstd_level,
                                                .part_bytes = arm->part_bytes};
    struct tl_manifest m;
    const double start = bench_now();
    bench_s3_snapshot(store, &options, state, arm->size, &m);
    const double took = bench_now() - start;
    *ret_stored = 0;
    for (uint32_t i = 0; i < m.part_count; i++) {
        *ret_stored += m.parts[i].bytes;
    }
    tl_manifest_done(&m);
    empty(store);
    return took;
}

static double peak_mib(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024.0;
}

/* ---- states ---------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void fill_random(char *state) {
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i + 8 <= STATE_BYTES; i += 8) {
        const uint64_t value = next_random(&x);
        memcpy(state + i, &value, sizeof(value));
    }
}

/* Weights as training leaves them: normal, of a small deviation. */
static void fill_weights(char *state) {
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i + sizeof(float) <= ZSTD_BYTES; i += sizeof(float)) {
        const double u = ((double)(next_random(&x) >> 11) + 0.5) / 9007199254740992.0;
        const double v = ((double)(next_random(&x) >> 11) + 0.5) / 9007199254740992.0;
        const float w = (float)(0.03 * sqrt(-2.0 * log(u)) * cos(6.283185307 * v));
        memcpy(state + i, &w, sizeof(w));
    }
}

/* ---- what is said ---------------------------------------------------------------- */

static bool compare(struct tl_store *store, const struct bench_s3 *s3,
                    const char *state) {
    static const struct arm objects = {0, 0, STATE_BYTES};
    static const struct arm multipart = {64u << 20, 0, STATE_BYTES};
    char file[128];
    char config[128];
    double curl[ROUNDS];
    double ours[ROUNDS];
    double large[ROUNDS];
    uint64_t stored = 0;
    (void)snprintf(file, sizeof(file), "%s/state", s3->directory);
    (void)snprintf(config, sizeof(config), "%s/curl", s3->directory);
    bench_s3_write_file(file, state, STATE_BYTES);
    bench_s3_curl_config(config);
    const double before = peak_mib();
    for (int i = -WARM_UP; i < ROUNDS; i++) {
        const int at = i < 0 ? 0 : i;
        curl[at] = bench_s3_curl(config, file, 0);
        ours[at] = snapshot_once(store, &objects, state, &stored);
        large[at] = snapshot_once(store, &multipart, state, &stored);
    }
    const double grown = peak_mib() - before;
    const double reference = bench_median(curl, ROUNDS);
    const double mb = STATE_BYTES / 1e6;
    const double ratio = reference / bench_median(ours, ROUNDS);
    printf(
        "bench store: snapshot of %.0f MB %.0f MB/s, curl %.0f MB/s, ratio %.2f (goal "
        ">= %.2f) %s\n",
        mb, mb / bench_median(ours, ROUNDS), mb / reference, ratio, RATE_GOAL,
        bench_verdict(ratio >= RATE_GOAL));
    printf("bench store: as multipart uploads %.0f MB/s, ratio %.2f\n",
           mb / bench_median(large, ROUNDS), reference / bench_median(large, ROUNDS));
    printf("bench store: memory grew by %.1f MiB (goal <= %.0f) %s\n", grown,
           MEMORY_GOAL, bench_verdict(grown <= MEMORY_GOAL));
    return ratio >= RATE_GOAL && grown <= MEMORY_GOAL;
}

static void compress(struct tl_store *store, char *state) {
    static const uint32_t levels[] = {0, 1, 3, 9};
    fill_weights(state);
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        const struct arm arm = {0, levels[i], ZSTD_BYTES};
        uint64_t stored = 0;
        const double took = snapshot_once(store, &arm, state, &stored);
        printf(
            "bench store: zstd level %u: %.0f MB/s, stored bytes %.2f of the state's\n",
            levels[i], ZSTD_BYTES / 1e6 / took, (double)stored / ZSTD_BYTES);
    }
}

int main(void) {
    struct bench_s3 s3;
    char *state = malloc(STATE_BYTES);
    if (state == NULL) {
        bench_die("no memory for the state");
    }
    fill_random(state);
    bench_s3_start(&s3, false);
    struct tl_store *store = bench_s3_open(URL);
    const bool passed = compare(store, &s3, state);
    compress(store, state);
    tl_store_close(store);
    bench_s3_stop(&s3);
    free(state);
    return passed ? 0 : 1;
}
