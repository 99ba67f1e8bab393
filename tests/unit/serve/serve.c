/* A real loop on a thread, real sockets, a real fold; callers speak frames to it. */
#include "throughline/serve.h"

#include "serve_rig.h"

#include <arpa/inet.h>
#include <math.h>

/* ---- tests -------------------------------------------------------------------- */

static void push_pull_is_one_round_trip(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *c = caller_join(&s, 0);
    assert_int_equal(push(c, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    const struct tl_header *r = tl_link_reply(c->link);
    assert_int_equal(r->kind, TL_KIND_WEIGHTS);
    assert_int_equal(r->status, 0);
    assert_int_equal(r->read_version, 1);
    assert_int_equal(r->sequence, 1);
    assert_weights(c, -1.0F); /* 0 - 0.5 * 2 */

    assert_int_equal(push(c, TL_KIND_PUSH, 0, 2, 1, 2.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_ACK);
    assert_int_equal(tl_link_reply(c->link)->read_version, 2);

    assert_int_equal(
        ask(c, (struct tl_header){.kind = TL_KIND_PULL, .read_version = 1}, NULL), 0);
    assert_weights(c, -2.0F);
    caller_free(c);
    shard_stop(&s);
}

static void payloads_may_lie_in_shared_memory(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *c = caller_greet(&s, TL_ROLE_WORKER);
    struct tl_header share = {.kind = TL_KIND_SHARE};
    assert_int_equal(ask(c, share, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_SHARED);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    struct tl_header join = {.kind = TL_KIND_JOIN, .incarnation = 1};
    assert_int_equal(ask(c, join, NULL), 0);

    assert_int_equal(push(c, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    assert_weights(c, -1.0F);
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 2, 1, 2.0F), 0);
    struct tl_header pull = {.kind = TL_KIND_PULL, .read_version = 1};
    assert_int_equal(ask(c, pull, NULL), 0);
    assert_weights(c, -2.0F);
    on_loop(&s, read_stats);
    assert_true(s.stats.bytes_received < COUNT && s.stats.bytes_sent < COUNT);

    assert_int_equal(ask(c, share, NULL), 0); /* once is enough */
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_UNSUPPORTED);
    caller_free(c);
    shard_stop(&s);
}

/* A gradient of which every value is `value`, which all encodings have exactly; topk
 * has one of them, at `index`. */
static int push_encoded(struct caller *c, enum tl_encoding encoding, uint64_t sequence,
                        float value, uint32_t index) {
    uint64_t size = tl_codec_size(encoding, COUNT, 1);
    uint8_t *bytes = malloc(size);
    float *g = gradient_of(value);
    assert_non_null(bytes);
    tl_codec_encode(encoding, g, COUNT, 1, bytes);
    if (encoding == TL_ENCODING_TOPK) {
        memcpy(bytes, &index, sizeof(index));
    }
    struct tl_header h = {
        .kind = TL_KIND_PUSH_PULL,
        .encoding = (uint8_t)encoding,
        .incarnation = 1,
        .sequence = sequence,
        .read_version = sequence - 1,
        .length = size,
    };
    int rc = ask(c, h, bytes);
    free(g);
    free(bytes);
    return rc;
}

static void encoded_gradients_are_folded(void **state) {
    (void)state;
    static const enum tl_encoding dense[] = {TL_ENCODING_F16, TL_ENCODING_BF16,
                                             TL_ENCODING_INT8, TL_ENCODING_F32};
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *c = caller_join(&s, 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(push_encoded(c, dense[i], i + 1, 2.0F, 0), 0);
        assert_int_equal(tl_link_reply(c->link)->status, 0);
        assert_weights(c, -1.0F * (float)(i + 1));
    }
    assert_int_equal(push_encoded(c, TL_ENCODING_TOPK, 5, 8.0F, COUNT - 1), 0);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    assert_true(c->weights[COUNT - 1] == -8.0F && c->weights[0] == -4.0F);

    assert_int_equal(push_encoded(c, TL_ENCODING_TOPK, 6, 8.0F, COUNT), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_SHAPE);
    assert_int_equal(push_encoded(c, TL_ENCODING_INT8, 6, NAN, 0), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_NONFINITE);
    assert_int_equal(tl_link_reply(c->link)->read_version, 5);
    caller_free(c);
    shard_stop(&s);
}

/* A length that no gradient of the slice has in this encoding. */
static void encoded_lengths_are_checked(void **state) {
    (void)state;
    static const struct {
        uint8_t encoding;
        uint64_t length;
        int status;
    } cases[] = {
        {TL_ENCODING_F16, UINT64_C(4) * COUNT, TL_E_TOOBIG},
        {TL_ENCODING_BF16, UINT64_C(2) * COUNT - 2, TL_E_SHAPE},
        {TL_ENCODING_INT8, COUNT, TL_E_SHAPE},
        {TL_ENCODING_TOPK, 0, TL_E_SHAPE},
        {TL_ENCODING_TOPK, 12, TL_E_SHAPE},
        {TL_ENCODING_TOPK, 4 * COUNT + 8, TL_E_TOOBIG},
    };
    static uint8_t bytes[4 * COUNT + 8];
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct caller *c = caller_join(&s, 0);
        struct tl_header h = {.kind = TL_KIND_PUSH,
                              .encoding = cases[i].encoding,
                              .incarnation = 1,
                              .sequence = 1,
                              .length = cases[i].length};
        assert_int_equal(ask(c, h, bytes), 0);
        assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_ERROR);
        assert_int_equal(tl_link_reply(c->link)->status, cases[i].status);
        caller_free(c);
    }
    shard_stop(&s);
}

static void a_duplicate_is_refused_and_answered(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *c = caller_join(&s, 0);
    assert_int_equal(push(c, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_int_equal(push(c, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_DUPLICATE);
    assert_weights(
        c, -1.0F); /* newer than the version it was computed on, and unchanged */
    caller_free(c);
    shard_stop(&s);
}

static void strangers_and_wrong_roles_are_refused(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);

    struct tl_hello other_run = proper_hello(TL_ROLE_WORKER);
    (void)snprintf(other_run.run, sizeof(other_run.run), "another");
    struct tl_hello other_job_file = proper_hello(TL_ROLE_WORKER);
    other_job_file.job_digest = 98;
    struct {
        struct tl_hello hello;
        uint32_t shard;
    } strangers[] = {
        {other_run, 0}, {other_job_file, 0}, {proper_hello(TL_ROLE_WORKER), 1}};
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        struct caller *c = caller_connect(&s);
        assert_int_equal(hello_as(c, strangers[i].hello, strangers[i].shard), 0);
        assert_int_equal(tl_link_reply(c->link)->kind, TL_KIND_ERROR);
        assert_int_equal(tl_link_reply(c->link)->status, TL_E_MISMATCH);
        caller_free(c);
    }

    struct caller *monitor = caller_greet(&s, TL_ROLE_MONITOR);
    (void)push(monitor, TL_KIND_PUSH, 0, 1, 0, 1.0F);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, 1);
    assert_int_equal(s.stats.pushes, 0);
    caller_free(monitor);

    struct caller *unjoined = caller_greet(&s, TL_ROLE_WORKER);
    (void)push(unjoined, TL_KIND_PUSH, 0, 1, 0, 1.0F);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, 2);
    assert_int_equal(s.stats.pushes, 0);
    caller_free(unjoined);
    shard_stop(&s);
}

