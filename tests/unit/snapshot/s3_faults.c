/* The S3 store against a real server behind a bad network: storms of errors, silence,
 * connections cut in the middle, bytes bent on the way. Each test first sees that what
 * it is about has happened. */
#include "fault_proxy.h"
#include "s3_internal.h"
#include "s3_server.h"
#include "store_contract.h"

#include <pthread.h>
#include <sys/resource.h>

#define LARGE (3u << 20)

static struct s3_server server;
static struct fault_proxy *proxy;

struct bad_bucket {
    struct tl_store *store; /* through the proxy */
    struct tl_store *direct;
    char url[TL_PATH_MAX + 64];
    char heard[1024];
    unsigned notices;
};

static void listen_in(void *ctx, const char *text) {
    struct bad_bucket *b = ctx;
    (void)snprintf(b->heard, sizeof(b->heard), "%s", text);
    b->notices++;
}

static void open_through_proxy(struct bad_bucket *b, uint32_t request_ms,
                               uint32_t retry_ms) {
    struct tl_s3_options o = server.options;
    tl_store_close(b->store);
    o.request_ms = request_ms;
    o.retry_ms = retry_ms;
    (void)snprintf(o.endpoint, sizeof(o.endpoint), "http://127.0.0.1:%u",
                   fault_proxy_port(proxy));
    assert_int_equal(tl_store_open(b->url, &o, &b->store), 0);
    tl_store_listen(b->store, listen_in, b);
    /* What the server can do is not what these tests are about. */
    tl_s3_of(b->store)->knows_absent = 1;
    tl_s3_of(b->store)->proves = 1;
}

static int setup(void **state) {
    struct bad_bucket *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    (void)snprintf(b->url, sizeof(b->url), "%s", s3_server_url(&server, "f"));
    fault_proxy_set(proxy, NULL);
    assert_int_equal(tl_store_open(b->url, &server.options, &b->direct), 0);
    open_through_proxy(b, 5000, 20000);
    *state = b;
    return 0;
}

static int teardown(void **state) {
    struct bad_bucket *b = *state;
    fault_proxy_set(proxy, NULL);
    tl_store_close(b->store);
    tl_store_close(b->direct);
    free(b);
    return 0;
}

static void put_large(struct tl_store *s, const char *name, uint64_t seed) {
    struct tl_store_writer *w = NULL;
    char *bytes = snapshots_state(seed, LARGE, false);
    assert_int_equal(s->ops->create(s, name, &w), 0);
    assert_int_equal(s->ops->write(w, bytes, LARGE), 0);
    assert_int_equal(s->ops->commit(w, false), 0);
    free(bytes);
}

static void expect_large(struct tl_store *s, const char *name, uint64_t seed) {
    char *bytes = snapshots_state(seed, LARGE, false);
    struct snapshots_bytes got = {.bytes = malloc(LARGE), .capacity = LARGE};
    const int r = s->ops->read(s, name, snapshots_collect, &got);
    if (r < 0) {
        fail_msg("%s", tl_error_text());
    }
    assert_int_equal(got.size, LARGE);
    assert_memory_equal(got.bytes, bytes, LARGE);
    free(got.bytes);
    free(bytes);
}

/* ---- storms ------------------------------------------------------------------- */

static const char slow_down[] =
    "HTTP/1.1 503 Slow Down\r\nContent-Length: 41\r\nConnection: close\r\n\r\n"
    "<Error><Code>SlowDown</Code></Error>     ";
static const char internal_error[] =
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"
    "Connection: close\r\n\r\n";

static void expect_survived(struct bad_bucket *b, const char *answer) {
    fault_proxy_set(
        proxy, &(struct fault){.kind = FAULT_ANSWER, .times = 4, .answer = answer});
    if (snapshots_put_small(b->store, 1, 10) != 0) {
        fail_msg("%s", tl_error_text());
    }
    assert_true(fault_proxy_fired(proxy) >= 4);
    assert_true(b->notices >= 1);
    assert_non_null(strstr(b->heard, "trying again"));
    assert_string_equal(snapshots_newest_valid(b->direct), "1/10");
}

static void a_storm_of_503_passes(void **state) {
    expect_survived(*state, slow_down);
}

static void a_storm_of_500_passes(void **state) {
    expect_survived(*state, internal_error);
}

