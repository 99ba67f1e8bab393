/* Server-sent events as viewers see them, over real sockets: in order, whole, woken;
 * slow viewers cost nothing and are dropped. */
#include "throughline/service.h"

#include "test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOKEN "0123456789abcdef"

static struct tl_http *http;
static char address[TL_NAME_MAX * 4];
static _Atomic uint64_t available;     /* events there are */
static _Atomic size_t event_size = 32; /* bytes of each */

/* Event n is "data: n xxxx...". */
static char *next(void *ctx, uint64_t *cursor, size_t *ret_size) {
    (void)ctx;
    if (*cursor == available) {
        return NULL;
    }
    char *event = malloc(event_size + 1);
    assert_non_null(event);
    memset(event, 'x', event_size);
    const int n = snprintf(event, event_size, "data: %d ", (int)++*cursor);
    event[n] = 'x';
    event[event_size - 2] = event[event_size - 1] = '\n';
    *ret_size = event_size;
    return event;
}

static unsigned post(void *ctx, const char *path, const char *token) {
    (void)ctx;
    if (strcmp(token, TOKEN) != 0) {
        return 403;
    }
    return strcmp(path, "/control/kill/server/0") == 0 ? 202 : 404;
}

static int start(void **state) {
    (void)state;
    available = 0;
    event_size = 32;
    const struct tl_http_site site = {.stream = "/events", .next = next, .post = post};
    return tl_http_start("127.0.0.1:0", &site, &http, address);
}

static int stop(void **state) {
    (void)state;
    tl_http_stop(http);
    http = NULL;
    return 0;
}

static int dial(const char *request) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    return fd;
}

static int watch(void) {
    return dial("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
}

/* Read until `text` has come; false: the end, or not within 5 s. */
static bool read_until(int fd, const char *text) {
    static char seen[1 << 16];
    size_t used = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const ssize_t n = poll(&p, 1, 5000) == 1
                              ? read(fd, seen + used, sizeof(seen) - 1 - used)
                              : -1;
        if (n <= 0) {
            return false;
        }
        used += (size_t)n;
        seen[used] = '\0';
        if (strstr(seen, text) != NULL) {
            return true;
        }
        assert_true(used < sizeof(seen) - 1);
    }
}

static void publish(uint64_t count) {
    available += count;
    tl_http_wake(http);
}

static void events_come_as_they_happen(void **state) {
    (void)state;
    publish(2);
    const int fd = watch();
    assert_true(read_until(fd, "Content-Type: text/event-stream"));
    publish(1);
    assert_true(read_until(fd, "data: 3 "));
    publish(1);
    assert_true(read_until(fd, "data: 4 "));
    (void)close(fd);
}

static void an_event_larger_than_any_buffer_arrives_whole(void **state) {
    (void)state;
    event_size = 60000;
    const int fd = watch();
    publish(1);
    assert_true(read_until(fd, "xx\n\n"));
    (void)close(fd);
}

/* A viewer that reads nothing holds up neither the others nor the service, and is
 * dropped. */
static void a_slow_viewer_is_dropped_and_holds_up_nobody(void **state) {
    (void)state;
    const int slow = watch();
    event_size = 60000;
    publish(1000);
    const int fd = watch();
    assert_true(read_until(fd, "data: 1 "));
    (void)close(fd);
    /* libmicrohttpd closes it when its socket has taken nothing for 10 s; what is in
     * the kernel's buffers can still be read. */
    static char sink[1 << 16];
    const int64_t deadline = tl_now_ms() + 20000;
    (void)poll(NULL, 0, 11500);
    size_t received = 0;
    ssize_t n = 1;
    while (n > 0 && tl_now_ms() < deadline) {
        n = read(slow, sink, sizeof(sink));
        received += n > 0 ? (size_t)n : 0;
    }
    assert_true(n <= 0);
    assert_true(received < 60000000u);
    (void)close(slow);
}

static void viewers_are_bounded_and_metrics_stay_reachable(void **state) {
    (void)state;
    int fds[32];
    for (int i = 0; i < 32; i++) {
        fds[i] = watch();
        assert_true(read_until(fds[i], "200 OK"));
    }
    const int fd = watch();
    assert_true(read_until(fd, "503"));
    (void)close(fd);
    const int metrics = dial("GET /metrics HTTP/1.0\r\n\r\n");
    assert_true(read_until(metrics, "200 OK"));
    (void)close(metrics);
    for (int i = 0; i < 32; i++) {
        (void)close(fds[i]);
    }
    /* Their places become free, once it was tried to tell them something. */
    const int64_t deadline = tl_now_ms() + 10000;
    bool has_place = false;
    while (!has_place && tl_now_ms() < deadline) {
        publish(1);
        const int again = watch();
        has_place = read_until(again, "200 OK");
        (void)close(again);
    }
    assert_true(has_place);
}

static void the_last_events_are_read_before_the_end(void **state) {
    (void)state;
    const int fd = watch();
    assert_true(read_until(fd, "200 OK"));
    available += 3;
    tl_http_stop(http);
    assert_true(read_until(fd, "data: 3 "));
    assert_false(read_until(fd, "data: 4 "));
    (void)close(fd);
    assert_int_equal(start(NULL), 0);
}

/* ---- POST ------------------------------------------------------------------------ */

static bool posts(const char *headers, const char *path, const char *status) {
    char request[2048];
    (void)snprintf(request, sizeof(request),
                   "POST %s HTTP/1.1\r\n%sContent-Length: 0\r\nConnection: "
                   "close\r\n\r\n",
                   path, headers);
    const int fd = dial(request);
    const bool is_so = read_until(fd, status);
    (void)close(fd);
    return is_so;
}

#define PATH "/control/kill/server/0"
static const char with_token[] = "X-Throughline-Token: " TOKEN "\r\n";

static void a_page_of_our_own_may_ask(void **state) {
    (void)state;
    char headers[1024];
    (void)snprintf(headers, sizeof(headers), "Host: %s\r\nOrigin: http://%s\r\n%s",
                   address, address, with_token);
    assert_true(posts(headers, PATH, " 202 "));
    (void)snprintf(headers, sizeof(headers), "Host: localhost:1\r\n%s", with_token);
    assert_true(posts(headers, PATH, " 202 "));
    assert_true(posts(headers, "/elsewhere", " 404 "));
}

static void others_may_not(void **state) {
    (void)state;
    char headers[1024];
    assert_true(posts("Host: 127.0.0.1\r\n", PATH, " 403 "));
    assert_true(
        posts("Host: 127.0.0.1\r\nX-Throughline-Token: guess\r\n", PATH, " 403 "));
    (void)snprintf(headers, sizeof(headers),
                   "Host: %s\r\nOrigin: http://evil.example\r\n%s", address,
                   with_token);
    assert_true(posts(headers, PATH, " 403 "));
    (void)snprintf(headers, sizeof(headers), "Host: 127.0.0.1.evil.example\r\n%s",
                   with_token);
    assert_true(posts(headers, PATH, " 403 "));
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(events_come_as_they_happen),
        CASE(an_event_larger_than_any_buffer_arrives_whole),
        CASE(a_slow_viewer_is_dropped_and_holds_up_nobody),
        CASE(viewers_are_bounded_and_metrics_stay_reachable),
        CASE(the_last_events_are_read_before_the_end),
        CASE(a_page_of_our_own_may_ask),
        CASE(others_may_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
