/* The bad network of other tests is as bad as they believe: each fault of the proxy,
 * between plain sockets and a server that echoes. */
#include "fault_proxy.h"

#include "throughline/service.h"

#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener;
static char server[64];

static void *echo(void *arg) {
    int fd = *(int *)arg;
    free(arg);
    char bytes[4096];
    ssize_t n = 0;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0 &&
           send(fd, bytes, (size_t)n, MSG_NOSIGNAL) == n) {
    }
    (void)close(fd);
    return NULL;
}

static void *serve(void *arg) {
    (void)arg;
    int fd = -1;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        pthread_t thread;
        int *own = malloc(sizeof(*own));
        if (own == NULL) {
            break;
        }
        *own = fd;
        (void)pthread_create(&thread, NULL, echo, own);
        (void)pthread_detach(thread);
    }
    return NULL;
}

static int start(void **state) {
    (void)state;
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t size = sizeof(sin);
    pthread_t thread;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&sin, size) != 0 ||
        listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&sin, &size) != 0) {
        return -1;
    }
    (void)snprintf(server, sizeof(server), "tcp://127.0.0.1:%u", ntohs(sin.sin_port));
    (void)pthread_create(&thread, NULL, serve, NULL);
    (void)pthread_detach(thread);
    return 0;
}

static int dial(const struct fault_proxy *p) {
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)fault_proxy_port(p))};
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    return fd;
}

/* What comes within `ms`: bytes, 0 for an end in order, -errno, -EAGAIN for silence. */
static ssize_t hear(int fd, char *bytes, size_t size, int ms) {
    struct pollfd in = {.fd = fd, .events = POLLIN};
    if (poll(&in, 1, ms) == 0) {
        return -EAGAIN;
    }
    ssize_t n = recv(fd, bytes, size, 0);
    return n < 0 ? -errno : n;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void assert_echoes(int fd) {
    char bytes[16] = {0};
    say(fd, "hello");
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 5000), 5);
    assert_memory_equal(bytes, "hello", 5);
}

static void partition_heals_without_loss(void **state) {
    (void)state;
    struct fault_proxy *p = fault_proxy_start(NULL, server);
    char bytes[16] = {0};
    int fd = dial(p);
    assert_echoes(fd);
    fault_proxy_set(p, &(struct fault){.kind = FAULT_STALL});
    say(fd, "hello");
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 100), -EAGAIN);
    int other = dial(p);
    say(other, "hello");
    assert_int_equal(hear(other, bytes, sizeof(bytes), 100), -EAGAIN);
    assert_true(fault_proxy_fired(p) > 0);
    fault_proxy_set(p, NULL);
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 5000), 5);
    assert_int_equal(hear(other, bytes, sizeof(bytes), 5000), 5);
    (void)close(fd);
    (void)close(other);
    fault_proxy_stop(p);
}

static void delay_and_throttle_keep_the_bytes(void **state) {
    (void)state;
    struct fault_proxy *p = fault_proxy_start(NULL, server);
    int fd = dial(p);
    fault_proxy_set(p, &(struct fault){.kind = FAULT_DELAY,
                                       .direction = FAULT_REPLIES,
                                       .amount = 150});
    int64_t start_ms = tl_now_ms();
    assert_echoes(fd);
    assert_true(tl_now_ms() - start_ms >= 150);
    fault_proxy_set(p, &(struct fault){.kind = FAULT_THROTTLE,
                                       .direction = FAULT_REQUESTS,
                                       .amount = 50});
    start_ms = tl_now_ms();
    say(fd, "throttled!");
    char bytes[16] = {0};
    size_t got = 0;
    while (got < 10) {
        ssize_t n = hear(fd, bytes + got, sizeof(bytes) - got, 5000);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_memory_equal(bytes, "throttled!", 10);
    assert_true(tl_now_ms() - start_ms >= 150); /* 10 bytes at 50 a second */
    (void)close(fd);
    fault_proxy_stop(p);
}

static void one_bit_is_flipped_where_it_was_asked_for(void **state) {
    (void)state;
    struct fault_proxy *p = fault_proxy_start(NULL, server);
    char bytes[16] = {0};
    int fd = dial(p);
    assert_echoes(fd);
    fault_proxy_set(p, &(struct fault){.kind = FAULT_FLIP,
                                       .direction = FAULT_REQUESTS,
                                       .after = 6,
                                       .times = 1});
    assert_echoes(fd);
    say(fd, "hello");
    assert_int_equal(hear(fd, bytes, 1, 5000), 1);
    assert_int_equal(hear(fd, bytes + 1, 4, 5000), 4);
    assert_int_equal(bytes[1], 'e' ^ 0x10);
    assert_int_equal(fault_proxy_fired(p), 1);
    assert_echoes(fd);
    (void)close(fd);
    fault_proxy_stop(p);
}

/* After four bytes of the request: in order, by a reset, or not at all. */
static ssize_t end_by(enum fault_kind kind) {
    struct fault_proxy *p = fault_proxy_start(NULL, server);
    char bytes[16] = {0};
    int fd = dial(p);
    assert_echoes(fd);
    fault_proxy_set(
        p, &(struct fault){.kind = kind, .direction = FAULT_REQUESTS, .after = 4});
    say(fd, "hello");
    ssize_t n = 0;
    while ((n = hear(fd, bytes, sizeof(bytes), 300)) > 0) {
    }
    assert_int_equal(fault_proxy_fired(p), 1);
    fault_proxy_set(p, NULL); /* what has been done to a connection stays done */
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 50) > 0, 0);
    (void)close(fd);
    fault_proxy_stop(p);
    return n;
}

static void ends_of_each_kind(void **state) {
    (void)state;
    assert_int_equal(end_by(FAULT_TRUNCATE), 0);
    assert_int_equal(end_by(FAULT_RESET), -ECONNRESET);
    assert_int_equal(end_by(FAULT_HALF_OPEN), -EAGAIN);
}

static void answers_and_refusals_are_counted(void **state) {
    (void)state;
    struct fault_proxy *p = fault_proxy_start(NULL, server);
    char bytes[16] = {0};
    fault_proxy_set(p,
                    &(struct fault){.kind = FAULT_ANSWER, .answer = "503", .times = 1});
    int fd = dial(p);
    say(fd, "hello");
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 5000), 3);
    assert_memory_equal(bytes, "503", 3);
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 5000), 0);
    (void)close(fd);
    fd = dial(p);
    assert_echoes(fd);
    (void)close(fd);
    fault_proxy_set(p, &(struct fault){.kind = FAULT_REFUSE, .times = 1});
    fd = dial(p);
    assert_int_equal(hear(fd, bytes, sizeof(bytes), 5000), 0);
    (void)close(fd);
    fd = dial(p);
    assert_echoes(fd);
    assert_int_equal(fault_proxy_connections(p), 4);
    (void)close(fd);
    fault_proxy_stop(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_heals_without_loss),
        cmocka_unit_test(delay_and_throttle_keep_the_bytes),
        cmocka_unit_test(one_bit_is_flipped_where_it_was_asked_for),
        cmocka_unit_test(ends_of_each_kind),
        cmocka_unit_test(answers_and_refusals_are_counted),
    };
    return cmocka_run_group_tests_name("fault_proxy", tests, start, NULL);
}
