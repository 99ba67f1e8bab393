/* exchange.c - one request to every shard at once, to one deadline.
 *
 * Each shard goes its own way through connecting, joining and asking; the slowest one
 * decides when the call returns. A shard whose server is dead keeps nobody else waiting
 * for their acknowledgement, only for the return. */
#include "throughline/service.h"

#include "client_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 2000 /* of waiting, before it is looked whether a server is away */

int64_t client_deadline(const struct tl_client *c) {
    return tl_now_ms() + c->config.patience_ms;
}

void client_exchange_cancel(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        tl_direct_cancel(c->shards[s].direct);
        if (c->shards[s].is_reading) {
            client_tail_leave(&c->shards[s]);
        }
    }
}

/* One shard's answer makes waiting for the others' weights pointless, and no longer
 * than a server keeps a pull: the end of the job, which one may know first; and a
 * gradient to be computed again, without which another worker may wait there for us,
 * and we here for that worker. */
static void stop_waiting(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        tl_direct_stop_waiting(c->shards[s].direct);
        client_tail_stop_waiting(&c->shards[s]);
    }
}

/* What one half of a shard's exchange has come to. The end of the job is an outcome,
 * not a failure. */
static int take_outcome(struct tl_client *c, const struct tl_direct *d, int status,
                        bool *ret_ended) {
    if (status == TL_E_BUSY) {
        return 0;
    }
    bool is_over = status == TL_E_ENDED;
    const struct tl_direct_result *result = tl_direct_result(d);
    if (is_over || (status == 0 && result->ended)) {
        *ret_ended = true;
        stop_waiting(c);
    } else if (status == 0 && result->status == TL_E_STALE) {
        stop_waiting(c);
    }
    return is_over ? 0 : status;
}

static int advance_direct(struct tl_client *c, struct client_shard *shard,
                          int64_t now_ms, bool *ret_ended) {
    shard->status = tl_direct_advance(shard->direct, now_ms);
    int rc = take_outcome(c, shard->direct, shard->status, ret_ended);
    if (shard->is_reading && tl_direct_was_refused(shard->direct)) {
        client_tail_leave(shard); /* the head's weights come to the same place */
    }
    return rc;
}

static bool is_reading(const struct client_shard *shard) {
    return shard->is_reading && shard->read_status == TL_E_BUSY;
}

static int advance_reader(struct tl_client *c, uint32_t s, int64_t now_ms,
                          bool *ret_ended) {
    struct client_shard *shard = &c->shards[s];
    client_tail_advance(c, s, now_ms);
    return shard->is_reading
               ? take_outcome(c, shard->reader, shard->read_status, ret_ended)
               : 0;
}

static bool is_ready(const struct pollfd *polled, const struct tl_direct *d,
                     int64_t now_ms) {
    return polled->revents != 0 || tl_direct_wake_ms(d) <= now_ms;
}

/* Two descriptors for each shard: its server's, and its tail's. */
static int advance_shard(struct tl_client *c, uint32_t s, const struct pollfd *polled,
                         bool *ret_ended) {
    struct client_shard *shard = &c->shards[s];
    int64_t now_ms = tl_now_ms();
    int rc = 0;
    if (is_reading(shard) && is_ready(&polled[1], shard->reader, now_ms)) {
        rc = advance_reader(c, s, now_ms, ret_ended);
    }
    if (rc == 0 && shard->status == TL_E_BUSY &&
        is_ready(&polled[0], shard->direct, now_ms)) {
        rc = advance_direct(c, shard, now_ms, ret_ended);
    }
    return rc;
}

static bool is_busy(const struct client_shard *shard) {
    return shard->status == TL_E_BUSY || is_reading(shard);
}

/* Advance what has a descriptor or a time that has come; *ret_busy are left. */
static int advance_ready(struct tl_client *c, const struct pollfd *polled,
                         size_t *ret_busy, bool *ret_ended) {
    size_t busy = 0;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        if (is_busy(&c->shards[s])) {
            int rc = advance_shard(c, s, &polled[2 * (size_t)s], ret_ended);
            if (rc != 0) {
                return rc;
            }
        }
        busy += is_busy(&c->shards[s]) ? 1 : 0;
    }
    *ret_busy = busy;
    return 0;
}

