/* direct.c - one shard's exchange against a server that fails in every way a test can
 * ask for: what was begun once completes once, or fails with the right code. */
#include "throughline/log.h"
#include "throughline/service.h"

#include "fake_shard.h"
#include "test.h"

#include <poll.h>

enum { COUNT = 8, DEADLINE_MS = 8000 };

static struct fake_shard shard;
static const float gradient[COUNT] = {1, 2, 3, 4, 5, 6, 7, 8};
static float weights[COUNT];

static int find_shard(void *ctx, uint32_t number, struct tl_address *ret_address) {
    const struct fake_shard *s = ctx;
    assert_int_equal(number, s->shard);
    return tl_address_parse(s->server.address, ret_address);
}

static struct tl_direct *new_direct_with(enum tl_role role, bool only_reads) {
    const struct tl_direct_config config = {
        .role = role,
        .worker = 3,
        .job = "job",
        .run = "run",
        .request_ms = 200,
        .unix_checksum = true,
        .only_reads = only_reads,
        .find = find_shard,
        .ctx = &shard,
    };
    struct tl_direct *d = NULL;
    assert_int_equal(tl_direct_new(&config, &d), 0);
    return d;
}

static struct tl_direct *new_direct(enum tl_role role) {
    return new_direct_with(role, false);
}

static int finish(struct tl_direct *d) {
    int64_t deadline = tl_now_ms() + DEADLINE_MS;
    for (;;) {
        int64_t now = tl_now_ms();
        int rc = tl_direct_advance(d, now);
        if (rc != TL_E_BUSY) {
            return rc;
        }
        assert_true(now < deadline);
        int64_t wake = tl_direct_wake_ms(d);
        struct pollfd p = {.fd = tl_direct_fd(d), .events = tl_direct_events(d)};
        (void)poll(&p, 1, wake > now ? (int)(wake - now) : 0);
    }
}

static int perform(struct tl_direct *d, struct tl_direct_request request) {
    assert_int_equal(tl_direct_begin(d, &request, tl_now_ms()), 0);
    return finish(d);
}

static struct tl_direct_request join_request(uint64_t incarnation,
                                             uint64_t acknowledged) {
    return (struct tl_direct_request){
        .op = TL_DIRECT_JOIN, .incarnation = incarnation, .sequence = acknowledged};
}

static struct tl_direct_request push_request(enum tl_direct_op op, uint64_t sequence) {
    return (struct tl_direct_request){
        .op = op,
        .held = {.version = shard.version, .epoch = 1},
        .sequence = sequence,
        .gradient = {.bytes = gradient, .size = sizeof(gradient), .count = COUNT},
        .norm = 2.5f,
        .weights = weights};
}

/* A member of the set that has met the shard at version 10, epoch 1, sequence 20. */
static struct tl_direct *new_member(void) {
    shard.version = 10;
    shard.settled = 20;
    struct tl_direct *d = new_direct(TL_ROLE_WORKER);
    assert_int_equal(perform(d, join_request(1, 20)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    return d;
}

static void assert_weights_of(uint64_t version) {
    for (int i = 0; i < COUNT; i++) {
        assert_true(weights[i] == (float)version + (float)i / 1000.0f);
    }
}

/* ---- plans: spoil the first `spoil_count` requests of one kind ---------------- */

static enum fake_act spoil_act;
static uint8_t spoil_kind;
static _Atomic unsigned spoil_count;

static enum fake_act spoil(struct fake_shard *s, const struct tl_header *request) {
    if (request->kind != spoil_kind || spoil_count == 0) {
        return ACT_SERVE;
    }
    spoil_count--;
    s->holds_step = false;
    return spoil_act;
}

static void plan(enum fake_act act, enum tl_kind kind, unsigned count, int status) {
    pthread_mutex_lock(&shard.lock);
    spoil_act = act;
    spoil_kind = (uint8_t)kind;
    spoil_count = count;
    shard.status = status;
    shard.plan = spoil;
    pthread_mutex_unlock(&shard.lock);
}

static int start_shard(void **state) {
    (void)state;
    fake_shard_start(&shard, 0, 1, COUNT);
    memset(weights, 0, sizeof(weights));
    return 0;
}

/* ---- without faults ----------------------------------------------------------- */

static void greeting_tells_the_slice(void **state) {
    (void)state;
    shard.version = 10;
    struct tl_direct *d = new_direct(TL_ROLE_MONITOR);
    assert_null(tl_direct_welcome(d));
    struct tl_direct_request pull = {.op = TL_DIRECT_PULL, .weights = weights};
    assert_int_equal(tl_direct_begin(d, &pull, tl_now_ms()), TL_E_INVALID);
    assert_int_equal(perform(d, (struct tl_direct_request){.op = TL_DIRECT_GREET}), 0);
    assert_int_equal(tl_direct_welcome(d)->count, COUNT);
    assert_int_equal(tl_direct_epoch(d), 1);
    assert_int_equal(tl_direct_version(d), 10);

    pull.held.version = TL_VERSION_NONE;
    assert_int_equal(perform(d, pull), 0);
    assert_true(tl_direct_result(d)->has_weights);
    assert_weights_of(10);
    pull.held = tl_direct_result(d)->held;
    assert_int_equal(perform(d, pull), 0);
    assert_false(tl_direct_result(d)->has_weights);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void a_push_reaches_the_fold_once(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_int_equal(tl_direct_result(d)->version, 11);
    assert_int_equal(tl_direct_result(d)->sent, 1);
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 22)), 0);
    assert_weights_of(12);
    assert_int_equal(tl_direct_result(d)->held.version, 12);
    assert_memory_equal(shard.last_gradient, gradient, sizeof(gradient));
    assert_true(shard.last_norm == 2.5f);
    assert_int_equal(shard.connections, 1);