/* Raw bytes to the shard; returns the descriptor. */
static void a_bad_stream_is_closed_and_others_go_on(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    const struct shard_options options = {.max_connections = 10, .frame_ms = FRAME_MS};
    shard_start_with(&s, &config, &options);
    struct caller *good = caller_join(&s, 0);

    int garbage = raw_connect(&s);
    char noise[TL_HEADER_BYTES];
    memset(noise, 'x', sizeof(noise));
    assert_int_equal(send(garbage, noise, sizeof(noise), MSG_NOSIGNAL), sizeof(noise));
    assert_true(is_closed_by_peer(garbage));

    int stalled = raw_connect(&s);
    struct tl_header hello = {
        .kind = TL_KIND_HELLO, .flags = TL_FLAG_CHECKSUM, .length = TL_HELLO_BYTES};
    uint8_t header[TL_HEADER_BYTES];
    tl_header_encode(&hello, header);
    assert_int_equal(send(stalled, header, sizeof(header), MSG_NOSIGNAL),
                     sizeof(header));

    struct tl_header huge = hello;
    huge.length = UINT64_MAX / 2;
    tl_header_encode(&huge, header);
    int oversized = raw_connect(&s);
    assert_int_equal(send(oversized, header, sizeof(header), MSG_NOSIGNAL),
                     sizeof(header));
    assert_true(is_closed_by_peer(oversized));

    int silent = raw_connect(&s);
    assert_true(
        is_closed_by_peer(stalled));        /* after FRAME_MS, in the middle of HELLO */
    assert_true(is_closed_by_peer(silent)); /* never said hello */

    assert_int_equal(push(good, TL_KIND_PUSH_PULL, 0, 1, 0, 2.0F), 0);
    assert_weights(good, -1.0F);
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.bad_frames, 2);
    assert_int_equal(s.stats.strangers_dropped, 2);
    assert_int_equal(s.stats.connections_open, 1);
    assert_int_equal(s.stats.strangers_open, 0);
    close(garbage);
    close(stalled);
    close(oversized);
    close(silent);
    caller_free(good);
    shard_stop(&s);
}

