/* s3_verdict.c - what an answer of S3, or none, means for the request.
 *
 * Again: what the server, the network or a busy moment did. Failed: whatever would come
 * back the same, which is almost every 4xx. */
#include "s3_internal.h"

#include <string.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000

static struct s3_verdict again(int error, const char *advice) {
    return (struct s3_verdict){.error = error, .again = true, .advice = advice};
}

static struct s3_verdict failed(int error, const char *advice) {
    return (struct s3_verdict){.error = error, .advice = advice};
}

static struct s3_verdict judge_transfer(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return again(TL_E_UNAVAILABLE, "; is s3.endpoint right, and the server up?");
    case CURLE_OPERATION_TIMEDOUT:
        return again(TL_E_TIMEOUT, "");
    case CURLE_OUT_OF_MEMORY:
        return failed(TL_E_NOMEM, "");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return failed(TL_E_CONFIG, "; give the certificate of its authority as "
                                   "s3.ca_file");
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return failed(TL_E_CONFIG, "; check s3.endpoint");
    default:
        return again(TL_E_CLOSED, "");
    }
}

/* Words that decide whatever the status is. */
static const struct {
    const char *word;
    struct s3_verdict verdict;
} words[] = {
    {"NoSuchBucket",
     {.error = TL_E_CONFIG, .advice = "; make the bucket, or correct the URL"}},
    {"InvalidAccessKeyId", {.error = TL_E_CONFIG, .advice = "; check the access key"}},
    {"SignatureDoesNotMatch",
     {.error = TL_E_CONFIG, .advice = "; check the secret key"}},
    {"AuthorizationHeaderMalformed",
     {.error = TL_E_CONFIG, .advice = "; check s3.region"}},
    {"PermanentRedirect",
     {.error = TL_E_CONFIG, .advice = "; check s3.region and s3.endpoint"}},
    {"InvalidBucketName", {.error = TL_E_CONFIG, .advice = "; correct the URL"}},
    {"RequestTimeTooSkewed",
     {.error = TL_E_IO,
      .again = true,
      .wrong_clock = true,
      .advice = "; this machine's clock is wrong, or the server's"}},
    {"ExpiredToken",
     {.error = TL_E_DENIED,
      .again = true,
      .stale_keys = true,
      .advice = "; renew the session token"}},
    {"RequestTimeout", {.error = TL_E_TIMEOUT, .again = true, .advice = ""}},
    {"SlowDown", {.error = TL_E_UNAVAILABLE, .again = true, .advice = ""}},
    {"ConditionalRequestConflict", {.error = TL_E_BUSY, .again = true, .advice = ""}},
    {"OperationAborted", {.error = TL_E_BUSY, .again = true, .advice = ""}},
    /* The bytes were damaged on the way. */
    {"XAmzContentSHA256Mismatch",
     {.error = TL_E_CHECKSUM, .again = true, .advice = ""}},
    {"BadDigest", {.error = TL_E_CHECKSUM, .again = true, .advice = ""}},
    {"IncompleteBody", {.error = TL_E_CLOSED, .again = true, .advice = ""}},
};

static struct s3_verdict judge_status(long status) {
    switch (status) {
    case 301:
    case 302:
    case 307:
    case 308:
        return failed(TL_E_CONFIG, "; check s3.region and s3.endpoint");
    case 401:
    case 403:
        return failed(TL_E_DENIED, "; these credentials may not do this");
    case 404:
        return failed(TL_E_NOTFOUND, "");
    case 408:
        return again(TL_E_TIMEOUT, "");
    case 412:
        return failed(TL_E_EXISTS, "");
    case 429:
        return again(TL_E_UNAVAILABLE, "");
    case 501:
        return failed(TL_E_UNSUPPORTED, "");
    default:
        return status >= 500 ? again(TL_E_UNAVAILABLE, "") : failed(TL_E_IO, "");
    }
}

struct s3_verdict tl_s3_judge(const struct s3_outcome *o) {
    if (o->transfer != CURLE_OK) {
        return judge_transfer(o->transfer);
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(o->word, words[i].word) == 0) {
            return words[i].verdict;
        }
    }
    if (o->status < 200 || o->status >= 300) {
        return judge_status(o->status);
    }
    /* It began well, and went wrong while the answer was on its way. */
    return o->word[0] != '\0' ? again(TL_E_UNAVAILABLE, "")
                              : (struct s3_verdict){.advice = ""};
}

/* Doubled with each attempt; anything from the half of it to all of it. */
int64_t tl_s3_backoff_ms(unsigned int attempt, uint64_t chance) {
    const unsigned int doublings = attempt < 8u ? attempt - (attempt > 0) : 7u;
    const int64_t whole = (int64_t)BACKOFF_MIN_MS << doublings;
    const int64_t ms = whole < BACKOFF_MAX_MS ? whole : BACKOFF_MAX_MS;
    return ms / 2 + (int64_t)(chance % (uint64_t)(ms / 2 + 1));
}
