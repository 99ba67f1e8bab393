/* The handshake and the table of rights, as bytes: no socket, fixed nonces. */
#include "throughline/auth.h"

#include "scratch.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static const char job_secret[] = "correct horse battery staple\n";

/* ---- an opening, step by step -----------------------------------------------------
 */

struct opening {
    struct tl_auth caller, server;
    struct tl_header header;
    struct tl_hello hello;
    uint8_t said[TL_HELLO_BYTES];
    uint8_t challenge[TL_CHALLENGE_BYTES];
    uint8_t proof[TL_PROOF_BYTES];
};

static struct tl_secret secret_of(const char *text) {
    struct tl_secret s;
    assert_int_equal(tl_secret_parse(text, strlen(text), &s), 0);
    return s;
}

static void fill(uint8_t nonce[TL_NONCE_BYTES], uint8_t first) {
    for (size_t i = 0; i < TL_NONCE_BYTES; i++) {
        nonce[i] = (uint8_t)(first + i);
    }
}

static struct opening opening_as(enum tl_role role) {
    return (struct opening){
        .header = {.kind = TL_KIND_HELLO, .shard = 2, .worker = 3, .epoch = 7},
        .hello = {.role = role, .job = "demo", .run = "r1", .job_digest = 99},
    };
}

/* The caller's HELLO reaches the server as `hello` says it does. */
static int challenge(struct opening *o, const struct tl_secret *caller,
                     const struct tl_secret *server) {
    uint8_t nonce[TL_NONCE_BYTES];
    struct tl_hello heard;
    fill(nonce, 1);
    int rc = tl_auth_begin(&o->caller, caller, &o->header, &o->hello, nonce, o->said);
    if (rc != 0) {
        return rc;
    }
    assert_int_equal(tl_hello_decode(o->said, sizeof(o->said), &heard), 0);
    fill(nonce, 101);
    return tl_auth_challenge(&o->server, server, &o->header, &heard, nonce,
                             o->challenge);
}

static int answer(struct opening *o) {
    return tl_auth_answer(&o->caller, o->challenge, sizeof(o->challenge), o->proof);
}

static int check(struct opening *o) {
    return tl_auth_check(&o->server, o->proof, sizeof(o->proof));
}

static struct opening opened(enum tl_role role, const struct tl_secret *secret) {
    struct opening o = opening_as(role);
    assert_int_equal(challenge(&o, secret, secret), 0);
    assert_int_equal(answer(&o), 0);
    return o;
}

/* ---- the handshake ----------------------------------------------------------------
 */

static void who_knows_the_secret_is_let_in(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    for (enum tl_role role = TL_ROLE_SERVER; role <= TL_ROLE_CLI; role++) {
        struct opening o = opened(role, &secret);
        assert_int_equal(tl_auth_welcome(&o.caller), 0);
        assert_int_equal(check(&o), 0);
        assert_true(o.server.proven);
    }
}

static void another_secret_is_refused_at_both_ends(void **state) {
    (void)state;
    const struct tl_secret ours = secret_of(job_secret);
    const struct tl_secret theirs = secret_of("correct horse battery stable");
    struct opening o = opening_as(TL_ROLE_WORKER);
    assert_int_equal(challenge(&o, &theirs, &ours), 0);
    assert_int_equal(answer(&o), TL_E_AUTH); /* the caller learns it first */
    assert_int_equal(tl_auth_welcome(&o.caller), TL_E_AUTH);

    struct opening liar = opened(TL_ROLE_WORKER, &theirs);
    o = opened(TL_ROLE_WORKER, &ours);
    memcpy(o.proof, liar.proof, sizeof(o.proof));
    assert_int_equal(check(&o), TL_E_AUTH);
    assert_false(o.server.proven);
}

static void a_proof_is_good_for_one_opening(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    struct opening recorded = opened(TL_ROLE_WORKER, &secret);

    /* The whole conversation of the caller again, at a server with a fresh number. */
    struct opening again = recorded;
    uint8_t nonce[TL_NONCE_BYTES];
    fill(nonce, 102);
    assert_int_equal(tl_auth_challenge(&again.server, &secret, &again.header,
                                       &recorded.server.hello, nonce, again.challenge),
                     0);
    assert_int_equal(check(&again), TL_E_AUTH);

    /* The server's part again, to a caller with a fresh number. */
    uint8_t said[TL_HELLO_BYTES];
    assert_int_equal(
        tl_auth_begin(&again.caller, &secret, &again.header, &again.hello, nonce, said),
        0);
    memcpy(again.challenge, recorded.challenge, sizeof(again.challenge));
    assert_int_equal(answer(&again), TL_E_AUTH);

    /* The right proof after a wrong one; and twice. */
    struct opening o = recorded;
    o.proof[0] ^= 1;
    assert_int_equal(check(&o), TL_E_AUTH);
    o.proof[0] ^= 1;
    assert_int_equal(check(&o), TL_E_AUTH);
    o = recorded;
    assert_int_equal(check(&o), 0);
    assert_int_equal(check(&o), TL_E_AUTH);
}

