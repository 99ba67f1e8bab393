/* A state as bytes and back: whatever happened before, a restored fold goes on bit for
 * bit; whatever the bytes are, a restore says so or gives a fold that makes sense. */
#include "fold_rig.h"
#include "test.h"

enum { WORKERS = 6, COUNT = 300 };
enum { CONTRIBUTIONS = 76 }; /* where the head has the number of them */

/* ---- the same records for two folds --------------------------------------------- */

/* A random record, likely or not, that makes sense at `f`'s state. Deterministic in
 * (seed, f's state). */
static struct tl_record random_record(const struct tl_fold *f, uint64_t *seed,
                                      const float *values) {
    uint32_t worker = (uint32_t)rig_below(seed, WORKERS);
    struct tl_fold_worker w = {0};
    bool is_known = tl_fold_worker(f, worker, &w) == 0;
    uint64_t version = tl_fold_version(f);
    struct tl_record r = {
        .kind = TL_RECORD_GRADIENT,
        .worker = worker,
        .incarnation = is_known ? w.incarnation : 1,
        .sequence = w.sequence + rig_below(seed, 3),
        .read_version = version,
        .step = version + rig_below(seed, 3),
        .rate = 0.5 / (double)(1 + rig_below(seed, 9)),
        .norm = (float)rig_below(seed, 20),
        .values = values,
        .value_count = COUNT,
    };
    uint64_t what = rig_below(seed, 100);
    if (!is_known || what < 8) {
        r.kind = TL_RECORD_JOIN;
        r.incarnation += rig_below(seed, 2);
    } else if (what < 12) {
        r.kind = TL_RECORD_LEAVE;
    } else if (what < 14) {
        r.kind = TL_RECORD_RATE;
    } else if (what < 30) {
        r.read_version = version - rig_below(seed, version < 3 ? version + 1 : 4);
    } else if (what < 33) {
        r.read_version = version + 1;
    } else if (what < 36) {
        r.incarnation--;
    }
    return r;
}

static struct tl_stale random_policy(const struct tl_fold_config *config,
                                     uint64_t *seed) {
    struct tl_stale s = {.policy = (enum tl_stale_policy)rig_below(seed, 7),
                         .after = rig_below(seed, 3),
                         .norm = 3.0,
                         .lambda = 0.1,
                         .alpha = 0.5};
    bool needs_sgd = s.policy == TL_STALE_BACKLOG || s.policy == TL_STALE_ELASTIC;
    if (config->consistency == TL_SYNC ||
        (needs_sgd && config->optimizer.kind != TL_SGD)) {
        s.policy = TL_STALE_APPLY;
    }
    return s;
}

static struct tl_fold_config random_config(uint64_t *seed) {
    struct tl_fold_config config = rig_config(COUNT);
    config.shards = 3;
    config.shard = 1;
    config.first = 500;
    config.consistency = (enum tl_consistency)rig_below(seed, 3);
    config.reduce = (enum tl_reduce)rig_below(seed, 2);
    config.quorum = (uint32_t)rig_below(seed, 4);
    config.start_workers = (uint32_t)rig_below(seed, 3);
    config.staleness = rig_below(seed, 5);
    config.max_staleness = rig_below(seed, 4);
    config.clip_norm = rig_below(seed, 2) ? 5.0 : 0.0;
    config.clip_value = rig_below(seed, 2) ? 0.5 : 0.0;
    config.refuse_nonfinite = rig_below(seed, 2) == 0;
    config.optimizer.kind = (enum tl_optimizer_kind)rig_below(seed, 3);
    config.optimizer.learning_rate = 0.01;
    config.optimizer.momentum = rig_below(seed, 3) ? 0.9 : 0.0;
    config.optimizer.nesterov =
        config.optimizer.momentum > 0.0 && rig_below(seed, 2) == 0;
    config.optimizer.weight_decay = rig_below(seed, 2) ? 0.01 : 0.0;
    config.schedule.kind = (enum tl_schedule_kind)rig_below(seed, 3);
    config.schedule.warmup = rig_below(seed, 20);
    config.schedule.period = 1 + rig_below(seed, 50);
    config.schedule.factor = 0.5;
    config.workers = (uint32_t)rig_below(seed, WORKERS + 1);
    config.stale = random_policy(&config, seed);
    return config;
}

