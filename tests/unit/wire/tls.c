/* TLS between two ends in one process, without a socket: what goes out of one is put
 * into the other, whole, in pieces, or changed. */
#include "throughline/tls.h"

#include "certificates.h"
#include "test.h"

#include <string.h>
#include <sys/stat.h>

struct pair {
    struct tl_trust *client_trust, *server_trust;
    struct tl_tls *client, *server;
    char trouble[512]; /* why the client stopped */
};

static void pair_open(struct pair *p, const char *client, const char *client_ca,
                      const char *server, const char *server_ca, const char *host) {
    p->client_trust = certificate_trust(client, client_ca, NULL);
    p->server_trust = certificate_trust(server, server_ca, NULL);
    assert_int_equal(tl_tls_new(p->client_trust, host, &p->client), 0);
    assert_int_equal(tl_tls_new(p->server_trust, NULL, &p->server), 0);
}

static void pair_close(struct pair *p) {
    tl_tls_free(p->client);
    tl_tls_free(p->server);
    tl_trust_free(p->client_trust);
    tl_trust_free(p->server_trust);
}

/* Move at most `most` bytes; how many were. `flip` changes a bit of the last. */
static size_t carry(struct tl_tls *from, struct tl_tls *to, size_t most, bool flip) {
    const uint8_t *bytes = NULL;
    uint8_t *where = NULL;
    size_t size = tl_tls_outgoing(from, &bytes);
    size_t room = tl_tls_room(to, &where);
    size = size < room ? size : room;
    size = size < most ? size : most;
    if (size > 0) {
        memcpy(where, bytes, size);
        where[size - 1] ^= flip ? 0x10 : 0;
        tl_tls_received(to, size);
        tl_tls_sent(from, size);
    }
    return size;
}

/* Carry all there is, in pieces of `most`; the first error of an end that is not BUSY.
 */
static void talk(struct pair *p, size_t most, int *ret_client, int *ret_server) {
    uint8_t byte;
    size_t n = 0;
    *ret_client = *ret_server = TL_E_BUSY;
    bool moved = true;
    while (moved) {
        if (*ret_client == TL_E_BUSY) {
            *ret_client = tl_tls_read(p->client, &byte, 1, &n);
            (void)snprintf(p->trouble, sizeof(p->trouble), "%s", tl_error_text());
        }
        moved = carry(p->client, p->server, most, false) > 0;
        if (*ret_server == TL_E_BUSY) {
            *ret_server = tl_tls_read(p->server, &byte, 1, &n);
        }
        moved = carry(p->server, p->client, most, false) > 0 || moved;
    }
}

static void open_well(struct pair *p, size_t most) {
    int client = 0;
    int server = 0;
    pair_open(p, "node", "ca", "node", "ca", "127.0.0.1");
    talk(p, most, &client, &server);
    assert_int_equal(client, TL_E_BUSY);
    assert_int_equal(server, TL_E_BUSY);
    assert_true(tl_tls_is_open(p->client));
    assert_true(tl_tls_is_open(p->server));
}

static void bytes_go_both_ways(void **state) {
    (void)state;
    static const size_t pieces[] = {1, 100, 1 << 20};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct pair p;
        char heard[6] = "";
        size_t n = 0;
        open_well(&p, pieces[i]);
        assert_int_equal(tl_tls_write(p.client, "hello", 5, &n), 0);
        assert_int_equal(n, 5);
        while (carry(p.client, p.server, pieces[i], false) > 0) {
        }
        assert_int_equal(tl_tls_read(p.server, heard, 5, &n), 0);
        assert_string_equal(heard, "hello");
        assert_int_equal(tl_tls_write(p.server, "world", 5, &n), 0);
        while (carry(p.server, p.client, pieces[i], false) > 0) {
        }
        assert_int_equal(tl_tls_read(p.client, heard, 5, &n), 0);
        assert_string_equal(heard, "world");
        pair_close(&p);
    }
}

/* More than the rings hold: the writer is told to wait, and nothing is lost. */
static void a_writer_waits_for_its_reader(void **state) {
    (void)state;
    enum { SIZE = 3 << 20 };
    static uint8_t said[SIZE];
    static uint8_t heard[SIZE];
    struct pair p;
    size_t sent = 0;
    size_t got = 0;
    unsigned waits = 0;
    for (size_t i = 0; i < SIZE; i++) {
        said[i] = (uint8_t)(i * 31 >> 3);
    }
    open_well(&p, SIZE);
    while (got < SIZE) {
        size_t n = 0;
        int rc = sent < SIZE ? tl_tls_write(p.client, said + sent, SIZE - sent, &n) : 0;
        assert_true(rc == 0 || rc == TL_E_BUSY);
        waits += rc == TL_E_BUSY;
        sent += n;
        if (rc == 0 && sent < SIZE) {
            continue; /* until the ring is full */
        }
        (void)carry(p.client, p.server, SIZE, false);
        while ((rc = tl_tls_read(p.server, heard + got, SIZE - got, &n)) == 0) {
            got += n;
            if (got == SIZE) {
                break;
            }
        }
        assert_true(rc == 0 || rc == TL_E_BUSY);
    }
    assert_true(waits > 0);
    assert_memory_equal(said, heard, SIZE);
    pair_close(&p);
}