    struct tl_direct_request leave = {.op = TL_DIRECT_LEAVE, .step = 17};
    assert_int_equal(perform(d, leave), 0);
    assert_int_equal(shard.left_step, 17);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void joining_asks_then_enters(void **state) {
    (void)state;
    shard.incarnation = 6;
    shard.settled = 40;
    struct tl_direct *d = new_direct(TL_ROLE_WORKER);
    assert_int_equal(perform(d, join_request(0, 0)), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_FENCED);
    assert_int_equal(tl_direct_result(d)->incarnation, 6);
    assert_int_equal(tl_direct_result(d)->settled, 40);
    assert_int_equal(perform(d, join_request(7, 42)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_int_equal(tl_direct_result(d)->settled, 42);
    assert_int_equal(shard.lost, 2);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* ---- faults that heal --------------------------------------------------------- */

/* Push once through `count` faults; it must be folded exactly once. */
static void push_through(enum fake_act act, enum tl_kind kind, unsigned count,
                         int status) {
    (void)start_shard(NULL);
    struct tl_direct *d = new_member();
    plan(act, kind, count, status);
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_int_equal(spoil_count, 0); /* the faults did happen */
    const struct tl_direct_result *r = tl_direct_result(d);
    assert_true(r->status == 0 || r->status == TL_E_DUPLICATE);
    assert_true(r->sent >= 1);
    assert_int_equal(shard.settled, 21);
    assert_int_equal(shard.version, 11);
    assert_weights_of(11);
    assert_true(strlen(tl_direct_trouble(d)) > 0);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void a_push_survives_faults_and_is_folded_once(void **state) {
    (void)state;
    push_through(ACT_CLOSE, TL_KIND_PUSH_PULL, 3, 0);
    push_through(ACT_CLOSE_AFTER_WORK, TL_KIND_PUSH_PULL, 1, 0);
    push_through(ACT_DAMAGE, TL_KIND_PUSH_PULL, 2, 0);
    push_through(ACT_SILENCE, TL_KIND_PUSH_PULL, 1, 0);
    push_through(ACT_ERROR, TL_KIND_PUSH_PULL, 2, TL_E_BUSY);
    push_through(ACT_ERROR, TL_KIND_PUSH_PULL, 2, TL_E_LIMIT);
    push_through(ACT_ERROR, TL_KIND_PUSH_PULL, 2, TL_E_CHECKSUM);
    push_through(ACT_ERROR, TL_KIND_PUSH_PULL, 3, TL_E_PROTOCOL);
    push_through(ACT_ERROR, TL_KIND_PUSH_PULL, 1, TL_E_FENCED); /* the server is */
    push_through(ACT_STATUS, TL_KIND_PUSH_PULL, 1, TL_E_BUSY);
}

static void reconnecting_survives_faults(void **state) {
    (void)state;
    static const enum tl_kind kinds[] = {TL_KIND_HELLO, TL_KIND_JOIN};
    for (size_t i = 0; i < 2; i++) {
        (void)start_shard(NULL);
        struct tl_direct *d = new_member();
        tl_direct_cancel(d); /* nothing under way: harmless */
        plan(ACT_CLOSE, TL_KIND_PUSH, 1, 0);
        assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), 0);
        plan(ACT_CLOSE, TL_KIND_PUSH, 1, 0);
        struct tl_direct_request push = push_request(TL_DIRECT_PUSH, 22);
        assert_int_equal(tl_direct_begin(d, &push, tl_now_ms()), 0);
        while (spoil_count > 0) {
            assert_int_equal(tl_direct_advance(d, tl_now_ms()), TL_E_BUSY);
        }
        plan(ACT_DAMAGE, kinds[i], 2, 0);
        assert_int_equal(finish(d), 0);
        assert_int_equal(spoil_count, 0);
        assert_int_equal(shard.settled, 22);
        assert_int_equal(shard.version, 12);
        tl_direct_free(d);
        fake_shard_stop(&shard);
    }
}

static void a_forgotten_worker_joins_again(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    plan(ACT_STATUS, TL_KIND_PUSH, 1, TL_E_NOTJOINED);
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_int_equal(shard.connections, 1);
    assert_int_equal(shard.asked[TL_KIND_JOIN], 2);

    plan(ACT_STATUS, TL_KIND_PUSH, 2, TL_E_NOTJOINED); /* but only once */
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 22)), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_NOTJOINED);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* ---- a new epoch -------------------------------------------------------------- */

static void a_new_epoch_may_go_back_and_replaces_weights(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_weights_of(11);
    plan(ACT_NEW_EPOCH, TL_KIND_PUSH_PULL, 1, 2); /* two versions, two sequences lost */
    struct tl_direct_request push = push_request(TL_DIRECT_PUSH_PULL, 22);
    assert_int_equal(perform(d, push), 0);
    const struct tl_direct_result *r = tl_direct_result(d);
    assert_true(r->new_epoch);
    assert_int_equal(r->sent, 2);
    assert_int_equal(tl_direct_epoch(d), 2);
    assert_int_equal(r->held.epoch, 2);
    assert_int_equal(r->held.version, 10); /* 9 recovered, and this gradient */
    assert_weights_of(10);
    assert_int_equal(shard.lost, 2); /* JOIN said that 21 had been acknowledged */
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* The same number in another epoch is another version: the weights must come anyway. */
static void an_equal_version_of_another_epoch_is_pulled(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    plan(ACT_NEW_EPOCH, TL_KIND_PUSH_PULL, 1, 1);
    struct tl_direct_request push = push_request(TL_DIRECT_PUSH_PULL, 22);
    push.held = (struct tl_direct_held){.version = 11, .epoch = 1};
    assert_int_equal(perform(d, push), 0);
    assert_int_equal(shard.version, 11);
    assert_true(tl_direct_result(d)->has_weights);
    assert_int_equal(tl_direct_result(d)->held.epoch, 2);
    assert_int_equal(shard.asked[TL_KIND_PULL], 1);
    assert_weights_of(11);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static enum fake_act older_epoch(struct fake_shard *s,
                                 const struct tl_header *request) {
    s->epoch = request->kind == TL_KIND_HELLO && s->asked[TL_KIND_HELLO] < 4 ? 1 : 5;
    return ACT_SERVE;
}

static void an_older_epoch_is_never_gone_back_to(void **state) {
    (void)state;
    shard.epoch = 5;
    struct tl_direct *d = new_member();
    assert_int_equal(tl_direct_epoch(d), 5);
    plan(ACT_CLOSE, TL_KIND_PUSH, 1, 0);
    struct tl_direct_request push = push_request(TL_DIRECT_PUSH, 21);
    assert_int_equal(tl_direct_begin(d, &push, tl_now_ms()), 0);
    while (spoil_count > 0) {
        assert_int_equal(tl_direct_advance(d, tl_now_ms()), TL_E_BUSY);
    }
    pthread_mutex_lock(&shard.lock);
    shard.plan = older_epoch;
    pthread_mutex_unlock(&shard.lock);
    assert_int_equal(finish(d), 0);
    assert_int_equal(tl_direct_epoch(d), 5);
    assert_int_equal(shard.asked[TL_KIND_HELLO], 4); /* two of them in epoch 1 */
    assert_int_equal(shard.settled, 21);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* ---- waiting for a step ------------------------------------------------------- */

static enum fake_act commit_at_second_pull(struct fake_shard *s,
                                           const struct tl_header *request) {
    if (request->kind == TL_KIND_PULL && s->asked[TL_KIND_PULL] == 2) {
        s->version++;
    }
    return ACT_SERVE;
}

static void a_step_is_waited_for(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    shard.consistency = 1;
    shard.holds_step = true;
    shard.plan = commit_at_second_pull;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_int_equal(tl_direct_result(d)->sent, 1);
    assert_int_equal(shard.asked[TL_KIND_PUSH_PULL], 1);
    assert_int_equal(shard.asked[TL_KIND_PULL], 2);
    assert_weights_of(11);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static enum fake_act refuse_then_commit(struct fake_shard *s,
                                        const struct tl_header *request) {
    s->version += request->kind == TL_KIND_PULL ? 1 : 0;
    return request->kind == TL_KIND_PUSH_PULL ? ACT_STATUS : ACT_SERVE;
}

/* STALE without weights means in sync that the open step has this worker's part. */
static void a_second_part_of_a_step_waits_for_the_next(void **state) {
    (void)state;
    shard.consistency = 1;
    struct tl_direct *d = new_member();
    shard.status = TL_E_STALE;
    shard.plan = refuse_then_commit;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_STALE);
    assert_int_equal(shard.asked[TL_KIND_PULL], 1);
    assert_weights_of(11);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* It arrived before its server died, and waits in the successor's open step: the
 * weights that come have to have it in them, not be those that it was computed from. */
static void a_duplicate_in_sync_is_waited_for_by_name(void **state) {
    (void)state;
    shard.consistency = 1;
    struct tl_direct *d = new_member();
    shard.settled = 21;
    shard.plan = commit_at_second_pull;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_DUPLICATE);
    assert_int_equal(shard.asked[TL_KIND_PULL], 2);
    assert_int_equal(shard.pulled_sequence, 21);
    assert_weights_of(11);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void waiting_stops_when_the_job_has_ended(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    shard.holds_step = true;
    shard.ended = true;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH_PULL, 21)), 0);
    assert_true(tl_direct_result(d)->ended);
    assert_false(tl_direct_result(d)->has_weights);

    shard.ended = false;
    struct tl_direct_request push = push_request(TL_DIRECT_PUSH_PULL, 22);
    assert_int_equal(tl_direct_begin(d, &push, tl_now_ms()), 0);
    tl_direct_stop_waiting(d);
    assert_int_equal(finish(d), 0);
    assert_false(tl_direct_result(d)->has_weights);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* ---- refusals and ends -------------------------------------------------------- */

static void refusals_are_results(void **state) {
    (void)state;
    static const int refusals[] = {TL_E_STALE, TL_E_LATE, TL_E_NONFINITE, TL_E_SHAPE,
                                   TL_E_ENDED};
    struct tl_direct *d = new_member();
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        plan(ACT_STATUS, TL_KIND_PUSH, 1, refusals[i]);
        assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21 + i)), 0);
        assert_int_equal(tl_direct_result(d)->status, refusals[i]);
        assert_int_equal(tl_direct_result(d)->ended, refusals[i] == TL_E_ENDED);
    }
    assert_int_equal(shard.connections, 1);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* Push while the server answers `kind` like this for ever; returns how the push fails.
 */
