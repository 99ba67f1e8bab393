/* One client and a real server with a bad network between them: each call ends within
 * its deadline, with what it was to bring or the right error; the client goes on by
 * itself; and every gradient that it saw acknowledged was folded, once. */
#include "throughline/client.h"

#include "fault_proxy.h"
#include "redis.h"
#include "shard_rig.h"

#define PARAMETERS  25450u /* of shard_rig.h's model */
#define REQUEST_MS  500
#define PATIENCE_MS 2500

static struct rig rig;
static struct fault_proxy *network;
static struct tl_client *client;
static uint64_t sequence; /* of the last gradient acknowledged */
static float gradient[PARAMETERS];

static int start(void **state) {
    int rc = scratch_setup(state);
    rig_start_server(&rig, rig_job("", "none"));
    network = fault_proxy_start(NULL, rig.address);
    const struct tl_client_config config = {.servers = fault_proxy_address(network),
                                            .patience_ms = PATIENCE_MS,
                                            .request_ms = REQUEST_MS};
    struct tl_client_join joined;
    assert_int_equal(tl_client_open(&config, &client), 0);
    assert_int_equal(tl_client_join(client, &joined), 0);
    assert_int_equal(joined.parameters, PARAMETERS);
    return rc;
}

static int stop(void **state) {
    tl_client_free(client);
    fault_proxy_stop(network);
    rig_stop(&rig);
    return scratch_teardown(state);
}

static uint64_t reconnects(void) {
    struct tl_client_stats stats;
    tl_client_stats(client, &stats);
    return stats.reconnects;
}

/* The next gradient, through `fault`: acknowledged within `most_ms`. */
static struct tl_client_result push_through(struct fault fault, int64_t most_ms) {
    struct tl_client_result result;
    int64_t start_ms = tl_now_ms();
    fault_proxy_set(network, &fault);
    int rc = tl_client_push_pull(client, ++sequence, gradient, &result);
    int64_t took_ms = tl_now_ms() - start_ms;
    if (rc != 0) {
        fail_msg("%s: %s", tl_error_name(rc), tl_error_text());
    }
    assert_true(fault_proxy_fired(network) > 0); /* it did happen */
    assert_in_range(took_ms, 0, most_ms);
    fault_proxy_set(network, NULL);
    return result;
}

/* ---- what a client gets over -------------------------------------------------------
 */

static void slow_is_only_slow(void **state) {
    (void)state;
    uint64_t before = reconnects();
    (void)push_through((struct fault){.kind = FAULT_DELAY, .amount = 20}, 2000);
    (void)push_through((struct fault){.kind = FAULT_THROTTLE, .amount = 1000000}, 2000);
    assert_int_equal(reconnects(), before);
}

/* In the header, the payload and the last byte, of what is asked and of what is said.
 */
static void at_each_place(enum fault_kind kind, int64_t most_ms) {
    static const uint64_t places[] = {0, 40, 50000, 100000};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        for (int d = FAULT_REQUESTS; d <= FAULT_REPLIES; d++) {
            uint64_t before = reconnects();
            (void)push_through((struct fault){.kind = kind,
                                              .direction = (enum fault_direction)d,
                                              .after = places[i],
                                              .times = 1},
                               most_ms);
            assert_true(reconnects() > before);
        }
    }
}

static void cut_off(void **state) {
    (void)state;
    at_each_place(FAULT_TRUNCATE, 2000);
}

static void reset(void **state) {
    (void)state;
    at_each_place(FAULT_RESET, 2000);
}

/* Nobody says that the other end is gone: its silence does. */
static void half_open(void **state) {
    (void)state;
    at_each_place(FAULT_HALF_OPEN, REQUEST_MS + 2000);
}

static void damaged(void **state) {
    (void)state;
    double before = rig_metric(&rig, "throughline_bad_frames_total");
    at_each_place(FAULT_FLIP, REQUEST_MS + 2000);
    assert_true(rig_reaches(&rig, "throughline_bad_frames_total", before + 4));
}

