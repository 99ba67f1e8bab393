/* The HTTP side as a scraper and a prober see it, over real sockets. */
#include "throughline/service.h"

#include "test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESS_MAX ((size_t)TL_NAME_MAX * 4)

static struct tl_http *http;
static char address[ADDRESS_MAX];

static char *page(void *ctx, const char *path, const char **ret_type,
                  size_t *ret_size) {
    if (strcmp(path, "/hello") != 0) {
        return NULL;
    }
    *ret_type = "text/html";
    *ret_size = strlen(ctx);
    return strdup(ctx);
}

static int start(void **state) {
    static char body[] = "<p>hello</p>";
    (void)state;
    const struct tl_http_site site = {.ctx = body, .page = page};
    return tl_http_start("127.0.0.1:0", &site, &http, address);
}

static int stop(void **state) {
    (void)state;
    tl_http_stop(http);
    http = NULL;
    return 0;
}

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port =
                                htons((uint16_t)atoi(strchr(address, ':') + 1))};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(inet_pton(AF_INET, "127.0.0.1", &a.sin_addr), 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* The whole answer to one request; the connection is closed by the server. */
static const char *ask(const char *request) {
    static char answer[65536];
    size_t size = 0;
    const int fd = dial();
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_true(poll(&p, 1, 5000) > 0);
        const ssize_t n = read(fd, answer + size, sizeof(answer) - 1 - size);
        if (n <= 0) {
            break;
        }
        size += (size_t)n;
    }
    answer[size] = '\0';
    (void)close(fd);
    return answer;
}

static const char *get(const char *path) {
    char request[256];
    (void)snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return ask(request);
}

static void expect(const char *answer, const char *status, const char *part) {
    assert_memory_equal(answer, "HTTP/1.1 ", 9);
    assert_memory_equal(answer + 9, status, strlen(status));
    if (strstr(answer, part) == NULL) {
        fail_msg("no \"%s\" in: %s", part, answer);
    }
}

static void the_port_is_told(void **state) {
    (void)state;
    assert_memory_equal(address, "127.0.0.1:", 10);
    assert_true(atoi(address + 10) > 0);
}

static void readiness_says_why_not(void **state) {
    (void)state;
    tl_health_ready("loading the snapshot");
    expect(get("/readyz"), "503", "\r\n\r\nloading the snapshot\n");
    tl_health_ready(NULL);
    expect(get("/readyz"), "200", "\r\n\r\nready\n");
    expect(get("/healthz"), "200", "\r\n\r\nok\n");
}

static void pages_are_served(void **state) {
    (void)state;
    expect(get("/hello"), "200", "Content-Type: text/html\r\n");
    expect(get("/hello"), "200", "\r\n\r\n<p>hello</p>");
    expect(get("/other"), "404", "/metrics");
    expect(get("/../etc/passwd"), "404", "not found");
    expect(get("/metrics"), "200", "Content-Type: text/plain; version=0.0.4");
    expect(get("/metrics?x=1"), "200", "process_cpu_seconds_total");
}

/* What a Prometheus asks for, and what is not it. */
static void open_metrics_are_for_those_who_ask(void **state) {
    (void)state;
    const char *open = ask("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: "
                           "application/openmetrics-text;version=1.0.0;q=0.75,"
                           "text/plain;version=0.0.4;q=0.5\r\n"
                           "Connection: close\r\n\r\n");
    expect(open, "200", "Content-Type: application/openmetrics-text; version=1.0.0");
    expect(open, "200", "\n# EOF\n");
    const char *plain = ask("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n"
                            "Connection: close\r\n\r\n");
    expect(plain, "200", "Content-Type: text/plain; version=0.0.4");
    assert_null(strstr(plain, "# EOF"));
}

static void only_reading_is_allowed(void **state) {
    (void)state;
    expect(ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
               "Connection: close\r\n\r\nhello"),
           "405", "Allow: GET, HEAD\r\n");
    expect(ask("DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "405",
           "\r\n\r\n");
    const char *head = ask("HEAD /healthz HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\n\r\n");
    expect(head, "200", "Content-Length: 3\r\n");
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    assert_null(strstr(ask("garbage\r\n\r\n"), "200"));
}

/* With 64 connections open the next one waits; when they go, it is served. */
static void connections_are_bounded(void **state) {
    (void)state;
    static const char request[] = "GET /healthz HTTP/1.0\r\n\r\n";
    int idle[64];
    for (int i = 0; i < 64; i++) {
        idle[i] = dial();
    }
    struct pollfd p = {.fd = dial(), .events = POLLIN};
    assert_int_equal(write(p.fd, request, strlen(request)), strlen(request));
    assert_int_equal(poll(&p, 1, 100), 0);
    for (int i = 0; i < 64; i++) {
        (void)close(idle[i]);
    }
    assert_int_equal(poll(&p, 1, 5000), 1);
    char status[16] = "";
    assert_int_equal(read(p.fd, status, 12), 12);
    assert_string_equal(status + 8, " 200");
    (void)close(p.fd);
}