/* Offer both folds the same random records; they must agree about each. */
static void run_both(struct tl_fold *a, struct tl_fold *b, uint64_t *seed, size_t n) {
    float values[COUNT];
    for (size_t i = 0; i < n; i++) {
        rig_fill(values, COUNT, rig_random(seed));
        struct tl_record r = random_record(a, seed, values);
        int rc = rig_offer(a, r);
        struct tl_fold_effect effect = rig_effect;
        if (b) {
            assert_int_equal(rig_offer(b, r), rc);
            assert_int_equal(rig_effect.version, effect.version);
            assert_int_equal(rig_effect.advanced, effect.advanced);
        }
    }
}

static void restored_folds_go_on_bit_for_bit(void **state) {
    (void)state;
    uint64_t folded = 0, open_barriers = 0, lost = 0, policies[TL_STALE_POLICIES] = {0};
    for (uint64_t round = 0; round < 300; round++) {
        uint64_t seed = round;
        struct tl_fold_config config = random_config(&seed);
        struct tl_fold *a = rig_new(&config, round), *b = NULL;
        assert_int_equal(tl_fold_take_over(a, 1 + rig_below(&seed, 5)), 0);
        run_both(a, NULL, &seed, rig_below(&seed, 200));
        struct rig_bytes bytes = rig_state(a);
        open_barriers += bytes.bytes[CONTRIBUTIONS] > 0;
        assert_int_equal(
            rig_restore(&config, bytes, 1 + rig_below(&seed, 3000), &seed, &b), 0);
        free(bytes.bytes);
        rig_assert_same_state(a, b);
        run_both(a, b, &seed, 200);
        rig_assert_same_state(a, b);
        folded += tl_fold_counters(b).folded;
        lost += tl_fold_counters(b).lost;
        policies[config.stale.policy] += tl_fold_version(b) > 50;
        tl_fold_free(a);
        tl_fold_free(b);
    }
    assert_true(folded > 5000 && open_barriers > 10 && lost > 100);
    for (size_t i = 0; i < TL_STALE_POLICIES; i++) {
        assert_true(policies[i] > 0);
    }
}

static void a_state_of_several_blocks(void **state) {
    (void)state;
    uint64_t seed = 9;
    struct tl_fold_config config = rig_config(2 * TL_BLOCK_FLOATS + 11);
    config.consistency = TL_SYNC;
    config.optimizer.kind = TL_ADAM;
    struct tl_fold *a = rig_new(&config, 1), *b = NULL;
    float *g = rig_floats(config.count, 5);
    assert_int_equal(rig_join(a, 0, 1, 0, 0), 0);
    assert_int_equal(rig_join(a, 1, 1, 0, 0), 0);
    assert_int_equal(rig_push(a, 0, 1, 0, g), 0);
    assert_int_equal(rig_push(a, 1, 1, 0, g), 0);
    assert_int_equal(rig_push(a, 0, 2, 1, g), 0);
    struct rig_bytes bytes = rig_state(a);
    assert_true(bytes.size > 4 * config.count * sizeof(float));
    assert_int_equal(rig_restore(&config, bytes, 300000, &seed, &b), 0);
    assert_int_equal(rig_push(a, 1, 2, 1, g), 0);
    assert_int_equal(rig_push(b, 1, 2, 1, g), 0);
    assert_true(rig_effect.advanced);
    rig_assert_same_state(a, b);
    free(bytes.bytes);
    free(g);
    tl_fold_free(a);
    tl_fold_free(b);
}

/* ---- refusals -------------------------------------------------------------------- */

static struct tl_fold_config sample_config(void) {
    struct tl_fold_config config = rig_config(COUNT);
    config.consistency = TL_SYNC;
    config.quorum = 2;
    config.optimizer.momentum = 0.9;
    config.shards = 2;
    return config;
}

