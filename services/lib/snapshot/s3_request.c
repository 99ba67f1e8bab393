/* s3_request.c - one signed attempt at a request, as a handle for curl.
 *
 * Every request carries the SHA-256 of its body, so that a server does not take bytes
 * that were damaged on their way. Nothing of an attempt outlives it but what it says in
 * `outcome`, and how far the sink has been fed: the next one goes on from there. */
#include "throughline/service.h"

#include "s3_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS      10000L
#define CONTINUE_MS     1L      /* nobody waits to be asked for the body */
#define SLOWEST_BYTES   16384L  /* a second */
#define TRANSFER_BUFFER 262144L /* of curl, for each request under way */
#define HEADER_MAX      (TL_S3_TOKEN_MAX + 64u)

static const char empty_sha256[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* ---- what is asked ------------------------------------------------------------ */

int tl_s3_request_init(struct s3_request *r, struct s3_store *s, const char *method,
                       const char *key, const char *query) {
    *r = (struct s3_request){.store = s, .method = method};
    const int n = snprintf(r->target, sizeof(r->target), "%s%s%s%s%s",
                           key == NULL ? "" : "/", key == NULL ? "" : s->place.prefix,
                           key == NULL ? "" : key, query[0] == '\0' ? "" : "?", query);
    return n < (int)sizeof(r->target)
               ? 0
               : tl_fail(TL_E_INVALID, "store %s: a request of %d characters", s->name,
                         n);
}

void tl_s3_request_done(struct s3_request *r) {
    tl_s3_attempt_end(r);
    free(r->answer);
    r->answer = NULL;
}

int tl_s3_query_add(char query[S3_TARGET_MAX], const char *name, const char *value) {
    const size_t at = strlen(query);
    char *escaped = curl_easy_escape(NULL, value, 0);
    if (escaped == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a request");
    }
    const int n = snprintf(query + at, S3_TARGET_MAX - at, "%s%s=%s",
                           at == 0 ? "" : "&", name, escaped);
    curl_free(escaped);
    return (size_t)n < S3_TARGET_MAX - at
               ? 0
               : tl_fail(TL_E_INVALID, "a request is longer than %u characters",
                         S3_TARGET_MAX - 1u);
}

/* ---- bodies ------------------------------------------------------------------- */

static size_t give_body(char *to, size_t size, size_t count, void *ctx) {
    struct s3_request *r = ctx;
    const size_t room = size * count;
    const size_t left = r->body_size - r->body_sent;
    const size_t n = left < room ? left : room;
    if (n > 0) {
        memcpy(to, (const char *)r->body + r->body_sent, n);
    }
    r->body_sent += n;
    return n;
}

static int seek_body(void *ctx, curl_off_t offset, int origin) {
    struct s3_request *r = ctx;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > r->body_size) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    r->body_sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Answers that are kept: XML, and what a server says of an error. */
static int keep(struct s3_request *r, const void *bytes, size_t size) {
    if (size > S3_ANSWER_MAX - r->answer_size) {
        return tl_fail(TL_E_PROTOCOL, "store %s: an answer of more than %u bytes",
                       r->store->name, S3_ANSWER_MAX);
    }
    char *grown = realloc(r->answer, r->answer_size + size + 1u);
    if (grown == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a server's answer");
    }
    memcpy(grown + r->answer_size, bytes, size);
    r->answer = grown;
    r->answer_size += size;
    r->answer[r->answer_size] = '\0';
    return 0;
}

/* What was wrong here is no fault of the network's: the request ends with it. */
static size_t taken(struct s3_request *r, int error, size_t size) {
    r->sink_error = error;
    if (error != 0) {
        (void)snprintf(r->why, sizeof(r->why), "%s", tl_error_text());
    }
    return error == 0 ? size : CURL_WRITEFUNC_ERROR;
}

/* What an earlier attempt has brought already is not fed again. A server that heeds the
 * range does not send it. */
static size_t feed(struct s3_request *r, const char *bytes, size_t size) {
    const size_t known = r->skip < size ? (size_t)r->skip : size;
    r->skip -= known;
    int rc = 0;
    if (known < size) {
        rc = r->sink.feed(r->sink.ctx, bytes + known, size - known);
        r->fed += rc == 0 ? size - known : 0;
    }
    return taken(r, rc, size);
}

static size_t take_answer(char *bytes, size_t size, size_t count, void *ctx) {
    struct s3_request *r = ctx;
    const size_t n = size * count;
    long status = 0;
    (void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    if (r->sink.feed == NULL || status >= 300) {
        return taken(r, keep(r, bytes, n), n);
    }
    if (status == 206) {
        r->skip = 0;
    }
    return feed(r, bytes, n);
}

/* ---- headers ------------------------------------------------------------------ */

static int add_header(struct s3_request *r, const char *name, const char *value) {
    char text[HEADER_MAX];
    (void)snprintf(text, sizeof(text), "%s: %s", name, value);
    struct curl_slist *grown = curl_slist_append(r->headers, text);
    explicit_bzero(text, sizeof(text));
    if (grown == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a request");
    }
    r->headers = grown;
    return 0;
}

static int hash_body(struct s3_request *r) {
    struct tl_sha256 *sha = NULL;
    if (r->body_sha256 != NULL || r->sha256[0] != '\0') {
        return 0;
    }
    if (r->body_size == 0) {
        memcpy(r->sha256, empty_sha256, sizeof(empty_sha256));
        return 0;
    }
    int rc = tl_sha256_new(&sha);
    if (rc == 0) {
        rc = tl_sha256_feed(sha, r->body, r->body_size);
    }
    if (rc == 0) {
        rc = tl_sha256_end(sha, r->sha256);
    }
    tl_sha256_free(sha);
    return rc;
}

/* The signature's time, by the server's clock where ours is known to be another. */
static int add_date(struct s3_request *r) {
    char text[32];
    struct tm utc;
    const time_t now =
        (time_t)(tl_unix_ms() / 1000u) + (time_t)r->store->clock_offset_s;
    if (r->store->clock_offset_s == 0) {
        return 0;
    }
    if (gmtime_r(&now, &utc) == NULL ||
        strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc) == 0) {
        return tl_fail(TL_E_IO, "the time is none");
    }
    return add_header(r, "X-Amz-Date", text);
}

static int add_headers(struct s3_request *r) {
    const struct s3_credentials *c = &r->store->credentials;
    char range[48];
    int rc = hash_body(r);
    if (rc == 0) {
        rc = add_header(r, "x-amz-content-sha256",
                        r->body_sha256 != NULL ? r->body_sha256 : r->sha256);
    }
    rc = rc == 0 ? add_date(r) : rc;
    if (rc == 0 && c->session_token[0] != '\0') {
        rc = add_header(r, "x-amz-security-token", c->session_token);
    }
    if (rc == 0 && r->if_absent) {
        rc = add_header(r, "If-None-Match", "*");
    }
    if (rc == 0 && r->fed > 0) {
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", r->fed);
        rc = add_header(r, "Range", range);
    }
    return rc == 0 && r->body_size > 0
               ? add_header(r, "Content-Type", "application/octet-stream")
               : rc;
}

/* ---- the handle --------------------------------------------------------------- */

static void set_method(struct s3_request *r) {
    CURL *e = r->easy;
    const bool sends = strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0;
    (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
    (void)curl_easy_setopt(e, CURLOPT_NOBODY, strcmp(r->method, "HEAD") == 0 ? 1L : 0L);
    if (sends) {
        (void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_size);
        (void)curl_easy_setopt(e, CURLOPT_READFUNCTION, give_body);
        (void)curl_easy_setopt(e, CURLOPT_READDATA, r);
        (void)curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, seek_body);
        (void)curl_easy_setopt(e, CURLOPT_SEEKDATA, r);
        (void)curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BUFFER);
    } else {
        (void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, TRANSFER_BUFFER);
    }
}

