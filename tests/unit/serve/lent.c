/* Buffers and versions are lent at a caller's pace: who holds one up gives way to who
 * waits for it, long before its frame is late. */
#include "serve_rig.h"

enum {
    BUFFERS = 16,
    PATIENT_MS = 60000,
    PAYLOAD = COUNT * sizeof(float),
    LAP_MS = 500
};

static const struct shard_options patient = {
    .max_connections = 32, .frame_ms = PATIENT_MS, .wait_ms = PATIENT_MS};

static uint8_t zeros[PAYLOAD];

static void send_all(int fd, const void *bytes, size_t size) {
    const char *next = bytes;
    while (size > 0) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        const ssize_t n = send(fd, next, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        next += n;
        size -= (size_t)n;
    }
}

/* A joined worker that has sent half of its gradient. */
static struct caller *half_way(const struct shard *s, uint32_t worker) {
    struct caller *c = caller_join(s, worker);
    struct tl_header h = {
        .kind = TL_KIND_PUSH,
        .flags = TL_FLAG_CHECKSUM,
        .worker = worker,
        .epoch = 7,
        .incarnation = 1,
        .sequence = 1,
        .length = PAYLOAD,
    };
    uint8_t bytes[TL_HEADER_BYTES];
    tl_header_encode(&h, bytes);
    send_all(tl_link_fd(c->link), bytes, sizeof(bytes));
    send_all(tl_link_fd(c->link), zeros, PAYLOAD / 2);
    return c;
}

static void wait_for_frames(struct shard *s, uint64_t frames) {
    const int64_t deadline = now_ms() + DEADLINE_MS;
    do {
        on_loop(s, read_stats);
    } while (s->stats.frames < frames && now_ms() < deadline);
    assert_int_equal(s->stats.frames, frames);
}

static void take_all_buffers(struct shard *s, struct caller *callers[BUFFERS]) {
    for (uint32_t i = 0; i < BUFFERS; i++) {
        callers[i] = half_way(s, i);
    }
    wait_for_frames(s, (uint64_t)3 * BUFFERS); /* HELLO, JOIN and PUSH of each */
}

static void half_sent_gradients_hold_nobody_up(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    struct caller *stuck[BUFFERS];
    shard_start_with(&s, &config, &patient);
    take_all_buffers(&s, stuck);
    struct caller *other = caller_join(&s, BUFFERS);
    assert_int_equal(push(other, TL_KIND_PUSH, BUFFERS, 1, 0, 2.0F), 0);
    assert_int_equal(tl_link_reply(other->link)->status, 0);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.pushes, 1);
    assert_int_equal(s.stats.bad_frames, BUFFERS);
    for (int i = 0; i < BUFFERS; i++) {
        assert_true(is_closed_by_peer(tl_link_fd(stuck[i]->link)));
        caller_free(stuck[i]);
    }
    caller_free(other);
    shard_stop(&s);
}

/* The shard is busy with something else for a lap, twice, and each time some more of a
 * gradient has arrived when it gets to look at who is slow. */
enum { PIECE = 1000, TIMES = 2 };

static int arriving; /* the descriptor of who sends it */
static _Atomic int arrived;
static uv_check_t busy;

static void on_busy(uv_check_t *check) {
    const int64_t until = now_ms() + LAP_MS + 100;
    send_all(arriving, zeros, PIECE);
    while (now_ms() < until) {
    }
    if (atomic_fetch_add(&arrived, 1) + 1 == TIMES) {
        uv_close((uv_handle_t *)check, NULL);
    }
}

static void be_busy(struct shard *s) {
    assert_int_equal(uv_check_init(&s->loop, &busy), 0);
    assert_int_equal(uv_check_start(&busy, on_busy), 0);
}

static void nobody_pays_for_a_busy_shard(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    struct caller *stuck[BUFFERS];
    shard_start_with(&s, &config, &patient);
    take_all_buffers(&s, stuck);
    struct caller *other = half_way(&s, BUFFERS); /* waits for a buffer */
    wait_for_frames(&s, (uint64_t)3 * BUFFERS + 3);
    arriving = tl_link_fd(stuck[0]->link);
    on_loop(&s, be_busy);
    for (int i = 1; i < BUFFERS; i++) {
        assert_true(is_closed_by_peer(tl_link_fd(stuck[i]->link)));
    }
    assert_int_equal(arrived, TIMES);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, BUFFERS - 1);
    for (int i = 0; i < BUFFERS; i++) {
        caller_free(stuck[i]);
    }
    caller_free(other);
    shard_stop(&s);
}

/* More than any socket buffers. */
enum { LARGE = 4 << 20 };

/* The only version that can be held beside the newest is being sent to somebody who
 * does not read. */
static void who_stops_reading_holds_nobody_up(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    struct shard_options options = patient;
    config.count = options.count = LARGE;
    config.spare_copies = 1;
    shard_start_with(&s, &config, &options);
    struct caller *stuck = caller_greet(&s, TL_ROLE_MONITOR);
    struct tl_header pull = {
        .kind = TL_KIND_PULL, .epoch = 7, .read_version = TL_VERSION_NONE};
    uint8_t bytes[TL_HEADER_BYTES];
    tl_header_encode(&pull, bytes);
    send_all(tl_link_fd(stuck->link), bytes, sizeof(bytes));

    struct caller *worker = caller_join(&s, 0);
    float *values = calloc(LARGE, sizeof(float));
    assert_non_null(values);
    struct tl_header h = {.kind = TL_KIND_PUSH_PULL,
                          .incarnation = 1,
                          .sequence = 1,
                          .epoch = 7,
                          .length = LARGE * sizeof(float)};
    assert_int_equal(
        tl_link_request(worker->link, &h, values, values, LARGE * sizeof(float), true),
        0);
    assert_int_equal(outcome(worker), 0);
    assert_int_equal(tl_link_reply(worker->link)->read_version, 1);
    assert_int_equal(tl_link_reply(worker->link)->length, LARGE * sizeof(float));
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, 1);
    assert_true(is_closed_by_peer(tl_link_fd(stuck->link)));
    free(values);
    caller_free(worker);
    caller_free(stuck);
    shard_stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_sent_gradients_hold_nobody_up),
        cmocka_unit_test(nobody_pays_for_a_busy_shard),
        cmocka_unit_test(who_stops_reading_holds_nobody_up),
    };
    return cmocka_run_group_tests_name("serve/lent", tests, NULL, NULL);
}
