/* http.c - metrics, health and a service's own pages, on libmicrohttpd's own thread.
 *
 * Bounded: 64 connections, 10 s without a byte each. Read-only, but for a service that
 * takes POSTs: those come from a page of this machine's own, or are refused. Nothing
 * secret is shown; the address is loopback unless the operator says otherwise. */
#include "throughline/service.h"

#include "health.h"
#include "http_listen.h"
#include "http_stream.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX    64u
#define CONNECTION_SECONDS 10u
#define BEAT_MAX_MS        10000
#define SEE_OFF_MS         500 /* for viewers to read the last events */

static const char plain[] = "text/plain; charset=utf-8";
static const char prometheus[] = "text/plain; version=0.0.4; charset=utf-8";
static const char open_metrics[] =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct tl_http {
    struct MHD_Daemon *daemon;
    struct tl_http_site site;
    struct tl_viewers viewers;
};

static const char *header(struct MHD_Connection *connection, const char *name) {
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
    return value != NULL ? value : "";
}

/* ---- replies -------------------------------------------------------------------- */

/* Takes ownership of `response`; NULL: memory ran out. */
static enum MHD_Result queue(struct MHD_Connection *connection, unsigned status,
                             const char *type, struct MHD_Response *response) {
    if (response == NULL) {
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    (void)MHD_add_response_header(response, "X-Frame-Options", "DENY");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    const enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

/* Takes ownership of `body` (malloc'ed, or NULL when memory ran out). */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status,
                             const char *type, char *body, size_t size) {
    struct MHD_Response *response =
        body != NULL
            ? MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE)
            : NULL;
    if (response == NULL) {
        free(body);
    }
    return queue(connection, status, type, response);
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status,
                           const char *text) {
    char *body = NULL;
    const int n = asprintf(&body, "%s\n", text);
    return reply(connection, status, plain, n < 0 ? NULL : body, n < 0 ? 0 : (size_t)n);
}

static enum MHD_Result say_health(struct MHD_Connection *connection) {
    return tl_health_age_ms() <= BEAT_MAX_MS
               ? say(connection, MHD_HTTP_OK, "ok")
               : say(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                     "the main loop has not turned for 10 s");
}

static enum MHD_Result say_ready(struct MHD_Connection *connection) {
    const char *why_not = tl_health_why_not();
    return why_not == NULL ? say(connection, MHD_HTTP_OK, "ready")
                           : say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, why_not);
}

/* OpenMetrics for whoever can read it: it tells more. */
static enum MHD_Result say_metrics(struct MHD_Connection *connection) {
    const char *accepted = header(connection, MHD_HTTP_HEADER_ACCEPT);
    const bool is_open = strstr(accepted, "application/openmetrics-text") != NULL;
    size_t size = 0;
    char *text =
        tl_metrics_text(is_open ? TL_METRICS_OPEN : TL_METRICS_PROMETHEUS, &size);
    return reply(connection, MHD_HTTP_OK, is_open ? open_metrics : prometheus, text,
                 size);
}

static enum MHD_Result say_stream(struct tl_http *h,
                                  struct MHD_Connection *connection) {
    struct MHD_Response *response = tl_viewers_add(&h->viewers, connection);
    return response != NULL
               ? queue(connection, MHD_HTTP_OK, "text/event-stream", response)
               : say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "too many viewers");
}

static enum MHD_Result say_page(const struct tl_http *h,
                                struct MHD_Connection *connection, const char *path) {
    const char *type = plain;
    size_t size = 0;
    char *body =
        h->site.page != NULL ? h->site.page(h->site.ctx, path, &type, &size) : NULL;
    return body != NULL ? reply(connection, MHD_HTTP_OK, type, body, size)
                        : say(connection, MHD_HTTP_NOT_FOUND,
                              "not found; there are /healthz, /readyz and /metrics");
}

