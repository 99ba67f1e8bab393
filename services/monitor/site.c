/* site.c - the dashboard: a page, and the timeline as a stream of events. */
#include "monitor.h"

#include <stdlib.h>
#include <string.h>

/* What the page is told before the first line: which run this is. */
static char *hello(const struct monitor *m, bool has_control) {
    json_t *run = tl_page_run(&m->job, m->service.run);
    json_t *line = json_pack("{s:s, s:b, s:o, s:s}", "kind", "hello", "control",
                             (int)has_control, "run", run, "version", TL_VERSION);
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    return text;
}

static char *page(void *ctx, const char *path, const char **ret_type,
                  size_t *ret_size) {
    (void)ctx;
    if (strcmp(path, "/") != 0) {
        return NULL;
    }
    *ret_type = "text/html; charset=utf-8";
    return tl_page_html(NULL, ret_size);
}

int monitor_site_start(struct monitor *m, char ret_address[TL_NAME_MAX * 4]) {
    const bool has_control = monitor_control_open();
    char *text = hello(m, has_control);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the dashboard");
    }
    int rc = tl_page_feed_new(text, &m->feed);
    free(text);
    if (rc != 0) {
        return rc;
    }
    const struct tl_http_site site = {
        .ctx = m->feed,
        .page = page,
        .stream = "/events",
        .next = tl_page_feed_next,
        .post = has_control ? monitor_control_post : NULL,
    };
    return tl_service_http(&m->service, &site, &m->http, ret_address);
}