static void another_service_can_scrape(void **state) {
    (void)state;
    char *text = NULL;
    double v = 0;
    assert_int_equal(tl_metrics_fetch(address, tl_now_ms() + 5000, &text), 0);
    assert_true(tl_metrics_find(text, "throughline_build_info", NULL, &v) && v == 1);
    free(text);
}

static void scraping_the_dead_fails_in_time(void **state) {
    (void)state;
    char *text = NULL;
    char gone[ADDRESS_MAX];
    struct tl_http *other;
    assert_int_equal(tl_http_start("127.0.0.1:0", NULL, &other, gone), 0);
    tl_http_stop(other);
    assert_int_equal(tl_metrics_fetch(gone, tl_now_ms() + 5000, &text), TL_E_REFUSED);
    assert_non_null(strstr(tl_error_text(), gone));
    assert_int_equal(tl_metrics_fetch(address, tl_now_ms() - 1, &text), TL_E_TIMEOUT);
    assert_null(text);
}

/* A listener that accepts by its backlog and says nothing. */
static void scraping_the_silent_fails_in_time(void **state) {
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    char silent[64];
    char *text = NULL;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    (void)snprintf(silent, sizeof(silent), "127.0.0.1:%d", ntohs(a.sin_port));
    const int64_t begun = tl_now_ms();
    assert_int_equal(tl_metrics_fetch(silent, begun + 200, &text), TL_E_TIMEOUT);
    assert_in_range(tl_now_ms() - begun, 150, 3000);
    (void)close(fd);
}

static void wrong_addresses_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"",          "127.0.0.1",       ":80",
                                        "[::1:80",   "127.0.0.1:",      "127.0.0.1:x",
                                        "1.2.3.4:0", "127.0.0.1:99999", "[]:80"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct tl_http *h = NULL;
        char bound[ADDRESS_MAX] = "";
        assert_int_equal(tl_http_start(wrong[i], NULL, &h, bound), TL_E_CONFIG);
        assert_null(h);
        assert_memory_equal(tl_error_text(), "HTTP on ", 8);
    }
}

static void a_port_in_use_is_named(void **state) {
    (void)state;
    struct tl_http *h = NULL;
    char bound[ADDRESS_MAX];
    assert_int_equal(tl_http_start(address, NULL, &h, bound), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), address));
    assert_non_null(strstr(tl_error_text(), "Address already in use"));
}

static void off_is_off(void **state) {
    (void)state;
    struct tl_http *h = http;
    char bound[ADDRESS_MAX] = "x";
    assert_int_equal(tl_http_start("off", NULL, &h, bound), 0);
    assert_null(h);
    assert_string_equal(bound, "");
    tl_http_stop(h);
}

/* A pod binds every address and is called by its own. */
static void what_is_announced_may_differ(void **state) {
    (void)state;
    struct tl_service_options options = {.http = "127.0.0.1:0"};
    struct tl_http *h = NULL;
    char told[ADDRESS_MAX] = "";
    assert_int_equal(tl_service_http(&options, NULL, &h, told), 0);
    assert_memory_equal(told, "127.0.0.1:", 10);
    tl_http_stop(h);
    (void)snprintf(options.http_advertise, ADDRESS_MAX, "pod-0.servers:9100");
    assert_int_equal(tl_service_http(&options, NULL, &h, told), 0);
    assert_string_equal(told, "pod-0.servers:9100");
    tl_http_stop(h);
    (void)snprintf(options.http, ADDRESS_MAX, "off");
    assert_int_equal(tl_service_http(&options, NULL, &h, told), 0);
    assert_string_equal(told, "");
}

static void what_nobody_can_call_is_not_announced(void **state) {
    (void)state;
    static const char *const wrong[] = {"pod-0", ":9100", "pod-0:0", "pod-0:99999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct tl_service_options options = {.http = "127.0.0.1:0"};
        struct tl_http *h = NULL;
        char told[ADDRESS_MAX] = "";
        (void)snprintf(options.http_advertise, ADDRESS_MAX, "%s", wrong[i]);
        assert_int_equal(tl_service_http(&options, NULL, &h, told), TL_E_CONFIG);
        assert_null(h);
    }
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_port_is_told),
        cmocka_unit_test(readiness_says_why_not),
        cmocka_unit_test(pages_are_served),
        cmocka_unit_test(open_metrics_are_for_those_who_ask),
        cmocka_unit_test(what_is_announced_may_differ),
        cmocka_unit_test(what_nobody_can_call_is_not_announced),
        cmocka_unit_test(only_reading_is_allowed),
        cmocka_unit_test(connections_are_bounded),
        cmocka_unit_test(another_service_can_scrape),
        cmocka_unit_test(scraping_the_dead_fails_in_time),
        cmocka_unit_test(scraping_the_silent_fails_in_time),
        cmocka_unit_test(wrong_addresses_are_refused),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(off_is_off),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