static struct rig_bytes sample_state(uint64_t records) {
    uint64_t seed = 77;
    struct tl_fold_config config = sample_config();
    struct tl_fold *f = rig_new(&config, 1);
    run_both(f, NULL, &seed, records);
    struct rig_bytes bytes = rig_state(f);
    tl_fold_free(f);
    return bytes;
}

static int restore(const struct tl_fold_config *config, struct rig_bytes bytes,
                   struct tl_fold **ret_fold) {
    uint64_t seed = 1;
    return rig_restore(config, bytes, 700, &seed, ret_fold);
}

static void states_of_others_are_refused(void **state) {
    (void)state;
    struct rig_bytes bytes = sample_state(100);
    const struct tl_fold_config good = sample_config();
    struct tl_fold_config other[9];
    for (size_t i = 0; i < 9; i++) {
        other[i] = good;
    }
    other[0].shard = 1;
    other[1].shards = 3;
    other[2].first = 1;
    other[3].count = COUNT + 1;
    other[4].count = 1;
    other[5].consistency = TL_ASYNC;
    other[6].optimizer.kind = TL_ADAM;
    other[7].optimizer.momentum = 0.0;
    other[8].optimizer.momentum = 0.8;
    struct tl_fold *f = NULL;
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(restore(&other[i], bytes, &f), TL_E_MISMATCH);
        assert_null(f);
    }
    assert_int_equal(restore(&good, bytes, &f), 0);
    tl_fold_free(f);
    free(bytes.bytes);
}

static void every_truncation_is_found(void **state) {
    (void)state;
    struct rig_bytes bytes = sample_state(60);
    const struct tl_fold_config config = sample_config();
    struct tl_fold *f = NULL;
    for (size_t size = 0; size < bytes.size; size++) {
        struct rig_bytes shorter = {bytes.bytes, size};
        assert_int_equal(restore(&config, shorter, &f), TL_E_CORRUPT);
    }
    struct rig_bytes longer = {malloc(bytes.size + 1), bytes.size + 1};
    assert_non_null(longer.bytes);
    memcpy(longer.bytes, bytes.bytes, bytes.size);
    longer.bytes[bytes.size] = 0;
    assert_int_equal(restore(&config, longer, &f), TL_E_CORRUPT);
    assert_null(f);
    free(longer.bytes);
    free(bytes.bytes);
}

/* A failed restore stays failed. */
static void the_first_failure_stands(void **state) {
    (void)state;
    const struct tl_fold_config config = sample_config();
    struct rig_bytes bytes = sample_state(60);
    struct tl_restore *r = NULL;
    struct tl_fold *f = NULL;
    assert_int_equal(tl_restore_new(&config, &r), 0);
    uint8_t wrong[16] = "TLSTATE9";
    assert_int_equal(tl_restore_feed(r, wrong, sizeof(wrong)), TL_E_CORRUPT);
    assert_int_equal(tl_restore_feed(r, bytes.bytes, bytes.size), TL_E_CORRUPT);
    assert_int_equal(tl_restore_done(r, &f), TL_E_CORRUPT);
    assert_null(f);
    tl_restore_free(r);
    tl_restore_free(NULL);
    free(bytes.bytes);
}

static void a_bad_configuration_restores_nothing(void **state) {
    (void)state;
    struct tl_fold_config config = sample_config();
    config.spare_copies = 0;
    struct tl_restore *r = NULL;
    assert_int_equal(tl_restore_new(&config, &r), TL_E_CONFIG);
    assert_null(r);
}

/* A policy with everything in its state: kept versions, an array, scalars. */
static struct tl_fold_config sample_config_with(enum tl_stale_policy policy) {
    struct tl_fold_config config = rig_config(COUNT);
    config.optimizer.momentum = 0.9;
    config.shards = 2;
    config.workers = 3;
    config.stale = (struct tl_stale){
        .policy = policy, .after = 1, .norm = 3.0, .lambda = 0.1, .alpha = 0.5};
    return config;
}

