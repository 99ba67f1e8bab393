/* Configurations: who follows from one, and as text that anybody may have written. */
#include "throughline/chain.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static const struct tl_chain_config three = {
    .number = 7,
    .epoch = 4,
    .count = 3,
    .nodes = {{0, 100}, {2, UINT64_MAX}, {1, 300}},
};

static void a_text_comes_back(void **state) {
    (void)state;
    char text[TL_CHAIN_TEXT_MAX];
    struct tl_chain_config back;
    tl_chain_config_format(&three, text);
    assert_string_equal(text, "7 4 0:100 2:18446744073709551615 1:300");
    assert_int_equal(tl_chain_config_parse(text, &back), 0);
    assert_true(tl_chain_config_digest(&back) == tl_chain_config_digest(&three));
    assert_int_equal(tl_chain_config_parse("0 0", &back), 0);
    assert_int_equal(back.count, 0);
}

static void the_longest_text_has_room(void **state) {
    (void)state;
    struct tl_chain_config c = {UINT64_MAX, UINT64_MAX, TL_CHAIN_NODES_MAX, {{0, 0}}};
    char text[TL_CHAIN_TEXT_MAX];
    struct tl_chain_config back;
    for (uint32_t i = 0; i < TL_CHAIN_NODES_MAX; i++) {
        c.nodes[i] = (struct tl_chain_node){i, UINT64_MAX - i};
    }
    tl_chain_config_format(&c, text);
    assert_int_equal(tl_chain_config_parse(text, &back), 0);
    assert_int_equal(back.nodes[6].incarnation, UINT64_MAX - 6);
}

static void what_cannot_be_one_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "7",
        "7 4",
        "0 0 0:1",
        "7 8 0:1",
        "7 0 0:1",
        "7 4 0:0",
        "7 4 7:1",
        "7 4 0:1 ",
        "7 4 0:1 0:2",
        "7 4 0:1x",
        " 7 4 0:1",
        "7  4 0:1",
        "7 4 0:",
        "7 4 :1",
        "-7 4 0:1",
        "7 4 0:1\n",
        "nonsense",
        "7 4 0:99999999999999999999999",
        "18446744073709551616 4 0:1",
        "9 4 0:1 1:1 2:1 3:1 4:1 5:1 6:1 6:2",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct tl_chain_config c = {.number = 99};
        if (tl_chain_config_parse(texts[i], &c) != TL_E_CORRUPT) {
            fail_msg("\"%s\" was believed", texts[i]);
        }
        assert_int_equal(c.number, 99);
    }
}

static void a_new_head_has_a_new_epoch(void **state) {
    (void)state;
    struct tl_chain_config c = tl_chain_without(&three, three.nodes[0]);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.nodes[0].slot, 2);
    assert_int_equal(c.number, 8);
    assert_int_equal(c.epoch, 8);
}

static void a_change_behind_the_head_leaves_the_epoch(void **state) {
    (void)state;
    struct tl_chain_config c = tl_chain_without(&three, three.nodes[1]);
    assert_int_equal(c.nodes[1].slot, 1);
    assert_int_equal(c.epoch, 4);
    c = tl_chain_with(&c, (struct tl_chain_node){5, 9});
    assert_int_equal(c.nodes[2].slot, 5);
    assert_int_equal(c.number, 9);
    assert_int_equal(c.epoch, 4);
    c = tl_chain_renewed(&c, 0);
    assert_int_equal(c.number, 10);
    assert_int_equal(c.epoch, 4);
}

static void an_epoch_that_others_saw_is_surpassed(void **state) {
    (void)state;
    struct tl_chain_config c = tl_chain_renewed(&three, 40);
    assert_int_equal(c.epoch, 41);
    assert_int_equal(c.number, 41);
    c = tl_chain_renewed(&three, 4); /* another's of the same number */
    assert_int_equal(c.epoch, 8);
    c = tl_chain_formed(&three, (struct tl_chain_node){0, 5}, 40);
    assert_int_equal(c.epoch, 41);
    assert_int_equal(c.count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_comes_back),
        cmocka_unit_test(the_longest_text_has_room),
        cmocka_unit_test(what_cannot_be_one_is_refused),
        cmocka_unit_test(a_new_head_has_a_new_epoch),
        cmocka_unit_test(a_change_behind_the_head_leaves_the_epoch),
        cmocka_unit_test(an_epoch_that_others_saw_is_surpassed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