static int push_fails(enum fake_act act, enum tl_kind kind, int status) {
    (void)start_shard(NULL);
    struct tl_direct *d = new_member();
    plan(act, kind, UINT32_MAX, status);
    int rc = perform(d, push_request(TL_DIRECT_PUSH, 21));
    assert_int_equal(tl_direct_fd(d), -1); /* it is over */
    assert_true(tl_direct_wake_ms(d) == INT64_MAX);
    tl_direct_free(d);
    fake_shard_stop(&shard);
    return rc;
}

/* ---- weights from elsewhere ---------------------------------------------------- */

static struct tl_direct_request push_elsewhere(uint64_t sequence) {
    struct tl_direct_request r = push_request(TL_DIRECT_PUSH_PULL, sequence);
    r.elsewhere = true;
    return r;
}

static void weights_may_be_left_out_and_fetched_after_all(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    assert_int_equal(perform(d, push_elsewhere(21)), 0);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_false(tl_direct_result(d)->has_weights);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_PUSH), 1);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_PULL), 0);

    plan(ACT_CLOSE, TL_KIND_PULL, 1, 0); /* the fetch survives what a push survives */
    tl_direct_fetch(d, tl_now_ms());
    assert_int_equal(finish(d), 0);
    assert_true(tl_direct_result(d)->has_weights);
    assert_weights_of(11);
    assert_int_equal(tl_direct_result(d)->status, 0);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_PUSH), 1);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_PUSH_PULL), 0);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* Nobody elsewhere will ever have it in its weights. */
