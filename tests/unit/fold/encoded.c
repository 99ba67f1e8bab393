/* Encoded gradients: folding one is folding what it decodes to, to the last bit, and
 * what is malformed changes nothing. */
#include "fold_rig.h"

#include <math.h>

enum { COUNT = TL_BLOCK_FLOATS + 2500, KEPT = 700 };

static struct tl_encoded encode(enum tl_encoding encoding, const float *values) {
    struct tl_encoded e = {.encoding = encoding,
                           .size = tl_codec_size(encoding, COUNT, KEPT),
                           .count = COUNT};
    void *bytes = malloc(e.size);
    assert_non_null(bytes);
    tl_codec_encode(encoding, values, COUNT, KEPT, bytes);
    e.bytes = bytes;
    return e;
}

static struct tl_record record_of(const struct tl_encoded *e, uint32_t worker,
                                  uint64_t sequence, uint64_t read_version) {
    return (struct tl_record){.kind = TL_RECORD_GRADIENT,
                              .worker = worker,
                              .incarnation = 1,
                              .sequence = sequence,
                              .read_version = read_version,
                              .norm = 3.0f,
                              .encoding = e->encoding,
                              .values = e->bytes,
                              .value_count = e->count,
                              .value_bytes = e->size};
}

static struct tl_fold *new_fold(const struct tl_fold_config *config) {
    struct tl_fold *f = rig_new(config, 1);
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    assert_int_equal(rig_join(f, 1, 1, 0, 0), 0);
    return f;
}

/* One fold gets what is encoded, the other what that decodes to. */
static void compare(const struct tl_fold_config *config, enum tl_encoding encoding) {
    struct tl_fold *encoded = new_fold(config), *plain = new_fold(config);
    float *decoded = rig_floats(COUNT, 2);
    for (uint64_t step = 1; step <= 3; step++) {
        for (uint32_t worker = 0; worker < 2; worker++) {
            float *values = rig_floats(COUNT, 10 * step + worker);
            struct tl_encoded e = encode(encoding, values);
            tl_codec_decode(&e, 0, COUNT, decoded);
            struct tl_encoded f32 = {
                .bytes = decoded, .size = sizeof(float) * COUNT, .count = COUNT};
            uint64_t version = tl_fold_version(plain);
            struct tl_record r = record_of(&e, worker, step, version);
            assert_int_equal(rig_offer(encoded, r), 0);
            r = record_of(&f32, worker, step, version);
            assert_int_equal(rig_offer(plain, r), 0);
            free(values);
            free((void *)e.bytes);
        }
    }
    assert_true(tl_fold_version(plain) >= 3);
    rig_assert_same_state(encoded, plain);
    free(decoded);
    tl_fold_free(encoded);
    tl_fold_free(plain);
}

static void folding_it_is_folding_what_it_means(void **state) {
    (void)state;
    for (unsigned e = 0; e < TL_ENCODINGS; e++) {
        struct tl_fold_config config = rig_config(COUNT);
        compare(&config, e);
        config.optimizer.kind = TL_ADAM;
        config.clip_norm = 2.0;
        config.refuse_nonfinite = true;
        compare(&config, e);
        config = rig_config(COUNT);
        config.optimizer.momentum = 0.9;
        config.consistency = TL_SYNC;
        compare(&config, e);
    }
}

static void what_is_malformed_changes_nothing(void **state) {
    (void)state;
    struct tl_fold_config config = rig_config(COUNT);
    config.refuse_nonfinite = true;
    struct tl_fold *f = new_fold(&config);
    float *values = rig_floats(COUNT, 3), *before = rig_floats(COUNT, 4);
    float *after = rig_floats(COUNT, 5);
    rig_weights(f, before);
    struct tl_encoded e = encode(TL_ENCODING_TOPK, values);
    struct tl_record good = record_of(&e, 0, 1, 0), bad = good;
    bad.value_bytes += 4;
    assert_int_equal(rig_offer(f, bad), TL_E_SHAPE);
    bad = good;
    bad.encoding = (enum tl_encoding)TL_ENCODINGS;
    assert_int_equal(rig_offer(f, bad), TL_E_UNSUPPORTED);
    uint32_t *last_index = (uint32_t *)e.bytes + (size_t)2 * (KEPT - 1);
    uint32_t index = *last_index;
    *last_index = COUNT;
    assert_int_equal(rig_offer(f, good), TL_E_SHAPE);
    *last_index = index;
    rig_weights(f, after);
    assert_memory_equal(before, after, sizeof(float) * COUNT);
    assert_int_equal(tl_fold_version(f), 0);
    assert_int_equal(rig_worker(f, 0).sequence, 0); /* it may still come right */
    assert_int_equal(rig_offer(f, good), 0);
    free((void *)e.bytes);
    free(values);
    free(before);
    free(after);
    tl_fold_free(f);
}

static void what_is_not_finite_is_counted(void **state) {
    (void)state;
    for (unsigned encoding = 0; encoding < TL_ENCODINGS; encoding++) {
        struct tl_fold_config config = rig_config(COUNT);
        config.refuse_nonfinite = true;
        struct tl_fold *f = new_fold(&config);
        float *values = rig_floats(COUNT, 3);
        values[COUNT - 1] = INFINITY;
        struct tl_encoded e = encode(encoding, values);
        struct tl_record r = record_of(&e, 0, 1, 0);
        assert_int_equal(rig_offer(f, r), TL_E_NONFINITE);
        assert_int_equal(tl_fold_counters(f).nonfinite, 1);
        free((void *)e.bytes);
        free(values);
        tl_fold_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_it_is_folding_what_it_means),
        cmocka_unit_test(what_is_malformed_changes_nothing),
        cmocka_unit_test(what_is_not_finite_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