static void shared_memory_that_is_not_there_is_refused(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    int fd = raw_connect(&s);
    struct tl_header hello = {
        .kind = TL_KIND_HELLO, .flags = TL_FLAG_SHARED, .length = TL_HELLO_BYTES};
    uint8_t header[TL_HEADER_BYTES];
    tl_header_encode(&hello, header);
    assert_int_equal(send(fd, header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
    assert_int_equal(recv(fd, header, sizeof(header), MSG_WAITALL), sizeof(header));
    assert_int_equal(tl_header_decode(header, TL_TEXT_MAX, &hello), 0);
    assert_int_equal(hello.status, TL_E_PROTOCOL);
    assert_true(is_closed_by_peer(fd));
    close(fd);
    shard_stop(&s);
}

static void one_connection_too_many_is_told_so(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 1);
    struct caller *first = caller_greet(&s, TL_ROLE_MONITOR);
    struct caller *second = caller_connect(&s);
    assert_int_equal(hello_as(second, proper_hello(TL_ROLE_MONITOR), 0), 0);
    assert_int_equal(tl_link_reply(second->link)->kind, TL_KIND_ERROR);
    assert_int_equal(tl_link_reply(second->link)->status, TL_E_LIMIT);
    assert_true(is_closed_by_peer(tl_link_fd(second->link)));
    on_loop(&s, read_stats);
    assert_int_equal(s.stats.connections_refused, 1);
    caller_free(second);
    caller_free(first);
    shard_stop(&s);
}

static void a_waiting_pull_is_answered_by_the_next_update(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *worker = caller_join(&s, 0);
    struct caller *watcher = caller_greet(&s, TL_ROLE_MONITOR);
    struct tl_header pull = {.kind = TL_KIND_PULL, .flags = TL_FLAG_WAIT};
    assert_int_equal(ask(watcher, pull, NULL),
                     0); /* nothing comes: the wait is bounded */
    assert_int_equal(tl_link_reply(watcher->link)->status, TL_E_NOTMODIFIED);
    assert_int_equal(tl_link_reply(watcher->link)->length, 0);

    pull.epoch = 7;
    assert_int_equal(tl_link_request(watcher->link, &pull, NULL, watcher->weights,
                                     sizeof(watcher->weights), true),
                     0);
    assert_int_equal(tl_link_advance(watcher->link), TL_E_BUSY);
    assert_int_equal(push(worker, TL_KIND_PUSH, 0, 1, 0, 2.0F), 0);
    struct tl_link *links[] = {watcher->link};
    int status = 0;
    assert_int_equal(tl_links_wait(links, 1, now_ms() + DEADLINE_MS, -1, &status), 0);
    assert_int_equal(status, 0);
    assert_int_equal(tl_link_reply(watcher->link)->status, 0);
    assert_weights(watcher, -1.0F);
    caller_free(worker);
    caller_free(watcher);
    shard_stop(&s);
}

static void sync_answers_when_the_step_is_committed(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    config.consistency = TL_SYNC;
    config.start_workers = 2;
    shard_start(&s, &config, 10);
    struct caller *a = caller_join(&s, 0);
    struct caller *b = caller_join(&s, 1);
    float *g = gradient_of(2.0F);
    struct tl_header h = {.kind = TL_KIND_PUSH_PULL,
                          .worker = 0,
                          .incarnation = 1,
                          .sequence = 1,
                          .epoch = 7,
                          .length = COUNT * sizeof(float)};
    assert_int_equal(
        tl_link_request(a->link, &h, g, a->weights, sizeof(a->weights), true), 0);
    int rc = TL_E_BUSY;
    while (rc == TL_E_BUSY && (tl_link_events(a->link) & POLLOUT) != 0) {
        rc = tl_link_advance(a->link); /* all sent; the answer waits for the other */
    }
    assert_int_equal(push(b, TL_KIND_PUSH_PULL, 1, 1, 0, 4.0F), 0);
    assert_weights(b, -1.5F); /* 0 - 0.5 * mean(2, 4) */
    struct tl_link *links[] = {a->link};
    int status = 0;
    assert_int_equal(tl_links_wait(links, 1, now_ms() + DEADLINE_MS, -1, &status), 0);
    assert_int_equal(status, 0);
    assert_weights(a, -1.5F);
    assert_int_equal(tl_link_reply(a->link)->read_version, 1);
    free(g);
    caller_free(a);
    caller_free(b);
    shard_stop(&s);
}

/* Who holds no weights of this epoch is not given those that his gradient, which waits
 * in the open step, was computed from. */
static void a_pull_may_name_the_gradient_before_it(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    config.consistency = TL_SYNC;
    config.start_workers = 2;
    shard_start(&s, &config, 10);
    struct caller *a = caller_join(&s, 0);
    struct caller *b = caller_join(&s, 1);
    assert_int_equal(push(a, TL_KIND_PUSH, 0, 1, 0, 2.0F), 0);
    struct tl_header pull = {.kind = TL_KIND_PULL,
                             .flags = TL_FLAG_WAIT,
                             .incarnation = 1,
                             .sequence = 1,
                             .read_version = TL_VERSION_NONE};
    assert_int_equal(ask(a, pull, NULL), 0);
    assert_int_equal(tl_link_reply(a->link)->status, TL_E_NOTMODIFIED);
    assert_int_equal(push(b, TL_KIND_PUSH, 1, 1, 0, 4.0F), 0);
    assert_int_equal(ask(a, pull, NULL), 0);
    assert_int_equal(tl_link_reply(a->link)->status, 0);
    assert_int_equal(tl_link_reply(a->link)->read_version, 1);
    assert_weights(a, -1.5F);
    caller_free(a);
    caller_free(b);
    shard_stop(&s);
}

struct bytes {
    struct tl_restore *restore;
    int rc;
};

static int feed_restore(void *ctx, const void *bytes, size_t n) {
    struct bytes *b = ctx;
    return b->rc = tl_restore_feed(b->restore, bytes, n);
}

static void a_state_is_sent_whole(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *worker = caller_join(&s, 0);
    assert_int_equal(push(worker, TL_KIND_PUSH, 0, 1, 0, 2.0F), 0);
    struct caller *saver = caller_greet(&s, TL_ROLE_CHECKPOINTER);
    struct bytes sink = {0};
    assert_int_equal(tl_restore_new(&config, &sink.restore), 0);
    struct tl_header h = {.kind = TL_KIND_SNAPSHOT, .epoch = 7};
    assert_int_equal(tl_link_request(saver->link, &h, NULL, NULL, 0, true), 0);
    tl_link_set_sink(saver->link, feed_restore, &sink);
    struct tl_link *links[] = {saver->link};
    int status = 0;
    assert_int_equal(tl_links_wait(links, 1, now_ms() + DEADLINE_MS, -1, &status), 0);
    assert_int_equal(status, 0);
    assert_int_equal(tl_link_reply(saver->link)->read_version, 1);
    struct tl_fold *copy = NULL;
    assert_int_equal(tl_restore_done(sink.restore, &copy), 0);
    assert_int_equal(tl_fold_version(copy), 1);
    assert_int_equal(tl_fold_epoch(copy), 7);
    struct tl_view *view = NULL;
    assert_int_equal(tl_fold_view(copy, &view), 0);
    assert_true(tl_view_block(view, 1, NULL)[0] == -1.0F);
    tl_view_release(view);
    tl_fold_free(copy);

    h.read_version = 1; /* nothing newer */
    assert_int_equal(ask(saver, h, NULL), 0);
    assert_int_equal(tl_link_reply(saver->link)->status, TL_E_NOTMODIFIED);
    caller_free(worker);
    caller_free(saver);
    shard_stop(&s);
}

/* Of a shard that folds: 16 MiB of weights, at most 4 MiB at once, 128 KiB a ms. */
enum { LARGE = 4 << 20, LEAST_MS = (LARGE * 4 - (4 << 20)) / (128 << 10) };

static int take_nothing(void *ctx, const void *bytes, size_t n) {
    (void)ctx;
    (void)bytes;
    (void)n;
    return 0;
}

static void a_state_leaves_at_a_pace_while_others_train(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    const struct shard_options options = {.max_connections = 4, .count = LARGE};
    config.count = LARGE;
    shard_start_with(&s, &config, &options);
    struct caller *saver = caller_greet(&s, TL_ROLE_CHECKPOINTER);
    struct caller *worker = caller_join(&s, 0); /* the record that is folded */
    const struct tl_header h = {
        .kind = TL_KIND_SNAPSHOT, .epoch = 7, .read_version = TL_VERSION_NONE};
    const int64_t start = now_ms();
    assert_int_equal(tl_link_request(saver->link, &h, NULL, NULL, 0, true), 0);
    tl_link_set_sink(saver->link, take_nothing, NULL);
    assert_int_equal(outcome(saver), 0);
    assert_true(tl_link_reply(saver->link)->length > LARGE * sizeof(float));
    assert_true(now_ms() - start >= LEAST_MS);
    caller_free(worker);
    caller_free(saver);
    shard_stop(&s);
}

static void drain(struct shard *s) {
    tl_serve_drain(s->serve);
}

static void epochs_and_draining(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    struct caller *c = caller_join(&s, 0);
    c->epoch = 6;
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 1, 0, 1.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_EPOCH);
    assert_int_equal(tl_link_reply(c->link)->epoch, 7);
    c->epoch = 7;

    struct caller *seer = caller_connect(&s);
    seer->epoch = 9; /* has seen a later writer */
    assert_int_equal(hello_as(seer, proper_hello(TL_ROLE_WORKER), 0), 0);
    assert_int_equal(tl_link_reply(seer->link)->status, TL_E_EPOCH);
    assert_int_equal(atomic_load(&s.newer_epoch), 9);

    on_loop(&s, drain);
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 1, 0, 1.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_BUSY);
    struct tl_header pull = {.kind = TL_KIND_PULL, .read_version = UINT64_MAX};
    assert_int_equal(ask(c, pull, NULL), 0);
    assert_weights(c, 0.0F); /* what was refused was not folded */
    caller_free(c);
    caller_free(seer);
    shard_stop(&s);
}