/* It does not end: an error within the bound, said once, and the snapshot before stays.
 */
static void an_endless_storm_is_an_error(void **state) {
    struct bad_bucket *b = *state;
    assert_int_equal(snapshots_put_small(b->direct, 1, 10), 0);
    open_through_proxy(b, 5000, 1500);
    const int64_t start_ms = tl_now_ms();
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_ANSWER, .answer = slow_down});
    assert_int_equal(snapshots_put_small(b->store, 1, 20), TL_E_UNAVAILABLE);
    assert_non_null(strstr(tl_error_text(), "503 SlowDown"));
    assert_true(fault_proxy_fired(proxy) > 2);
    assert_int_equal(b->notices, 1);
    assert_true(tl_now_ms() - start_ms < 15000);
    fault_proxy_set(proxy, NULL);
    assert_string_equal(snapshots_newest_valid(b->store), "1/10");
    assert_int_equal(snapshots_put_small(b->store, 1, 20), 0);
}

/* ---- silence and slowness ----------------------------------------------------- */

static void a_silent_server_is_a_timeout(void **state) {
    struct bad_bucket *b = *state;
    unsigned count = 0;
    open_through_proxy(b, 1000, 1000);
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_STALL});
    const int64_t start_ms = tl_now_ms();
    assert_int_equal(b->store->ops->list(b->store, "", snapshots_count_name, &count),
                     TL_E_TIMEOUT);
    assert_true(tl_now_ms() - start_ms >= 900);
    assert_true(tl_now_ms() - start_ms < 15000);
}

static void a_slow_body_comes_through(void **state) {
    struct bad_bucket *b = *state;
    put_large(b->direct, "large", 1);
    assert_int_equal(tl_store_settle(b->direct, false), 0);
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_THROTTLE,
                                           .direction = FAULT_REPLIES,
                                           .amount = 2u << 20});
    const int64_t start_ms = tl_now_ms();
    expect_large(b->store, "large", 1);
    assert_true(tl_now_ms() - start_ms > 700);
    assert_true(fault_proxy_fired(proxy) > 0);
}

/* Less than a byte in a while is as good as none. */
static void a_body_that_trickles_is_a_timeout(void **state) {
    struct bad_bucket *b = *state;
    put_large(b->direct, "large", 1);
    assert_int_equal(tl_store_settle(b->direct, false), 0);
    open_through_proxy(b, 1000, 1000);
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_THROTTLE,
                                           .direction = FAULT_REPLIES,
                                           .amount = 4096});
    const int64_t start_ms = tl_now_ms();
    char *bytes = malloc(LARGE);
    struct snapshots_bytes got = {.bytes = bytes, .capacity = LARGE};
    assert_int_equal(b->store->ops->read(b->store, "large", snapshots_collect, &got),
                     TL_E_TIMEOUT);
    assert_true(tl_now_ms() - start_ms < 15000);
    free(bytes);
}

static void *cancel_soon(void *ctx) {
    const struct timespec moment = {.tv_nsec = 300000000};
    (void)nanosleep(&moment, NULL);
    tl_store_cancel(ctx);
    return NULL;
}

/* A signal in the middle of a wait that would last a minute. */
static void a_cancelled_store_waits_for_nothing(void **state) {
    struct bad_bucket *b = *state;
    pthread_t thread;
    unsigned count = 0;
    open_through_proxy(b, 60000, 60000);
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_STALL});
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, b->store), 0);
    const int64_t start_ms = tl_now_ms();
    assert_int_equal(b->store->ops->list(b->store, "", snapshots_count_name, &count),
                     TL_E_INTERRUPTED);
    assert_true(tl_now_ms() - start_ms < 3000);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(snapshots_put_small(b->store, 1, 10), TL_E_INTERRUPTED);
}

/* ---- cut in the middle -------------------------------------------------------- */

static void an_upload_that_is_reset_is_sent_again(void **state) {
    struct bad_bucket *b = *state;
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_RESET,
                                           .direction = FAULT_REQUESTS,
                                           .after = LARGE / 2u,
                                           .times = 2});
    put_large(b->store, "large", 2);
    assert_int_equal(tl_store_settle(b->store, false), 0);
    assert_int_equal(fault_proxy_fired(proxy), 2);
    expect_large(b->direct, "large", 2);
}

