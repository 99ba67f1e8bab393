/* fold_bits.c - folds one log under many settings and prints a hash of each state's
 * bytes. scripts/check-arm64 runs it on two kinds of processors and compares.
 *
 * The log comes from integers alone: random gradients in every encoding, of workers
 * that join, fall behind and are refused. */
#include "throughline/fold.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = TL_BLOCK_FLOATS + 1003, RECORDS = 60, WORKERS = 3 };

static float values[COUNT];
static uint8_t bytes[COUNT * sizeof(float)];

static void check(int rc, const char *what) {
    if (rc != 0) {
        (void)fprintf(stderr, "fold_bits: %s: %s\n", what, tl_error_text());
        exit(1);
    }
}

static uint64_t random_next(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Any sign and fraction, exponents as gradients have them, some of them subnormal. */
static void fill(uint64_t *seed) {
    for (size_t i = 0; i < COUNT; i++) {
        uint64_t r = random_next(seed);
        uint32_t exponent = r >> 40 & 1023 ? 100 + (uint32_t)(r >> 32 & 31) : 0;
        uint32_t bits = (uint32_t)r & 0x807fffffu;
        bits |= exponent << 23;
        memcpy(&values[i], &bits, sizeof(bits));
    }
}

static uint64_t hash_of(uint64_t hash, const uint8_t *from, size_t size) {
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ from[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t hash_state(struct tl_fold *f) {
    struct tl_cut *cut = NULL;
    const void *segment = NULL;
    size_t size = 0;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    check(tl_fold_cut(f, &cut), "cut");
    for (size_t i = 0; tl_cut_segment(cut, i, &segment, &size); i++) {
        hash = hash_of(hash, segment, size);
    }
    tl_cut_release(cut);
    return hash;
}

static void offer(struct tl_fold *f, struct tl_record r) {
    struct tl_fold_effect effect;
    r.position = tl_fold_position(f) + 1;
    r.incarnation = 1;
    (void)!tl_fold_apply(f, &r, &effect); /* refusals are part of the log */
}

static void offer_gradient(struct tl_fold *f, uint64_t *seed, uint64_t n) {
    enum tl_encoding encoding = (enum tl_encoding)(n % TL_ENCODINGS);
    uint64_t kept = tl_codec_topk_count(COUNT, 0.05);
    uint64_t version = tl_fold_version(f), behind = random_next(seed) % 6;
    fill(seed);
    tl_codec_encode(encoding, values, COUNT, kept, bytes);
    offer(f, (struct tl_record){.kind = TL_RECORD_GRADIENT,
                                .worker = (uint32_t)(random_next(seed) % WORKERS),
                                .sequence = n + 1,
                                .read_version = version > behind ? version - behind : 0,
                                .norm = (float)(random_next(seed) % 9),
                                .encoding = encoding,
                                .values = bytes,
                                .value_count = COUNT,
                                .value_bytes = tl_codec_size(encoding, COUNT, kept)});
}

static void run(const char *name, const struct tl_fold_config *config) {
    struct tl_fold *f = NULL;
    uint64_t seed = 42;
    fill(&seed);
    check(tl_fold_new(config, values, &f), name);
    for (uint32_t w = 0; w < WORKERS; w++) {
        offer(f, (struct tl_record){.kind = TL_RECORD_JOIN, .worker = w});
    }
    for (uint64_t n = 0; n < RECORDS; n++) {
        offer_gradient(f, &seed, n);
    }
    (void)printf("%s %" PRIu64 " %016" PRIx64 "\n", name, tl_fold_version(f),
                 hash_state(f));
    tl_fold_free(f);
}

static struct tl_fold_config config_of(enum tl_optimizer_kind kind) {
    return (struct tl_fold_config){
        .shards = 1,
        .count = COUNT,
        .spare_copies = 1,
        .workers = WORKERS,
        .clip_norm = 6.0,
        .clip_value = 3.0,
        .optimizer = {.kind = kind,
                      .learning_rate = 0.013,
                      .weight_decay = 0.003,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-8},
        .schedule = {.kind = TL_COSINE, .warmup = 9, .period = 50, .factor = 0.1},
        .stale = {.after = 2, .norm = 3.0, .lambda = 0.04, .alpha = 0.5},
    };
}

static void run_policies(void) {
    static const char *const names[TL_STALE_POLICIES] = {
        "apply", "backlog", "inverse", "gap", "delay", "clip", "elastic"};
    for (unsigned policy = 0; policy < TL_STALE_POLICIES; policy++) {
        struct tl_fold_config config = config_of(TL_SGD);
        config.stale.policy = (enum tl_stale_policy)policy;
        config.optimizer.momentum = 0.9;
        run(names[policy], &config);
    }
}

int main(void) {
    struct tl_fold_config config = config_of(TL_SGD);
    run("sgd", &config);
    config.optimizer.momentum = 0.9;
    config.optimizer.nesterov = true;
    run("nesterov", &config);
    config = config_of(TL_ADAM);
    run("adam", &config);
    config = config_of(TL_ADAMW);
    config.consistency = TL_SYNC;
    run("adamw in sync", &config);
    run_policies();
    return 0;
}