static void a_server_s_proof_is_not_a_caller_s(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    struct opening o = opened(TL_ROLE_WORKER, &secret);
    memcpy(o.proof, o.challenge + TL_NONCE_BYTES, sizeof(o.proof));
    assert_int_equal(check(&o), TL_E_AUTH);
}

/* Every word of the opening is under the proofs: change one on its way, and neither end
 * believes the other. */
static void what_was_said_cannot_be_changed(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    for (size_t change = 0; change < 9; change++) {
        struct opening o = opening_as(TL_ROLE_MONITOR);
        uint8_t nonce[TL_NONCE_BYTES];
        fill(nonce, 1);
        assert_int_equal(
            tl_auth_begin(&o.caller, &secret, &o.header, &o.hello, nonce, o.said), 0);
        struct tl_hello h;
        struct tl_header header = o.header;
        assert_int_equal(tl_hello_decode(o.said, sizeof(o.said), &h), 0);
        switch (change) {
        case 0:
            h.role = TL_ROLE_WORKER;
            break;
        case 1:
            h.job[0] = 'x';
            break;
        case 2:
            h.run[1] = '2';
            break;
        case 3:
            h.job_digest ^= 1;
            break;
        case 4:
            h.writer ^= 1;
            break;
        case 5:
            h.nonce[31] ^= 1;
            break;
        case 6:
            header.shard ^= 1;
            break;
        case 7:
            header.worker ^= 1;
            break;
        default:
            header.epoch ^= 1;
            break;
        }
        fill(nonce, 101);
        assert_int_equal(
            tl_auth_challenge(&o.server, &secret, &header, &h, nonce, o.challenge), 0);
        assert_int_equal(answer(&o), TL_E_AUTH);
    }
}

static void nothing_is_believed_without_a_proof(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    struct opening o = opening_as(TL_ROLE_WORKER);
    assert_int_equal(challenge(&o, NULL, &secret), TL_E_AUTH);
    assert_int_equal(check(&o), TL_E_AUTH);
    assert_int_equal(tl_auth_welcome(&o.caller), 0); /* nor was one asked for */

    o = opening_as(TL_ROLE_WORKER);
    assert_int_equal(challenge(&o, &secret, &secret), 0);
    assert_int_equal(tl_auth_welcome(&o.caller), TL_E_AUTH); /* a WELCOME too early */

    struct opening none = {0};
    assert_int_equal(check(&none), TL_E_AUTH);
    none.hello.role = TL_ROLE_WORKER;
    assert_int_equal(challenge(&none, NULL, &secret), TL_E_AUTH);
    memcpy(none.challenge, o.challenge, sizeof(none.challenge));
    assert_int_equal(answer(&none), TL_E_AUTH); /* asked for what we do not have */
}

static void sizes_are_checked(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    struct opening o = opened(TL_ROLE_WORKER, &secret);
    assert_int_equal(tl_auth_check(&o.server, o.proof, sizeof(o.proof) - 1), TL_E_AUTH);
    o = opening_as(TL_ROLE_WORKER);
    assert_int_equal(challenge(&o, &secret, &secret), 0);
    assert_int_equal(
        tl_auth_answer(&o.caller, o.challenge, sizeof(o.challenge) - 1, o.proof),
        TL_E_PROTOCOL);
}

/* ---- secrets ----------------------------------------------------------------------
 */

static struct tl_secret key_of(const struct tl_secret *secret, enum tl_role role) {
    struct tl_secret key;
    char text[TL_ROLE_KEY_MAX];
    assert_int_equal(tl_secret_for(secret, role, &key), 0);
    tl_secret_print(&key, text);
    return secret_of(text);
}

static void a_role_s_key_opens_for_that_role_alone(void **state) {
    (void)state;
    const struct tl_secret secret = secret_of(job_secret);
    const struct tl_secret worker = key_of(&secret, TL_ROLE_WORKER);
    struct opening o = opening_as(TL_ROLE_WORKER);
    assert_int_equal(challenge(&o, &worker, &secret), 0);
    assert_int_equal(answer(&o), 0);
    assert_int_equal(check(&o), 0);

    o = opening_as(TL_ROLE_CLI);
    assert_int_equal(challenge(&o, &worker, &secret), TL_E_AUTH);

    /* One who does not ask this library whether it may. */
    struct tl_secret forged = worker;
    forged.role = TL_ROLE_CLI;
    o = opening_as(TL_ROLE_CLI);
    assert_int_equal(challenge(&o, &forged, &secret), 0);
    assert_int_equal(answer(&o), TL_E_AUTH);
    o.caller.proven = false;
    memcpy(o.proof, o.challenge, sizeof(o.proof));
    assert_int_equal(check(&o), TL_E_AUTH);
}

