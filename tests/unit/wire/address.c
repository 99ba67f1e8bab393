/* address.c - addresses as people write them, and how a wrong one is answered. */
#include "throughline/wire.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

static void check_tcp(const char *text, const char *host, const char *port) {
    struct tl_address a;
    assert_int_equal(tl_address_parse(text, &a), 0);
    assert_false(a.is_unix);
    assert_string_equal(a.host, host);
    assert_string_equal(a.port, port);
}

static void tcp_addresses_are_understood(void **state) {
    (void)state;
    check_tcp("tcp://localhost:7000", "localhost", "7000");
    check_tcp("tcp://127.0.0.1:0", "127.0.0.1", "0");
    check_tcp("tcp://[::1]:65535", "::1", "65535");
    check_tcp("tcp://server-0.servers.ns.svc:7000", "server-0.servers.ns.svc", "7000");
}

static void unix_addresses_are_understood(void **state) {
    (void)state;
    struct tl_address a;
    assert_int_equal(tl_address_parse("unix:///run/tl/s.sock", &a), 0);
    assert_true(a.is_unix);
    assert_string_equal(a.host, "/run/tl/s.sock");
}

static void wrong_addresses_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "localhost:7000",
        "http://localhost:7000",
        "tcp://",
        "tcp://localhost",
        "tcp://localhost:",
        "tcp://:7000",
        "tcp://localhost:70000",
        "tcp://localhost:7000x",
        "tcp://localhost:-1",
        "tcp://::1:7000",
        "tcp://[::1]",
        "tcp://[::1:7000",
        "unix://",
        "unix://relative/path",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct tl_address a = {.port = "same"};
        assert_int_equal(tl_address_parse(wrong[i], &a), TL_E_CONFIG);
        assert_string_equal(a.port, "same");
        assert_non_null(strstr(tl_error_text(), wrong[i]));
    }
}

static void overlong_addresses_are_refused(void **state) {
    (void)state;
    char text[700];
    struct tl_address a;
    (void)snprintf(text, sizeof(text), "unix:///%0*d", 107, 0);
    assert_int_equal(tl_address_parse(text, &a), TL_E_CONFIG);
    (void)snprintf(text, sizeof(text), "unix:///%0*d", 106, 0);
    assert_int_equal(tl_address_parse(text, &a), 0);
    (void)snprintf(text, sizeof(text), "tcp://%0*d:1", 600, 0);
    assert_int_equal(tl_address_parse(text, &a), TL_E_CONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_addresses_are_understood),
        cmocka_unit_test(unix_addresses_are_understood),
        cmocka_unit_test(wrong_addresses_are_refused),
        cmocka_unit_test(overlong_addresses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