static enum MHD_Result get(struct tl_http *h, struct MHD_Connection *connection,
                           const char *path) {
    if (strcmp(path, "/healthz") == 0) {
        return say_health(connection);
    }
    if (strcmp(path, "/readyz") == 0) {
        return say_ready(connection);
    }
    if (strcmp(path, "/metrics") == 0) {
        return say_metrics(connection);
    }
    if (h->site.stream != NULL && strcmp(path, h->site.stream) == 0) {
        return say_stream(h, connection);
    }
    return say_page(h, connection, path);
}

/* ---- POST ----------------------------------------------------------------------- */

/* Was this page asked for under a name of the loopback interface? A name that somebody
 * else made point here is none. */
static bool is_loopback(const char *host) {
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const size_t n = strlen(names[i]);
        if (strncmp(host, names[i], n) == 0 && (host[n] == ':' || host[n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* No page but our own sends us there. */
static bool is_own_page(struct MHD_Connection *connection) {
    const char *host = header(connection, MHD_HTTP_HEADER_HOST);
    const char *origin = header(connection, MHD_HTTP_HEADER_ORIGIN);
    return is_loopback(host) &&
           (origin[0] == '\0' ||
            (strncmp(origin, "http://", 7) == 0 && strcmp(origin + 7, host) == 0));
}

static enum MHD_Result post(const struct tl_http *h, struct MHD_Connection *connection,
                            const char *path) {
    if (!is_own_page(connection)) {
        return say(connection, MHD_HTTP_FORBIDDEN, "not from here");
    }
    const unsigned status =
        h->site.post(h->site.ctx, path, header(connection, "X-Throughline-Token"));
    return say(connection, status,
               status < MHD_HTTP_BAD_REQUEST ? "accepted" : "refused");
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **request) {
    static char has_begun;
    struct tl_http *h = ctx;
    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
        strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
        return get(h, connection, url);
    }
    if (h->site.post == NULL || strcmp(method, MHD_HTTP_METHOD_POST) != 0) {
        return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only");
    }
    /* libmicrohttpd wants to be heard out before it takes an answer. */
    if (*request == NULL || *upload_size > 0) {
        *request = &has_begun;
        *upload_size = 0;
        return MHD_YES;
    }
    return post(h, connection, url);
}

/* ---- start and stop ------------------------------------------------------------- */

/* The thread inherits the mask: signals stay the main thread's. */
static struct MHD_Daemon *start_daemon(struct tl_http *h, int fd) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        CONNECTION_SECONDS, MHD_OPTION_END);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

int tl_http_start(const char *address, const struct tl_http_site *site,
                  struct tl_http **ret_http, char ret_address[TL_NAME_MAX * 4]) {
    if (strcmp(address, "off") == 0) {
        ret_address[0] = '\0';
        *ret_http = NULL;
        return 0;
    }
    char bound[TL_NAME_MAX * 4];
    int fd = -1;
    const int rc = tl_http_listen(address, &fd, bound, sizeof(bound));
    if (rc != 0) {
        return rc;
    }
    tl_health_beat();
    struct tl_http *h = calloc(1, sizeof(*h));
    if (h != NULL) {
        h->site = site != NULL ? *site : (struct tl_http_site){0};
        tl_viewers_init(&h->viewers, &h->site);
        h->daemon = start_daemon(h, fd);
    }
    if (h == NULL || h->daemon == NULL) {
        free(h);
        (void)close(fd);
        return tl_fail(TL_E_NOMEM, "HTTP on %s: its thread cannot be started", address);
    }
    memcpy(ret_address, bound, sizeof(bound));
    *ret_http = h;
    return 0;
}

void tl_http_wake(struct tl_http *h) {
    if (h != NULL) {
        tl_viewers_wake(&h->viewers);
    }
}

void tl_http_stop(struct tl_http *h) {
    if (h != NULL) {
        tl_viewers_see_off(&h->viewers, SEE_OFF_MS);
        MHD_stop_daemon(h->daemon); /* closes the listening socket */
        tl_viewers_done(&h->viewers);
        free(h);
    }
}