/* The only calls that can fail for want of memory are those that copy text. */
static bool set_texts(struct s3_request *r) {
    const struct s3_store *s = r->store;
    char url[sizeof(s->place.base) + S3_TARGET_MAX];
    char provider[128];
    (void)snprintf(url, sizeof(url), "%s%s", s->place.base, r->target);
    (void)snprintf(provider, sizeof(provider), "aws:amz:%s:s3", s->place.region);
    CURL *e = r->easy;
    return curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_AWS_SIGV4, provider) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_USERNAME, s->credentials.access_key) ==
               CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PASSWORD, s->credentials.secret_key) ==
               CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           (s->place.ca_file[0] == '\0' ||
            curl_easy_setopt(e, CURLOPT_CAINFO, s->place.ca_file) == CURLE_OK);
}

static void set_bounds(struct s3_request *r) {
    CURL *e = r->easy;
    const long ms = (long)r->store->options.request_ms;
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                           ms < CONNECT_MS ? ms : CONNECT_MS);
    (void)curl_easy_setopt(e, CURLOPT_EXPECT_100_TIMEOUT_MS, CONTINUE_MS);
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, SLOWEST_BYTES);
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (ms + 999L) / 1000L);
    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_answer);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
    (void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->curl_text);
    (void)curl_easy_setopt(e, CURLOPT_PRIVATE, r);
    (void)curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
}

int tl_s3_attempt(struct s3_request *r) {
    tl_s3_attempt_end(r);
    r->easy = curl_easy_init();
    int rc = r->easy == NULL ? tl_fail(TL_E_NOMEM, "no memory for a request") : 0;
    if (rc == 0) {
        rc = add_headers(r);
    }
    if (rc < 0) {
        return rc;
    }
    free(r->answer);
    r->answer = NULL;
    r->answer_size = 0;
    r->body_sent = 0;
    r->skip = r->fed;
    r->curl_text[0] = '\0';
    set_method(r);
    set_bounds(r);
    return set_texts(r) ? 0 : tl_fail(TL_E_NOMEM, "no memory for a request");
}

void tl_s3_attempt_end(struct s3_request *r) {
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    r->easy = NULL;
    r->headers = NULL;
}