static void a_refused_gradient_brings_the_weights_that_are_there(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    struct tl_direct_request push = push_elsewhere(21);
    shard.version = 12;
    plan(ACT_STATUS, TL_KIND_PUSH, 1, TL_E_NONFINITE);
    assert_int_equal(perform(d, push), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_NONFINITE);
    assert_true(tl_direct_result(d)->has_weights);
    assert_weights_of(12);

    plan(ACT_STATUS, TL_KIND_PUSH, 1, TL_E_NONFINITE); /* and nothing is newer */
    assert_int_equal(perform(d, push_elsewhere(22)), 0);
    assert_int_equal(tl_direct_result(d)->status, TL_E_NONFINITE);
    assert_false(tl_direct_result(d)->has_weights);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* One of several replicas: another writer in the same epoch is no rival. */
static void a_reader_takes_any_replica(void **state) {
    (void)state;
    const struct tl_direct_request pull = {
        .op = TL_DIRECT_PULL, .held = {.version = TL_VERSION_NONE}, .weights = weights};
    shard.version = 10;
    struct tl_direct *d = new_direct_with(TL_ROLE_WORKER, true);
    assert_int_equal(perform(d, (struct tl_direct_request){.op = TL_DIRECT_GREET}), 0);
    assert_true((shard.greeted_flags & TL_FLAG_READS) != 0);
    plan(ACT_CLOSE, TL_KIND_PULL, 1, 0);
    shard.writer++;
    assert_int_equal(perform(d, pull), 0);
    assert_true(tl_direct_result(d)->has_weights);
    assert_weights_of(10);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_PULL), 2);
    assert_int_equal(fake_shard_asked(&shard, TL_KIND_HELLO), 2);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void what_cannot_heal_ends_the_request(void **state) {
    (void)state;
    assert_int_equal(push_fails(ACT_STATUS, TL_KIND_PUSH, TL_E_FENCED), TL_E_FENCED);
    assert_int_equal(push_fails(ACT_ERROR, TL_KIND_PUSH, TL_E_MISMATCH), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "as the test wants it"));
    assert_int_equal(push_fails(ACT_ERROR, TL_KIND_PUSH, TL_E_DENIED), TL_E_DENIED);
    assert_int_equal(push_fails(ACT_ERROR, TL_KIND_PUSH, TL_E_ENDED), TL_E_ENDED);
    assert_int_equal(push_fails(ACT_ERROR, TL_KIND_PUSH, TL_E_PROTOCOL), TL_E_PROTOCOL);
    assert_int_equal(push_fails(ACT_ERROR, TL_KIND_PUSH, 5), TL_E_PROTOCOL);
}