/* ---- what it does not: for as long as it lasts
 * --------------------------------------- */

static void a_partition_is_a_timeout_and_then_over(void **state) {
    (void)state;
    struct tl_client_result result;
    fault_proxy_set(network, &(struct fault){.kind = FAULT_STALL});
    int64_t start_ms = tl_now_ms();
    assert_int_equal(tl_client_push_pull(client, ++sequence, gradient, NULL),
                     TL_E_TIMEOUT);
    assert_in_range(tl_now_ms() - start_ms, PATIENCE_MS,
                    PATIENCE_MS + REQUEST_MS + 2000);
    assert_true(fault_proxy_fired(network) > 0);
    fault_proxy_set(network, NULL);
    assert_int_equal(tl_client_push_pull(client, sequence, gradient, &result), 0);
    assert_int_equal(result.refused, 0);
}

static void nobody_there_is_a_timeout_and_then_over(void **state) {
    (void)state;
    fault_proxy_set(network, &(struct fault){.kind = FAULT_RESET});
    int64_t deadline_ms = tl_now_ms() + 5000;
    while (fault_proxy_open(network) > 0) { /* whatever connections there were */
        assert_true(tl_now_ms() < deadline_ms);
        rig_pause(1);
    }
    fault_proxy_set(network, &(struct fault){.kind = FAULT_REFUSE});
    assert_int_equal(tl_client_push_pull(client, ++sequence, gradient, NULL),
                     TL_E_TIMEOUT);
    assert_true(fault_proxy_fired(network) > 1);
    fault_proxy_set(network, NULL);
    assert_int_equal(tl_client_push_pull(client, sequence, gradient, NULL), 0);
}

/* After all of the above. */
static void every_gradient_was_folded_once(void **state) {
    (void)state;
    rig_expect(&rig, "throughline_gradients_folded_total", (double)sequence);
    assert_true(rig_metric(&rig, "throughline_gradients_lost_total") == 0);
    assert_true(rig_metric(&rig, "throughline_version") == (double)sequence);
}

/* ---- Redis says no
 * ---------------------------------------------------------------------- */

static unsigned lines_with(const char *text, const char *what) {
    unsigned count = 0;
    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

/* One line that says what to do, and no more of them; the server waits, not ready. */
static void a_wrong_password_is_said_once(void **state) {
    (void)state;
    struct test_redis redis;
    char url[160];
    test_redis_prepare(&redis, "right", "0");
    test_redis_run(&redis);
    (void)snprintf(url, sizeof(url), "--redis=%s", redis.url);
    const char *argv[] = {"tl-server", rig_job("", "none"), url, "--http=off", NULL};
    struct program server = program_start(argv);
    int64_t deadline_ms = tl_now_ms() + 10000;
    unsigned said = 0;
    while (said == 0 && tl_now_ms() < deadline_ms) {
        char *text = program_read(server.err_path);
        said = lines_with(text, "check the URL's user and password");
        free(text);
        rig_pause(20);
    }
    rig_pause(500); /* five more attempts */
    struct outcome o = rig_end(&server);
    assert_int_equal(lines_with(o.err, "check the URL's user and password"), 1);
    assert_int_equal(lines_with(o.err, "msg=serving"), 0);
    outcome_done(&o);
    test_redis_stop(&redis);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_is_only_slow),
        cmocka_unit_test(cut_off),
        cmocka_unit_test(reset),
        cmocka_unit_test(half_open),
        cmocka_unit_test(damaged),
        cmocka_unit_test(a_partition_is_a_timeout_and_then_over),
        cmocka_unit_test(nobody_there_is_a_timeout_and_then_over),
        cmocka_unit_test(every_gradient_was_folded_once),
        cmocka_unit_test(a_wrong_password_is_said_once),
    };
    return cmocka_run_group_tests_name("network", tests, start, stop);
}
