/* SIGTERM and SIGINT: a flag, a readable descriptor, a hook; nothing else dies of them.
 */
#include "throughline/service.h"

#include "child.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

static atomic_int hooked;

static void on_stop(void *ctx) {
    atomic_fetch_add(&hooked, *(int *)ctx);
}

#define CHECK(what)                                                                    \
    do {                                                                               \
        if (!(what)) {                                                                 \
            return __LINE__ % 120 + 1;                                                 \
        }                                                                              \
    } while (0)

static int readable(void) {
    struct pollfd p = {.fd = tl_stop_fd(), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int stop_once(void *ctx) {
    static int weight = 5;
    CHECK(tl_stop_setup() == 0);
    tl_stop_hook(on_stop, &weight);
    CHECK(!tl_stop_requested() && !readable());
    CHECK(!tl_stop_wait(20));
    CHECK(raise(*(int *)ctx) == 0);
    CHECK(tl_stop_requested() && readable() && tl_stop_wait(0));
    CHECK(raise(*(int *)ctx) == 0);
    CHECK(readable() && atomic_load(&hooked) == 10);
    return 0;
}

static void each_signal_stops(void **state) {
    (void)state;
    static struct child child;
    int signals[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        child_run(stop_once, &signals[i], &child);
        assert_int_equal(child.status, 0);
    }
}

static int hook_late(void *ctx) {
    static int weight = 3;
    (void)ctx;
    CHECK(tl_stop_setup() == 0 && tl_stop_setup() == 0);
    CHECK(raise(SIGTERM) == 0);
    tl_stop_hook(on_stop, &weight);
    CHECK(atomic_load(&hooked) == 3);
    tl_stop_hook(NULL, NULL);
    CHECK(raise(SIGTERM) == 0);
    CHECK(atomic_load(&hooked) == 3);
    return 0;
}

static void a_late_hook_is_told(void **state) {
    (void)state;
    static struct child child;
    child_run(hook_late, NULL, &child);
    assert_int_equal(child.status, 0);
}

/* The alarm comes in the middle of a long wait, as a signal from outside would. */
static int wait_long(void *ctx) {
    (void)ctx;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
    const struct itimerspec soon = {.it_value = {.tv_nsec = 50000000}};
    CHECK(tl_stop_setup() == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
    const int64_t begun = tl_now_ms();
    CHECK(tl_stop_wait(20000));
    CHECK(tl_now_ms() - begun < 10000);
    return 0;
}

static void a_wait_ends_early(void **state) {
    (void)state;
    static struct child child;
    child_run(wait_long, NULL, &child);
    assert_int_equal(child.status, 0);
}

static int write_to_nobody(void *ctx) {
    int fd[2];
    (void)ctx;
    CHECK(pipe(fd) == 0 && close(fd[0]) == 0);
    CHECK(tl_stop_setup() == 0);
    CHECK(write(fd[1], "x", 1) < 0);
    CHECK(!tl_stop_requested());
    return 0;
}

static void a_broken_pipe_kills_nobody(void **state) {
    (void)state;
    static struct child child;
    child_run(write_to_nobody, NULL, &child);
    assert_int_equal(child.status, 0);
}

static void clocks_and_random_numbers(void **state) {
    (void)state;
    const int64_t ms = tl_now_ms();
    const double seconds = tl_now_seconds();
    assert_true(tl_now_ms() >= ms && tl_now_seconds() >= seconds);
    assert_true(seconds * 1000.0 >= (double)ms - 1 &&
                seconds * 1000.0 < (double)ms + 1000);
    assert_true(tl_unix_ms() / 1000 >= 1600000000);
    const uint64_t a = tl_random_u64();
    assert_true(a != 0 && tl_random_u64() != a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_signal_stops),
        cmocka_unit_test(a_late_hook_is_told),
        cmocka_unit_test(a_wait_ends_early),
        cmocka_unit_test(a_broken_pipe_kills_nobody),
        cmocka_unit_test(clocks_and_random_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
