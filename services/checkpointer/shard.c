/* shard.c - the conversation with one shard's server, a step at a time. */
#include "checkpointer.h"

#include <inttypes.h>
#include <stdio.h>

#define BACKOFF_MIN_MS     100
#define SERVER_BACKOFF_MAX 1000
#define STORE_BACKOFF_MAX  30000
#define BUSY_RETRY_MS      50
/* While a state is being stored no other is fetched; that is soon enough to see that a
 * log is filling up. */
#define UPLOADING_PING_MS  500
/* With the job ending, a server that did not answer so often is not coming back. */
#define LAST_FAILURES_MAX  5u

/* 100 ms, doubled with each failure after the first. */
static int64_t backoff_ms(uint32_t failures, int64_t max_ms) {
    const uint32_t doublings = failures < 12u ? failures : 12u;
    const int64_t ms = (int64_t)BACKOFF_MIN_MS << (doublings - (doublings > 0));
    return ms < max_ms ? ms : max_ms;
}

bool shard_is_busy(const struct shard *s) {
    return s->step != SHARD_AWAY && s->step != SHARD_IDLE;
}

int64_t shard_next_ms(const struct shard *s) {
    return shard_is_busy(s) ? s->deadline_ms : s->act_ms;
}

void shard_want_last(struct shard *s) {
    s->wants_last = true;
    s->had_last = false;
    s->failures = 0;
    s->store_failures = 0;
    s->store_retry_ms = 0;
    s->act_ms = 0;
}

static void last_is_over(struct shard *s) {
    if (s->wants_last) {
        s->wants_last = false;
        s->had_last = true;
    }
}

/* ---- failures ----------------------------------------------------------------- */

/* Said once until the server answers again. At the start of a job the servers may come
 * after us: nothing to warn of. */
static void server_failed(struct shard *s, int error, const char *why) {
    const int64_t now_ms = tl_now_ms();
    if (s->failures++ == 0) {
        tl_log_line(s->writer == 0 && error != TL_E_AUTH ? TL_INFO : TL_WARNING,
                    "server not reached", "shard", tl_text_u64(s->number), "error",
                    tl_error_name(error), "why", why, NULL);
    }
    if (s->step == SHARD_FETCHING) {
        tl_metric_add(s->owner->gauges.failures, 1);
    }
    capture_abandon(s);
    tl_link_close(s->link);
    s->step = SHARD_AWAY;
    s->act_ms = now_ms + backoff_ms(s->failures, SERVER_BACKOFF_MAX);
    if (s->failures >= LAST_FAILURES_MAX) {
        last_is_over(s);
    }
}

/* Said once until a snapshot succeeds. */
static void store_failed(struct shard *s, const struct tl_manifest *meta, int error,
                         const char *why) {
    tl_metric_add(s->owner->gauges.failures, 1);
    if (s->store_failures++ == 0) {
        tl_log_line(TL_ERROR, "snapshot failed", "shard", tl_text_u64(s->number),
                    "version", tl_text_u64(meta->version), "error",
                    tl_error_name(error), "why", why, NULL);
    }
    s->store_retry_ms = tl_now_ms() + backoff_ms(s->store_failures, STORE_BACKOFF_MAX);
    if (s->store_failures >= LAST_FAILURES_MAX) {
        last_is_over(s);
    }
}

static void become_idle(struct shard *s, int64_t act_ms) {
    s->step = SHARD_IDLE;
    s->act_ms = act_ms;
}

/* ---- requests ----------------------------------------------------------------- */

/* Begin a step; `r` is what came of queueing its request. */
static void await(struct shard *s, enum shard_step step, int r) {
    s->step = step;
    s->bytes_received = tl_link_bytes_received(s->link);
    s->deadline_ms = tl_now_ms() + s->owner->job.request_ms;
    if (r < 0) {
        server_failed(s, r, tl_error_text());
    }
}

static void ask(struct shard *s, enum shard_step step, struct tl_header header) {
    header.shard = s->number;
    header.epoch = s->epoch;
    await(s, step, tl_link_request(s->link, &header, NULL, NULL, 0, s->checksum));
}

static void say_hello(struct shard *s) {
    const struct checkpointer *c = s->owner;
    struct tl_hello hello = {
        .role = TL_ROLE_CHECKPOINTER,
        .job_digest = c->job_digest,
        .writer = s->writer,
    };
    (void)snprintf(hello.job, sizeof(hello.job), "%s", c->job.name);
    (void)snprintf(hello.run, sizeof(hello.run), "%s", c->service.run);
    const struct tl_header header = {.shard = s->number, .epoch = s->epoch};
    await(s, SHARD_GREETING, tl_link_hello(s->link, &header, &hello, s->reply));
}