static struct rig_bytes sample_state_with(enum tl_stale_policy policy,
                                          uint64_t records) {
    uint64_t seed = 78;
    struct tl_fold_config config = sample_config_with(policy);
    struct tl_fold *f = rig_new(&config, 1);
    run_both(f, NULL, &seed, records);
    struct rig_bytes bytes = rig_state(f);
    tl_fold_free(f);
    return bytes;
}

/* What is kept for one policy means nothing to another. */
static void states_of_other_policies_are_refused(void **state) {
    (void)state;
    const struct tl_fold_config gap = sample_config_with(TL_STALE_GAP);
    struct tl_fold_config other = gap;
    struct rig_bytes bytes = sample_state_with(TL_STALE_GAP, 60);
    struct tl_fold *f = NULL;
    for (unsigned p = 0; p < TL_STALE_POLICIES; p++) {
        other.stale.policy = p;
        int rc = restore(&other, bytes, &f);
        assert_int_equal(rc, p == TL_STALE_GAP ? 0 : TL_E_MISMATCH);
    }
    tl_fold_free(f);
    f = NULL;
    other = gap;
    other.workers = 4;
    assert_int_equal(restore(&other, bytes, &f), TL_E_MISMATCH);
    free(bytes.bytes);
    bytes = sample_state_with(TL_STALE_APPLY, 60);
    assert_int_equal(restore(&gap, bytes, &f), TL_E_MISMATCH);
    other.workers = gap.workers;
    other.stale.policy = TL_STALE_CLIP; /* neither has anything in the state */
    assert_int_equal(restore(&other, bytes, &f), 0);
    tl_fold_free(f);
    free(bytes.bytes);
}

static void kept_versions_are_checked(void **state) {
    (void)state;
    const struct tl_fold_config config = sample_config_with(TL_STALE_DELAY);
    struct rig_bytes good = sample_state_with(TL_STALE_DELAY, 120);
    uint32_t workers = 0, kept = 0;
    memcpy(&workers, good.bytes + 12, 4);
    uint8_t *part = good.bytes + 312 + (size_t)64 * workers;
    memcpy(&kept, part + 4, 4);
    assert_true(kept >= 2 && part[0] == TL_STALE_DELAY);
    uint8_t *first = part + 32 + (size_t)3 * 16;
    const struct {
        const char *what;
        uint8_t *at;
        uint8_t flips;
    } cases[] = {
        {"one more is kept", part + 4, 1},
        {"a long run", part + 15, 64},
        {"a power of 2", part + 23, 0x7f},
        {"reserved", part + 28, 1},
        {"a worker's version", part + 38, 1},
        {"out of order", first + 7, 1},
        {"from the future", first + (size_t)8 * (kept - 1) + 7, 1},
    };
    struct tl_fold *f = NULL;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        *cases[i].at ^= cases[i].flips;
        if (restore(&config, good, &f) != TL_E_CORRUPT) {
            fail_msg("%s was not found", cases[i].what);
        }
        *cases[i].at ^= cases[i].flips;
    }
    assert_int_equal(restore(&config, good, &f), 0);
    tl_fold_free(f);
    free(good.bytes);
}

/* Whatever was accepted is a state: it can be folded on, cut, and restored again. */
static void assert_usable(const struct tl_fold_config *config, struct tl_fold *f) {
    uint64_t seed = 3;
    struct tl_fold *again = NULL;
    run_both(f, NULL, &seed, 20);
    struct rig_bytes bytes = rig_state(f);
    assert_int_equal(restore(config, bytes, &again), 0);
    free(bytes.bytes);
    tl_fold_free(again);
}