static void a_version_that_goes_back_is_an_error(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), 0);
    plan(ACT_GO_BACK, TL_KIND_PULL, 1, 0);
    struct tl_direct_request pull = {
        .op = TL_DIRECT_PULL, .held = {TL_VERSION_NONE, 0}, .weights = weights};
    assert_int_equal(perform(d, pull), TL_E_PROTOCOL);
    assert_non_null(strstr(tl_error_text(), "went back from 11 to 10"));
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* The connection to one process of the shard breaks; the other one has not folded as
 * much of the same log yet. */
static enum fake_act another_is_behind(struct fake_shard *s,
                                       const struct tl_header *request) {
    if (request->kind == TL_KIND_PULL && s->connections == 1) {
        return ACT_CLOSE;
    }
    return request->kind == TL_KIND_HELLO && s->connections < 4 ? ACT_GO_BACK
                                                                : ACT_SERVE;
}

static void a_reader_waits_for_a_process_that_is_behind(void **state) {
    (void)state;
    shard.version = 10;
    struct tl_direct *d = new_direct(TL_ROLE_MONITOR);
    assert_int_equal(perform(d, (struct tl_direct_request){.op = TL_DIRECT_GREET}), 0);
    shard.plan = another_is_behind;
    struct tl_direct_request pull = {
        .op = TL_DIRECT_PULL, .held = {TL_VERSION_NONE, 0}, .weights = weights};
    assert_int_equal(perform(d, pull), 0);
    assert_int_equal(shard.connections, 4);
    assert_non_null(strstr(tl_direct_trouble(d), "not at version 10 yet"));
    assert_weights_of(10);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

/* A worker has one server: for it there is no excuse. */
static void for_a_worker_nobody_is_behind(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    shard.plan = another_is_behind;
    struct tl_direct_request pull = {
        .op = TL_DIRECT_PULL, .held = {TL_VERSION_NONE, 0}, .weights = weights};
    assert_int_equal(perform(d, pull), TL_E_PROTOCOL);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static enum fake_act other_cut(struct fake_shard *s, const struct tl_header *request) {
    if (request->kind == TL_KIND_PUSH) {
        s->parameters = COUNT + 1;
        return ACT_CLOSE;
    }
    return ACT_SERVE;
}

static void another_model_is_a_mismatch(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    shard.plan = other_cut;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), TL_E_MISMATCH);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static enum fake_act taken_over(struct fake_shard *s, const struct tl_header *request) {
    if (request->kind == TL_KIND_PUSH) {
        s->incarnation = 9;
        return ACT_CLOSE;
    }
    return ACT_SERVE;
}

static void a_newer_process_fences_this_one(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    shard.plan = taken_over;
    assert_int_equal(perform(d, push_request(TL_DIRECT_PUSH, 21)), TL_E_FENCED);
    tl_direct_free(d);
    fake_shard_stop(&shard);
}

static void a_dead_server_is_tried_with_growing_pauses(void **state) {
    (void)state;
    struct tl_direct *d = new_member();
    fake_shard_stop(&shard);
    struct tl_direct_request push = push_request(TL_DIRECT_PUSH, 21);
    int64_t now = tl_now_ms();
    assert_int_equal(tl_direct_begin(d, &push, now), 0);
    int64_t pause = 0;
    for (int i = 0; i < 40; i++) { /* in virtual time: nothing waits */
        assert_int_equal(tl_direct_advance(d, now), TL_E_BUSY);
        if (tl_direct_fd(d) == -1) {
            pause = tl_direct_wake_ms(d) - now;
            assert_true(pause > 0 && pause <= 250);
            now = tl_direct_wake_ms(d);
        }
    }
    assert_true(pause >= 125);
    assert_non_null(strstr(tl_direct_trouble(d), shard.server.path));
    tl_direct_cancel(d);
    tl_direct_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(greeting_tells_the_slice, start_shard),
        cmocka_unit_test_setup(a_push_reaches_the_fold_once, start_shard),
        cmocka_unit_test_setup(joining_asks_then_enters, start_shard),
        cmocka_unit_test(a_push_survives_faults_and_is_folded_once),
        cmocka_unit_test(reconnecting_survives_faults),
        cmocka_unit_test_setup(a_forgotten_worker_joins_again, start_shard),
        cmocka_unit_test_setup(a_new_epoch_may_go_back_and_replaces_weights,
                               start_shard),
        cmocka_unit_test_setup(an_equal_version_of_another_epoch_is_pulled,
                               start_shard),
        cmocka_unit_test_setup(an_older_epoch_is_never_gone_back_to, start_shard),
        cmocka_unit_test_setup(a_step_is_waited_for, start_shard),
        cmocka_unit_test_setup(a_second_part_of_a_step_waits_for_the_next, start_shard),
        cmocka_unit_test_setup(a_duplicate_in_sync_is_waited_for_by_name, start_shard),
        cmocka_unit_test_setup(waiting_stops_when_the_job_has_ended, start_shard),
        cmocka_unit_test_setup(refusals_are_results, start_shard),
        cmocka_unit_test_setup(weights_may_be_left_out_and_fetched_after_all,
                               start_shard),
        cmocka_unit_test_setup(a_refused_gradient_brings_the_weights_that_are_there,
                               start_shard),
        cmocka_unit_test_setup(a_reader_takes_any_replica, start_shard),
        cmocka_unit_test(what_cannot_heal_ends_the_request),
        cmocka_unit_test_setup(a_version_that_goes_back_is_an_error, start_shard),
        cmocka_unit_test_setup(a_reader_waits_for_a_process_that_is_behind,
                               start_shard),
        cmocka_unit_test_setup(for_a_worker_nobody_is_behind, start_shard),
        cmocka_unit_test_setup(another_model_is_a_mismatch, start_shard),
        cmocka_unit_test_setup(a_newer_process_fences_this_one, start_shard),
        cmocka_unit_test_setup(a_dead_server_is_tried_with_growing_pauses, start_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