static void connect_server(struct shard *s) {
    struct tl_address address;
    int r = presence_find(s->owner, s->number, &address);
    if (r == 0) {
        s->checksum = !address.is_unix || s->owner->job.unix_checksum;
        r = tl_link_connect(s->link, &address);
    }
    if (r < 0) {
        server_failed(s, r, tl_error_text());
        return;
    }
    say_hello(s);
}

static void ask_version(struct shard *s) {
    ask(s, SHARD_ASKING, (struct tl_header){.kind = TL_KIND_PING});
}

static void fetch_state(struct shard *s, int64_t now_ms) {
    capture_begin(s, now_ms);
    ask(s, SHARD_FETCHING,
        (struct tl_header){.kind = TL_KIND_SNAPSHOT,
                           .read_version = s->pace.taken_version});
    if (s->step == SHARD_FETCHING) {
        tl_link_set_sink(s->link, capture_take, s);
    }
}

/* Half of what the log may hold beyond the newest snapshot is there: workers will wait
 * for the next one when the other half is. */
static bool log_is_filling(const struct shard *s) {
    const struct tl_job *job = &s->owner->job;
    const uint64_t gradient =
        tl_codec_size_max((enum tl_encoding)job->encoding, s->welcome.count) +
        TL_HEADER_BYTES + TL_TRAILER_BYTES;
    const uint64_t entry =
        gradient < job->log_max_entry_bytes ? gradient : job->log_max_entry_bytes;
    const uint64_t room = tl_log_room(job);
    return room > 0 && s->pace.version > s->pace.taken_version &&
           s->position > s->taken_position &&
           s->position - s->taken_position >= room / 2 / entry;
}

/* Without its server, whoever comes next begins with the newest snapshot. */
bool shard_is_urgent(const struct shard *s) {
    return s->wants_last || s->step == SHARD_AWAY || log_is_filling(s);
}

/* ---- replies ------------------------------------------------------------------ */

static void see(struct shard *s, const struct tl_header *reply) {
    s->epoch = reply->epoch;
    s->position = reply->position;
    tl_pace_seen(&s->pace, tl_now_ms(), reply->read_version, reply->epoch);
    if ((reply->flags & TL_FLAG_ENDED) != 0) {
        s->owner->job_has_ended = true;
    }
}

static void take_welcome(struct shard *s, const struct tl_header *reply) {
    struct tl_welcome w;
    const int r = tl_welcome_decode(s->reply, (size_t)reply->length, &w);
    if (r < 0) {
        server_failed(s, r, tl_error_text());
        return;
    }
    if (w.shards != s->owner->job.shards) {
        server_failed(s, TL_E_MISMATCH, "it counts other shards than the job file");
        return;
    }
    if (s->failures > 0 || s->writer != w.writer) {
        tl_log_line(TL_INFO, "server reached", "shard", tl_text_u64(s->number), "epoch",
                    tl_text_u64(reply->epoch), "version",
                    tl_text_u64(reply->read_version), NULL);
    }
    s->failures = 0;
    s->welcome = w;
    s->writer = w.writer;
    see(s, reply);
    become_idle(s, 0);
}

static int64_t next_ping_ms(const struct shard *s) {
    const int64_t now_ms = tl_now_ms();
    return s->is_uploading ? now_ms + UPLOADING_PING_MS
                           : tl_pace_next_ms(&s->pace, now_ms);
}

static void take_state(struct shard *s, const struct tl_header *reply) {
    const int64_t now_ms = tl_now_ms();
    if (reply->status == TL_E_NOTMODIFIED) {
        last_is_over(s);
        become_idle(s, tl_pace_next_ms(&s->pace, now_ms));
        return;
    }
    if (reply->status < 0) {
        become_idle(s, now_ms + BUSY_RETRY_MS);
        return;
    }
    if (s->capture.spool.fd < 0) {
        server_failed(s, TL_E_PROTOCOL, "it sent a state of no bytes");
        return;
    }
    s->is_uploading = true;
    store_submit(&s->owner->store, &s->capture.meta, &s->capture.spool,
                 tl_pace_cut(&s->pace, s->capture.started_ms, reply->read_version,
                             reply->epoch));
    become_idle(s, now_ms + UPLOADING_PING_MS);
}

/* An error's frame: in another epoch now, or no server of ours. */
static void take_error(struct shard *s, const struct tl_header *reply) {
    if (reply->status == TL_E_EPOCH && s->step != SHARD_GREETING) {
        say_hello(s);
        return;
    }
    server_failed(s, reply->status, tl_link_error_text(s->link));
}

static void take_reply(struct shard *s) {
    const struct tl_header *reply = tl_link_reply(s->link);
    if (reply->kind == TL_KIND_ERROR) {
        take_error(s, reply);
    } else if (s->step == SHARD_GREETING) {
        take_welcome(s, reply);
    } else if (s->step == SHARD_FETCHING) {
        see(s, reply);
        take_state(s, reply);
    } else {
        see(s, reply);
        become_idle(s, next_ping_ms(s));
    }
}

