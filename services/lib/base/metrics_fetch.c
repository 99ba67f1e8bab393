/* metrics_fetch.c - another service's pages, /metrics above all, through libcurl,
 * bounded in time and size. */
#include "throughline/service.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)4 << 20)

struct body {
    char *text;
    size_t size;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void set_up(void) {
    global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Taking fewer bytes than offered makes libcurl end the transfer with an error. */
static size_t take(char *bytes, size_t one, size_t n, void *ctx) {
    struct body *b = ctx;
    n *= one;
    if (n > TEXT_MAX - b->size) {
        return 0;
    }
    char *larger = realloc(b->text, b->size + n + 1);
    if (larger == NULL) {
        return 0;
    }
    b->text = larger;
    memcpy(b->text + b->size, bytes, n);
    b->size += n;
    b->text[b->size] = '\0';
    return n;
}

static int code_of(CURLcode rc) {
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return TL_E_TIMEOUT;
    case CURLE_COULDNT_CONNECT:
        return TL_E_REFUSED;
    case CURLE_WRITE_ERROR:
        return TL_E_TOOBIG;
    case CURLE_HTTP_RETURNED_ERROR:
        return TL_E_PROTOCOL;
    default:
        return TL_E_UNAVAILABLE;
    }
}

/* Only plain HTTP to the address itself: no proxy, no redirects, no signals. */
static CURLcode transfer(CURL *curl, const char *url, long timeout_ms, struct body *b) {
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, b);
    return curl_easy_perform(curl);
}

int tl_http_get(const char *http, const char *path, int64_t deadline_ms,
                char **ret_text) {
    char url[512];
    const int n = snprintf(url, sizeof(url), "http://%s%s", http, path);
    if (n < 0 || (size_t)n >= sizeof(url)) {
        return tl_fail(TL_E_INVALID, "the address %.64s is too long", http);
    }
    const int64_t left = deadline_ms - tl_now_ms();
    if (left <= 0) {
        return tl_fail(TL_E_TIMEOUT, "%s: no time left", url);
    }
    (void)pthread_once(&once, set_up);
    CURL *curl = global == CURLE_OK ? curl_easy_init() : NULL;
    struct body b = {.text = strdup("")};
    if (curl == NULL || b.text == NULL) {
        curl_easy_cleanup(curl);
        free(b.text);
        return tl_fail(TL_E_NOMEM, "%s: out of memory", url);
    }
    const CURLcode rc = transfer(curl, url, left < 600000 ? (long)left : 600000L, &b);
    curl_easy_cleanup(curl);
    if (rc != CURLE_OK) {
        free(b.text);
        return tl_fail(code_of(rc), "%s: %s", url, curl_easy_strerror(rc));
    }
    *ret_text = b.text;
    return 0;
}

int tl_metrics_fetch(const char *http, int64_t deadline_ms, char **ret_text) {
    return tl_http_get(http, "/metrics", deadline_ms, ret_text);
}
