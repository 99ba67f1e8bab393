/* encode.c - what an encoding leaves out of a gradient arrives with later ones. */
#include "client_internal.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 2, FIRST = 1100, SECOND = 900, COUNT = FIRST + SECOND };

struct rig {
    struct client_shard shards[SHARDS];
    struct tl_client client;
    float gradient[COUNT], decoded[COUNT];
};

static void rig_start(struct rig *r, const char *encoding, double fraction) {
    const struct tl_client_config config = {.encoding = encoding,
                                            .topk_fraction = fraction};
    memset(r, 0, sizeof(*r));
    r->shards[0] = (struct client_shard){.first = 0, .count = FIRST};
    r->shards[1] = (struct client_shard){.first = FIRST, .count = SECOND};
    r->client.shards = r->shards;
    r->client.shard_count = SHARDS;
    r->client.parameters = COUNT;
    assert_int_equal(client_encoder_init(&r->client.encoder, &config), 0);
    assert_int_equal(client_encoder_reserve(&r->client), 0);
}

static void rig_stop(struct rig *r) {
    client_encoder_done(&r->client.encoder);
}

static void fill(struct rig *r, uint64_t batch) {
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t x = (i * 2654435761u + batch * 40503u) % 10007;
        r->gradient[i] = ((float)x / 10007.0f - 0.5f) / (float)(1 + i % 37);
    }
}

/* What the servers see of the batch, in r->decoded. */
static void encode(struct rig *r, uint64_t sequence) {
    client_encode(&r->client, sequence, r->gradient);
    for (uint32_t s = 0; s < SHARDS; s++) {
        const struct tl_encoded *e = &r->shards[s].gradient;
        assert_int_equal(tl_codec_check(e), 0);
        assert_int_equal(e->count, r->shards[s].count);
        tl_codec_decode(e, 0, e->count, r->decoded + r->shards[s].first);
    }
}

/* After many batches the servers have the sum of all gradients, but for what one batch
 * leaves out; without the residual they would be further off. */
static double largest_gap(const char *encoding, double fraction, double *ret_without) {
    enum { BATCHES = 200 };
    static double sent[COUNT], meant[COUNT], alone[COUNT];
    static struct rig r, fresh;
    double gap = 0, without = 0;
    memset(sent, 0, sizeof(sent));
    memset(meant, 0, sizeof(meant));
    memset(alone, 0, sizeof(alone));
    rig_start(&r, encoding, fraction);
    for (uint64_t batch = 1; batch <= BATCHES; batch++) {
        rig_start(&fresh, encoding, fraction);
        fill(&r, batch % 3); /* the same few: what rounding does to them adds up */
        fill(&fresh, batch % 3);
        encode(&r, batch);
        encode(&fresh, batch);
        for (size_t i = 0; i < COUNT; i++) {
            meant[i] += (double)r.gradient[i];
            sent[i] += (double)r.decoded[i];
            alone[i] += (double)fresh.decoded[i];
        }
        rig_stop(&fresh);
    }
    for (size_t i = 0; i < COUNT; i++) {
        gap = fmax(gap, fabs(meant[i] - sent[i]));
        without = fmax(without, fabs(meant[i] - alone[i]));
    }
    rig_stop(&r);
    *ret_without = without;
    return gap;
}

static void what_is_left_out_arrives_later(void **state) {
    (void)state;
    static const struct {
        const char *encoding;
        double fraction, most;
    } cases[] = {
        {"f16", 0, 3e-4}, {"bf16", 0, 2e-3}, {"int8", 0, 3e-3}, {"topk", 0.1, 5.0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double without = 0;
        double gap = largest_gap(cases[i].encoding, cases[i].fraction, &without);
        print_message("%s: off by %g, without feedback by %g\n", cases[i].encoding, gap,
                      without);
        assert_true(gap <= cases[i].most);
        assert_true(without > 4 * gap);
    }
}

static void the_same_batch_gives_the_same_bytes(void **state) {
    (void)state;
    static struct rig r, other;
    static float once[COUNT];
    rig_start(&r, "int8", 0);
    rig_start(&other, "int8", 0);
    for (uint64_t batch = 1; batch <= 5; batch++) {
        fill(&r, batch);
        encode(&r, batch);
        memcpy(once, r.decoded, sizeof(once));
        encode(&r, batch); /* pushed again */
        assert_memory_equal(r.decoded, once, sizeof(once));
        fill(&r, 99 + batch); /* computed again, on other weights */
        encode(&r, batch);
        fill(&other, 99 + batch);
        encode(&other, batch);
        assert_memory_equal(r.decoded, other.decoded, sizeof(r.decoded));
    }
    rig_stop(&r);
    rig_stop(&other);
}

static void what_is_not_finite_does_not_last(void **state) {
    (void)state;
    static const char *const encodings[] = {"f16", "bf16", "int8", "topk"};
    for (size_t e = 0; e < 4; e++) {
        static struct rig r;
        rig_start(&r, encodings[e], 0.25);
        fill(&r, 1);
        r.gradient[3] = NAN;
        r.gradient[COUNT - 1] = -INFINITY;
        encode(&r, 1);
        assert_false(tl_codec_is_finite(&r.shards[0].gradient));
        assert_false(tl_codec_is_finite(&r.shards[1].gradient));
        fill(&r, 2);
        encode(&r, 2);
        assert_true(tl_codec_is_finite(&r.shards[0].gradient));
        assert_true(tl_codec_is_finite(&r.shards[1].gradient));
        rig_stop(&r);
    }
}

static void float32_is_sent_as_it_is(void **state) {
    (void)state;
    static struct rig r;
    rig_start(&r, NULL, 0);
    fill(&r, 1);
    encode(&r, 1);
    assert_ptr_equal(r.shards[1].gradient.bytes, r.gradient + FIRST);
    assert_int_equal(r.shards[1].gradient.size, SECOND * sizeof(float));
    assert_null(r.client.encoder.bytes);
    rig_stop(&r);
}

static void wrong_settings_name_the_field(void **state) {
    (void)state;
    struct client_encoder e = {0};
    struct tl_client_config config = {.encoding = "int4"};
    assert_int_equal(client_encoder_init(&e, &config), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "int4"));
    config = (struct tl_client_config){.encoding = "topk", .topk_fraction = 0.6};
    assert_int_equal(client_encoder_init(&e, &config), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "topk_fraction"));
    config.topk_fraction = NAN;
    assert_int_equal(client_encoder_init(&e, &config), TL_E_CONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_arrives_later),
        cmocka_unit_test(the_same_batch_gives_the_same_bytes),
        cmocka_unit_test(what_is_not_finite_does_not_last),
        cmocka_unit_test(float32_is_sent_as_it_is),
        cmocka_unit_test(wrong_settings_name_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
