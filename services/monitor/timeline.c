/* timeline.c - lines on their way to the run's timeline. */
#include "monitor.h"

#include <math.h>

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

void monitor_write(struct monitor *m, double at, json_t *line) {
    if (m->timeline == NULL) {
        json_decref(line);
        return;
    }
    int rc = write_dated(m->timeline, at, line);
    if (rc != 0 && !m->is_timeline_failing) {
        tl_log_line(TL_WARNING, "the timeline cannot be written", "why",
                    tl_error_text(), NULL);
    }
    m->is_timeline_failing = rc != 0;
}