/* ---- a server that follows a log ------------------------------------------------ */

static void fold_from_log(struct shard *s, enum tl_record_kind kind, uint32_t worker) {
    float *g = gradient_of(1.0F);
    struct tl_record r = {
        .kind = kind,
        .worker = worker,
        .incarnation = 1,
        .sequence = kind == TL_RECORD_GRADIENT ? 1 : 0,
        .norm = 1.0F,
        .values = g,
        .value_count = kind == TL_RECORD_GRADIENT ? COUNT : 0,
        .value_bytes = kind == TL_RECORD_GRADIENT ? COUNT * sizeof(float) : 0,
    };
    assert_int_equal(tl_serve_fold(s->serve, &r), 0);
    tl_serve_folded(s->serve);
    free(g);
}

static void join_both(struct shard *s) {
    fold_from_log(s, TL_RECORD_JOIN, 0);
    fold_from_log(s, TL_RECORD_JOIN, 1);
}

static void the_first_contributes(struct shard *s) {
    fold_from_log(s, TL_RECORD_GRADIENT, 0);
}

static void two_join_and_one_contributes(struct shard *s) {
    join_both(s);
    the_first_contributes(s);
}

static void the_other_contributes(struct shard *s) {
    fold_from_log(s, TL_RECORD_GRADIENT, 1);
}

