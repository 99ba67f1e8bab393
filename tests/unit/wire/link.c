/* link.c - exchanges with a server that answers rightly, wrongly, late, or not at all.
 */
#include "throughline/service.h"
#include "throughline/wire.h"

#include "fake_server.h"
#include "test.h"

#include <sys/eventfd.h>

enum { FLOATS = 300001 }; /* several pieces, the last one odd */

static float gradient[FLOATS];
static float weights[FLOATS];

/* What the fake server does to the reply of one request. */
enum fault {
    NO_FAULT,
    DAMAGED_HEADER,
    DAMAGED_PAYLOAD,
    DAMAGED_TRAILER,
    TRUNCATED_HEADER,
    TRUNCATED_PAYLOAD,
    TRUNCATED_TRAILER,
    CLOSED_AT_ONCE,
    OTHER_KIND,
    OTHER_SHARD,
    OTHER_WORKER,
    OTHER_SEQUENCE,
    OTHER_INCARNATION,
    NO_CHECKSUM,
    TOO_LONG,
    LYING_LENGTH,
    GARBAGE,
    ERROR_REPLY,
    EARLY_ERROR,
    LONG_ERROR,
    SLOW,
    SILENT,
};

struct echo {
    enum fault fault;
    _Atomic bool payload_was_right;
};

static void damage(uint8_t *frame, size_t size, enum fault fault, struct tl_header *h) {
    if (fault == DAMAGED_HEADER) {
        frame[33] ^= 0x10;
    } else if (fault == DAMAGED_PAYLOAD) {
        frame[TL_HEADER_BYTES + h->length / 2] ^= 1;
    } else if (fault == DAMAGED_TRAILER) {
        frame[size - 1] ^= 1;
    } else if (fault == GARBAGE) {
        memset(frame, 'G', size);
    }
}

static size_t cut(size_t size, enum fault fault) {
    switch (fault) {
    case TRUNCATED_HEADER:
        return TL_HEADER_BYTES / 2;
    case TRUNCATED_PAYLOAD:
        return size / 2;
    case TRUNCATED_TRAILER:
        return size - 3;
    case CLOSED_AT_ONCE:
        return 0;
    default:
        return size;
    }
}

static void falsify(struct tl_header *h, enum fault fault) {
    h->kind = fault == OTHER_KIND ? TL_KIND_PONG : h->kind;
    h->shard += fault == OTHER_SHARD ? 1 : 0;
    h->worker += fault == OTHER_WORKER ? 1 : 0;
    h->sequence += fault == OTHER_SEQUENCE ? 1 : 0;
    h->incarnation += fault == OTHER_INCARNATION ? 1 : 0;
    h->flags = fault == NO_CHECKSUM ? 0 : h->flags;
}

static void send_reply(int fd, const struct echo *e, const struct tl_header *request,
                       float *payload) {
    uint64_t length = sizeof(gradient) + (e->fault == TOO_LONG ? 4 : 0);
    struct tl_header h = fake_reply(request, TL_KIND_WEIGHTS, length);
    h.read_version = 7;
    falsify(&h, e->fault);
    size_t size = 0;
    uint8_t *frame = fake_frame(&h, payload, &size);
    if (e->fault == LYING_LENGTH) {
        h.length = UINT64_C(1) << 60;
        tl_header_encode(&h, frame);
    }
    damage(frame, size, e->fault, &h);
    size = cut(size, e->fault);
    if (e->fault == SLOW) { /* many small pieces, at all kinds of boundaries */
        size_t at = 0;
        for (size_t piece = 1; at < size; at += piece, piece = piece * 3 + 1) {
            fake_write(fd, frame + at, size - at < piece ? size - at : piece);
            struct pollfd pause = {.fd = -1};
            (void)poll(&pause, 1, 2);
        }
    } else {
        fake_write(fd, frame, size);
    }
    free(frame);
}

static void echo_connection(void *ctx, int fd, unsigned connection) {
    struct echo *e = ctx;
    (void)connection;
    struct tl_header request;
    float *payload = calloc(FLOATS + 1, sizeof(float));
    if (e->fault == EARLY_ERROR) {
        uint8_t head[TL_HEADER_BYTES];
        if (fake_read(fd, head, sizeof(head)) &&
            tl_header_decode(head, UINT64_MAX, &request) == 0) {
            fake_send_error(fd, &request, TL_E_TOOBIG, "too big for me");
        }
        free(payload);
        return; /* closes with the request's payload unread */
    }
    while (fake_read_frame(fd, &request, payload, sizeof(gradient))) {
        e->payload_was_right =
            request.length == sizeof(gradient) &&
            memcmp((uint8_t *)payload, (uint8_t *)gradient, sizeof(gradient)) == 0;
        if (e->fault == SILENT) {
            fake_wait_closed(fd);
        } else if (e->fault == ERROR_REPLY) {
            fake_send_error(fd, &request, TL_E_DENIED, "not\nyou\x7f");
        } else if (e->fault == LONG_ERROR) {
            char text[TL_TEXT_MAX + 2];
            memset(text, 'x', sizeof(text));
            text[TL_TEXT_MAX + 1] = '\0';
            fake_send_error(fd, &request, TL_E_DENIED, text);
        } else {
            send_reply(fd, e, &request, payload);
        }
        if (e->fault != NO_FAULT && e->fault != SLOW && e->fault != ERROR_REPLY) {
            break;
        }
    }
    free(payload);
}

