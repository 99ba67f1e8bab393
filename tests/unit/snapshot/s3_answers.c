/* What an S3 server says: XML that is right, XML that is not, and what each answer
 * means for the request. */
#include "s3_internal.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

/* ---- XML ---------------------------------------------------------------------- */

static int concatenate(void *ctx, const char *name, uint64_t size) {
    char *text = ctx;
    const size_t length = strlen(text);
    (void)snprintf(text + length, 256 - length, "%s:%llu ", name,
                   (unsigned long long)size);
    return 0;
}

static int page(const char *xml, char names[256], char next[S3_TEXT_MAX]) {
    names[0] = '\0';
    return tl_s3_page(xml, strlen(xml), "run/", concatenate, names, next);
}

static void a_page_is_read(void **state) {
    char names[256];
    char next[S3_TEXT_MAX];
    (void)state;
    assert_int_equal(
        page("<?xml version='1.0'?><ListBucketResult xmlns='http://s3'><Name>b</Name>"
             "<IsTruncated>true</IsTruncated>"
             "<Contents><Key>run/a%2Fb</Key><Size>12</Size><ETag>&quot;e&quot;</ETag>"
             "<Owner><ID>x</ID></Owner></Contents>"
             "<Contents><Key>other/c</Key><Size>1</Size></Contents>"
             "<Contents><Key>run/.hidden</Key><Size>1</Size></Contents>"
             "<Contents><Key>run/%00x</Key><Size>1</Size></Contents>"
             "<Contents><Key>run/d</Key><Size>18446744073709551615</Size></Contents>"
             "<NextContinuationToken>a&amp;b=</NextContinuationToken>"
             "</ListBucketResult>",
             names, next),
        0);
    assert_string_equal(names, "a/b:12 d:18446744073709551615 ");
    assert_string_equal(next, "a&b=");
}

static void a_page_that_cannot_be_is_refused(void **state) {
    static const char *const wrong[] = {
        "",
        "no XML",
        "<ListBucketResult>",
        "<Error><Code>AccessDenied</Code></Error>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Key>run/a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>run/a</Key><Size>-1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><Contents><Key>run/a</Key><Size>1x</Size></Contents>"
        "</ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ListBucketResult>&a;</ListBucketResult>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a>"
        "</a></a></a></a></a></a></a></a></a></a></a>",
    };
    char names[256];
    char next[S3_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (page(wrong[i], names, next) != TL_E_PROTOCOL) {
            fail_msg("taken: %s", wrong[i]);
        }
    }
}

/* Every cut of an answer is an error, and none of them a crash. */
static void a_page_cut_short_is_refused(void **state) {
    static const char xml[] =
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>run/a</Key>"
        "<Size>1</Size></Contents></ListBucketResult>";
    char names[256];
    char next[S3_TEXT_MAX];
    (void)state;
    for (size_t size = 0; size < sizeof(xml) - 1u; size++) {
        names[0] = '\0';
        assert_int_equal(tl_s3_page(xml, size, "run/", concatenate, names, next),
                         TL_E_PROTOCOL);
    }
}

static int find_code(const char *xml, char ret_code[8]) {
    return tl_s3_xml_find(xml, xml == NULL ? 0 : strlen(xml), "Error/Code", ret_code,
                          8);
}

static void a_text_is_bounded(void **state) {
    static char xml[2 * S3_TEXT_MAX];
    char found[8];
    (void)state;
    (void)snprintf(xml, sizeof(xml), "<Error><Code>%0*d</Code></Error>",
                   (int)S3_TEXT_MAX, 1);
    assert_int_equal(find_code(xml, found), TL_E_PROTOCOL);
    (void)snprintf(xml, sizeof(xml), "<Error><Code>12345678</Code></Error>");
    assert_int_equal(find_code(xml, found), TL_E_NOTFOUND);
    (void)snprintf(xml, sizeof(xml), "<Error><Code>1234567</Code></Error>");
    assert_int_equal(find_code(xml, found), 0);
    assert_string_equal(found, "1234567");
    assert_int_equal(find_code(NULL, found), TL_E_NOTFOUND);
}

/* ---- verdicts ----------------------------------------------------------------- */

