/* client.c - the public library over several shards' fake servers. */
#include "throughline/client.h"

#include "throughline/service.h"
#include "throughline/wire.h"

#include "fake_shard.h"
#include "test.h"

#include <signal.h>
#include <sys/time.h>

enum { SHARDS = 3, COUNT = 8, PARAMETERS = SHARDS * COUNT };

static struct fake_shard shards[SHARDS];
static char servers[SHARDS * 130];
static char ledger[64];
static float gradient[PARAMETERS];

static struct tl_client_config config_of(uint32_t patience_ms) {
    return (struct tl_client_config){
        .servers = servers,
        .worker = 3,
        .patience_ms = patience_ms,
        .request_ms = 300,
        .ledger = ledger,
    };
}

static struct tl_client *open_client(struct tl_client_config config) {
    struct tl_client *c = NULL;
    assert_int_equal(tl_client_open(&config, &c), 0);
    return c;
}

static struct tl_client *join_client(struct tl_client_join *ret_join) {
    struct tl_client *c = open_client(config_of(8000));
    assert_int_equal(tl_client_join(c, ret_join), 0);
    return c;
}

static int start(void **state) {
    (void)state;
    servers[0] = '\0';
    for (uint32_t s = 0; s < SHARDS; s++) {
        fake_shard_start(&shards[s], s, SHARDS, PARAMETERS);
        shards[s].version = 10 + s;
        shards[s].settled = 20 + s;
        size_t used = strlen(servers);
        (void)snprintf(servers + used, sizeof(servers) - used, "%s%s",
                       s == 0 ? "" : ",", shards[s].server.address);
    }
    for (int i = 0; i < PARAMETERS; i++) {
        gradient[i] = (float)(i + 1);
    }
    (void)snprintf(ledger, sizeof(ledger), "/tmp/throughline-ledger-%ld",
                   (long)getpid());
    (void)unlink(ledger);
    return 0;
}

static int stop(void **state) {
    (void)state;
    for (uint32_t s = 0; s < SHARDS; s++) {
        fake_shard_stop(&shards[s]);
    }
    (void)unlink(ledger);
    return 0;
}

static void assert_slice(const struct tl_client *c, uint32_t s, uint64_t version) {
    assert_true(tl_client_shard_version(c, s) == version);
    const float *w = tl_client_weights(c) + (size_t)s * COUNT;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(w[i] == (float)version + (float)(s * COUNT + i) / 1000.0f);
    }
}

/* ---- plans -------------------------------------------------------------------- */

static enum fake_act plan_act;
static uint8_t plan_kind;
static _Atomic unsigned plan_count;

static enum fake_act spoil(struct fake_shard *s, const struct tl_header *request) {
    (void)s;
    if (request->kind != plan_kind || plan_count == 0) {
        return ACT_SERVE;
    }
    plan_count--;
    return plan_act;
}

static void plan(uint32_t shard, enum fake_act act, enum tl_kind kind, unsigned count,
                 int status) {
    pthread_mutex_lock(&shards[shard].lock);
    plan_act = act;
    plan_kind = (uint8_t)kind;
    plan_count = count;
    shards[shard].status = status;
    shards[shard].plan = spoil;
    pthread_mutex_unlock(&shards[shard].lock);
}

/* ---- the ordinary course ------------------------------------------------------ */

static void a_worker_joins_pushes_and_leaves(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_result r;
    shards[1].incarnation = 6;
    struct tl_client *c = open_client(config_of(8000));
    assert_null(tl_client_weights(c));
    assert_int_equal(tl_client_join(c, &joined), 0);
    assert_int_equal(joined.parameters, PARAMETERS);
    assert_int_equal(joined.shards, SHARDS);
    assert_int_equal(joined.incarnation, 7);
    assert_int_equal(joined.next_sequence, 21); /* shard 0 has settled 20 */
    assert_slice(c, 0, 10);
    assert_slice(c, 2, 12);
    assert_int_equal(tl_client_version(c), 10);

    assert_int_equal(tl_client_push_pull(c, 21, gradient, &r), 0);
    assert_int_equal(r.duplicated, 2); /* shards 1 and 2 have it already */
    assert_int_equal(r.refused, 0);
    assert_slice(c, 0, 11);
    assert_slice(c, 2, 12);
    assert_memory_equal(shards[0].last_gradient, gradient, COUNT * sizeof(float));

    assert_int_equal(tl_client_push(c, 23, gradient, &r), 0);
    assert_int_equal(r.version, 12);
    assert_memory_equal(shards[2].last_gradient, gradient + 16, COUNT * sizeof(float));
    assert_true(shards[2].last_norm == 70.0f); /* sqrt(1 + 4 + ... + 576) */
    assert_slice(c, 0, 11);                    /* a push pulls nothing */
    assert_int_equal(tl_client_pull(c, false), 0);
    assert_slice(c, 0, 12);
    assert_slice(c, 1, 12);
    assert_slice(c, 2, 13);
    assert_int_equal(tl_client_leave(c), 0);
    assert_int_equal(shards[0].left_step, 12);
    assert_int_equal(tl_client_push(c, 24, gradient, &r), TL_E_INVALID);
    tl_client_free(c);
}

