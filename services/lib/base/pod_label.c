/* pod_label.c - one label, one thread, one kind of request: PATCH of our own pod. */
#include "throughline/pod_label.h"

#include "throughline/service.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ACCOUNT       "/var/run/secrets/kubernetes.io/serviceaccount/"
#define REQUEST_MS    5000L
#define RETRY_SECONDS 5
#define VALUE_MAX     16u
#define TOKEN_MAX     8192u

struct tl_pod_label {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char wanted[VALUE_MAX], told[VALUE_MAX]; /* under the lock */
    bool is_stopping;                        /* likewise */
    char key[TL_NAME_MAX], url[512];
    char complaint[256]; /* the thread's: said once */
};

/* ---- who and where we are ---------------------------------------------------------
 */

static int read_file(const char *path, char *text, size_t size) {
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return tl_fail(TL_E_CONFIG,
                       "no %s: the pod's label needs a service account's token", path);
    }
    size_t n = fread(text, 1, size - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    return text[0] != '\0' ? 0 : tl_fail(TL_E_CONFIG, "%s is empty", path);
}

static int find_pod(char *url, size_t size) {
    char space[256] = "";
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT");
    const char *pod = getenv("HOSTNAME");
    if (host == NULL || port == NULL || pod == NULL) {
        return tl_fail(TL_E_CONFIG, "this is no pod: it has no label");
    }
    int rc = read_file(ACCOUNT "namespace", space, sizeof(space));
    if (rc != 0) {
        return rc;
    }
    bool is_v6 = strchr(host, ':') != NULL;
    int n = snprintf(url, size, "https://%s%s%s:%s/api/v1/namespaces/%s/pods/%s",
                     is_v6 ? "[" : "", host, is_v6 ? "]" : "", port, space, pod);
    return n > 0 && (size_t)n < size
               ? 0
               : tl_fail(TL_E_CONFIG, "the API server's address is too long");
}

/* ---- the request ------------------------------------------------------------------
 */

static size_t ignore(char *bytes, size_t one, size_t n, void *ctx) {
    (void)bytes;
    (void)ctx;
    return one * n;
}

static void set_options(CURL *curl, const char *url, const char *token,
                        const char *body, struct curl_slist *headers) {
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PATCH");
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    (void)curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token);
    (void)curl_easy_setopt(curl, CURLOPT_CAINFO, ACCOUNT "ca.crt");
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, REQUEST_MS);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
}

static int perform(CURL *curl) {
    long status = 0;
    CURLcode rc = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (rc != CURLE_OK) {
        return tl_fail(TL_E_UNAVAILABLE, "the API server: %s", curl_easy_strerror(rc));
    }
    if (status == 401 || status == 403) {
        return tl_fail(TL_E_DENIED,
                       "the API server answers %ld: the service account needs get and "
                       "patch on its own pods",
                       status);
    }
    return status == 200
               ? 0
               : tl_fail(TL_E_UNAVAILABLE, "the API server answers %ld", status);
}

/* The token is read each time: Kubernetes renews it. */
static int patch(const struct tl_pod_label *l, const char *value) {
    char token[TOKEN_MAX];
    int rc = read_file(ACCOUNT "token", token, sizeof(token));
    if (rc != 0) {
        return rc;
    }
    json_t *json = json_pack("{s:{s:{s:s}}}", "metadata", "labels", l->key, value);
    char *body = json_dumps(json, JSON_COMPACT);
    struct curl_slist *headers =
        curl_slist_append(NULL, "Content-Type: application/merge-patch+json");
    CURL *curl = curl_easy_init();
    if (body == NULL || headers == NULL || curl == NULL) {
        rc = tl_fail(TL_E_NOMEM, "no memory for the pod's label");
    } else {
        set_options(curl, l->url, token, body, headers);
        rc = perform(curl);
    }
    explicit_bzero(token, sizeof(token));
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    free(body);
    json_decref(json);
    return rc;
}

/* ---- the thread -------------------------------------------------------------------
 */

static void complain(struct tl_pod_label *l, int rc) {
    if (strcmp(l->complaint, tl_error_text()) != 0) {
        (void)snprintf(l->complaint, sizeof(l->complaint), "%s", tl_error_text());
        tl_log_line(TL_WARNING, "the pod's label is not set", "error",
                    tl_error_name(rc), "why", l->complaint, NULL);
    }
}

static void pause_holding_lock(struct tl_pod_label *l) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_SECONDS;
    (void)pthread_cond_timedwait(&l->changed, &l->lock, &until);
}

static void tell_holding_lock(struct tl_pod_label *l) {
    char value[VALUE_MAX];
    memcpy(value, l->wanted, sizeof(value));
    (void)pthread_mutex_unlock(&l->lock);
    int rc = patch(l, value);
    if (rc != 0) {
        complain(l, rc);
    }
    (void)pthread_mutex_lock(&l->lock);
    if (rc == 0) {
        l->complaint[0] = '\0';
        memcpy(l->told, value, sizeof(l->told));
    } else if (!l->is_stopping) {
        pause_holding_lock(l);
    }
}

static void *keep(void *ctx) {
    struct tl_pod_label *l = ctx;
    (void)pthread_mutex_lock(&l->lock);
    while (!l->is_stopping) {
        if (strcmp(l->wanted, l->told) != 0) {
            tell_holding_lock(l);
        } else {
            (void)pthread_cond_wait(&l->changed, &l->lock);
        }
    }
    (void)pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- lifetime ---------------------------------------------------------------------
 */

static int start(struct tl_pod_label *l) {
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&l->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&l->lock, NULL);
    return pthread_create(&l->thread, NULL, keep, l) == 0
               ? 0
               : tl_fail(TL_E_NOMEM, "no thread for the pod's label");
}

int tl_pod_label_new(const char *key, struct tl_pod_label **ret_label) {
    struct tl_pod_label *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the pod's label");
    }
    (void)snprintf(l->key, sizeof(l->key), "%s", key);
    int rc = find_pod(l->url, sizeof(l->url));
    rc = rc == 0 ? start(l) : rc;
    if (rc != 0) {
        free(l);
        return rc;
    }
    *ret_label = l;
    return 0;
}

void tl_pod_label_set(struct tl_pod_label *l, const char *value) {
    if (l == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&l->lock);
    (void)snprintf(l->wanted, sizeof(l->wanted), "%s", value);
    (void)pthread_cond_signal(&l->changed);
    (void)pthread_mutex_unlock(&l->lock);
}

void tl_pod_label_free(struct tl_pod_label *l) {
    if (l == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&l->lock);
    l->is_stopping = true;
    (void)pthread_cond_signal(&l->changed);
    (void)pthread_mutex_unlock(&l->lock);
    (void)pthread_join(l->thread, NULL);
    (void)pthread_cond_destroy(&l->changed);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}
