/* Who may talk to a shard: real connections that prove, fail to prove, repeat what they
 * overheard, or say nothing at all. */
#include "throughline/serve.h"

#include "fake_server.h"
#include "scratch.h"
#include "serve_rig.h"

#include <sys/resource.h>

#define STRANGERS_MAX 128 /* serve_internal.h */

/* ---- secrets in files -------------------------------------------------------------
 */

static struct tl_trust *trust_in(const char *path) {
    struct tl_trust_files files = {.secret = ""};
    struct tl_trust *trust = NULL;
    (void)snprintf(files.secret, sizeof(files.secret), "%s", path);
    assert_int_equal(tl_trust_new(&files, &trust), 0);
    assert_non_null(trust);
    return trust;
}

static struct tl_trust *trust_of(const char *name, const char *text) {
    return trust_in(scratch_write(name, text));
}

static struct tl_trust *role_trust(const char *job_secret, enum tl_role role) {
    struct tl_secret job;
    struct tl_secret key;
    char text[TL_ROLE_KEY_MAX];
    assert_int_equal(tl_secret_parse(job_secret, strlen(job_secret), &job), 0);
    assert_int_equal(tl_secret_for(&job, role, &key), 0);
    tl_secret_print(&key, text);
    return trust_of(tl_role_name(role), text);
}

static const char secret[] = "the secret of this job";

static void start(struct shard *s, const struct tl_trust *trust) {
    const struct shard_options options = {
        .max_connections = 10, .trust = trust, .frame_ms = FRAME_MS};
    const struct tl_fold_config config = fold_config();
    shard_start_with(s, &config, &options);
}

static int hello_with(struct caller *c, const struct tl_trust *trust,
                      enum tl_role role) {
    tl_link_set_trust(c->link, trust);
    return hello_as(c, proper_hello(role), 0);
}

static void assert_refused(struct caller *c, int status) {
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_ERROR);
    assert_int_equal(tl_link_reply(c->link)->status, status);
    assert_true(is_closed_by_peer(tl_link_fd(c->link)));
}

/* ---- proofs -----------------------------------------------------------------------
 */

static void who_knows_the_secret_is_welcome(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);
    struct caller *c = caller_connect(&s);
    assert_int_equal(hello_with(c, trust, TL_ROLE_WORKER), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_WELCOME);
    struct tl_welcome w;
    assert_int_equal(tl_welcome_decode(c->welcome, sizeof(c->welcome), &w), 0);
    assert_int_equal(w.count, COUNT);
    assert_int_equal(tl_link_reply(c->link)->epoch, 7);
    /* Once more on the same connection, which then starts anew. */
    assert_int_equal(hello_as(c, proper_hello(TL_ROLE_MONITOR), 0), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_WELCOME);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.auth_failures, 0);
    assert_int_equal(s.stats.strangers_open, 0);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(trust);
}

static void others_are_told_what_is_missing(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    struct tl_trust *other = trust_of("other", "the secret of another job");
    start(&s, trust);

    struct caller *none = caller_connect(&s);
    assert_int_equal(hello_with(none, NULL, TL_ROLE_WORKER), 0);
    assert_refused(none, TL_E_AUTH);
    assert_non_null(strstr(tl_link_error_text(none->link), "--secret-file"));
    assert_int_equal(tl_link_reply(none->link)->epoch, 0); /* nothing of the shard */
    assert_int_equal(tl_link_reply(none->link)->read_version, 0);

    struct caller *wrong = caller_connect(&s);
    assert_int_equal(hello_with(wrong, other, TL_ROLE_WORKER), TL_E_AUTH);
    assert_non_null(strstr(tl_error_text(), "does not know this job's secret"));

    on_loop(&s, read_stats);
    assert_int_equal(s.stats.auth_failures, 1); /* the other one noticed by itself */
    caller_free(none);
    caller_free(wrong);
    shard_stop(&s);
    tl_trust_free(other);
    tl_trust_free(trust);
}