static void the_norm_is_sent_where_it_is_looked_at(void **state) {
    (void)state;
    struct tl_client_join joined;
    for (int i = 0; i < SHARDS; i++) {
        shards[i].ignores_norm = true;
    }
    struct tl_client *c = join_client(&joined);
    assert_int_equal(tl_client_push(c, 25, gradient, NULL), 0);
    assert_true(shards[0].last_norm == 0.0f);
    tl_client_free(c);
    shards[1].ignores_norm = false;
    c = join_client(&joined);
    assert_int_equal(tl_client_push(c, 26, gradient, NULL), 0);
    assert_true(shards[0].last_norm == 70.0f);
    tl_client_free(c);
}

static void a_slice_without_news_is_kept(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    pthread_mutex_lock(&shards[1].lock);
    shards[1].version = 30;
    pthread_mutex_unlock(&shards[1].lock);
    for (int i = 0; i < 3; i++) { /* both vectors have been in front */
        assert_int_equal(tl_client_pull(c, false), 0);
        assert_slice(c, 0, 10);
        assert_slice(c, 1, 30);
        assert_slice(c, 2, 12);
    }
    tl_client_free(c);
}

static void an_observer_only_pulls(void **state) {
    (void)state;
    struct tl_client_config config = config_of(8000);
    struct tl_client_join joined;
    config.observer = 1;
    config.ledger = NULL;
    struct tl_client *c = open_client(config);
    assert_int_equal(tl_client_join(c, &joined), 0);
    assert_slice(c, 1, 11);
    assert_int_equal(shards[0].asked[TL_KIND_JOIN], 0);
    assert_int_equal(tl_client_push(c, 1, gradient, NULL), TL_E_INVALID);
    shards[0].ended = true;
    assert_int_equal(tl_client_pull(c, true), TL_E_ENDED);
    assert_int_equal(tl_client_join(c, &joined), 0); /* the last weights can be had */
    assert_int_equal(tl_client_leave(c), 0);
    tl_client_free(c);
}

static void sequences_rise(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_result r;
    struct tl_client *c = join_client(&joined);
    assert_int_equal(tl_client_push(c, 25, gradient, &r), 0);
    assert_int_equal(tl_client_push(c, 24, gradient, &r), TL_E_INVALID);
    assert_int_equal(tl_client_push(c, 25, gradient, &r), 0); /* repeated: harmless */
    assert_int_equal(r.duplicated, SHARDS);
    assert_int_equal(tl_client_push(c, 26, NULL, &r), TL_E_INVALID);
    tl_client_free(c);
}

/* ---- failures ----------------------------------------------------------------- */

static void a_reply_that_was_lost_is_asked_for_again(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_result r;
    struct tl_client_stats stats;
    struct tl_client *c = join_client(&joined);
    plan(1, ACT_CLOSE_AFTER_WORK, TL_KIND_PUSH_PULL, 1, 0);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, &r), 0);
    assert_int_equal(plan_count, 0);
    assert_int_equal(r.duplicated, 1);
    assert_int_equal(r.resent, 1);
    assert_int_equal(shards[1].version, 12); /* folded once */
    assert_slice(c, 1, 12);
    tl_client_stats(c, &stats);
    assert_int_equal(stats.reconnects, 1);
    assert_int_equal(stats.resent, 1);
    assert_int_equal(stats.acknowledged, 1);
    assert_true(stats.bytes_sent > sizeof(gradient));
    tl_client_free(c);
}

static void refusals_are_counted(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_result r;
    struct tl_client_stats stats;
    struct tl_client *c = join_client(&joined);
    plan(2, ACT_STATUS, TL_KIND_PUSH_PULL, 1, TL_E_STALE);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, &r), 0);
    assert_int_equal(r.refused, 1);
    assert_int_equal(r.refusal, TL_E_STALE);
    assert_slice(c, 0, 11);
    assert_slice(c, 2, 12);
    tl_client_stats(c, &stats);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.acknowledged, 0);
    tl_client_free(c);
}

