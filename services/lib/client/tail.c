/* tail.c - a chain's weights: from its tail, which has them first.
 *
 * The head has a gradient to receive and to pass on; the weights that result are the
 * tail's to send. Both are asked at once, so that a push-pull stays one round trip: the
 * pull names the gradient, and is answered when the tail has folded it. Over a Unix
 * socket the head lends memory, and giving the weights costs it less than a second
 * connection would: then everything is asked of the head.
 *
 * The tail is a shortcut and no more. Whatever is wrong with it, the head, which learns
 * of every commit, is asked for the same weights. */
#include "throughline/service.h"

#include "client_internal.h"

#define SLOW_MS   100   /* who took so long to fail is not tried again ... */
#define AVOID_MS  30000 /* ... for so long */
#define SILENT_MS 2000  /* replicas answer within 1000 */

static int new_reader(struct tl_client *c, uint32_t s) {
    const struct tl_direct_config config = {
        .shard = s,
        .role = TL_ROLE_WORKER,
        .worker = c->config.worker,
        .job = c->job,
        .run = c->run,
        .job_digest = c->config.job_digest,
        .trust = c->trust,
        .request_ms =
            c->config.request_ms < SILENT_MS ? c->config.request_ms : SILENT_MS,
        .only_reads = true,
        .find = client_discovery_find_tail,
        .ctx = &c->discovery,
    };
    return tl_direct_new(&config, &c->shards[s].reader);
}

static bool is_of_use(struct tl_client *c, uint32_t s, int64_t now_ms) {
    struct tl_address tail;
    return now_ms >= c->shards[s].avoid_ms &&
           client_discovery_find_tail(&c->discovery, s, &tail) == 0 && !tail.is_unix &&
           (c->shards[s].reader != NULL || new_reader(c, s) == 0);
}

static bool ask(struct tl_client *c, struct client_shard *shard, int64_t now_ms) {
    bool is_asked = client_ask(c, shard, shard->reader, shard->asked_for, now_ms) == 0;
    if (is_asked && shard->must_not_wait) {
        tl_direct_stop_waiting(shard->reader);
    }
    return is_asked;
}

bool client_tail_begin(struct tl_client *c, uint32_t s, uint64_t sequence) {
    struct client_shard *shard = &c->shards[s];
    int64_t now_ms = tl_now_ms();
    shard->asked_for = sequence;
    shard->asked_ms = now_ms;
    shard->must_not_wait = false;
    shard->is_reading = is_of_use(c, s, now_ms) && ask(c, shard, now_ms);
    shard->read_status = TL_E_BUSY;
    return shard->is_reading;
}

void client_tail_stop_waiting(struct client_shard *shard) {
    shard->must_not_wait = true;
    if (shard->is_reading) {
        tl_direct_stop_waiting(shard->reader);
    }
}

void client_tail_leave(struct client_shard *shard) {
    shard->is_reading = false;
    tl_direct_cancel(shard->reader);
}

static void turn_to_head(struct client_shard *shard, int64_t now_ms) {
    bool has_head = shard->status != TL_E_BUSY; /* answered, and only the tail not */
    if (has_head && now_ms - shard->asked_ms > SLOW_MS) {
        shard->avoid_ms = now_ms + AVOID_MS;
    }
    client_tail_leave(shard);
    if (!tl_direct_result(shard->direct)->ended) {
        tl_direct_fetch(shard->direct, now_ms);
        shard->status = TL_E_BUSY;
    }
}

void client_tail_advance(struct tl_client *c, uint32_t s, int64_t now_ms) {
    struct client_shard *shard = &c->shards[s];
    int rc = tl_direct_advance(shard->reader, now_ms);
    if (rc == 0 && shard->is_greeting) {
        rc = ask(c, shard, now_ms) ? tl_direct_advance(shard->reader, now_ms)
                                   : TL_E_UNAVAILABLE;
    }
    shard->read_status = rc;
    /* One that is gone, or not what it was, is not worth waiting for. */
    bool is_under_way = rc == TL_E_BUSY && !client_is_in_trouble(shard->reader);
    bool is_answered = rc == 0 && tl_direct_result(shard->reader)->status == 0;
    if (!is_under_way && !is_answered) {
        turn_to_head(shard, now_ms);
    }
}

const struct tl_direct_result *client_pulled(const struct client_shard *shard) {
    return tl_direct_result(shard->is_reading ? shard->reader : shard->direct);
}