static void every_answer_has_its_meaning(void **state) {
    static const struct {
        struct s3_outcome outcome;
        int error;
        bool again;
    } rows[] = {
        {{CURLE_OK, 200, ""}, 0, false},
        {{CURLE_OK, 204, ""}, 0, false},
        {{CURLE_OK, 206, ""}, 0, false},
        {{CURLE_OK, 200, "InternalError"}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 500, "InternalError"}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 502, ""}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 503, "SlowDown"}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 503, ""}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 504, ""}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 429, "TooManyRequests"}, TL_E_UNAVAILABLE, true},
        {{CURLE_OK, 408, ""}, TL_E_TIMEOUT, true},
        {{CURLE_OK, 400, "RequestTimeout"}, TL_E_TIMEOUT, true},
        {{CURLE_OK, 400, "XAmzContentSHA256Mismatch"}, TL_E_CHECKSUM, true},
        {{CURLE_OK, 409, "ConditionalRequestConflict"}, TL_E_BUSY, true},
        {{CURLE_OK, 403, "RequestTimeTooSkewed"}, TL_E_IO, true},
        {{CURLE_OK, 400, "ExpiredToken"}, TL_E_DENIED, true},
        {{CURLE_OK, 400, "InvalidArgument"}, TL_E_IO, false},
        {{CURLE_OK, 403, "AccessDenied"}, TL_E_DENIED, false},
        {{CURLE_OK, 403, ""}, TL_E_DENIED, false},
        {{CURLE_OK, 403, "SignatureDoesNotMatch"}, TL_E_CONFIG, false},
        {{CURLE_OK, 403, "InvalidAccessKeyId"}, TL_E_CONFIG, false},
        {{CURLE_OK, 404, "NoSuchBucket"}, TL_E_CONFIG, false},
        {{CURLE_OK, 404, "NoSuchKey"}, TL_E_NOTFOUND, false},
        {{CURLE_OK, 405, "MethodNotAllowed"}, TL_E_IO, false},
        {{CURLE_OK, 412, "PreconditionFailed"}, TL_E_EXISTS, false},
        {{CURLE_OK, 501, "NotImplemented"}, TL_E_UNSUPPORTED, false},
        {{CURLE_OK, 301, "PermanentRedirect"}, TL_E_CONFIG, false},
        {{CURLE_OK, 307, ""}, TL_E_CONFIG, false},
        {{CURLE_COULDNT_CONNECT, 0, ""}, TL_E_UNAVAILABLE, true},
        {{CURLE_COULDNT_RESOLVE_HOST, 0, ""}, TL_E_UNAVAILABLE, true},
        {{CURLE_OPERATION_TIMEDOUT, 0, ""}, TL_E_TIMEOUT, true},
        {{CURLE_RECV_ERROR, 0, ""}, TL_E_CLOSED, true},
        {{CURLE_PARTIAL_FILE, 200, ""}, TL_E_CLOSED, true},
        {{CURLE_PEER_FAILED_VERIFICATION, 0, ""}, TL_E_CONFIG, false},
        {{CURLE_OUT_OF_MEMORY, 0, ""}, TL_E_NOMEM, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct s3_verdict v = tl_s3_judge(&rows[i].outcome);
        if (v.error != rows[i].error || v.again != rows[i].again) {
            fail_msg("%d %ld %s: %s, %d", (int)rows[i].outcome.transfer,
                     rows[i].outcome.status, rows[i].outcome.word,
                     tl_error_name(v.error), v.again);
        }
        assert_non_null(v.advice);
    }
}

static void waits_grow_and_differ(void **state) {
    int64_t longest = 0;
    (void)state;
    for (unsigned attempt = 1; attempt < 30; attempt++) {
        const int64_t low = tl_s3_backoff_ms(attempt, 0);
        const int64_t high = tl_s3_backoff_ms(attempt, (uint64_t)(low > 0 ? low : 1));
        assert_true(low >= 50);
        assert_true(high > low && high <= 10000);
        assert_true(high >= longest);
        longest = high;
    }
    assert_int_equal(longest, 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_read),
        cmocka_unit_test(a_page_that_cannot_be_is_refused),
        cmocka_unit_test(a_page_cut_short_is_refused),
        cmocka_unit_test(a_text_is_bounded),
        cmocka_unit_test(every_answer_has_its_meaning),
        cmocka_unit_test(waits_grow_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