static void a_server_without_the_secret_is_not_believed(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, NULL);
    struct caller *c = caller_connect(&s);
    assert_int_equal(hello_with(c, trust, TL_ROLE_WORKER), TL_E_AUTH);
    assert_non_null(strstr(tl_error_text(), "has no secret"));
    assert_false(tl_link_is_open(c->link));
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(trust);
}

static void nothing_is_heard_before_the_proof(void **state) {
    (void)state;
    static const uint8_t kinds[] = {TL_KIND_JOIN,     TL_KIND_LEAVE,     TL_KIND_PULL,
                                    TL_KIND_SNAPSHOT, TL_KIND_RATE,      TL_KIND_PING,
                                    TL_KIND_PUSH,     TL_KIND_PUSH_PULL, TL_KIND_PROOF};
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);
    for (size_t i = 0; i < sizeof(kinds); i++) {
        struct caller *c = caller_connect(&s);
        assert_int_equal(ask(c, (struct tl_header){.kind = kinds[i]}, NULL), 0);
        assert_refused(c, TL_E_PROTOCOL);
        caller_free(c);
    }
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, sizeof(kinds));
    shard_stop(&s);
    tl_trust_free(trust);
}

/* Nobody but one who has proven it can make a server take another epoch. */
static void a_stranger_s_epoch_is_not_believed(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    struct tl_trust *other = trust_of("other", "the secret of another job");
    start(&s, trust);
    struct caller *c = caller_connect(&s);
    c->epoch = 1000;
    assert_int_equal(hello_with(c, NULL, TL_ROLE_WORKER), 0);
    assert_refused(c, TL_E_AUTH);
    caller_free(c);
    c = caller_connect(&s);
    c->epoch = 1000;
    assert_int_equal(hello_with(c, other, TL_ROLE_WORKER), TL_E_AUTH);
    assert_int_equal(atomic_load(&s.newer_epoch), 0);
    caller_free(c);
    c = caller_connect(&s);
    c->epoch = 1000;
    assert_int_equal(hello_with(c, trust, TL_ROLE_WORKER), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_EPOCH);
    assert_int_equal(atomic_load(&s.newer_epoch), 1000);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(other);
    tl_trust_free(trust);
}

/* The job and the run are part of what is proven, and compared after it. */
static void the_secret_of_one_run_does_not_open_another(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);
    struct caller *c = caller_connect(&s);
    struct tl_hello hello = proper_hello(TL_ROLE_WORKER);
    (void)snprintf(hello.run, sizeof(hello.run), "another");
    tl_link_set_trust(c->link, trust);
    assert_int_equal(hello_as(c, hello, 0), 0);
    assert_refused(c, TL_E_MISMATCH);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* ---- roles ------------------------------------------------------------------------
 */

static void a_role_s_key_is_held_to_its_role(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    struct tl_trust *worker = role_trust(secret, TL_ROLE_WORKER);
    start(&s, trust);
    struct caller *c = caller_connect(&s);
    assert_int_equal(hello_with(c, worker, TL_ROLE_CLI), TL_E_AUTH);
    assert_non_null(strstr(tl_error_text(), "good for a worker"));
    assert_int_equal(hello_with(c, worker, TL_ROLE_WORKER), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_WELCOME);
    assert_int_equal(ask(c, (struct tl_header){.kind = TL_KIND_SNAPSHOT}, NULL), 0);
    assert_refused(c, TL_E_DENIED);
    caller_free(c);
    shard_stop(&s);
    tl_trust_free(worker);
    tl_trust_free(trust);
}

/* ---- what was overheard -------------------------------------------------------------
 */

/* A caller's side of an opening and a push, as they went over the wire: sent again on a
 * new connection they open nothing. */
