/* hello.c - the payloads that open a connection, checked field by field. */
#include "throughline/wire.h"

#include "test.h"

#include <string.h>

static const struct tl_hello hello = {
    .role = TL_ROLE_WORKER,
    .job = "fashion-cnn",
    .run = "default",
    .job_digest = UINT64_C(0xfeedface12345678),
    .writer = 77,
};

static const struct tl_welcome welcome = {
    .writer = 77,
    .shards = 2,
    .parameters = 813258,
    .first = 406629,
    .count = 406629,
    .consistency = 1,
    .ignores_norm = true,
};

static void hello_comes_back(void **state) {
    (void)state;
    uint8_t buf[TL_HELLO_BYTES];
    struct tl_hello out;
    memset(&out, 0xff, sizeof(out));
    tl_hello_encode(&hello, buf);
    assert_int_equal(tl_hello_decode(buf, sizeof(buf), &out), 0);
    assert_int_equal(out.role, hello.role);
    assert_string_equal(out.job, hello.job);
    assert_string_equal(out.run, hello.run);
    assert_true(out.job_digest == hello.job_digest);
    assert_true(out.writer == hello.writer);
}

static void names_may_be_empty_or_of_full_length(void **state) {
    (void)state;
    uint8_t buf[TL_HELLO_BYTES];
    struct tl_hello in = {.role = TL_ROLE_CLI};
    struct tl_hello out;
    memset(in.run, 'r', TL_NAME_MAX - 1);
    tl_hello_encode(&in, buf);
    assert_int_equal(tl_hello_decode(buf, sizeof(buf), &out), 0);
    assert_string_equal(out.job, "");
    assert_string_equal(out.run, in.run);
}

static int decode_hello_with(size_t at, uint8_t value) {
    uint8_t buf[TL_HELLO_BYTES];
    struct tl_hello out;
    tl_hello_encode(&hello, buf);
    buf[at] = value;
    return tl_hello_decode(buf, sizeof(buf), &out);
}

static void a_wrong_hello_is_refused(void **state) {
    (void)state;
    uint8_t buf[TL_HELLO_BYTES];
    struct tl_hello out;
    tl_hello_encode(&hello, buf);
    assert_int_equal(tl_hello_decode(buf, sizeof(buf) - 1, &out), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(0, TL_ROLE_WORKER), 0);
    assert_int_equal(decode_hello_with(0, 0), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(0, 7), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(4, 1), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(8, 'F'), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(8, '\n'), TL_E_PROTOCOL);
    assert_int_equal(decode_hello_with(8 + 63, 'x'), TL_E_PROTOCOL); /* after the end */
    memset(buf + 8, 'x', TL_NAME_MAX);                               /* has no end */
    assert_int_equal(tl_hello_decode(buf, sizeof(buf), &out), TL_E_PROTOCOL);
}

static void welcome_comes_back(void **state) {
    (void)state;
    uint8_t buf[TL_WELCOME_BYTES];
    struct tl_welcome out = {0};
    tl_welcome_encode(&welcome, buf);
    assert_int_equal(tl_welcome_decode(buf, sizeof(buf), &out), 0);
    assert_true(out.writer == welcome.writer);
    assert_int_equal(out.shards, welcome.shards);
    assert_true(out.parameters == welcome.parameters);
    assert_true(out.first == welcome.first);
    assert_true(out.count == welcome.count);
    assert_int_equal(out.consistency, welcome.consistency);
    assert_true(out.ignores_norm);
}

static int decode_welcome(struct tl_welcome w) {
    uint8_t buf[TL_WELCOME_BYTES];
    struct tl_welcome out;
    tl_welcome_encode(&w, buf);
    return tl_welcome_decode(buf, sizeof(buf), &out);
}

static void a_lying_welcome_is_refused(void **state) {
    (void)state;
    struct tl_welcome w = welcome;
    assert_int_equal(decode_welcome(w), 0);
    w.count = welcome.count + 1;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
    w = welcome;
    w.first = UINT64_MAX - 5;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
    w = welcome;
    w.count = 0;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
    w = welcome;
    w.shards = 0;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
    w = welcome;
    w.parameters = TL_PARAMETERS_MAX + 1;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
    w = welcome;
    w.consistency = 3;
    assert_int_equal(decode_welcome(w), TL_E_PROTOCOL);
}

static void reserved_and_size_of_welcome_are_checked(void **state) {
    (void)state;
    uint8_t buf[TL_WELCOME_BYTES];
    struct tl_welcome out;
    tl_welcome_encode(&welcome, buf);
    assert_int_equal(tl_welcome_decode(buf, sizeof(buf) - 1, &out), TL_E_PROTOCOL);
    buf[39] = 1;
    assert_int_equal(tl_welcome_decode(buf, sizeof(buf), &out), TL_E_PROTOCOL);
    buf[39] = 0;
    assert_int_equal(tl_welcome_decode(buf, sizeof(buf), &out), 0);
    buf[37] = 2;
    assert_int_equal(tl_welcome_decode(buf, sizeof(buf), &out), TL_E_PROTOCOL);
}

static void roles_have_names(void **state) {
    (void)state;
    assert_string_equal(tl_role_name(TL_ROLE_SERVER), "server");
    assert_string_equal(tl_role_name(TL_ROLE_CLI), "cli");
    assert_string_equal(tl_role_name((enum tl_role)99), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_comes_back),
        cmocka_unit_test(names_may_be_empty_or_of_full_length),
        cmocka_unit_test(a_wrong_hello_is_refused),
        cmocka_unit_test(welcome_comes_back),
        cmocka_unit_test(a_lying_welcome_is_refused),
        cmocka_unit_test(reserved_and_size_of_welcome_are_checked),
        cmocka_unit_test(roles_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
