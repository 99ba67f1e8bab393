/* Callers that do not keep to the protocol, at a real server with real workers: each
 * loses its connection and is counted, the workers go on, and memory stays bounded. */
#include "throughline/fold.h"
#include "throughline/wire.h"

#include "shard_rig.h"

#include <math.h>
#include <xxhash.h>

#define SHARED_RATE "50" /* gradients a second of each worker */
#define IDLE_MS     "500"
#define PARAMETERS  25450u /* of shard_rig.h's model */

static struct rig rig;

static int start(void **state) {
    int rc = scratch_setup(state);
    const char *job = rig_job(
        ", \"server\": {\"idle_ms\": " IDLE_MS ", \"max_connections\": 1200}", "none");
    rig_start_server(&rig, job);
    for (unsigned i = 0; i < RIG_WORKERS; i++) {
        rig_start_worker(&rig, i, job, rig.address, SHARED_RATE);
    }
    assert_true(rig_reaches(&rig, "throughline_gradients_folded_total", 50));
    return rc;
}

static int stop(void **state) {
    rig_stop(&rig);
    return scratch_teardown(state);
}

/* ---- a visitor --------------------------------------------------------------------
 */

struct visitor {
    int fd;
    uint64_t epoch, incarnation, version;
};

static int dial(void) {
    const struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(
        connect(fd, (struct sockaddr *)&rig.sockaddr, sizeof(rig.sockaddr)), 0);
    return fd;
}

