/* A shard behind TLS: real TCP connections, encrypted, plain, and of strangers. */
#include "throughline/tls.h"

#include "throughline/serve.h"

#include "certificates.h"
#include "serve_rig.h"

static void start_with(struct shard *s, const struct tl_trust *trust,
                       uint32_t frame_ms) {
    const struct shard_options options = {
        .max_connections = 40, .trust = trust, .tcp = true, .frame_ms = frame_ms};
    const struct tl_fold_config config = fold_config();
    shard_start_with(s, &config, &options);
}

static void start(struct shard *s, const struct tl_trust *trust) {
    start_with(s, trust, 0);
}

static struct caller *connect_with(const struct shard *s, const struct tl_trust *trust,
                                   int *ret_status) {
    struct tl_address a;
    struct caller *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->epoch = 7;
    assert_int_equal(tl_link_new(&c->link), 0);
    tl_link_set_trust(c->link, trust);
    assert_int_equal(tl_address_parse(s->address, &a), 0);
    assert_int_equal(tl_link_connect(c->link, &a), 0);
    *ret_status = hello_as(c, proper_hello(TL_ROLE_WORKER), 0);
    return c;
}

static struct caller *join_with(const struct shard *s, const struct tl_trust *trust,
                                uint32_t worker) {
    int rc = 0;
    struct caller *c = connect_with(s, trust, &rc);
    if (rc != 0) {
        fail_msg("%s", tl_error_text());
    }
    struct tl_header join = {.kind = TL_KIND_JOIN, .worker = worker, .incarnation = 1};
    assert_int_equal(ask(c, join, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_JOINED);
    return c;
}

static void gradients_and_weights_go_through_tls(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    start(&s, trust);
    struct caller *c = join_with(&s, trust, 0);
    for (uint64_t n = 1; n <= 20; n++) {
        assert_int_equal(push(c, TL_KIND_PUSH_PULL, 0, n, n - 1, 2.0F), 0);
        assert_weights(c, -1.0F * (float)n);
    }
    struct tl_header pull = {
        .kind = TL_KIND_PULL, .flags = TL_FLAG_WAIT, .read_version = 20};
    assert_int_equal(ask(c, pull, NULL), 0); /* waits, and is told in time */
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_NOTMODIFIED);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, 0);
    assert_true(s.stats.bytes_received > 20 * sizeof(float) * COUNT);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* A caller that polls before it advances is told to send. */
static void a_request_is_sent_when_poll_says_so(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    start(&s, trust);
    struct caller *c = join_with(&s, trust, 0);
    const struct tl_header ping = {.kind = TL_KIND_PING};
    assert_int_equal(tl_link_request(c->link, &ping, NULL, NULL, 0, false), 0);
    int rc = TL_E_BUSY;
    while (rc == TL_E_BUSY) {
        struct pollfd p = {.fd = tl_link_fd(c->link),
                           .events = tl_link_events(c->link)};
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        rc = tl_link_advance(c->link);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_PONG);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* More pushes at once than there are buffers for: those that wait have come into TLS's
 * ring already, and are taken from there when a buffer is free. */
static void many_pushes_at_once(void **state) {
    (void)state;
    enum { CALLERS = 24, ROUNDS = 3 };
    static struct caller *callers[CALLERS];
    static struct tl_link *links[CALLERS];
    static int status[CALLERS];
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    float *g = gradient_of(1.0F);
    start(&s, trust);
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = join_with(&s, trust, i);
        links[i] = callers[i]->link;
    }
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        for (uint32_t i = 0; i < CALLERS; i++) {
            struct tl_header h = {.kind = TL_KIND_PUSH_PULL,
                                  .worker = i,
                                  .incarnation = 1,
                                  .epoch = 7,
                                  .sequence = round,
                                  .length = COUNT * sizeof(float)};
            assert_int_equal(tl_link_request(links[i], &h, g, callers[i]->weights,
                                             sizeof(callers[i]->weights), true),
                             0);
        }
        assert_int_equal(tl_links_wait(links, CALLERS,
                                       now_ms() + INT64_C(4) * DEADLINE_MS, -1, status),
                         0);
        for (uint32_t i = 0; i < CALLERS; i++) {
            assert_int_equal(status[i], 0);
            assert_int_equal(tl_link_reply(links[i])->kind, TL_KIND_WEIGHTS);
            assert_int_equal(tl_link_reply(links[i])->status, 0);
        }
    }
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.pushes, CALLERS * ROUNDS);
    assert_int_equal(s.stats.bad_frames, 0);
    for (uint32_t i = 0; i < CALLERS; i++) {
        caller_free(callers[i]);
    }
    free(g);
    shard_stop(&s);
    tl_trust_free(trust);
}

