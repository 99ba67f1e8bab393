/* http.c - metrics, health and a service's own pages, on libmicrohttpd's own thread.
 *
 * Read-only and bounded: GET and HEAD alone, 64 connections, 10 s each. Nothing
 * secret is shown; the address is loopback unless the operator says otherwise. */
#include "throughline/service.h"

#include "health.h"
#include "http_listen.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX    64u
#define CONNECTION_SECONDS 10u
#define BEAT_MAX_MS        10000

static const char plain[] = "text/plain; charset=utf-8";
static const char prometheus[] = "text/plain; version=0.0.4; charset=utf-8";

struct tl_http {
    struct MHD_Daemon *daemon;
    tl_http_page_fn page;
    void *ctx;
};

/* ---- replies -------------------------------------------------------------------- */

/* Takes ownership of `body` (malloc'ed, or NULL when memory ran out). */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status,
                             const char *type, char *body, size_t size) {
    if (body == NULL) {
        return MHD_NO;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(body);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    const enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
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

static enum MHD_Result say_metrics(struct MHD_Connection *connection) {
    size_t size = 0;
    char *text = tl_metrics_text(&size);
    return reply(connection, MHD_HTTP_OK, prometheus, text, size);
}

static enum MHD_Result say_page(const struct tl_http *h,
                                struct MHD_Connection *connection, const char *path) {
    const char *type = plain;
    size_t size = 0;
    char *body = h->page != NULL ? h->page(h->ctx, path, &type, &size) : NULL;
    return body != NULL ? reply(connection, MHD_HTTP_OK, type, body, size)
                        : say(connection, MHD_HTTP_NOT_FOUND,
                              "not found; there are /healthz, /readyz and /metrics");
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **request) {
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)request;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only");
    }
    if (strcmp(url, "/healthz") == 0) {
        return say_health(connection);
    }
    if (strcmp(url, "/readyz") == 0) {
        return say_ready(connection);
    }
    if (strcmp(url, "/metrics") == 0) {
        return say_metrics(connection);
    }
    return say_page(ctx, connection, url);
}

/* ---- start and stop ------------------------------------------------------------- */

/* The thread inherits the mask: signals stay the main thread's. */
static struct MHD_Daemon *start_daemon(struct tl_http *h, int fd) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, on_request, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS, MHD_OPTION_END);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

int tl_http_start(const char *address, tl_http_page_fn page, void *ctx,
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
        h->page = page;
        h->ctx = ctx;
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

void tl_http_stop(struct tl_http *h) {
    if (h != NULL) {
        MHD_stop_daemon(h->daemon); /* closes the listening socket */
        free(h);
    }
}