/* The server may hang up meanwhile: that is what some of these are about. */
static void say(int fd, const void *bytes, size_t size) {
    const char *next = bytes;
    ssize_t n = 1;
    while (size > 0 && n > 0) {
        n = send(fd, next, size, MSG_NOSIGNAL);
        next += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
}

static bool hear(int fd, void *bytes, size_t size) {
    return recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

/* Nothing more comes, and that is said in time. */
static void assert_closed(int fd) {
    char rest[4096];
    ssize_t n = 0;
    while ((n = recv(fd, rest, sizeof(rest), 0)) > 0) {
    }
    if (n < 0 && errno != ECONNRESET) {
        fail_msg("the connection stays open: %s", strerror(errno));
    }
    (void)close(fd);
}

/* Header, payload, checksum in one piece; malloc'ed. */
static uint8_t *frame(struct tl_header *h, const void *payload, size_t *ret_size) {
    *ret_size = TL_HEADER_BYTES + h->length + (h->length > 0 ? TL_TRAILER_BYTES : 0);
    uint8_t *bytes = malloc(*ret_size);
    assert_non_null(bytes);
    h->flags |= h->length > 0 ? TL_FLAG_CHECKSUM : 0;
    tl_header_encode(h, bytes);
    if (payload != NULL) {
        memcpy(bytes + TL_HEADER_BYTES, payload, h->length);
        tl_trailer_encode(tl_sum_of(h->checksum, payload, h->length),
                          bytes + TL_HEADER_BYTES + h->length);
    }
    return bytes;
}

static void send_frame(int fd, struct tl_header h, const void *payload) {
    size_t size = 0;
    uint8_t *bytes = frame(&h, payload, &size);
    say(fd, bytes, size);
    free(bytes);
}

/* The reply's header; its payload is read and dropped. */
static struct tl_header reply(int fd) {
    uint8_t bytes[TL_HEADER_BYTES];
    struct tl_header h = {0};
    if (!hear(fd, bytes, sizeof(bytes))) {
        fail_msg("no reply: %s", strerror(errno));
    }
    assert_int_equal(tl_header_decode(bytes, 1u << 20, &h), 0);
    size_t rest =
        h.length +
        ((h.flags & TL_FLAG_CHECKSUM) != 0 && h.length > 0 ? TL_TRAILER_BYTES : 0);
    char *payload = malloc(rest + 1);
    assert_true(payload != NULL && (rest == 0 || hear(fd, payload, rest)));
    free(payload);
    return h;
}

static struct tl_hello proper_hello(enum tl_role role) {
    struct tl_hello h = {.role = role};
    (void)snprintf(h.job, sizeof(h.job), "rig");
    (void)snprintf(h.run, sizeof(h.run), "default");
    return h;
}

static void send_hello(int fd, const struct tl_hello *hello) {
    uint8_t bytes[TL_HELLO_BYTES];
    tl_hello_encode(hello, bytes);
    send_frame(fd, (struct tl_header){.kind = TL_KIND_HELLO, .length = sizeof(bytes)},
               bytes);
}

static struct visitor greet(enum tl_role role) {
    struct visitor v = {.fd = dial()};
    struct tl_hello hello = proper_hello(role);
    send_hello(v.fd, &hello);
    struct tl_header h = reply(v.fd);
    assert_int_equal(h.kind, TL_KIND_WELCOME);
    v.epoch = h.epoch;
    v.version = h.read_version;
    return v;
}

#define VISITOR 9u /* its worker number */

static struct visitor join_as(uint32_t worker) {
    static uint64_t incarnation;
    struct visitor v = greet(TL_ROLE_WORKER);
    v.incarnation = ++incarnation;
    send_frame(v.fd,
               (struct tl_header){.kind = TL_KIND_JOIN,
                                  .worker = worker,
                                  .epoch = v.epoch,
                                  .incarnation = v.incarnation},
               NULL);
    struct tl_header h = reply(v.fd);
    assert_int_equal(h.kind, TL_KIND_JOINED);
    assert_int_equal(h.status, 0);
    return v;
}

static struct visitor join(void) {
    return join_as(VISITOR);
}

static struct tl_header push_header(const struct visitor *v, uint64_t sequence) {
    return (struct tl_header){.kind = TL_KIND_PUSH,
                              .worker = VISITOR,
                              .epoch = v->epoch,
                              .incarnation = v->incarnation,
                              .sequence = sequence,
                              .read_version = v->version,
                              .norm = 1.0F,
                              .length = PARAMETERS * sizeof(float)};
}

static float gradient[PARAMETERS]; /* zeros: what is folded of it changes nothing */

/* ---- what is the same for all ---------------------------------------------------- */

static double bad_frames(void) {
    return rig_metric(&rig, "throughline_bad_frames_total");
}

static double folded(void) {
    return rig_metric(&rig, "throughline_gradients_folded_total");
}

/* The workers have done half of their rate, or more, since `before` at `start_ms`. The
 * figure that is claimed is `make bench`'s; this machine may be busy. */
static void assert_workers_went_on(double before, int64_t start_ms) {
    while (tl_now_ms() < start_ms + 500) { /* long enough to count gradients */
        rig_pause(10);
    }
    double seconds = (double)(tl_now_ms() - start_ms) / 1000.0;
    double expected = RIG_WORKERS * atof(SHARED_RATE) * seconds;
    double did = folded() - before;
    print_message("%.1f s, the workers did %.0f of %.0f\n", seconds, did, expected);
    assert_true(did > expected / 2.0);
}

/* `visit` n times: each connection is closed and counted, and nobody else minds. */
static void each_is_closed_and_counted(unsigned n, void (*visit)(unsigned i)) {
    double bad = bad_frames();
    double before = folded();
    double resident = rig_metric(&rig, "process_resident_memory_bytes");
    int64_t start_ms = tl_now_ms();
    for (unsigned i = 0; i < n; i++) {
        visit(i);
    }
    rig_expect(&rig, "throughline_bad_frames_total", bad + n);
    assert_workers_went_on(before, start_ms);
    assert_true(rig_falls(&rig, "throughline_open_connections", RIG_WORKERS));
    assert_true(rig_metric(&rig, "process_resident_memory_bytes") - resident <
                8.0 * 1024 * 1024);
}

/* ---- frames -------------------------------------------------------------------- */

static void say_garbage(unsigned i) {
    uint8_t bytes[8192];
    for (size_t k = 0; k < sizeof(bytes); k++) {
        bytes[k] = (uint8_t)((k + i) * 2654435761u >> 13);
    }
    int fd = dial();
    say(fd, bytes, sizeof(bytes));
    assert_closed(fd);
}

static void garbage(void **state) {
    (void)state;
    each_is_closed_and_counted(50, say_garbage);
}

/* Each bit of a hello's header, and one of each of its payload's bytes. */
static void flip_a_bit(unsigned i) {
    struct tl_hello hello = proper_hello(TL_ROLE_WORKER);
    struct tl_header h = {.kind = TL_KIND_HELLO, .length = TL_HELLO_BYTES};
    uint8_t payload[TL_HELLO_BYTES];
    size_t size = 0;
    tl_hello_encode(&hello, payload);
    uint8_t *bytes = frame(&h, payload, &size);
    size_t bit = i < TL_HEADER_BYTES * 8 ? i : TL_HEADER_BYTES * 8 + (i * 9) % 1200;
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    int fd = dial();
    say(fd, bytes, size);
    free(bytes);
    assert_int_equal(reply(fd).status, TL_E_CHECKSUM);
    assert_closed(fd);
}

static void flipped_bits(void **state) {
    (void)state;
    each_is_closed_and_counted(TL_HEADER_BYTES * 8 + TL_HELLO_BYTES, flip_a_bit);
}

static void cut_a_gradient(unsigned i) {
    struct visitor v = join();
    struct tl_header h = push_header(&v, 1);
    size_t size = 0;
    uint8_t *bytes = frame(&h, gradient, &size);
    say(v.fd, bytes, 1 + (size_t)i * size / 24);
    free(bytes);
    (void)shutdown(v.fd, SHUT_WR);
    assert_closed(v.fd);
}

static void truncated_frames(void **state) {
    (void)state;
    each_is_closed_and_counted(20, cut_a_gradient);
}

/* It says half of a gradient and then nothing, for longer than the server waits. */
static void stop_in_the_middle(unsigned i) {
    static struct visitor v[10];
    v[i] = join_as(VISITOR + 1 + i);
    struct tl_header h = push_header(&v[i], 1);
    size_t size = 0;
    h.worker += 1 + i;
    uint8_t *bytes = frame(&h, gradient, &size);
    say(v[i].fd, bytes, size / 2);
    free(bytes);
    for (unsigned k = 0; i == 9 && k < 10; k++) {
        assert_closed(v[k].fd);
    }
}

static void a_client_that_stops_in_the_middle(void **state) {
    (void)state;
    each_is_closed_and_counted(10, stop_in_the_middle);
}

/* A whole header that asks for what is never believed: nothing is reserved for it. */
static void ask_too_much(unsigned i) {
    struct visitor v = join();
    struct tl_header h = push_header(&v, 1);
    uint8_t bytes[TL_HEADER_BYTES];
    h.length = i % 2 == 0 ? UINT64_MAX - i : h.length + 4;
    h.flags = TL_FLAG_CHECKSUM;
    tl_header_encode(&h, bytes);
    say(v.fd, bytes, sizeof(bytes));
    assert_int_equal(reply(v.fd).status, TL_E_TOOBIG);
    assert_closed(v.fd);
}

static void oversized_frames(void **state) {
    (void)state;
    each_is_closed_and_counted(20, ask_too_much);
}

/* Of another version of the protocol, whole by its own checksum. */
static void speak_version_2(unsigned i) {
    struct tl_header h = {.kind = TL_KIND_PING};
    uint8_t bytes[TL_HEADER_BYTES];
    tl_header_encode(&h, bytes);
    bytes[4] = (uint8_t)(TL_PROTOCOL_VERSION + 1 + i);
    uint64_t sum = XXH3_64bits(bytes, TL_HEADER_BYTES - 8);
    memcpy(bytes + TL_HEADER_BYTES - 8, &sum, sizeof(sum));
    int fd = dial();
    say(fd, bytes, sizeof(bytes));
    assert_int_equal(reply(fd).status, TL_E_PROTOCOL);
    assert_closed(fd);
}

static void other_versions(void **state) {
    (void)state;
    each_is_closed_and_counted(10, speak_version_2);
}

static void push_to_shard_3(unsigned i) {
    struct visitor v = join();
    struct tl_header h = push_header(&v, 1 + i);
    h.shard = 3;
    send_frame(v.fd, h, gradient);
    assert_int_equal(reply(v.fd).status, TL_E_MISMATCH);
    assert_closed(v.fd);
}

static void the_wrong_shard(void **state) {
    (void)state;
    each_is_closed_and_counted(5, push_to_shard_3);
}

/* A reader that wants to write. */
static void push_as_a_monitor(unsigned i) {
    struct visitor v = greet(TL_ROLE_MONITOR);
    send_frame(v.fd, push_header(&v, 1 + i), gradient);
    assert_int_equal(reply(v.fd).status, TL_E_DENIED);
    assert_closed(v.fd);
}

static void the_wrong_role(void **state) {
    (void)state;
    each_is_closed_and_counted(5, push_as_a_monitor);
}

/* ---- frames that are whole, and refused without losing the connection ------------ */

static int push(const struct visitor *v, uint64_t sequence) {
    send_frame(v->fd, push_header(v, sequence), gradient);
    return reply(v->fd).status;
}

static void a_replayed_gradient_is_folded_once(void **state) {
    (void)state;
    struct visitor v = join();
    double duplicated = rig_metric(&rig, "throughline_gradients_duplicated_total");
    assert_int_equal(push(&v, 1000), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(push(&v, 1000), TL_E_DUPLICATE);
    }
    assert_int_equal(push(&v, 999), TL_E_DUPLICATE);
    rig_expect(&rig, "throughline_gradients_duplicated_total", duplicated + 11);
    (void)close(v.fd);
}

static void another_epoch_is_told_the_right_one(void **state) {
    (void)state;
    struct visitor v = join();
    struct visitor late = v;
    late.epoch = v.epoch - 1;
    assert_int_equal(push(&late, 2000), TL_E_EPOCH);
    assert_int_equal(push(&v, 2000), 0);
    (void)close(v.fd);
}

static void what_is_not_finite_is_refused_and_counted(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    struct visitor v = join();
    double before = rig_metric(&rig, "throughline_gradients_nonfinite_total");
    for (unsigned i = 0; i < 3; i++) {
        gradient[PARAMETERS - 1 - i] = bad[i];
        assert_int_equal(push(&v, 3000 + i), TL_E_NONFINITE);
        gradient[PARAMETERS - 1 - i] = 0.0F;
    }
    assert_int_equal(push(&v, 3003), 0);
    rig_expect(&rig, "throughline_gradients_nonfinite_total", before + 3);
    (void)close(v.fd);
}

/* ---- crowds ---------------------------------------------------------------------- */

#define CROWD 1000

/* They connect and say nothing: each is shown the door, for a newer one or when it is
 * late. */
static void a_thousand_idle_connections(void **state) {
    (void)state;
    static int fd[CROWD];
    double resident = rig_metric(&rig, "process_resident_memory_bytes");
    double dropped = rig_metric(&rig, "throughline_strangers_dropped_total");
    double before = folded();
    int64_t start_ms = tl_now_ms();
    for (int i = 0; i < CROWD; i++) {
        fd[i] = dial();
    }
    for (int i = 0; i < CROWD; i++) {
        assert_closed(fd[i]);
    }
    rig_expect(&rig, "throughline_strangers_dropped_total", dropped + CROWD);
    assert_workers_went_on(before, start_ms);
    assert_true(rig_falls(&rig, "throughline_open_connections", RIG_WORKERS));
    assert_true(rig_metric(&rig, "process_resident_memory_bytes") - resident <
                16.0 * 1024 * 1024);
}

/* As fast as they can be made, and gone again. */
static void a_flood_of_new_connections(void **state) {
    (void)state;
    double resident = rig_metric(&rig, "process_resident_memory_bytes");
    double accepted = rig_metric(&rig, "throughline_connections_total");
    double before = folded();
    int64_t start_ms = tl_now_ms();
    for (int i = 0; i < 3 * CROWD; i++) {
        (void)close(dial());
    }
    rig_expect(&rig, "throughline_connections_total", accepted + 3.0 * CROWD);
    assert_workers_went_on(before, start_ms);
    assert_true(rig_falls(&rig, "throughline_open_connections", RIG_WORKERS));
    assert_true(rig_metric(&rig, "process_resident_memory_bytes") - resident <
                16.0 * 1024 * 1024);
}

/* All strangers leave in the moment in which another one comes: he is served. */
static void a_crowd_that_leaves_at_once(void **state) {
    (void)state;
    static int fd[CROWD];
    double accepted = rig_metric(&rig, "throughline_connections_total");
    for (int i = 0; i < CROWD / 2; i++) {
        fd[i] = dial();
    }
    assert_true(
        rig_reaches(&rig, "throughline_connections_total", accepted + CROWD / 2.0));
    assert_int_equal(kill(rig.server.pid, SIGSTOP), 0);
    for (int i = 0; i < CROWD / 2; i++) {
        (void)close(fd[i]);
    }
    int late = dial();
    assert_int_equal(kill(rig.server.pid, SIGCONT), 0);
    struct tl_hello hello = proper_hello(TL_ROLE_MONITOR);
    send_hello(late, &hello);
    assert_int_equal(reply(late).kind, TL_KIND_WELCOME);
    (void)close(late);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(truncated_frames),
        cmocka_unit_test(a_client_that_stops_in_the_middle),
        cmocka_unit_test(oversized_frames),
        cmocka_unit_test(other_versions),
        cmocka_unit_test(the_wrong_shard),
        cmocka_unit_test(the_wrong_role),
        cmocka_unit_test(a_replayed_gradient_is_folded_once),
        cmocka_unit_test(another_epoch_is_told_the_right_one),
        cmocka_unit_test(what_is_not_finite_is_refused_and_counted),
        cmocka_unit_test(a_thousand_idle_connections),
        cmocka_unit_test(a_flood_of_new_connections),
        cmocka_unit_test(a_crowd_that_leaves_at_once),
    };
    return cmocka_run_group_tests_name("intruders", tests, start, stop);
}
