/* Messages as bytes: what is written comes back, and what cannot be one is refused. */
#include "throughline/chain.h"

#include "test.h"

#include <string.h>

static uint8_t bytes[TL_CHAIN_MESSAGE_BYTES];

static struct tl_chain_message there_and_back(const struct tl_chain_message *m) {
    struct tl_chain_message back;
    tl_chain_message_encode(m, bytes);
    assert_int_equal(tl_chain_message_decode(bytes, &back), 0);
    assert_int_equal(back.kind, m->kind);
    assert_true(back.number == m->number && back.digest == m->digest);
    assert_true(back.position == m->position && back.committed == m->committed);
    return back;
}

static const struct tl_chain_message greet = {
    .kind = TL_CHAIN_GREET,
    .number = 9,
    .digest = UINT64_MAX,
    .position = 12,
    .committed = 11,
    .view = {.number = 9, .epoch = 4, .count = 2, .nodes = {{3, 77}, {0, 88}}},
};

static const struct tl_chain_message gradient = {
    .kind = TL_CHAIN_RECORD,
    .number = 9,
    .digest = 1,
    .position = 13,
    .record = {.kind = TL_RECORD_GRADIENT,
               .worker = 5,
               .epoch = 4,
               .incarnation = 6,
               .sequence = 7,
               .read_version = 8,
               .norm = 0.5f,
               .encoding = TL_ENCODING_TOPK},
};

static void a_greeting_comes_back(void **state) {
    (void)state;
    const struct tl_chain_message back = there_and_back(&greet);
    assert_true(tl_chain_config_digest(&back.view) ==
                tl_chain_config_digest(&greet.view));
}

static void a_record_comes_back(void **state) {
    (void)state;
    const struct tl_record r = there_and_back(&gradient).record;
    const struct tl_record *was = &gradient.record;
    assert_int_equal(r.kind, was->kind);
    assert_int_equal(r.worker, was->worker);
    assert_true(r.position == gradient.position && r.epoch == was->epoch);
    assert_true(r.incarnation == was->incarnation && r.sequence == was->sequence);
    assert_true(r.read_version == was->read_version && r.norm == was->norm);
    assert_int_equal(r.encoding, was->encoding);
    const struct tl_chain_message rate = {
        .kind = TL_CHAIN_RECORD,
        .record = {.kind = TL_RECORD_RATE, .rate = 0.125, .step = 3}};
    assert_true(there_and_back(&rate).record.rate == 0.125);
    assert_true(there_and_back(&rate).record.step == 3);
}

static void the_small_ones_come_back(void **state) {
    (void)state;
    static const enum tl_chain_message_kind kinds[] = {TL_CHAIN_STATE, TL_CHAIN_ACK,
                                                       TL_CHAIN_PULSE};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct tl_chain_message m = {
            .kind = kinds[i], .number = 1, .digest = 2, .position = UINT64_MAX};
        (void)there_and_back(&m);
    }
}

static void expect_refusal(const struct tl_chain_message *m, size_t at, uint8_t value) {
    struct tl_chain_message back = {.number = 4711};
    tl_chain_message_encode(m, bytes);
    bytes[at] = value;
    assert_int_equal(tl_chain_message_decode(bytes, &back), TL_E_PROTOCOL);
    assert_int_equal(back.number, 4711);
}

static void impossible_ones_are_refused(void **state) {
    (void)state;
    expect_refusal(&greet, 0, 0); /* kinds */
    expect_refusal(&greet, 0, 6);
    expect_refusal(&gradient, 4, 0); /* of records */
    expect_refusal(&gradient, 4, 5);
    expect_refusal(&gradient, 44, 99); /* encoding */
    expect_refusal(&greet, 100, 8);    /* more replicas than there can be */
    expect_refusal(&greet, 112, 10);   /* an epoch above the number */
    expect_refusal(&greet, 120, 7);    /* a slot that is none */
    expect_refusal(&greet, 120, 0);    /* the same slot twice */
    expect_refusal(&greet, 124, 0);    /* no incarnation */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting_comes_back),
        cmocka_unit_test(a_record_comes_back),
        cmocka_unit_test(the_small_ones_come_back),
        cmocka_unit_test(impossible_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