static void expect_resumed(struct bad_bucket *b, enum fault_kind kind) {
    put_large(b->direct, "large", 3);
    assert_int_equal(tl_store_settle(b->direct, false), 0);
    fault_proxy_set(proxy, &(struct fault){.kind = kind,
                                           .direction = FAULT_REPLIES,
                                           .after = LARGE / 2u,
                                           .times = 1});
    expect_large(b->store, "large", 3);
    assert_int_equal(fault_proxy_fired(proxy), 1);
}

static void a_body_that_is_reset_goes_on_where_it_broke(void **state) {
    expect_resumed(*state, FAULT_RESET);
}

static void a_short_body_goes_on_where_it_ended(void **state) {
    expect_resumed(*state, FAULT_TRUNCATE);
}

/* The server has the manifest, and its answer is lost: the second attempt is refused,
 * and finds its own bytes. */
static void a_lost_answer_is_not_another_writer(void **state) {
    struct bad_bucket *b = *state;
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_RESET,
                                           .direction = FAULT_REPLIES,
                                           .after = 1,
                                           .times = 1});
    assert_int_equal(put(b->store, "x", "mine", true), 0);
    assert_int_equal(fault_proxy_fired(proxy), 1);
    expect(b->direct, "x", "mine");
    assert_int_equal(put(b->store, "x", "mine", true), TL_E_EXISTS);
}

/* ---- bent bits ---------------------------------------------------------------- */

static void a_bit_bent_on_the_way_there_is_sent_again(void **state) {
    struct bad_bucket *b = *state;
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_FLIP,
                                           .direction = FAULT_REQUESTS,
                                           .after = LARGE / 2u,
                                           .times = 1});
    put_large(b->store, "large", 4);
    assert_int_equal(tl_store_settle(b->store, false), 0);
    assert_int_equal(fault_proxy_fired(proxy), 1);
    expect_large(b->direct, "large", 4);
}

/* Found by the snapshot's own hashes; reading again gives what is really there. */
static void a_bit_bent_on_the_way_back_is_found(void **state) {
    struct bad_bucket *b = *state;
    const struct tl_manifest meta = snapshots_meta(1, 10);
    const struct tl_snapshot_options options = {.part_bytes = 1u << 20};
    struct tl_manifest *list = NULL;
    size_t count = 0;
    char *bytes = snapshots_state(10, LARGE, false);
    assert_int_equal(snapshots_put(b->direct, &meta, &options, bytes, LARGE, 100000),
                     0);
    assert_int_equal(tl_snapshot_list(b->store, 0, &list, &count), 0);
    fault_proxy_set(proxy, &(struct fault){.kind = FAULT_FLIP,
                                           .direction = FAULT_REPLIES,
                                           .after = LARGE / 2u,
                                           .times = 1});
    assert_int_equal(tl_snapshot_verify(b->store, &list[0]), TL_E_CORRUPT);
    assert_int_equal(fault_proxy_fired(proxy), 1);
    assert_int_equal(tl_snapshot_verify(b->store, &list[0]), 0);
    tl_manifests_free(list, count);
    free(bytes);
}

/* ---- clocks ------------------------------------------------------------------- */

/* Signed two hours ahead: the server refuses, and its own time is taken from then on.
 */
static void a_wrong_clock_is_set_by_the_servers(void **state) {
    struct bad_bucket *b = *state;
    tl_s3_of(b->store)->clock_offset_s = 7200;
    assert_int_equal(put(b->store, "x", "in time", true), 0);
    assert_non_null(strstr(b->heard, "clock differs"));
    assert_int_equal(b->notices, 1);
    assert_true(tl_s3_of(b->store)->clock_offset_s < 60);
    expect(b->direct, "x", "in time");
}

/* ---- many writers, much data -------------------------------------------------- */

#define RACES 8u

/* As a checkpointer does: what fails is tried again. (This server now and then does not
 * find a part that it has just taken, while another of the same folder is removed.) */
static int put_patiently(struct tl_store *store, uint64_t version) {
    int r = TL_E_UNAVAILABLE;
    for (int i = 0; i < 10 && r < 0 && r != TL_E_EXISTS; i++) {
        r = snapshots_put_small(store, 1, version);
    }
    return r;
}