/* The others are done; the dead one is waited for, then named. */
static void a_dead_shard_costs_the_patience(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = open_client(config_of(400));
    assert_int_equal(tl_client_join(c, &joined), 0);
    fake_shard_stop(&shards[1]);
    int64_t begun = tl_now_ms();
    assert_int_equal(tl_client_push_pull(c, 25, gradient, NULL), TL_E_TIMEOUT);
    assert_true(tl_now_ms() - begun >= 400);
    assert_non_null(strstr(tl_error_text(), "shard 1, epoch 1"));
    assert_non_null(strstr(tl_error_text(), shards[1].server.path));
    assert_int_equal(shards[0].settled, 25);
    assert_int_equal(shards[2].settled, 25);
    assert_slice(c, 0, 10); /* nothing half-pulled is shown */
    assert_slice(c, 2, 12);
    fake_shard_start(&shards[1], 1, SHARDS, PARAMETERS);
    tl_client_free(c);
}

static unsigned waits_told, reliefs_told;
static char told[256];

static void note_wait(void *ctx, const char *why) {
    (void)ctx;
    waits_told += why[0] != '\0';
    reliefs_told += why[0] == '\0';
    if (why[0] != '\0') {
        (void)snprintf(told, sizeof(told), "%s", why);
    }
}

static enum fake_act close_always(struct fake_shard *s,
                                  const struct tl_header *request) {
    (void)s;
    (void)request;
    return ACT_CLOSE;
}

/* Once, whichever shard it is and however many calls it takes; and so is its end. */
static void a_long_wait_is_told(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_config config = config_of(700); /* two looks, each after 300 */
    config.on_wait = note_wait;
    waits_told = reliefs_told = 0;
    struct tl_client *c = open_client(config);
    assert_int_equal(tl_client_join(c, &joined), 0);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, NULL), 0);
    assert_int_equal(waits_told, 0);
    fake_shard_plan(&shards[1], close_always);
    assert_int_equal(tl_client_push_pull(c, 26, gradient, NULL), TL_E_TIMEOUT);
    assert_int_equal(tl_client_push_pull(c, 26, gradient, NULL), TL_E_TIMEOUT);
    assert_int_equal(waits_told, 1);
    assert_int_equal(reliefs_told, 0);
    assert_non_null(strstr(told, "shard 1, epoch 1: "));
    fake_shard_plan(&shards[1], NULL);
    assert_int_equal(tl_client_push_pull(c, 26, gradient, NULL), 0);
    assert_int_equal(tl_client_push_pull(c, 27, gradient, NULL), 0);
    assert_int_equal(waits_told, 1);
    assert_int_equal(reliefs_told, 1);
    tl_client_free(c);
}

static void a_replaced_shard_is_joined_again(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client_result r;
    struct tl_client *c = join_client(&joined);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, &r), 0);
    plan(1, ACT_NEW_EPOCH, TL_KIND_PUSH_PULL, 1, 3); /* loses three versions */
    assert_int_equal(tl_client_push_pull(c, 26, gradient, &r), 0);
    assert_true(r.new_epoch);
    assert_int_equal(r.resent, 1);
    assert_int_equal(shards[1].lost, 3);
    assert_slice(c, 0, 12);
    assert_slice(c, 1, 10); /* 12, back to 9, and this one */
    assert_slice(c, 2, 14);
    tl_client_free(c);
}

static enum fake_act be_taken_over(struct fake_shard *s,
                                   const struct tl_header *request) {
    s->incarnation = 99;
    return request->kind == TL_KIND_PUSH ? ACT_CLOSE : ACT_SERVE;
}

static void a_newer_process_fences(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    pthread_mutex_lock(&shards[1].lock);
    shards[1].plan = be_taken_over;
    pthread_mutex_unlock(&shards[1].lock);
    assert_int_equal(tl_client_push(c, 25, gradient, NULL), TL_E_FENCED);
    tl_client_free(c);
}

static void another_cut_is_a_mismatch(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = open_client(config_of(8000));
    shards[2].first -= 1;
    assert_int_equal(tl_client_join(c, &joined), TL_E_MISMATCH);
    tl_client_free(c);
}

static void a_join_that_timed_out_may_be_repeated(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = open_client(config_of(200));
    plan(1, ACT_CLOSE, TL_KIND_HELLO, UINT32_MAX, 0);
    assert_int_equal(tl_client_join(c, &joined), TL_E_TIMEOUT);
    assert_true(fake_shard_asked(&shards[1], TL_KIND_HELLO) > 1);
    plan(1, ACT_SERVE, TL_KIND_HELLO, 0, 0);
    assert_int_equal(tl_client_join(c, &joined), 0);
    assert_slice(c, 1, 11);
    tl_client_free(c);
}

static void the_number_of_addresses_is_checked(void **state) {
    (void)state;
    struct tl_client_config config = config_of(8000);
    struct tl_client_join joined;
    config.servers = shards[0].server.address;
    struct tl_client *c = open_client(config);
    assert_int_equal(tl_client_join(c, &joined), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "1 addresses"));
    tl_client_free(c);
}