static void damage_head(const struct tl_fold_config config, struct rig_bytes good) {
    uint64_t seed = 5;
    const size_t head = good.size % (COUNT * sizeof(float));
    assert_true(head >= 312 && head <= 344 + (64 + 16 + 16) * WORKERS);
    struct rig_bytes bad = {malloc(good.size), good.size};
    assert_non_null(bad.bytes);
    size_t corrupt = 0, mismatch = 0, accepted = 0;
    for (size_t i = 0; i < 8 * head + 4000; i++) {
        memcpy(bad.bytes, good.bytes, good.size);
        size_t flips = i < 8 * head ? 1 : 2 + rig_below(&seed, 8);
        for (size_t k = 0; k < flips; k++) {
            size_t bit = i < 8 * head ? i : rig_below(&seed, 8 * head);
            bad.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        struct tl_fold *f = NULL;
        int rc = restore(&config, bad, &f);
        corrupt += rc == TL_E_CORRUPT;
        mismatch += rc == TL_E_MISMATCH;
        accepted += rc == 0;
        if (rc == 0) {
            assert_usable(&config, f);
            tl_fold_free(f);
        }
    }
    print_message("%zu corrupt, %zu mismatched, %zu harmless\n", corrupt, mismatch,
                  accepted);
    assert_int_equal(corrupt + mismatch + accepted, 8 * head + 4000);
    assert_true(corrupt > accepted);
    free(bad.bytes);
    free(good.bytes);
}

static void damaged_heads_are_found_or_harmless(void **state) {
    (void)state;
    damage_head(sample_config(), sample_state(120));
    damage_head(sample_config_with(TL_STALE_GAP), sample_state_with(TL_STALE_GAP, 120));
}

/* One contradiction each: the value of a field that nothing else in the head fits. */
static void contradictions_are_found(void **state) {
    (void)state;
    const struct {
        const char *what;
        size_t offset;
        uint8_t value;
    } cases[] = {
        {"a slot too many", 72, 15},
        {"no slot", 72, 1},
        {"a contribution", 76, 5},
        {"the version", 80, 250},
        {"the position", 88, 0},
        {"a negative rate", 111, 0xbf},
        {"a power above 1", 119, 0x7f},
        {"folded", 128, 255},
        {"lost", 136, 255},
        {"staleness", 184, 255},
        {"the worker before", 376, 0},
        {"worker 65,537", 314, 1},
        {"unknown flags", 316, 4},
        {"no incarnation", 320, 0},
        {"a huge sequence", 334, 255},
        {"active, and left", 351, 0},
        {"folded of a worker", 352, 99},
        {"lost of a worker", 360, 99},
        {"a huge clock", 375, 255},
    };
    const struct tl_fold_config config = sample_config();
    struct rig_bytes good = sample_state(25);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_fold *f = NULL;
        uint8_t before = good.bytes[cases[i].offset];
        assert_int_not_equal(before, cases[i].value);
        good.bytes[cases[i].offset] = cases[i].value;
        if (restore(&config, good, &f) != TL_E_CORRUPT) {
            fail_msg("%s was not found", cases[i].what);
        }
        good.bytes[cases[i].offset] = before;
    }
    struct tl_fold *f = NULL;
    assert_int_equal(restore(&config, good, &f), 0);
    tl_fold_free(f);
    free(good.bytes);
}

/* Tables whose sums are right: entries out of order, another worker's contribution. */
static void contradictions_in_the_table_are_found(void **state) {
    (void)state;
    enum { TABLE = 312, ENTRY = 64, FLAGS = 4 };
    const struct tl_fold_config config = sample_config();
    struct tl_fold *f = rig_new(&config, 1), *none = NULL;
    float values[COUNT] = {0};
    assert_int_equal(rig_join(f, 2, 1, 0, 0), 0);
    assert_int_equal(rig_join(f, 4, 1, 0, 0), 0);
    assert_int_equal(rig_join(f, 9, 1, 0, 0), 0);
    assert_int_equal(rig_push(f, 4, 1, 0, values), 0);
    struct rig_bytes bytes = rig_state(f);
    tl_fold_free(f);
    uint8_t *first = bytes.bytes + TABLE, *second = first + ENTRY, saved[ENTRY];
    assert_int_equal(second[FLAGS], 3);
    second[FLAGS] = 1; /* active, and has not contributed */
    assert_int_equal(restore(&config, bytes, &none), TL_E_CORRUPT);
    second[FLAGS] = 3;
    first[FLAGS] = 3;
    assert_int_equal(restore(&config, bytes, &none), TL_E_CORRUPT);
    first[FLAGS] = 1;
    memcpy(saved, first, ENTRY);
    memcpy(first, second, ENTRY);
    memcpy(second, saved, ENTRY);
    assert_int_equal(restore(&config, bytes, &none), TL_E_CORRUPT);
    memcpy(second, first, ENTRY);
    memcpy(first, saved, ENTRY);
    assert_int_equal(restore(&config, bytes, &f), 0);
    tl_fold_free(f);
    free(bytes.bytes);
}