static void watch(const struct tl_direct *d, struct pollfd *polled, int64_t *until_ms) {
    int64_t wake_ms = tl_direct_wake_ms(d);
    polled->fd = tl_direct_fd(d);
    polled->events = tl_direct_events(d);
    *until_ms = wake_ms < *until_ms ? wake_ms : *until_ms;
}

/* Wait for a descriptor, the next shard's time, or the deadline. */
static int wait_ready(const struct tl_client *c, struct pollfd *polled,
                      int64_t deadline_ms, int wake_fd) {
    int64_t until_ms = deadline_ms;
    const size_t n = 2 * (size_t)c->shard_count;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        struct pollfd *own = &polled[2 * (size_t)s];
        own[0] = (struct pollfd){.fd = -1};
        own[1] = (struct pollfd){.fd = -1};
        if (shard->status == TL_E_BUSY) {
            watch(shard->direct, &own[0], &until_ms);
        }
        if (is_reading(shard)) {
            watch(shard->reader, &own[1], &until_ms);
        }
    }
    polled[n] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    polled[n + 1] = (struct pollfd){.fd = c->discovery.changed_fd, .events = POLLIN};
    int64_t timeout_ms = until_ms - tl_now_ms();
    timeout_ms = timeout_ms < 0 ? 0 : timeout_ms;
    int capped = timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
    if (poll(polled, n + 2, capped) < 0 && errno != EINTR) {
        return tl_fail(TL_E_IO, "client: poll: %s", strerror(errno));
    }
    return polled[n].revents != 0 ? tl_fail(TL_E_INTERRUPTED, "client: interrupted")
                                  : 0;
}

static const struct tl_direct *awaited(const struct client_shard *shard) {
    return shard->status == TL_E_BUSY ? shard->direct : shard->reader;
}

bool client_is_in_trouble(const struct tl_direct *d) {
    return tl_direct_fd(d) < 0 && tl_direct_trouble(d)[0] != '\0';
}

/* The shard that keeps the exchange from its end: one that is away, or else one that is
 * slow, or waits for other workers. false: none does. */
static bool find_missing(const struct tl_client *c, uint32_t *ret_shard) {
    bool is_found = false;
    for (uint32_t s = c->shard_count; s-- > 0;) {
        const struct client_shard *shard = &c->shards[s];
        bool is_missing = is_busy(shard);
        if (is_missing && (!is_found || client_is_in_trouble(awaited(shard)) ||
                           !client_is_in_trouble(awaited(&c->shards[*ret_shard])))) {
            *ret_shard = s;
            is_found = true;
        }
    }
    return is_found;
}

static int out_of_time(const struct tl_client *c) {
    uint32_t s = 0;
    if (!find_missing(c, &s)) {
        return tl_fail(TL_E_TIMEOUT, "client: deadline passed");
    }
    const struct tl_direct *d = awaited(&c->shards[s]);
    const char *trouble = tl_direct_trouble(d);
    return tl_fail(TL_E_TIMEOUT,
                   "shard %" PRIu32 ", epoch %" PRIu64
                   ": no answer within the worker's patience: %s",
                   s, tl_direct_epoch(d),
                   trouble[0] != '\0' ? trouble : "it waits for other workers");
}

void client_tell_away(struct tl_client *c) {
    char why[512];
    uint32_t s = 0;
    if (find_missing(c, &s) && client_is_in_trouble(awaited(&c->shards[s]))) {
        const struct tl_direct *d = awaited(&c->shards[s]);
        (void)snprintf(why, sizeof(why), "shard %" PRIu32 ", epoch %" PRIu64 ": %s", s,
                       tl_direct_epoch(d), tl_direct_trouble(d));
        client_tell_wait(c, why);
    }
}

