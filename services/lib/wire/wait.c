/* wait.c - several exchanges at once, to one deadline. */
#include "throughline/service.h"
#include "throughline/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* Advance the links that poll() found ready. Returns how many are still under way. */
static size_t advance_ready(struct tl_link *const *links, size_t n,
                            const struct pollfd *polled, int *status) {
    size_t busy = 0;
    for (size_t i = 0; i < n; i++) {
        if (status[i] == TL_E_BUSY && polled[i].revents != 0) {
            status[i] = tl_link_advance(links[i]);
        }
        busy += status[i] == TL_E_BUSY ? 1 : 0;
    }
    return busy;
}

static int wait_ready(struct tl_link *const *links, size_t n, int64_t timeout_ms,
                      int wake_fd, const int *status, struct pollfd *polled) {
    for (size_t i = 0; i < n; i++) {
        bool is_busy = status[i] == TL_E_BUSY;
        polled[i] = (struct pollfd){.fd = is_busy ? tl_link_fd(links[i]) : -1,
                                    .events = is_busy ? tl_link_events(links[i]) : 0};
    }
    polled[n] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    int capped = timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
    if (poll(polled, n + 1, capped) < 0 && errno != EINTR) {
        return tl_fail(TL_E_IO, "link: poll: %s", strerror(errno));
    }
    return polled[n].revents != 0 ? tl_fail(TL_E_INTERRUPTED, "link: interrupted") : 0;
}

static int expire(struct tl_link *const *links, size_t n, int *status) {
    for (size_t i = 0; i < n; i++) {
        if (status[i] == TL_E_BUSY) {
            tl_link_close(links[i]);
            status[i] = TL_E_TIMEOUT;
        }
    }
    return tl_fail(TL_E_TIMEOUT, "link: no reply by the deadline");
}

int tl_links_wait(struct tl_link *const *links, size_t n, int64_t deadline_ms,
                  int wake_fd, int *ret_status) {
    struct pollfd polled[TL_LINKS_MAX + 1];
    if (n > TL_LINKS_MAX) {
        return tl_fail(TL_E_LIMIT, "link: %zu links are more than %u", n, TL_LINKS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        ret_status[i] = links[i] == NULL ? 0 : TL_E_BUSY;
        polled[i].revents = POLLIN; /* the first round tries all */
    }
    while (advance_ready(links, n, polled, ret_status) > 0) {
        int64_t left = deadline_ms - tl_now_ms();
        if (left <= 0) {
            return expire(links, n, ret_status);
        }
        int rc = wait_ready(links, n, left, wake_fd, ret_status, polled);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