static void random_bytes_are_refused(void **state) {
    (void)state;
    uint64_t seed = 8;
    const char magic[8] = {'T', 'L', 'S', 'T', 'A', 'T', 'E', '1'};
    const struct tl_fold_config config = sample_config();
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[512];
        size_t size = 1 + (size_t)rig_below(&seed, sizeof(bytes));
        for (size_t k = 0; k < size; k++) {
            bytes[k] = (uint8_t)rig_random(&seed);
        }
        struct tl_fold *f = NULL;
        if (size >= 16 && i % 2) {
            memcpy(bytes, magic, sizeof(magic));
        }
        assert_int_equal(restore(&config, (struct rig_bytes){bytes, size}, &f),
                         TL_E_CORRUPT);
    }
}

/* The documented layout, so that a change of it is noticed. */
static void the_layout_is_the_documented_one(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(1);
    config.shard = 1;
    config.shards = 4;
    config.first = 0x0102030405;
    const float weight = 1.0f, g = 0.5f;
    struct tl_fold *f = NULL;
    assert_int_equal(tl_fold_new(&config, &weight, &f), 0);
    assert_int_equal(tl_fold_take_over(f, 9), 0);
    assert_int_equal(rig_join(f, 2, 5, 0, 0), 0);
    struct tl_record r = {.kind = TL_RECORD_GRADIENT,
                          .worker = 2,
                          .incarnation = 5,
                          .sequence = 3,
                          .values = &g,
                          .value_count = 1};
    assert_int_equal(rig_offer(f, r), 0);
    struct rig_bytes b = rig_state(f);
    assert_int_equal(b.size, 312 + 64 + 4);
    assert_memory_equal(b.bytes, "TLSTATE1\x78\x01\0\0\x01\0\0\0", 16);
    assert_memory_equal(b.bytes + 16, "\x01\0\0\0\x04\0\0\0\x05\x04\x03\x02\x01\0\0\0",
                        16);
    assert_int_equal(b.bytes[80], 1);  /* version */
    assert_int_equal(b.bytes[88], 2);  /* position */
    assert_int_equal(b.bytes[96], 9);  /* epoch */
    assert_int_equal(b.bytes[128], 1); /* folded */
    assert_int_equal(b.bytes[184], 1); /* of staleness 0 */
    assert_int_equal(b.bytes[312], 2); /* worker */
    assert_int_equal(b.bytes[316], 1); /* active */
    assert_int_equal(b.bytes[320], 5); /* incarnation */
    assert_int_equal(b.bytes[328], 3); /* sequence */
    const float after = 0.5f;
    assert_memory_equal(b.bytes + 376, &after, 4);
    free(b.bytes);
    tl_fold_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restored_folds_go_on_bit_for_bit),
        cmocka_unit_test(a_state_of_several_blocks),
        cmocka_unit_test(states_of_others_are_refused),
        cmocka_unit_test(states_of_other_policies_are_refused),
        cmocka_unit_test(kept_versions_are_checked),
        cmocka_unit_test(every_truncation_is_found),
        cmocka_unit_test(the_first_failure_stands),
        cmocka_unit_test(a_bad_configuration_restores_nothing),
        cmocka_unit_test(damaged_heads_are_found_or_harmless),
        cmocka_unit_test(contradictions_are_found),
        cmocka_unit_test(contradictions_in_the_table_are_found),
        cmocka_unit_test(random_bytes_are_refused),
        cmocka_unit_test(the_layout_is_the_documented_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