static int check_interrupted(int wake_fd) {
    struct pollfd polled = {.fd = wake_fd, .events = POLLIN};
    return poll(&polled, 1, 0) > 0 ? tl_fail(TL_E_INTERRUPTED, "client: interrupted")
                                   : 0;
}

static void begin_all(struct tl_client *c) {
    for (uint32_t s = 0; s < c->shard_count; s++) {
        c->shards[s].status = TL_E_BUSY;
    }
}

/* A server that has taken over is used at once, whoever it was that was waited for. */
static void look_again(struct tl_client *c) {
    int64_t now_ms = tl_now_ms();
    if (!client_discovery_has_changed(&c->discovery)) {
        return;
    }
    for (uint32_t s = 0; s < c->shard_count; s++) {
        const struct client_shard *shard = &c->shards[s];
        if (shard->status == TL_E_BUSY) {
            tl_direct_look_again(shard->direct, now_ms);
        }
        if (is_reading(shard)) {
            tl_direct_look_again(shard->reader, now_ms);
        }
    }
}

/* TL_E_BUSY: the deadline has passed. */
static int run(struct tl_client *c, int64_t deadline_ms, int wake_fd, bool *ret_ended) {
    struct pollfd polled[2 * TL_LINKS_MAX + 2] = {{0}};
    for (uint32_t i = 0; i < 2 * c->shard_count; i++) {
        polled[i].revents = POLLIN; /* the first round looks at all */
    }
    int rc = check_interrupted(wake_fd); /* also when no shard keeps us waiting */
    while (rc == 0) {
        size_t busy = 0;
        rc = advance_ready(c, polled, &busy, ret_ended);
        if (rc != 0 || busy == 0) {
            return rc;
        }
        if (tl_now_ms() >= deadline_ms) {
            return TL_E_BUSY;
        }
        rc = wait_ready(c, polled, deadline_ms, wake_fd);
        look_again(c);
    }
    return rc;
}

int64_t client_look_ms(const struct tl_client *c) {
    return c->config.request_ms < LOOK_MS ? c->config.request_ms : LOOK_MS;
}

/* As run(), and a server that is away is told. */
static int run_telling(struct tl_client *c, int64_t deadline_ms, int wake_fd,
                       bool *ret_ended) {
    int rc = TL_E_BUSY;
    while (rc == TL_E_BUSY && !c->has_told_wait &&
           tl_now_ms() + client_look_ms(c) < deadline_ms) {
        rc = run(c, tl_now_ms() + client_look_ms(c), wake_fd, ret_ended);
        if (rc == TL_E_BUSY) {
            client_tell_away(c);
        }
    }
    return rc == TL_E_BUSY ? run(c, deadline_ms, wake_fd, ret_ended) : rc;
}

int client_exchange(struct tl_client *c, int64_t deadline_ms, int wake_fd,
                    bool *ret_ended) {
    bool ended = false;
    double start = tl_now_seconds();
    begin_all(c);
    int rc = run_telling(c, deadline_ms, wake_fd, &ended);
    c->stats.waited_seconds += tl_now_seconds() - start;
    if (rc == TL_E_BUSY) {
        rc = out_of_time(c);
    }
    if (rc != 0) {
        client_exchange_cancel(c);
        return rc;
    }
    client_tell_relief(c);
    *ret_ended = ended;
    return 0;
}

int client_exchange_some(struct tl_client *c, int64_t deadline_ms, bool *ret_ended) {
    double start = tl_now_seconds();
    int rc = run(c, deadline_ms, c->wake_fd, ret_ended);
    c->stats.waited_seconds += tl_now_seconds() - start;
    if (rc != 0 && rc != TL_E_BUSY) {
        client_exchange_cancel(c);
    }
    return rc;
}

int client_exchange_patiently(struct tl_client *c, int64_t deadline_ms,
                              bool *ret_ended) {
    return client_exchange(c, deadline_ms, c->wake_fd, ret_ended);
}
