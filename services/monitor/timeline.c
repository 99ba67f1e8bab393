/* timeline.c - lines on their way to the run's timeline, and from it to the dashboard.
 *
 * Others write there too, and what a monitor before this one wrote is there already: so
 * the dashboard shows what can be read from the file. Without one it shows what is
 * written here. */
#include "monitor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WAKE_SECONDS                                                                   \
    1.0 /* viewers are looked after so often, whether there is news                    \
         */

/* Milliseconds are what clocks of several processes can promise. */
static json_t *seconds(double v) {
    return json_real(round(v * 1e3) / 1e3);
}

/* A line may be written well after what it tells of: an evaluation takes a while. Its
 * times are those of what happened. */
static int write_dated(struct tl_timeline *t, double at, json_t *line) {
    double age = tl_now_seconds() - at;
    double unix_time = (double)tl_unix_ms() / 1e3 - age;
    if (json_object_set_new(line, "time", seconds(unix_time)) != 0 ||
        json_object_set_new(line, "t", seconds(tl_timeline_now(t) - age)) != 0) {
        json_decref(line);
        return tl_fail(TL_E_NOMEM, "no memory for a line");
    }
    return tl_timeline_write(t, line);
}

int monitor_timeline_open(struct monitor *m) {
    const bool is_kept = m->options.timeline[0] != '\0';
    int rc =
        tl_timeline_open(is_kept ? m->options.timeline : "/dev/null", &m->timeline);
    return rc == 0 && is_kept ? tl_timeline_read(m->options.timeline, &m->reader) : rc;
}

/* The line as it would be read. */
static void show_unkept(const struct monitor *m, const json_t *line) {
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (text != NULL) {
        tl_page_feed_put(m->feed, text, strlen(text));
    }
    free(text);
}

void monitor_timeline_show(struct monitor *m) {
    const char *line = NULL;
    size_t size = 0;
    bool has_news = false;
    while (m->reader != NULL && tl_timeline_next(m->reader, &line, &size)) {
        tl_page_feed_put(m->feed, line, size);
        has_news = true;
    }
    const double now = tl_now_seconds();
    if (has_news || now - m->woken_at >= WAKE_SECONDS) {
        m->woken_at = now;
        tl_http_wake(m->http);
    }
}

void monitor_write(struct monitor *m, double at, json_t *line) {
    json_incref(line);
    int rc = write_dated(m->timeline, at, line);
    if (m->reader == NULL) {
        show_unkept(m, line);
    }
    json_decref(line);
    if (rc != 0 && !m->is_timeline_failing) {
        tl_log_line(TL_WARNING, "the timeline cannot be written", "why",
                    tl_error_text(), NULL);
    }
    m->is_timeline_failing = rc != 0;
}