/* Write them all; how many the server said were ours, or 255. */
static int race(const char *url) {
    struct tl_store *own = NULL;
    int won = 0;
    int r = tl_store_open(url, &server.options, &own);
    for (uint64_t v = 1; v <= RACES && r == 0; v++) {
        r = put_patiently(own, v);
        won += r == 0;
        r = r == TL_E_EXISTS ? 0 : r;
    }
    if (r != 0) {
        (void)fprintf(stderr, "%s\n", tl_error_text());
    }
    return r == 0 ? won : 255;
}

/* Two processes write the same snapshots at the same time: each is there once, whole,
 * and the loser's parts are gone. This server, which looks and then writes, may tell
 * both that they were first: then both have left theirs. */
static void two_checkpointers_at_once(void **state) {
    struct bad_bucket *b = *state;
    pid_t children[2];
    unsigned won = 0;
    for (size_t i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            _exit(race(b->url));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
        won += (unsigned)WEXITSTATUS(status);
    }
    assert_in_range(won, RACES, 2 * RACES);
    struct tl_manifest *list = NULL;
    size_t count = 0;
    assert_int_equal(tl_snapshot_list(b->direct, 0, &list, &count), 0);
    assert_int_equal(count, RACES);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tl_snapshot_verify(b->direct, &list[i]), 0);
    }
    tl_manifests_free(list, count);
    assert_int_equal(snapshots_objects(b->direct), RACES + 3 * won);
}

/* Sanitizers keep what was freed for a while. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_MAX_KIB (96L << 10)
#else
#define MEMORY_MAX_KIB (32L << 10)
#endif

/* In a process of its own: 100 MB go through less than 32 MiB. */
static int upload_much(const char *url) {
    struct tl_store *s = NULL;
    struct tl_snapshot_writer *w = NULL;
    struct rusage before;
    struct rusage after;
    const struct tl_manifest meta = snapshots_meta(1, 1);
    const struct tl_snapshot_options options = {.part_bytes = 30000000};
    char *piece = snapshots_state(1, 1000000, false);
    int r = tl_store_open(url, &server.options, &s);
    (void)getrusage(RUSAGE_SELF, &before);
    r = r == 0 ? tl_snapshot_begin(s, &meta, &options, &w) : r;
    for (int i = 0; i < 100 && r == 0; i++) {
        r = tl_snapshot_write(w, piece, 1000000);
    }
    r = r == 0 ? tl_snapshot_finish(w, NULL) : r;
    (void)getrusage(RUSAGE_SELF, &after);
    if (r != 0) {
        (void)fprintf(stderr, "%s\n", tl_error_text());
        return 2;
    }
    (void)printf("peak memory grew by %ld KiB\n", after.ru_maxrss - before.ru_maxrss);
    return after.ru_maxrss - before.ru_maxrss <= MEMORY_MAX_KIB ? 0 : 3;
}

static void memory_stays_bounded(void **state) {
    const struct bad_bucket *b = *state;
    const pid_t child = fork();
    if (child == 0) {
        const int r = upload_much(b->url);
        (void)fflush(stdout);
        _exit(r);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_string_equal(snapshots_newest_valid(b->direct), "1/1");
}

static int start(void **state) {
    char address[64];
    (void)state;
    s3_server_start_with(&server, "");
    (void)snprintf(address, sizeof(address), "tcp://127.0.0.1:%s", server.port);
    proxy = fault_proxy_start(NULL, address);
    return proxy == NULL ? -1 : 0;
}

static int stop(void **state) {
    (void)state;
    fault_proxy_stop(proxy);
    s3_server_stop(&server);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_storm_of_503_passes),
        TEST(a_storm_of_500_passes),
        TEST(an_endless_storm_is_an_error),
        TEST(a_silent_server_is_a_timeout),
        TEST(a_slow_body_comes_through),
        TEST(a_body_that_trickles_is_a_timeout),
        TEST(a_cancelled_store_waits_for_nothing),
        TEST(an_upload_that_is_reset_is_sent_again),
        TEST(a_body_that_is_reset_goes_on_where_it_broke),
        TEST(a_short_body_goes_on_where_it_ended),
        TEST(a_lost_answer_is_not_another_writer),
        TEST(a_bit_bent_on_the_way_there_is_sent_again),
        TEST(a_bit_bent_on_the_way_back_is_found),
        TEST(a_wrong_clock_is_set_by_the_servers),
        TEST(two_checkpointers_at_once),
        TEST(memory_stays_bounded),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
