/* stop.c - SIGTERM and SIGINT as a flag and a descriptor that stays readable. */
#include "throughline/service.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Lock-free atomics: the handler may run on any thread, and between any two lines. */
static atomic_bool requested;
static atomic_int stop_fd = -1;
static _Atomic(void *) hook_context;
static void (*_Atomic hook)(void *);

static void call_hook(void) {
    void (*on_stop)(void *) = atomic_load(&hook);
    if (on_stop != NULL) {
        on_stop(atomic_load(&hook_context));
    }
}

static void on_signal(int signal_number) {
    (void)signal_number;
    const int saved = errno;
    const uint64_t one = 1;
    atomic_store(&requested, true);
    /* The counter is far from full; were it full, the descriptor would be readable. */
    ssize_t n = write(atomic_load(&stop_fd), &one, sizeof(one));
    (void)n;
    call_hook();
    errno = saved;
}

static int handle(int signal_number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(signal_number, &action, NULL) != 0) {
        return tl_fail(TL_E_IO, "signal %d cannot be handled: %s", signal_number,
                       strerror(errno));
    }
    return 0;
}

int tl_stop_setup(void) {
    if (atomic_load(&stop_fd) < 0) {
        const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            return tl_fail(TL_E_IO, "no event descriptor: %s", strerror(errno));
        }
        atomic_store(&stop_fd, fd);
    }
    int rc = handle(SIGPIPE, SIG_IGN);
    if (rc == 0) {
        rc = handle(SIGTERM, on_signal);
    }
    return rc != 0 ? rc : handle(SIGINT, on_signal);
}

bool tl_stop_requested(void) {
    return atomic_load(&requested);
}

int tl_stop_fd(void) {
    return atomic_load(&stop_fd);
}

/* A signal that came before the hook was set would otherwise go unheard by it. */
void tl_stop_hook(void (*on_stop)(void *), void *ctx) {
    atomic_store(&hook, NULL);
    atomic_store(&hook_context, ctx);
    atomic_store(&hook, on_stop);
    if (tl_stop_requested()) {
        call_hook();
    }
}

bool tl_stop_wait(int64_t timeout_ms) {
    const int64_t until = tl_now_ms() + timeout_ms;
    struct pollfd p = {.fd = tl_stop_fd(), .events = POLLIN};
    while (!tl_stop_requested()) {
        const int64_t left = until - tl_now_ms();
        if (left <= 0) {
            return false;
        }
        (void)poll(&p, 1, left < 60000 ? (int)left : 60000);
    }
    return true;
}