/* ---- the client's side -------------------------------------------------------- */

static const struct tl_header push = {
    .kind = TL_KIND_PUSH_PULL,
    .shard = 2,
    .worker = 5,
    .epoch = 3,
    .incarnation = 4,
    .sequence = 99,
    .read_version = 6,
    .length = sizeof(gradient),
};

static struct tl_link *connect_to(const struct fake_server *f) {
    struct tl_address address;
    struct tl_link *link = NULL;
    assert_int_equal(tl_address_parse(f->address, &address), 0);
    assert_int_equal(tl_link_new(&link), 0);
    assert_int_equal(tl_link_connect(link, &address), 0);
    assert_true(tl_link_is_open(link));
    return link;
}

static int wait_for(struct tl_link *link, int64_t timeout_ms) {
    int status = 0;
    int rc = tl_links_wait(&link, 1, tl_now_ms() + timeout_ms, -1, &status);
    assert_true(rc == 0 || rc == status);
    return status;
}

static int push_pull(struct tl_link *link, bool checksum) {
    memset(weights, 0, sizeof(weights));
    assert_int_equal(
        tl_link_request(link, &push, gradient, weights, sizeof(weights), checksum), 0);
    return wait_for(link, 8000);
}

/* One push-pull with a server that has this fault. */
static int outcome(enum fault fault, bool tcp, bool checksum) {
    struct echo e = {.fault = fault};
    struct fake_server f;
    fake_server_start(&f, tcp, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    int rc = push_pull(link, checksum);
    assert_true(rc == 0 || !tl_link_is_open(link));
    tl_link_free(link);
    fake_server_stop(&f);
    return rc;
}

static void check_round_trips(bool tcp, bool checksum) {
    struct echo e = {.fault = NO_FAULT};
    struct fake_server f;
    fake_server_start(&f, tcp, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    for (int i = 0; i < 3; i++) { /* one connection carries many exchanges */
        assert_int_equal(push_pull(link, checksum), 0);
        assert_true(e.payload_was_right);
        assert_memory_equal(weights, gradient, sizeof(weights));
        assert_int_equal(tl_link_reply(link)->kind, TL_KIND_WEIGHTS);
        assert_int_equal(tl_link_reply(link)->read_version, 7);
        assert_int_equal(tl_link_advance(link), 0); /* stays complete */
    }
    uint64_t frame = TL_HEADER_BYTES + sizeof(gradient) + TL_TRAILER_BYTES;
    assert_int_equal(tl_link_bytes_received(link), 3 * frame);
    assert_int_equal(tl_link_bytes_sent(link),
                     3 * (checksum ? frame : frame - TL_TRAILER_BYTES));
    tl_link_free(link);
    fake_server_stop(&f);
}

static void requests_and_replies_go_through(void **state) {
    (void)state;
    check_round_trips(false, true);
    check_round_trips(false, false);
    check_round_trips(true, true);
}

static void a_slow_reply_is_put_together(void **state) {
    (void)state;
    assert_int_equal(outcome(SLOW, true, true), 0);
    assert_memory_equal(weights, gradient, sizeof(weights));
}

static void damage_is_noticed(void **state) {
    (void)state;
    assert_int_equal(outcome(DAMAGED_HEADER, false, true), TL_E_CHECKSUM);
    assert_int_equal(outcome(DAMAGED_PAYLOAD, false, true), TL_E_CHECKSUM);
    assert_int_equal(outcome(DAMAGED_TRAILER, true, true), TL_E_CHECKSUM);
    assert_int_equal(outcome(GARBAGE, true, true), TL_E_CHECKSUM);
}

static void truncation_is_noticed(void **state) {
    (void)state;
    assert_int_equal(outcome(TRUNCATED_HEADER, false, true), TL_E_CLOSED);
    assert_int_equal(outcome(TRUNCATED_PAYLOAD, true, true), TL_E_CLOSED);
    assert_int_equal(outcome(TRUNCATED_TRAILER, false, true), TL_E_CLOSED);
    assert_int_equal(outcome(CLOSED_AT_ONCE, false, true), TL_E_CLOSED);
}

static void replies_to_something_else_are_refused(void **state) {
    (void)state;
    for (enum fault fault = OTHER_KIND; fault <= OTHER_INCARNATION; fault++) {
        assert_int_equal(outcome(fault, false, true), TL_E_PROTOCOL);
    }
}

static void sizes_are_bounded(void **state) {
    (void)state;
    assert_int_equal(outcome(TOO_LONG, false, true), TL_E_TOOBIG);
    assert_int_equal(outcome(LYING_LENGTH, false, true), TL_E_TOOBIG);
    assert_int_equal(outcome(LONG_ERROR, false, true), TL_E_TOOBIG);
}

static void payloads_over_tcp_need_their_checksum(void **state) {
    (void)state;
    assert_int_equal(outcome(NO_CHECKSUM, true, true), TL_E_PROTOCOL);
    assert_int_equal(outcome(NO_CHECKSUM, false, true), 0);
}

/* ---- errors with a text ------------------------------------------------------- */

static void an_error_brings_its_text(void **state) {
    (void)state;
    struct echo e = {.fault = ERROR_REPLY};
    struct fake_server f;
    fake_server_start(&f, false, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    for (int i = 0; i < 2; i++) { /* the connection is still good */
        assert_int_equal(push_pull(link, true), 0);
        assert_int_equal(tl_link_reply(link)->kind, TL_KIND_ERROR);
        assert_int_equal(tl_link_reply(link)->status, TL_E_DENIED);
        assert_string_equal(tl_link_error_text(link),
                            "not?you?"); /* nothing unprintable */
        assert_true(tl_link_is_open(link));
    }
    tl_link_free(link);
    fake_server_stop(&f);
}

static void check_early_error(bool tcp) {
    struct echo e = {.fault = EARLY_ERROR};
    struct fake_server f;
    fake_server_start(&f, tcp, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    int small = 65536; /* so that the request cannot be sent whole */
    (void)setsockopt(tl_link_fd(link), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    assert_int_equal(push_pull(link, true), 0);
    assert_int_equal(tl_link_reply(link)->status, TL_E_TOOBIG);
    assert_string_equal(tl_link_error_text(link), "too big for me");
    assert_false(tl_link_is_open(link));
    tl_link_free(link);
    fake_server_stop(&f);
}

static void a_request_refused_half_way_is_explained(void **state) {
    (void)state;
    check_early_error(false);
    check_early_error(true);
}

/* ---- connecting, waiting ------------------------------------------------------ */

static void nobody_there_is_refused(void **state) {
    (void)state;
    struct tl_link *link = NULL;
    struct tl_address address = {.is_unix = true,
                                 .host = "/tmp/throughline-nobody.sock"};
    assert_int_equal(tl_link_new(&link), 0);
    assert_int_equal(tl_link_connect(link, &address), TL_E_REFUSED);
    assert_non_null(strstr(tl_error_text(), "throughline-nobody"));
    assert_false(tl_link_is_open(link));

    struct fake_server f;
    fake_server_start(&f, true, echo_connection, NULL);
    assert_int_equal(tl_address_parse(f.address, &address), 0);
    fake_server_stop(&f); /* its port is closed now */
    if (tl_link_connect(link, &address) == 0) {
        assert_int_equal(push_pull(link, true), TL_E_REFUSED);
    }
    tl_link_free(link);
}

static void an_unknown_host_may_be_tried_again(void **state) {
    (void)state;
    struct tl_link *link = NULL;
    struct tl_address address = {.host = "no-such-host.invalid", .port = "1"};
    assert_int_equal(tl_link_new(&link), 0);
    assert_int_equal(tl_link_connect(link, &address), TL_E_UNAVAILABLE);
    assert_true(tl_error_retriable(TL_E_UNAVAILABLE));
    tl_link_free(link);
}

static void one_request_at_a_time(void **state) {
    (void)state;
    struct echo e = {.fault = SILENT};
    struct fake_server f;
    fake_server_start(&f, false, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    assert_int_equal(
        tl_link_request(link, &push, gradient, weights, sizeof(weights), true), 0);
    assert_int_equal(
        tl_link_request(link, &push, gradient, weights, sizeof(weights), true),
        TL_E_INVALID);
    tl_link_close(link);
    assert_int_equal(
        tl_link_request(link, &push, gradient, weights, sizeof(weights), true),
        TL_E_INVALID);
    assert_int_equal(tl_link_advance(link), TL_E_CLOSED);
    tl_link_free(link);
    fake_server_stop(&f);
}

static void a_silent_server_costs_its_deadline_only(void **state) {
    (void)state;
    struct echo silent = {.fault = SILENT};
    struct echo healthy = {.fault = NO_FAULT};
    struct fake_server f[2];
    fake_server_start(&f[0], false, echo_connection, &silent);
    fake_server_start(&f[1], false, echo_connection, &healthy);
    struct tl_link *links[3] = {connect_to(&f[0]), NULL, connect_to(&f[1])};
    static float other[FLOATS];
    int status[3] = {9, 9, 9};
    assert_int_equal(
        tl_link_request(links[0], &push, gradient, weights, sizeof(weights), true), 0);
    assert_int_equal(
        tl_link_request(links[2], &push, gradient, other, sizeof(other), true), 0);
    int64_t start = tl_now_ms();
    assert_int_equal(tl_links_wait(links, 3, start + 500, -1, status), TL_E_TIMEOUT);
    assert_true(tl_now_ms() - start >= 500);
    assert_int_equal(status[0], TL_E_TIMEOUT);
    assert_int_equal(status[1], 0);
    assert_int_equal(status[2], 0);
    assert_false(tl_link_is_open(links[0]));
    assert_true(tl_link_is_open(links[2]));
    assert_memory_equal(other, gradient, sizeof(other));
    tl_link_free(links[0]);
    tl_link_free(links[2]);
    fake_server_stop(&f[0]);
    fake_server_stop(&f[1]);
}

static void a_wake_up_ends_the_wait_and_nothing_else(void **state) {
    (void)state;
    struct echo e = {.fault = SILENT};
    struct fake_server f;
    fake_server_start(&f, false, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    int wake_fd = eventfd(1, EFD_CLOEXEC);
    int status = 0;
    assert_int_equal(
        tl_link_request(link, &push, gradient, weights, sizeof(weights), true), 0);
    assert_int_equal(tl_links_wait(&link, 1, tl_now_ms() + 8000, wake_fd, &status),
                     TL_E_INTERRUPTED);
    assert_int_equal(status, TL_E_BUSY);
    assert_true(tl_link_is_open(link));
    close(wake_fd);
    tl_link_free(link);
    fake_server_stop(&f);
}

/* ---- replies into a sink ------------------------------------------------------ */

struct sunk {
    uint64_t bytes;
    uint64_t fail_after;
};

static int sink(void *ctx, const void *bytes, size_t n) {
    struct sunk *s = ctx;
    assert_memory_equal(bytes, (const uint8_t *)gradient + s->bytes, n);
    s->bytes += n;
    return s->bytes > s->fail_after ? TL_E_IO : 0;
}

static void a_large_reply_goes_to_a_sink(void **state) {
    (void)state;
    struct echo e = {.fault = NO_FAULT};
    struct fake_server f;
    fake_server_start(&f, false, echo_connection, &e);
    struct tl_link *link = connect_to(&f);
    struct sunk s = {.fail_after = UINT64_MAX};
    assert_int_equal(tl_link_request(link, &push, gradient, NULL, 0, true), 0);
    tl_link_set_sink(link, sink, &s);
    assert_int_equal(wait_for(link, 8000), 0);
    assert_int_equal(s.bytes, sizeof(gradient));

    s = (struct sunk){.fail_after = sizeof(gradient) / 2};
    assert_int_equal(tl_link_request(link, &push, gradient, NULL, 0, true), 0);
    tl_link_set_sink(link, sink, &s);
    assert_int_equal(wait_for(link, 8000), TL_E_IO);
    assert_false(tl_link_is_open(link));
    tl_link_free(link);
    fake_server_stop(&f);
}

static int fill_gradient(void **state) {
    (void)state;
    for (size_t i = 0; i < FLOATS; i++) {
        gradient[i] = (float)i * 0.5f;
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_replies_go_through),
        cmocka_unit_test(a_slow_reply_is_put_together),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(truncation_is_noticed),
        cmocka_unit_test(replies_to_something_else_are_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(payloads_over_tcp_need_their_checksum),
        cmocka_unit_test(an_error_brings_its_text),
        cmocka_unit_test(a_request_refused_half_way_is_explained),
        cmocka_unit_test(nobody_there_is_refused),
        cmocka_unit_test(an_unknown_host_may_be_tried_again),
        cmocka_unit_test(one_request_at_a_time),
        cmocka_unit_test(a_silent_server_costs_its_deadline_only),
        cmocka_unit_test(a_wake_up_ends_the_wait_and_nothing_else),
        cmocka_unit_test(a_large_reply_goes_to_a_sink),
    };
    return cmocka_run_group_tests(tests, fill_gradient, NULL);
}