static void a_recording_opens_nothing(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);

    struct tl_auth auth;
    struct tl_header h = {.kind = TL_KIND_HELLO,
                          .flags = TL_FLAG_CHECKSUM,
                          .epoch = 7,
                          .length = TL_HELLO_BYTES};
    const struct tl_hello hello = proper_hello(TL_ROLE_WORKER);
    uint8_t nonce[TL_NONCE_BYTES];
    uint8_t said[TL_HELLO_BYTES];
    uint8_t challenge[TL_TEXT_MAX];
    struct tl_header proof = {.kind = TL_KIND_PROOF,
                              .flags = TL_FLAG_CHECKSUM,
                              .epoch = 7,
                              .length = TL_PROOF_BYTES};
    uint8_t proof_bytes[TL_PROOF_BYTES];
    struct tl_header reply = {0};
    tl_nonce(nonce);
    assert_int_equal(
        tl_auth_begin(&auth, tl_trust_secret(trust), &h, &hello, nonce, said), 0);

    int live = raw_connect(&s);
    assert_true(fake_send_frame(live, &h, said));
    assert_true(fake_read_frame(live, &reply, challenge, sizeof(challenge)));
    assert_int_equal(reply.kind, TL_KIND_CHALLENGE);
    assert_int_equal(tl_auth_answer(&auth, challenge, reply.length, proof_bytes), 0);
    assert_true(fake_send_frame(live, &proof, proof_bytes));
    assert_true(fake_read_frame(live, &reply, challenge, sizeof(challenge)));
    assert_int_equal(reply.kind, TL_KIND_WELCOME); /* the recording is a good one */

    int replayed = raw_connect(&s);
    assert_true(fake_send_frame(replayed, &h, said));
    assert_true(fake_read_frame(replayed, &reply, challenge, sizeof(challenge)));
    assert_int_equal(reply.kind, TL_KIND_CHALLENGE);
    assert_true(fake_send_frame(replayed, &proof, proof_bytes));
    assert_true(fake_read_frame(replayed, &reply, challenge, sizeof(challenge)));
    assert_int_equal(reply.kind, TL_KIND_ERROR);
    assert_int_equal(reply.status, TL_E_AUTH);
    assert_true(is_closed_by_peer(replayed));
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.auth_failures, 1);
    close(live);
    close(replayed);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* ---- floods -----------------------------------------------------------------------
 */

/* As every client does it: the listener's queue may be full for a moment. */
static struct caller *caller_insist(const struct shard *s, const struct tl_trust *trust,
                                    enum tl_role role) {
    struct tl_address a;
    struct caller *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->epoch = 7;
    assert_int_equal(tl_link_new(&c->link), 0);
    assert_int_equal(tl_address_parse(s->address, &a), 0);
    int rc = TL_E_REFUSED;
    for (int64_t end = now_ms() + DEADLINE_MS; rc != 0 && now_ms() < end;) {
        rc = tl_link_connect(c->link, &a);
        rc = rc == 0 ? hello_with(c, trust, role) : rc;
    }
    assert_int_equal(rc, 0);
    return c;
}

/* Ten times as many silent connections as there are places for: those that were
 * welcomed stay and are served, a newcomer who knows the secret gets in, and the silent
 * ones are closed and counted. */
