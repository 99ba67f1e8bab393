/* s3_engine.c - requests in flight, and those that wait to be tried again.
 *
 * Nothing here waits for longer than a request's bounds allow: an attempt ends by its
 * slowest rate, attempts end by the time that the settings give them, and a cancelled
 * store ends all. */
#include "throughline/service.h"

#include "s3_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ATTEMPTS_MAX      20u
#define LOOK_MS           100 /* how late a cancellation may be noticed */
#define RETRY_AFTER_MAX_S 60
#define SKEW_MIN_S        60

void tl_s3_notice(struct s3_store *s, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (s->base.notice != NULL) {
        s->base.notice(s->base.notice_ctx, text);
    }
}

/* ---- what came back ----------------------------------------------------------- */

static const char *header_of(const struct s3_request *r, const char *name) {
    struct curl_header *h = NULL;
    return curl_easy_header(r->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK
               ? h->value
               : NULL;
}

static void read_outcome(struct s3_request *r, CURLcode transfer) {
    struct s3_outcome *o = &r->outcome;
    const char *etag = header_of(r, "ETag");
    curl_off_t length = 0;
    *o = (struct s3_outcome){.transfer = transfer};
    (void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &o->status);
    (void)curl_easy_getinfo(r->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    r->length = length > 0 ? (uint64_t)length : 0;
    (void)snprintf(r->etag, sizeof(r->etag), "%s", etag == NULL ? "" : etag);
    /* A server may begin with 200 and find out later. An answer that could not be read
     * is none. */
    if (tl_s3_xml_find(r->answer, r->answer_size, "Error/Code", o->word,
                       sizeof(o->word)) == TL_E_NOMEM) {
        o->transfer = CURLE_OUT_OF_MEMORY;
    }
}

/* "500 InternalError", or what curl says. */
static void describe(const struct s3_request *r, char *text, size_t size) {
    const struct s3_outcome *o = &r->outcome;
    if (o->transfer != CURLE_OK) {
        (void)snprintf(text, size, "%s",
                       r->curl_text[0] != '\0' ? r->curl_text
                                               : curl_easy_strerror(o->transfer));
    } else {
        (void)snprintf(text, size, "the server answers %ld%s%s", o->status,
                       o->word[0] == '\0' ? "" : " ", o->word);
    }
}

/* "PUT shard-0000/...": without the query, which is of no use to anybody. */
static void name_request(const struct s3_request *r, char *text, size_t size) {
    const int length = (int)strcspn(r->target, "?");
    (void)snprintf(text, size, "%s %.*s", r->method, length > 0 ? length - 1 : 10,
                   length > 0 ? r->target + 1 : "the bucket");
}

static int fail_request(const struct s3_request *r, const struct s3_verdict *v) {
    char what[320];
    char name[320];
    describe(r, what, sizeof(what));
    name_request(r, name, sizeof(name));
    return tl_fail(v->error, "store %s: %s: %s%s%s", r->store->name, name, what,
                   r->attempts > 1 ? ", time after time" : "", v->advice);
}

/* ---- again -------------------------------------------------------------------- */

/* By the server's own time the same request is no replay. */
static bool set_clock(struct s3_request *r) {
    struct s3_store *s = r->store;
    const char *date = header_of(r, "Date");
    const time_t theirs = date == NULL ? -1 : curl_getdate(date, NULL);
    const int64_t offset = (int64_t)theirs - (int64_t)(tl_unix_ms() / 1000u);
    if (theirs < 0 || llabs(offset - s->clock_offset_s) < SKEW_MIN_S) {
        return false;
    }
    s->clock_offset_s = offset;
    tl_s3_notice(s,
                 "store %s: this machine's clock differs from the server's by %" PRId64
                 " s: requests are signed by the server's; set the clock",
                 s->name, offset);
    return true;
}

/* Files and variables may hold newer keys by now. */
static bool renew_keys(struct s3_store *s) {
    struct s3_credentials fresh;
    if (tl_s3_credentials(&s->options, &fresh) < 0) {
        return false;
    }
    const bool is_new = memcmp(&fresh, &s->credentials, sizeof(fresh)) != 0;
    s->credentials = fresh;
    explicit_bzero(&fresh, sizeof(fresh));
    return is_new;
}

static int64_t wait_before_next(const struct s3_request *r) {
    curl_off_t asked_s = 0;
    int64_t ms = tl_s3_backoff_ms(r->attempts, tl_random_u64());
    (void)curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &asked_s);
    if (asked_s > 0) {
        const int64_t asked_ms =
            (asked_s < RETRY_AFTER_MAX_S ? asked_s : RETRY_AFTER_MAX_S) * 1000;
        ms = asked_ms > ms ? asked_ms : ms;
    }
    return ms;
}

/* Said once, until the server answers as it should. */
static void complain(const struct s3_request *r, const struct s3_verdict *v) {
    char what[320];
    char name[320];
    if (r->store->has_complained) {
        return;
    }
    r->store->has_complained = true;
    describe(r, what, sizeof(what));
    name_request(r, name, sizeof(name));
    tl_s3_notice(r->store, "store %s: %s: %s: trying again for up to %u s%s",
                 r->store->name, name, what, r->store->options.retry_ms / 1000u,
                 v->advice);
}

/* Is the request to be tried again, and when? */
static bool plan_next(struct s3_request *r, const struct s3_verdict *v) {
    const int64_t now_ms = tl_now_ms();
    if (!v->again || r->only_once || r->attempts >= ATTEMPTS_MAX) {
        return false;
    }
    if (v->wrong_clock || v->stale_keys) {
        r->due_ms = now_ms;
        return v->wrong_clock ? set_clock(r) : renew_keys(r->store);
    }
    r->due_ms = now_ms + wait_before_next(r);
    if (r->due_ms >= r->deadline_ms) {
        return false;
    }
    complain(r, v);
    return true;
}

/* ---- over --------------------------------------------------------------------- */

static void forget(struct s3_request *r) {
    struct s3_store *s = r->store;
    for (size_t i = 0; i < s->request_count; i++) {
        if (s->requests[i] == r) {
            s->requests[i] = s->requests[--s->request_count];
            return;
        }
    }
}

static void detach(struct s3_request *r) {
    if (r->easy != NULL) {
        (void)curl_multi_remove_handle(r->store->multi, r->easy);
    }
    tl_s3_attempt_end(r);
}

static void finish(struct s3_request *r, int result) {
    forget(r);
    detach(r);
    r->is_over = true;
    r->result = result;
    if (result != 0 && r->sink_error == 0) {
        (void)snprintf(r->why, sizeof(r->why), "%s", tl_error_text());
    }
    if (r->done != NULL) {
        r->done(r);
    }
}

void tl_s3_drop(struct s3_request *r) {
    forget(r);
    detach(r);
}

/* As it is billed: each attempt, and what it brought or took. */
static void count(const struct s3_request *r) {
    const bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    curl_off_t received = 0;
    (void)curl_easy_getinfo(r->easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
    tl_backend_count(TL_BACKEND_STORE, reads ? TL_ACCESS_READ : TL_ACCESS_WRITE, 1,
                     r->body_sent + (uint64_t)received);
}

static void attempt_ended(struct s3_request *r, CURLcode transfer) {
    count(r);
    if (transfer != CURLE_OK && r->sink_error != 0) {
        finish(r, r->sink_error);
        return;
    }
    read_outcome(r, transfer);
    const struct s3_verdict v = tl_s3_judge(&r->outcome);
    /* Nothing behind what earlier attempts brought: that was all. */
    const bool is_all = r->fed > 0 && r->outcome.status == 416;
    if (v.error == 0 || is_all) {
        r->store->has_complained = false;
        finish(r, 0);
    } else if (plan_next(r, &v)) {
        detach(r);
    } else {
        finish(r, fail_request(r, &v));
    }
}

static void launch(struct s3_request *r) {
    r->attempts++;
    int rc = tl_s3_attempt(r);
    if (rc == 0 && curl_multi_add_handle(r->store->multi, r->easy) != CURLM_OK) {
        rc = tl_fail(TL_E_NOMEM, "no memory for a request");
    }
    if (rc < 0) {
        finish(r, rc);
    }
}

void tl_s3_start(struct s3_request *r) {
    struct s3_store *s = r->store;
    r->is_over = false;
    r->attempts = 0;
    r->fed = 0;
    r->sink_error = 0;
    r->deadline_ms = tl_now_ms() + s->options.retry_ms;
    if (s->request_count == S3_REQUESTS_MAX) {
        r->easy = NULL;
        finish(r, tl_fail(TL_E_LIMIT, "store %s: more than %u requests at once",
                          s->name, S3_REQUESTS_MAX));
        return;
    }
    s->requests[s->request_count++] = r;
    launch(r);
}

/* ---- turns -------------------------------------------------------------------- */

static void cancel_all(struct s3_store *s) {
    char name[320];
    while (s->request_count > 0) {
        name_request(s->requests[0], name, sizeof(name));
        finish(s->requests[0],
               tl_fail(TL_E_INTERRUPTED, "store %s: stopped in the middle of %s",
                       s->name, name));
    }
}

/* Start again what is due. When to look again, `max_ms` from now at the latest. */
static int64_t launch_due(struct s3_store *s, int64_t max_ms) {
    const int64_t now_ms = tl_now_ms();
    int64_t wait_ms = max_ms < LOOK_MS ? max_ms : LOOK_MS;
    for (size_t i = 0; i < s->request_count; i++) {
        struct s3_request *r = s->requests[i];
        if (r->easy != NULL) {
            continue;
        }
        if (r->due_ms <= now_ms) {
            launch(r);
            return 0; /* the list may have changed */
        }
        wait_ms = r->due_ms - now_ms < wait_ms ? r->due_ms - now_ms : wait_ms;
    }
    return wait_ms;
}

static bool take_ended(struct s3_store *s) {
    bool has_ended = false;
    int left = 0;
    const CURLMsg *m = NULL;
    while ((m = curl_multi_info_read(s->multi, &left)) != NULL) {
        struct s3_request *r = NULL;
        if (m->msg == CURLMSG_DONE) {
            const CURLcode transfer = m->data.result;
            (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
            attempt_ended(r, transfer);
            has_ended = true;
        }
    }
    return has_ended;
}

void tl_s3_turn(struct s3_store *s, int64_t max_ms) {
    int running = 0;
    if (atomic_load(&s->base.is_cancelled)) {
        cancel_all(s);
        return;
    }
    const int64_t wait_ms = launch_due(s, max_ms);
    (void)curl_multi_perform(s->multi, &running);
    if (!take_ended(s) && wait_ms > 0) {
        (void)curl_multi_poll(s->multi, NULL, 0, (int)wait_ms, NULL);
    }
}

int tl_s3_run(struct s3_request *r) {
    tl_s3_start(r);
    while (!r->is_over) {
        tl_s3_turn(r->store, LOOK_MS);
    }
    return r->result < 0 ? tl_fail(r->result, "%s", r->why) : r->result;
}