void shard_advance(struct shard *s) {
    const int r = tl_link_advance(s->link);
    if (r == TL_E_BUSY) {
        return;
    }
    if (r == 0) {
        take_reply(s);
    } else if (s->capture.failure < 0 && s->step == SHARD_FETCHING) {
        /* The spool refused the bytes, and with that the exchange was over. */
        store_failed(s, &s->capture.meta, s->capture.failure, s->capture.why);
        capture_abandon(s);
        s->step = SHARD_AWAY;
        s->act_ms = 0;
    } else {
        server_failed(s, r, tl_error_text());
    }
}

/* ---- the store ---------------------------------------------------------------- */

/* A shard's snapshots are of nearly one size: those that were removed had this one. */
static double bytes_more(const struct gauges *g, const struct upload *u) {
    const double more = (double)u->stored * (1.0 - u->pruned);
    return more > -tl_metric_value(g->held) ? more : -tl_metric_value(g->held);
}

static void record(const struct shard *s, const struct upload *u) {
    const struct gauges *g = &s->owner->gauges;
    const int64_t took_ms = u->ended_ms - s->capture.started_ms;
    tl_metric_add(g->snapshots, 1);
    tl_metric_add(g->bytes, (double)u->stored);
    tl_metric_add(g->held, bytes_more(g, u));
    tl_metric_add(g->pruned, u->pruned);
    tl_metric_observe(g->seconds, (double)took_ms / 1000.0);
    tl_metric_set(g->version[s->number], (double)u->meta.version);
    tl_log_line(TL_INFO, "snapshot taken", "shard", tl_text_u64(s->number), "version",
                tl_text_u64(u->meta.version), "position", tl_text_u64(u->meta.position),
                "epoch", tl_text_u64(u->meta.epoch), "bytes", tl_text_u64(u->stored),
                "ms", tl_text_i64(took_ms), NULL);
}

void shard_stored(struct shard *s, const struct upload *u) {
    s->is_uploading = false;
    if (u->result < 0 && u->result != TL_E_EXISTS) {
        store_failed(s, &u->meta, u->result, u->why);
        return;
    }
    if (u->result == 0) { /* else another checkpointer was faster */
        record(s, u);
    }
    s->store_failures = 0;
    tl_pace_taken(&s->pace, tl_now_ms(), u->meta.version, u->meta.epoch);
    s->taken_position = u->meta.position;
    presence_announce(s->owner, TL_MEMBER_SERVING);
    /* A server that ends waits for the question whether there is anything newer: it
     * says what has been kept. One snapshot is enough when we are stopped. */
    if (!s->owner->job_has_ended && !presence_is_leaving(s->owner, s->number)) {
        last_is_over(s);
    }
    if (s->step == SHARD_IDLE) {
        s->act_ms = s->wants_last ? 0 : next_ping_ms(s);
    }
}

/* ---- turns -------------------------------------------------------------------- */

/* The deadline is for silence: a large state on a slow line is not late while it comes.
 */
static void check_deadline(struct shard *s, int64_t now_ms) {
    if (now_ms >= s->deadline_ms) {
        shard_advance(s); /* some bytes may be there, too few to wake us */
    }
    if (!shard_is_busy(s)) {
        return;
    }
    const uint64_t received = tl_link_bytes_received(s->link);
    if (received != s->bytes_received) {
        s->bytes_received = received;
        s->deadline_ms = now_ms + s->owner->job.request_ms;
    } else if (now_ms >= s->deadline_ms) {
        server_failed(s, TL_E_TIMEOUT, "the server is silent");
    }
}

/* A server that is about to leave waits for one more snapshot of what it has. */
static void look_for_leaving(struct shard *s) {
    if (!presence_is_leaving(s->owner, s->number)) {
        s->had_last = s->had_last && s->owner->is_ending;
    } else if (!s->wants_last && !s->had_last) {
        shard_want_last(s);
    }
}

void shard_turn(struct shard *s, int64_t now_ms) {
    look_for_leaving(s);
    if (shard_is_busy(s)) {
        check_deadline(s, now_ms);
        return;
    }
    const bool may_store =
        s->owner->store_is_open && !s->is_uploading && now_ms >= s->store_retry_ms;
    const bool is_due =
        s->wants_last || tl_pace_is_due(&s->pace, now_ms) || log_is_filling(s);
    if (s->step == SHARD_IDLE && is_due && may_store) {
        fetch_state(s, now_ms);
    } else if (now_ms < s->act_ms) {
        return;
    } else if (s->step == SHARD_AWAY) {
        connect_server(s);
    } else {
        ask_version(s);
    }
}
