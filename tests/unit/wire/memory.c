/* Memory runs out while keys and certificates are read, and at every point of a TLS
 * connection, OpenSSL's own allocations included: either end then says that it has no
 * memory, or at least fails; nothing that was damaged by it is believed. */
#include "throughline/tls.h"
#include "throughline/wire.h"

#include "certificates.h"
#include "scarce.h"

#include <openssl/crypto.h>
#include <string.h>

/* ---- OpenSSL asks us --------------------------------------------------------------
 */

static void *ssl_malloc(size_t size, const char *file, int line) {
    (void)file;
    (void)line;
    return malloc(size);
}

static void *ssl_realloc(void *old, size_t size, const char *file, int line) {
    (void)file;
    (void)line;
    return realloc(old, size);
}

static void ssl_free(void *old, const char *file, int line) {
    (void)file;
    (void)line;
    free(old);
}

/* ---- files ------------------------------------------------------------------------
 */

static int read_files(void *ctx) {
    struct tl_trust *trust = NULL;
    int rc = tl_trust_new(ctx, &trust);
    if (rc == 0) {
        assert_true(tl_trust_has_tls(trust) && tl_trust_secret(trust) != NULL);
    }
    tl_trust_free(trust);
    return rc;
}

/* Of the thousands of points every so many are enough; a prime, which meets each of a
 * loop's. */
#define STEP 5

/* What `work` fails with, allocation after allocation: something, and never silently.
 */
static unsigned long fail_each(int (*work)(void *ctx), void *ctx) {
    unsigned long n = 1;
    unsigned long unnamed = 0;
    bool failed = true;
    assert_int_equal(work(ctx), 0);
    for (; failed; n += STEP) {
        scarce_begin(n, false);
        int rc = work(ctx);
        failed = scarce_end();
        if (rc != 0 && !failed) {
            fail_msg("without a failure: %s", tl_error_text());
        }
        unnamed += rc != 0 && !scarce_is_named(rc);
    }
    assert_int_equal(work(ctx), 0);
    print_message("%lu allocations; %lu failures that OpenSSL gives another name\n", n,
                  unnamed);
    return n;
}

static void files_are_read_or_refused(void **state) {
    (void)state;
    const char *secret = scratch_write("secret", "the secret of this test");
    struct tl_trust_files files = certificate_files("node", "ca", secret);
    assert_true(fail_each(read_files, &files) > 100);
}

/* ---- connections ------------------------------------------------------------------
 */

struct pair {
    struct tl_trust *trust;
    struct tl_tls *client, *server;
};

/* What one end has for the other, as far as there is room. */
static bool carry(struct tl_tls *from, struct tl_tls *to) {
    const uint8_t *bytes = NULL;
    uint8_t *where = NULL;
    size_t size = tl_tls_outgoing(from, &bytes);
    size_t room = tl_tls_room(to, &where);
    size = size < room ? size : room;
    if (size > 0) {
        memcpy(where, bytes, size);
        tl_tls_received(to, size);
        tl_tls_sent(from, size);
    }
    return size > 0;
}

/* A word from the client, as soon as it may say it, until the server has it. */
static int say_word(struct pair *p) {
    static const char word[] = "a word";
    char heard[sizeof(word)] = "";
    bool is_said = false;
    size_t n = 0;
    int client = TL_E_BUSY;
    int server = TL_E_BUSY;
    bool moves = true;
    while (moves && server == TL_E_BUSY) {
        if (!is_said) {
            client = tl_tls_write(p->client, word, sizeof(word), &n);
            is_said = client == 0;
        }
        if (client != 0 && client != TL_E_BUSY) {
            return client;
        }
        moves = carry(p->client, p->server);
        server = tl_tls_read(p->server, heard, sizeof(heard), &n);
        moves = carry(p->server, p->client) || moves;
    }
    if (server == 0) {
        assert_string_equal(heard, word);
    }
    return server;
}

static int converse(void *ctx) {
    struct pair *p = ctx;
    p->client = NULL;
    p->server = NULL;
    int rc = tl_tls_new(p->trust, "127.0.0.1", &p->client);
    rc = rc == 0 ? tl_tls_new(p->trust, NULL, &p->server) : rc;
    rc = rc == 0 ? say_word(p) : rc;
    tl_tls_free(p->client);
    tl_tls_free(p->server);
    return rc;
}

static void a_connection_opens_or_fails(void **state) {
    (void)state;
    struct pair p = {.trust = certificate_trust("node", "ca", NULL)};
    assert_true(fail_each(converse, &p) > 100);
    tl_trust_free(p.trust);
}

/* ---- ours -------------------------------------------------------------------------
 */

static int make_link(void *ctx) {
    (void)ctx;
    struct tl_link *link = NULL;
    int rc = tl_link_new(&link);
    tl_link_free(link);
    return rc;
}

static void a_link_is_made_or_not(void **state) {
    (void)state;
    scarce_torture(make_link, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read_or_refused),
        cmocka_unit_test(a_connection_opens_or_fails),
        cmocka_unit_test(a_link_is_made_or_not),
    };
    if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1) {
        return 1;
    }
    return cmocka_run_group_tests_name("wire/memory", tests, certificates_setup,
                                       scratch_teardown);
}