static void a_line_end_does_not_count(void **state) {
    (void)state;
    const struct tl_secret a = secret_of("0123456789abcdef");
    const struct tl_secret b = secret_of("0123456789abcdef\r\n");
    assert_memory_equal(a.key, b.key, sizeof(a.key));
}

static void bad_secrets_are_refused_and_not_repeated(void **state) {
    (void)state;
    static const char key_text[] = "throughline-key:worker:";
    char digits[2 * TL_KEY_BYTES + 1];
    char bad[5][200];
    memset(digits, 'a', sizeof(digits) - 1);
    digits[sizeof(digits) - 1] = '\0';
    (void)snprintf(bad[0], sizeof(bad[0]), "tooshort-secret");
    (void)snprintf(bad[1], sizeof(bad[1]), "%s%.63s", key_text, digits);
    (void)snprintf(bad[2], sizeof(bad[2]), "%s%sa", key_text, digits);
    (void)snprintf(bad[3], sizeof(bad[3]), "throughline-key:boss:%s", digits);
    (void)snprintf(bad[4], sizeof(bad[4]), "%s%.63sg", key_text, digits);
    for (size_t i = 0; i < 5; i++) {
        struct tl_secret s;
        assert_int_equal(tl_secret_parse(bad[i], strlen(bad[i]), &s), TL_E_CONFIG);
        assert_null(strstr(tl_error_text(), "tooshort-secret"));
        assert_null(strstr(tl_error_text(), "aaaa"));
    }
    static char longest[TL_SECRET_MAX + 1];
    struct tl_secret s;
    memset(longest, 'x', sizeof(longest));
    assert_int_equal(tl_secret_parse(longest, TL_SECRET_MAX, &s), 0);
    assert_int_equal(tl_secret_parse(longest, TL_SECRET_MAX + 1, &s), TL_E_CONFIG);
}

static void a_secret_is_read_from_its_file(void **state) {
    (void)state;
    struct tl_secret s;
    const char *path = scratch_path("secret");
    assert_int_equal(tl_secret_read(path, &s), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), path));

    (void)scratch_write("secret", job_secret);
    assert_int_equal(tl_secret_read(path, &s), 0);
    const struct tl_secret expected = secret_of(job_secret);
    assert_memory_equal(s.key, expected.key, sizeof(s.key));
    assert_int_equal(s.role, 0);

    assert_int_equal(truncate(path, TL_SECRET_MIN - 1), 0);
    assert_int_equal(tl_secret_read(path, &s), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), path));
    assert_null(strstr(tl_error_text(), "horse"));
}

/* ---- rights -----------------------------------------------------------------------
 */

/* The whole table once more, by hand: every role, every number that a kind can have. */
static bool expected_right(enum tl_role role, unsigned kind) {
    switch (kind) {
    case TL_KIND_HELLO:
    case TL_KIND_PROOF:
    case TL_KIND_PING:
        return true;
    case TL_KIND_JOIN:
    case TL_KIND_LEAVE:
    case TL_KIND_PUSH:
    case TL_KIND_PUSH_PULL:
    case TL_KIND_SHARE:
        return role == TL_ROLE_WORKER;
    case TL_KIND_PULL:
        return role == TL_ROLE_WORKER || role == TL_ROLE_MONITOR || role == TL_ROLE_CLI;
    case TL_KIND_SNAPSHOT:
        return role == TL_ROLE_CHECKPOINTER;
    case TL_KIND_RATE:
        return role == TL_ROLE_CLI;
    default:
        return false;
    }
}

static void every_role_has_its_rights_and_no_other(void **state) {
    (void)state;
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        for (enum tl_role role = TL_ROLE_SERVER; role <= TL_ROLE_CLI; role++) {
            assert_int_equal(tl_role_may(role, (uint8_t)kind),
                             expected_right(role, kind));
        }
        assert_false(tl_role_may((enum tl_role)0, (uint8_t)kind));
        assert_false(tl_role_may((enum tl_role)(TL_ROLE_CLI + 1), (uint8_t)kind));
        assert_false(tl_role_may((enum tl_role)32, (uint8_t)kind));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_the_secret_is_let_in),
        cmocka_unit_test(another_secret_is_refused_at_both_ends),
        cmocka_unit_test(a_proof_is_good_for_one_opening),
        cmocka_unit_test(a_server_s_proof_is_not_a_caller_s),
        cmocka_unit_test(what_was_said_cannot_be_changed),
        cmocka_unit_test(nothing_is_believed_without_a_proof),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(a_role_s_key_opens_for_that_role_alone),
        cmocka_unit_test(a_line_end_does_not_count),
        cmocka_unit_test(bad_secrets_are_refused_and_not_repeated),
        cmocka_unit_test(a_secret_is_read_from_its_file),
        cmocka_unit_test(every_role_has_its_rights_and_no_other),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
