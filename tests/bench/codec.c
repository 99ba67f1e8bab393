/* How fast the paper's 813,258 values are encoded, decoded and folded.
 *
 *   bench codec int8 decode: 0.038 ms, 84.8 GB/s of float32, memcpy 0.055 ms,
 *   ratio 0.70 (goal <= 1.25) PASS
 *
 * Decoding beside a memcpy of the same float32: what a receiver pays at least to have
 * them in memory. Encoding likewise. Folding an encoded gradient beside folding a plain
 * one: what the server's loop pays. Both take turns; medians. */
#include "throughline/codec.h"

#include "throughline/fold.h"

#include "bench.h"

enum { COUNT = 813258, ROUNDS = 301 };

static float *values, *copy;
static void *bytes;
static struct tl_encoded encoded;

static void check(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

static void *reserve(size_t size) {
    void *p = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (p == NULL) {
        bench_die("out of memory");
    }
    memset(p, 0, size);
    return p;
}

/* Small, of both signs, of several orders of magnitude. */
static void fill(float *v, uint64_t seed) {
    for (size_t i = 0; i < COUNT; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        float unit = (float)(int32_t)(seed >> 32) / 2147483648.0F;
        v[i] = unit * unit * unit * 0.01F;
    }
}

/* ---- what is timed --------------------------------------------------------------- */

static uint64_t kept(void) {
    return tl_codec_topk_count(COUNT, 0.01);
}

static void encode(void) {
    tl_codec_encode(encoded.encoding, values, COUNT, kept(), bytes);
}

static void decode(void) {
    tl_codec_decode(&encoded, 0, COUNT, copy);
}

static void copy_values(void) {
    memcpy(copy, values, COUNT * sizeof(float));
}

static double timed(void (*what)(void)) {
    double start = bench_now();
    what();
    return bench_now() - start;
}

static bool report(enum tl_encoding e, const char *what, const char *reference,
                   double took, double against, double goal) {
    bool holds = took / against <= goal;
    (void)printf("bench codec %s %s: %.3f ms, %.1f GB/s of float32, %s %.3f ms, ratio "
                 "%.2f (goal <= %.2f) %s\n",
                 tl_encoding_names[e], what, took * 1e3,
                 COUNT * sizeof(float) / took * 1e-9, reference, against * 1e3,
                 took / against, goal, bench_verdict(holds));
    return holds;
}

static bool beside_memcpy(enum tl_encoding e, const char *what, void (*work)(void),
                          double goal) {
    static double took[ROUNDS], against[ROUNDS];
    for (size_t i = 0; i < ROUNDS; i++) {
        took[i] = timed(work);
        against[i] = timed(copy_values);
    }
    return report(e, what, "memcpy", bench_median(took, ROUNDS),
                  bench_median(against, ROUNDS), goal);
}

/* ---- folding --------------------------------------------------------------------- */

static struct tl_fold *new_fold(void) {
    const struct tl_fold_config config = {
        .shards = 1,
        .count = COUNT,
        .spare_copies = 2,
        .refuse_nonfinite = true,
        .optimizer = {.learning_rate = 1e-6, .momentum = 0.9},
    };
    const struct tl_record join = {
        .kind = TL_RECORD_JOIN, .position = 1, .incarnation = 1};
    struct tl_fold *f = NULL;
    struct tl_fold_effect effect;
    check(tl_fold_new(&config, values, &f));
    check(tl_fold_apply(f, &join, &effect));
    return f;
}

static double fold_once(struct tl_fold *f, uint64_t n, enum tl_encoding e,
                        const void *gradient, uint64_t size) {
    const struct tl_record r = {.kind = TL_RECORD_GRADIENT,
                                .position = tl_fold_position(f) + 1,
                                .incarnation = 1,
                                .sequence = n,
                                .read_version = n - 1,
                                .encoding = e,
                                .values = gradient,
                                .value_count = COUNT,
                                .value_bytes = size};
    struct tl_fold_effect effect;
    double start = bench_now();
    check(tl_fold_apply(f, &r, &effect));
    return bench_now() - start;
}

static bool beside_plain_fold(enum tl_encoding e, double goal) {
    static double took[ROUNDS], against[ROUNDS];
    struct tl_fold *ours = new_fold(), *plain = new_fold();
    for (uint64_t n = 1; n <= ROUNDS; n++) {
        took[n - 1] = fold_once(ours, n, e, bytes, encoded.size);
        against[n - 1] = fold_once(plain, n, TL_ENCODING_F32, values, 0);
    }
    tl_fold_free(ours);
    tl_fold_free(plain);
    return report(e, "fold", "of float32", bench_median(took, ROUNDS),
                  bench_median(against, ROUNDS), goal);
}

int main(void) {
    static const struct {
        enum tl_encoding encoding;
        double encode, decode, fold;
    } goals[] = {
        {TL_ENCODING_F16, 10.0, 5.0, 2.0},
        {TL_ENCODING_BF16, 6.0, 1.25, 1.25},
        {TL_ENCODING_INT8, 5.0, 1.25, 1.25},
        {TL_ENCODING_TOPK, 60.0, 1.25, 1.25},
    };
    bool ok = true;
    values = reserve(COUNT * sizeof(float));
    copy = reserve(COUNT * sizeof(float));
    bytes = reserve(COUNT * sizeof(float));
    fill(values, 1);
    for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
        enum tl_encoding e = goals[i].encoding;
        encoded = (struct tl_encoded){e, bytes, tl_codec_size(e, COUNT, kept()), COUNT};
        ok = beside_memcpy(e, "encode", encode, goals[i].encode) && ok;
        ok = beside_memcpy(e, "decode", decode, goals[i].decode) && ok;
        ok = beside_plain_fold(e, goals[i].fold) && ok;
    }
    return ok ? 0 : 1;
}