static void the_secret_is_proven_inside(void **state) {
    (void)state;
    struct shard s;
    const char *path = scratch_write("secret", "the secret of this job");
    struct tl_trust *trust = certificate_trust("node", "ca", path);
    struct tl_trust *without = certificate_trust("node", "ca", NULL);
    int rc = 0;
    start(&s, trust);
    struct caller *c = connect_with(&s, trust, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_WELCOME);
    caller_free(c);
    c = connect_with(&s, without, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_AUTH);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(without);
    tl_trust_free(trust);
}

static void strangers_are_told_why(void **state) {
    (void)state;
    static const struct {
        const char *name, *ca, *text;
    } cases[] = {
        {"stranger", "ca", "does not accept our certificate"},
        {"expired", "ca", "does not accept our certificate"},
        {"node", "other-ca", "not signed by our --tls-ca"},
    };
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    start(&s, trust);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_trust *other = certificate_trust(cases[i].name, cases[i].ca, NULL);
        int rc = 0;
        struct caller *c = connect_with(&s, other, &rc);
        assert_int_equal(rc, TL_E_AUTH);
        assert_non_null(strstr(tl_error_text(), cases[i].text));
        assert_non_null(strstr(tl_error_text(), s.address)); /* and where */
        caller_free(c);
        tl_trust_free(other);
    }
    struct caller *good = join_with(&s, trust, 0);
    assert_int_equal(push(good, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_weights(good, -1.0F);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.auth_failures, 3);
    caller_free(good);
    shard_stop(&s);
    tl_trust_free(trust);
}

static void one_end_without_tls_is_told(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    int rc = 0;
    start(&s, trust);
    struct caller *plain = connect_with(&s, NULL, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(tl_link_reply(plain->link)->kind, TL_KIND_ERROR);
    assert_int_equal(tl_link_reply(plain->link)->status, TL_E_AUTH);
    assert_non_null(strstr(tl_link_error_text(plain->link), "speaks TLS"));
    caller_free(plain);
    shard_stop(&s);

    start(&s, NULL);
    struct caller *tls = connect_with(&s, trust, &rc);
    assert_int_equal(rc, TL_E_AUTH);
    assert_non_null(strstr(tl_error_text(), "does not speak TLS"));
    caller_free(tls);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* Half a handshake, and then nothing. */
static void a_handshake_that_stalls_is_closed(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = certificate_trust("node", "ca", NULL);
    struct tl_tls *tls = NULL;
    struct tl_link *link = NULL;
    struct tl_address a;
    const uint8_t *bytes = NULL;
    uint8_t byte;
    size_t n = 0;
    start_with(&s, trust, FRAME_MS);
    assert_int_equal(tl_tls_new(trust, "127.0.0.1", &tls), 0);
    assert_int_equal(tl_tls_read(tls, &byte, 1, &n), TL_E_BUSY); /* begins */
    size_t size = tl_tls_outgoing(tls, &bytes);
    assert_true(size > 100);
    assert_int_equal(tl_link_new(&link), 0); /* for its socket */
    assert_int_equal(tl_address_parse(s.address, &a), 0);
    assert_int_equal(tl_link_connect(link, &a), 0);
    struct pollfd connected = {.fd = tl_link_fd(link), .events = POLLOUT};
    assert_int_equal(poll(&connected, 1, DEADLINE_MS), 1);
    assert_int_equal(send(connected.fd, bytes, size / 2, MSG_NOSIGNAL), size / 2);
    assert_true(is_closed_by_peer(connected.fd));
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.strangers_dropped, 1);
    tl_link_free(link);
    tl_tls_free(tls);
    shard_stop(&s);
    tl_trust_free(trust);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_and_weights_go_through_tls),
        cmocka_unit_test(a_request_is_sent_when_poll_says_so),
        cmocka_unit_test(many_pushes_at_once),
        cmocka_unit_test(the_secret_is_proven_inside),
        cmocka_unit_test(strangers_are_told_why),
        cmocka_unit_test(one_end_without_tls_is_told),
        cmocka_unit_test(a_handshake_that_stalls_is_closed),
    };
    return cmocka_run_group_tests(tests, certificates_setup, scratch_teardown);
}