static void a_flood_pushes_nobody_out(void **state) {
    (void)state;
    enum { FLOOD = 10 * STRANGERS_MAX };
    static int fds[FLOOD];
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);
    struct caller *member = caller_connect(&s);
    assert_int_equal(hello_with(member, trust, TL_ROLE_WORKER), 0);
    struct tl_header join = {.kind = TL_KIND_JOIN, .incarnation = 1};
    assert_int_equal(ask(member, join, NULL), 0);

    for (size_t i = 0; i < FLOOD; i++) {
        fds[i] = raw_connect(&s);
    }
    struct caller *newcomer = caller_insist(&s, trust, TL_ROLE_MONITOR);
    assert_int_equal(tl_link_reply(newcomer->link)->kind, TL_KIND_WELCOME);
    assert_int_equal(push(member, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_weights(member, -1.0F);
    on_loop(&s, read_stats);
    assert_in_range(s.stats.strangers_open, 0, STRANGERS_MAX);
    assert_true(s.stats.strangers_dropped >= FLOOD - STRANGERS_MAX);

    for (size_t i = 0; i < FLOOD; i++) {
        assert_true(is_closed_by_peer(fds[i])); /* the last ones by their deadline */
        (void)close(fds[i]);
    }
    on_loop(&s, read_stats); /* perhaps in the turn that closes the last ones */
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.strangers_dropped, FLOOD);
    assert_int_equal(s.stats.connections_open, 2);
    assert_int_equal(push(member, TL_KIND_PUSH_PULL, 0, 2, 1, 2.0F), 0);
    assert_weights(member, -2.0F);
    caller_free(newcomer);
    caller_free(member);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* HELLO in time, and then nothing: the deadline is for the whole opening. */
static void an_opening_that_stalls_is_closed(void **state) {
    (void)state;
    struct shard s;
    struct tl_trust *trust = trust_of("job", secret);
    start(&s, trust);
    struct tl_auth auth;
    struct tl_header h = {
        .kind = TL_KIND_HELLO, .flags = TL_FLAG_CHECKSUM, .length = TL_HELLO_BYTES};
    const struct tl_hello hello = proper_hello(TL_ROLE_WORKER);
    uint8_t nonce[TL_NONCE_BYTES];
    uint8_t said[TL_HELLO_BYTES];
    tl_nonce(nonce);
    assert_int_equal(
        tl_auth_begin(&auth, tl_trust_secret(trust), &h, &hello, nonce, said), 0);
    int fd = raw_connect(&s);
    assert_true(fake_send_frame(fd, &h, said));
    assert_true(is_closed_by_peer(fd));
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.strangers_dropped, 1);
    close(fd);
    shard_stop(&s);
    tl_trust_free(trust);
}

/* ---- where to listen ----------------------------------------------------------------
 */

static int listen_without_secret(const char *address, bool on_purpose,
                                 const struct tl_trust *trust) {
    uv_loop_t loop;
    struct tl_fold *fold = NULL;
    struct tl_serve *serve = NULL;
    struct tl_fold_config config = fold_config();
    char bound[128];
    config.count = 1;
    const float zero = 0;
    assert_int_equal(tl_fold_new(&config, &zero, &fold), 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct tl_serve_config options = {.loop = &loop,
                                            .fold = fold,
                                            .job = "job",
                                            .run = "run",
                                            .trust = trust,
                                            .without_secret = on_purpose,
                                            .frame_ms = FRAME_MS,
                                            .wait_ms = WAIT_MS};
    assert_int_equal(tl_serve_new(&options, &serve), 0);
    int rc = tl_serve_listen(serve, address, bound, sizeof(bound));
    tl_serve_close(serve);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    tl_serve_free(serve);
    assert_int_equal(uv_loop_close(&loop), 0);
    tl_fold_free(fold);
    return rc;
}

static void without_a_secret_only_this_machine_can_connect(void **state) {
    (void)state;
    struct tl_trust *trust = trust_of("job", secret);
    assert_int_equal(listen_without_secret("tcp://127.0.0.1:0", false, NULL), 0);
    assert_int_equal(listen_without_secret("tcp://127.1.2.3:0", false, NULL), 0);
    assert_int_equal(listen_without_secret("tcp://0.0.0.0:0", false, NULL),
                     TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "--secret-file"));
    assert_int_equal(listen_without_secret("tcp://0.0.0.0:0", true, NULL), 0);
    assert_int_equal(listen_without_secret("tcp://0.0.0.0:0", false, trust), 0);
    tl_trust_free(trust);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_the_secret_is_welcome),
        cmocka_unit_test(others_are_told_what_is_missing),
        cmocka_unit_test(a_server_without_the_secret_is_not_believed),
        cmocka_unit_test(nothing_is_heard_before_the_proof),
        cmocka_unit_test(a_stranger_s_epoch_is_not_believed),
        cmocka_unit_test(the_secret_of_one_run_does_not_open_another),
        cmocka_unit_test(a_role_s_key_is_held_to_its_role),
        cmocka_unit_test(a_recording_opens_nothing),
        cmocka_unit_test(a_flood_pushes_nobody_out),
        cmocka_unit_test(an_opening_that_stalls_is_closed),
        cmocka_unit_test(without_a_secret_only_this_machine_can_connect),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