static void what_was_changed_is_not_believed(void **state) {
    (void)state;
    struct pair p;
    char heard[6];
    size_t n = 0;
    open_well(&p, 1 << 20);
    assert_int_equal(tl_tls_write(p.client, "hello", 5, &n), 0);
    assert_true(carry(p.client, p.server, 1 << 20, true) > 0);
    assert_int_equal(tl_tls_read(p.server, heard, 5, &n), TL_E_PROTOCOL);
    pair_close(&p);
}

static void who_has_the_wrong_certificate_is_told(void **state) {
    (void)state;
    static const struct {
        const char *client, *client_ca, *server, *server_ca, *host;
        const char *text; /* at the client */
    } cases[] = {
        {"node", "other-ca", "node", "ca", "127.0.0.1",
         "give both ends certificates of one CA"},
        {"node", "ca", "expired", "ca", "127.0.0.1", "has expired"},
        {"node", "ca", "elsewhere", "ca", "127.0.0.1", "not for this address"},
        {"node", "ca", "elsewhere", "ca", "localhost", "not for this address"},
        {"node", "ca", "client", "ca", "127.0.0.1", "may not be used as a server's"},
        {"stranger", "ca", "node", "ca", "127.0.0.1",
         "give one that its --tls-ca has signed"},
        {"expired", "ca", "node", "ca", "127.0.0.1", "does not accept our certificate"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pair p;
        int client = 0;
        int server = 0;
        pair_open(&p, cases[i].client, cases[i].client_ca, cases[i].server,
                  cases[i].server_ca, cases[i].host);
        talk(&p, 1 << 20, &client, &server);
        assert_int_equal(client, TL_E_AUTH);
        assert_int_equal(server, TL_E_AUTH);
        if (strstr(p.trouble, cases[i].text) == NULL) {
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, p.trouble,
                     cases[i].text);
        }
        pair_close(&p);
    }
}

static void garbage_is_no_tls(void **state) {
    (void)state;
    struct pair p;
    uint8_t byte;
    uint8_t *where = NULL;
    size_t n = 0;
    pair_open(&p, "node", "ca", "node", "ca", "localhost");
    assert_true(tl_tls_room(p.server, &where) > 100);
    memset(where, 'x', 100);
    tl_tls_received(p.server, 100);
    assert_int_equal(tl_tls_read(p.server, &byte, 1, &n), TL_E_AUTH);
    assert_non_null(strstr(tl_error_text(), "does not speak TLS"));
    pair_close(&p);
}

/* ---- files ------------------------------------------------------------------------
 */

static void assert_unusable(const struct tl_trust_files *files, const char *text) {
    struct tl_trust *trust = NULL;
    assert_int_equal(tl_trust_new(files, &trust), TL_E_CONFIG);
    assert_null(trust);
    if (strstr(tl_error_text(), text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", tl_error_text(), text);
    }
}

static void bad_files_are_named_at_start(void **state) {
    (void)state;
    const struct tl_trust_files good = certificate_files("node", "ca", NULL);
    struct tl_trust_files f = good;
    f.tls_key[0] = '\0';
    assert_unusable(&f, "all of --tls-cert, --tls-key and --tls-ca");

    f = good;
    (void)snprintf(f.tls_ca, sizeof(f.tls_ca), "%s/none.pem", scratch);
    assert_unusable(&f, "--tls-ca");
    assert_unusable(&f, "No such file");

    f = certificate_files("node", "ca", NULL);
    (void)snprintf(f.tls_key, sizeof(f.tls_key), "%s/stranger.key", scratch);
    assert_unusable(&f, "stranger.key: no unencrypted private key");

    (void)scratch_write("text.pem", "this is no certificate\n");
    f = good;
    (void)snprintf(f.tls_cert, sizeof(f.tls_cert), "%s/text.pem", scratch);
    assert_unusable(&f, "text.pem: no certificate in PEM");
    f = certificate_files("node", "text", NULL);
    assert_unusable(&f, "text.pem: no certificate in PEM");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(a_writer_waits_for_its_reader),
        cmocka_unit_test(what_was_changed_is_not_believed),
        cmocka_unit_test(who_has_the_wrong_certificate_is_told),
        cmocka_unit_test(garbage_is_no_tls),
        cmocka_unit_test(bad_files_are_named_at_start),
    };
    return cmocka_run_group_tests(tests, certificates_setup, scratch_teardown);
}