/* ---- the end ------------------------------------------------------------------ */

static void the_end_is_told_once_the_push_is_settled(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    shards[1].ended = true;
    shards[2].holds_step = true; /* would be waited for otherwise */
    assert_int_equal(tl_client_push_pull(c, 25, gradient, NULL), TL_E_ENDED);
    assert_int_equal(shards[0].settled, 25);
    assert_int_equal(shards[2].settled, 25);
    assert_slice(c, 0, 11);
    assert_slice(c, 2, 12);
    assert_int_equal(tl_client_leave(c), 0);
    assert_int_equal(tl_client_join(c, &joined), TL_E_ENDED);
    tl_client_free(c);
}

/* ---- interrupts --------------------------------------------------------------- */

static struct tl_client *interrupted;

static void on_alarm(int number) {
    (void)number;
    /* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c): its contract allows it */
    tl_client_interrupt(interrupted);
}

static void a_signal_interrupts_and_leaving_still_works(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    plan(1, ACT_SILENCE, TL_KIND_PUSH_PULL, 1, 0);
    const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    interrupted = c;
    (void)signal(SIGALRM, on_alarm);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, NULL), TL_E_INTERRUPTED);
    assert_int_equal(plan_count, 0);
    assert_int_equal(tl_client_push_pull(c, 25, gradient, NULL), TL_E_INTERRUPTED);
    assert_int_equal(tl_client_pull(c, false), TL_E_INTERRUPTED);
    assert_int_equal(tl_client_leave(c), 0);
    for (int s = 0; s < SHARDS; s++) {
        assert_int_equal(shards[s].asked[TL_KIND_LEAVE], 1);
    }
    (void)signal(SIGALRM, SIG_DFL);
    tl_client_free(c);
}

/* ---- the ledger --------------------------------------------------------------- */

static void the_ledger_survives_its_process(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    assert_int_equal(tl_client_push(c, 30, gradient, NULL), 0);
    tl_client_free(c); /* did not leave: as good as killed */
    shards[1].settled = 28;
    shards[1].incarnation = 0; /* its server recovered an older state */
    c = join_client(&joined);
    assert_int_equal(joined.next_sequence, 31);
    assert_int_equal(joined.incarnation, 2);
    assert_int_equal(shards[1].lost, 2);
    assert_int_equal(shards[0].lost, 0);
    tl_client_free(c);
}

static void what_a_shard_refused_is_not_in_the_ledger(void **state) {
    (void)state;
    struct tl_client_join joined;
    struct tl_client *c = join_client(&joined);
    assert_int_equal(tl_client_push(c, 30, gradient, NULL), 0);
    plan(2, ACT_STATUS, TL_KIND_PUSH, 1, TL_E_NONFINITE);
    assert_int_equal(tl_client_push(c, 31, gradient, NULL), 0);
    tl_client_free(c);
    c = join_client(&joined);
    assert_int_equal(shards[2].settled, 30);
    assert_int_equal(shards[2].lost, 0);
    assert_int_equal(joined.next_sequence, 31);
    tl_client_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_joins_pushes_and_leaves, start, stop),
        cmocka_unit_test_setup_teardown(the_norm_is_sent_where_it_is_looked_at, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_slice_without_news_is_kept, start, stop),
        cmocka_unit_test_setup_teardown(an_observer_only_pulls, start, stop),
        cmocka_unit_test_setup_teardown(sequences_rise, start, stop),
        cmocka_unit_test_setup_teardown(a_reply_that_was_lost_is_asked_for_again, start,
                                        stop),
        cmocka_unit_test_setup_teardown(refusals_are_counted, start, stop),
        cmocka_unit_test_setup_teardown(a_dead_shard_costs_the_patience, start, stop),
        cmocka_unit_test_setup_teardown(a_long_wait_is_told, start, stop),
        cmocka_unit_test_setup_teardown(a_replaced_shard_is_joined_again, start, stop),
        cmocka_unit_test_setup_teardown(a_newer_process_fences, start, stop),
        cmocka_unit_test_setup_teardown(another_cut_is_a_mismatch, start, stop),
        cmocka_unit_test_setup_teardown(a_join_that_timed_out_may_be_repeated, start,
                                        stop),
        cmocka_unit_test_setup_teardown(the_number_of_addresses_is_checked, start,
                                        stop),
        cmocka_unit_test_setup_teardown(the_end_is_told_once_the_push_is_settled, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_signal_interrupts_and_leaving_still_works,
                                        start, stop),
        cmocka_unit_test_setup_teardown(the_ledger_survives_its_process, start, stop),
        cmocka_unit_test_setup_teardown(what_a_shard_refused_is_not_in_the_ledger,
                                        start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