/* A server that has just come holds its step open: who holds no weights of its epoch
 * is not given those of the step that his gradient belongs to, and who has the newest
 * already does not wait for newer ones. */
static void a_logged_gradient_is_decided_with_its_step(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    config.consistency = TL_SYNC;
    config.start_workers = 2;
    const struct shard_options options = {.max_connections = 10, .follows_log = true};
    shard_start_with(&s, &config, &options);
    on_loop(&s, two_join_and_one_contributes);
    struct caller *c = caller_greet(&s, TL_ROLE_WORKER);
    struct tl_header pull = {
        .kind = TL_KIND_PULL,
        .flags = TL_FLAG_WAIT,
        .incarnation = 1,
        .sequence = 1,
        .read_version = TL_VERSION_NONE,
    };
    assert_int_equal(ask(c, pull, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_NOTMODIFIED);

    on_loop(&s, the_other_contributes);
    assert_int_equal(ask(c, pull, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    assert_int_equal(tl_link_reply(c->link)->read_version, 1);
    assert_weights(c, -0.5F);
    pull.read_version = 1;
    assert_int_equal(ask(c, pull, NULL), 0);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    assert_int_equal(tl_link_reply(c->link)->length, 0);
    caller_free(c);
    shard_stop(&s);
}

/* ---- a replica that does not lead ------------------------------------------------ */

static void follow_another(struct shard *s) {
    tl_serve_set_leading(s->serve, false);
}

/* What a HELLO was answered with: WELCOME, or why not. */
static int told(const struct caller *c) {
    const struct tl_header *reply = tl_link_reply(c->link);
    return reply->kind == TL_KIND_WELCOME ? 0 : reply->status;
}

static int greet_with(struct caller *c, uint32_t worker, uint16_t flags) {
    const struct tl_header header = {.worker = worker, .epoch = 7, .flags = flags};
    struct tl_hello hello = proper_hello(TL_ROLE_WORKER);
    hello.writer = 0;
    assert_int_equal(tl_link_hello(c->link, &header, &hello, c->welcome), 0);
    assert_int_equal(outcome(c), 0);
    return told(c);
}

/* A replica that does not lead turns workers away, but those that only read. */
static void a_reader_waits_for_its_gradient(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    shard_start(&s, &config, 10);
    on_loop(&s, follow_another);
    on_loop(&s, join_both);
    struct caller *reader = caller_connect(&s);
    assert_int_equal(greet_with(reader, 0, 0), TL_E_FENCED);
    caller_free(reader);
    reader = caller_connect(&s);
    assert_int_equal(greet_with(reader, 0, TL_FLAG_READS), 0);

    struct tl_header pull = {.kind = TL_KIND_PULL,
                             .flags = TL_FLAG_WAIT,
                             .incarnation = 1,
                             .sequence = 1,
                             .epoch = 7,
                             .read_version = TL_VERSION_NONE};
    assert_int_equal(tl_link_request(reader->link, &pull, NULL, reader->weights,
                                     sizeof(reader->weights), true),
                     0);
    on_loop(&s, the_other_contributes); /* another worker's: not what it waits for */
    assert_int_equal(tl_link_advance(reader->link), TL_E_BUSY);
    on_loop(&s, the_first_contributes);
    assert_int_equal(outcome(reader), 0);
    assert_int_equal(tl_link_reply(reader->link)->status, 0);
    assert_int_equal(tl_link_reply(reader->link)->read_version, 2);

    on_loop(&s, follow_another); /* again: readers stay */
    pull.sequence = 0;
    assert_int_equal(ask(reader, pull, NULL), 0);
    assert_int_equal(tl_link_reply(reader->link)->read_version, 2);
    struct tl_header join = {.kind = TL_KIND_JOIN, .incarnation = 2};
    assert_int_equal(ask(reader, join, NULL), 0);
    assert_int_equal(tl_link_reply(reader->link)->status, TL_E_FENCED);
    caller_free(reader);
    shard_stop(&s);
}

/* ---- standing by ------------------------------------------------------------------
 */

enum { ITS_EPOCH = 8, ITS_WRITER = 77 };

static void stand_by(struct shard *s) {
    tl_serve_stand_by(s->serve, ITS_EPOCH, ITS_WRITER);
}

static void take_over(struct shard *s) {
    tl_serve_set_epoch(s->serve, ITS_EPOCH + 1);
    tl_serve_set_leading(s->serve, true);
}

static int greeting(const struct shard *s, enum tl_role role, uint64_t epoch,
                    uint64_t writer) {
    struct caller *c = caller_connect(s);
    struct tl_hello hello = proper_hello(role);
    hello.writer = writer;
    c->epoch = epoch;
    assert_int_equal(hello_as(c, hello, 0), 0);
    int status = told(c);
    caller_free(c);
    return status;
}

/* Who only reads has it from here as from the server, under its name; nobody else does,
 * until this is the server. */
static void a_standby_is_read_in_the_name_of_the_server(void **state) {
    (void)state;
    struct shard s;
    const struct tl_fold_config config = fold_config();
    const struct shard_options options = {.max_connections = 10, .follows_log = true};
    shard_start_with(&s, &config, &options);
    on_loop(&s, stand_by);
    assert_int_equal(greeting(&s, TL_ROLE_WORKER, ITS_EPOCH, ITS_WRITER), TL_E_FENCED);
    assert_int_equal(greeting(&s, TL_ROLE_CHECKPOINTER, ITS_EPOCH, ITS_WRITER),
                     TL_E_FENCED);
    assert_int_equal(greeting(&s, TL_ROLE_MONITOR, ITS_EPOCH, 1234), TL_E_EPOCH);
    assert_int_equal(greeting(&s, TL_ROLE_MONITOR, ITS_EPOCH + 1, 0), TL_E_EPOCH);
    assert_int_equal(atomic_load(&s.newer_epoch), 0); /* it is not for us to react */

    struct caller *reader = caller_connect(&s);
    struct tl_hello hello = proper_hello(TL_ROLE_MONITOR);
    struct tl_welcome welcome;
    hello.writer = ITS_WRITER;
    reader->epoch = ITS_EPOCH;
    assert_int_equal(hello_as(reader, hello, 0), 0);
    assert_int_equal(tl_welcome_decode(reader->welcome, TL_WELCOME_BYTES, &welcome), 0);
    assert_int_equal(welcome.writer, ITS_WRITER);
    const struct tl_header pull = {.kind = TL_KIND_PULL,
                                   .read_version = TL_VERSION_NONE};
    on_loop(&s, two_join_and_one_contributes);
    assert_int_equal(ask(reader, pull, NULL), 0);
    assert_int_equal(tl_link_reply(reader->link)->epoch, ITS_EPOCH);
    assert_int_equal(tl_link_reply(reader->link)->read_version, 1);
    assert_weights(reader, -0.5F);

    on_loop(&s, take_over);
    assert_int_equal(ask(reader, pull, NULL), 0);
    assert_int_equal(tl_link_reply(reader->link)->status, TL_E_EPOCH);
    assert_int_equal(greeting(&s, TL_ROLE_WORKER, ITS_EPOCH + 1, 1234), 0);
    caller_free(reader);
    shard_stop(&s);
}

/* ---- the end -------------------------------------------------------------------- */

static void end(struct shard *s) {
    tl_serve_set_ended(s->serve);
}

/* Full, but not told that it is over: who pushes waits, and a new server could still
 * take its place. */
static void the_end_is_told_when_its_owner_says_so(void **state) {
    (void)state;
    struct shard s;
    struct tl_fold_config config = fold_config();
    config.until_version = 1;
    shard_start(&s, &config, 10);
    struct caller *c = caller_join(&s, 0);
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 1, 0, 1.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, 0);
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 2, 0, 1.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_BUSY);
    assert_int_equal(tl_link_reply(c->link)->flags & TL_FLAG_ENDED, 0);

    on_loop(&s, end);
    assert_int_equal(push(c, TL_KIND_PUSH, 0, 2, 0, 1.0F), 0);
    assert_int_equal(tl_link_reply(c->link)->status, TL_E_ENDED);
    assert_true((tl_link_reply(c->link)->flags & TL_FLAG_ENDED) != 0);
    caller_free(c);
    shard_stop(&s);
}

/* ---- floods ---------------------------------------------------------------------- */

enum { FLOOD = 200, PACE_MS = 90 }; /* a tick for each 64, after the first two */

static int flood[FLOOD];
static int64_t flooded_ms;

/* On the loop's thread: all of them are there before it gets to look. */
static void dial_all(struct shard *s) {
    struct tl_address a;
    assert_int_equal(tl_address_parse(s->address, &a), 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(a.port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < FLOOD; i++) {
        flood[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(flood[i] >= 0);
        assert_int_equal(connect(flood[i], (struct sockaddr *)&to, sizeof(to)), 0);
    }
    flooded_ms = now_ms();
}

static void a_flood_is_taken_in_at_a_pace(void **state) {
    (void)state;
    struct shard s;
    const struct tl_fold_config config = fold_config();
    const struct shard_options options = {.max_connections = 8, .tcp = true};
    shard_start_with(&s, &config, &options);
    on_loop(&s, dial_all);
    while (s.stats.connections < FLOOD && now_ms() < flooded_ms + DEADLINE_MS) {
        (void)poll(NULL, 0, 1);
        on_loop(&s, read_stats);
    }
    assert_int_equal(s.stats.connections, FLOOD);
    assert_true(now_ms() >= flooded_ms + PACE_MS);
    for (int i = 0; i < FLOOD; i++) {
        (void)close(flood[i]);
    }
    shard_stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_pull_is_one_round_trip),
        cmocka_unit_test(encoded_gradients_are_folded),
        cmocka_unit_test(encoded_lengths_are_checked),
        cmocka_unit_test(payloads_may_lie_in_shared_memory),
        cmocka_unit_test(shared_memory_that_is_not_there_is_refused),
        cmocka_unit_test(a_duplicate_is_refused_and_answered),
        cmocka_unit_test(strangers_and_wrong_roles_are_refused),
        cmocka_unit_test(a_bad_stream_is_closed_and_others_go_on),
        cmocka_unit_test(one_connection_too_many_is_told_so),
        cmocka_unit_test(a_waiting_pull_is_answered_by_the_next_update),
        cmocka_unit_test(sync_answers_when_the_step_is_committed),
        cmocka_unit_test(a_pull_may_name_the_gradient_before_it),
        cmocka_unit_test(a_state_is_sent_whole),
        cmocka_unit_test(a_state_leaves_at_a_pace_while_others_train),
        cmocka_unit_test(epochs_and_draining),
        cmocka_unit_test(a_flood_is_taken_in_at_a_pace),
        cmocka_unit_test(a_logged_gradient_is_decided_with_its_step),
        cmocka_unit_test(a_reader_waits_for_its_gradient),
        cmocka_unit_test(a_standby_is_read_in_the_name_of_the_server),
        cmocka_unit_test(the_end_is_told_when_its_owner_says_so),
    };
    return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
