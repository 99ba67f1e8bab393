/* main.c - tl-monitor: evaluates the weights, writes the run's timeline, shows it. */
#include "monitor.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The evaluation competes with training where they share processors: it yields. */
#define NICE 10

#define FIELD(field)                                                                   \
    .offset = offsetof(struct monitor_options, field),                                 \
    .size = sizeof(((struct monitor_options *)0)->field)

static const struct tl_option option_rows[] = {
    {.name = "timeline",
     .type = TL_OPT_STRING,
     FIELD(timeline),
     .fallback = "",
     .doc = "File to append the run's timeline to, a JSON object a line; none by "
            "default."},
    {.name = "servers",
     .type = TL_OPT_STRING,
     FIELD(servers),
     .fallback = "",
     .doc = "Addresses of the shards' servers, in order, separated by commas "
            "(tcp://host:port or unix:///path); by default Redis is asked."},
};
static const struct tl_option_table option_table = {
    option_rows, sizeof(option_rows) / sizeof(option_rows[0])};

static int open_member(struct monitor *m, const char *http) {
    if (strcmp(m->service.redis, "off") == 0) {
        return 0;
    }
    struct tl_member_config config = {
        .redis = m->service.redis,
        .job = m->job.name,
        .run = m->service.run,
        .lease_ms = m->job.lease_ms,
        .self = {.role = TL_ROLE_MONITOR,
                 .index = m->service.index,
                 .incarnation = tl_random_u64(),
                 .state = TL_MEMBER_SERVING,
                 .pid = getpid()},
        .on_event = monitor_events_put,
        .ctx = m->events,
    };
    (void)snprintf(config.self.http, sizeof(config.self.http), "%s", http);
    return tl_member_open(&config, &m->member);
}

static int start(struct monitor *m) {
    char address[TL_NAME_MAX * 4] = "";
    int rc = monitor_gauges_new(&m->gauges);
    if (rc == 0) {
        rc = monitor_processes_init(&m->processes);
    }
    if (rc == 0) {
        rc = monitor_events_new(&m->events);
    }
    if (rc == 0) {
        rc = monitor_timeline_open(m);
    }
    if (rc == 0) {
        rc = monitor_observer_new(&m->job, &m->service, m->options.servers,
                                  &m->observer);
    }
    if (rc == 0) {
        rc = monitor_site_start(m, address);
    }
    return rc == 0 ? open_member(m, address) : rc;
}

int main(int argc, char **argv) {
    static struct monitor m;
    tl_service_start("monitor",
                     "evaluates the weights, writes the run's timeline and shows it",
                     argc, argv, &option_table, &m.options, &m.service, &m.job);
    int rc = tl_stop_setup();
    if (rc == 0) {
        rc = start(&m);
    }
    if (rc == 0) {
        /* This thread's alone: leases and probes go on at full priority. */
        (void)setpriority(PRIO_PROCESS, 0, NICE);
        tl_health_ready(NULL);
        monitor_run(&m);
        tl_service_stay(&m.service);
    } else {
        tl_log_line(TL_ERROR, "cannot start", "error", tl_error_name(rc), "why",
                    tl_error_text(), NULL);
    }
    tl_member_close(m.member);
    tl_log_close(m.log);
    tl_http_stop(m.http);
    tl_page_feed_free(m.feed);
    monitor_observer_free(m.observer);
    monitor_events_free(m.events);
    tl_timeline_close(m.timeline);
    tl_timeline_reader_close(m.reader);
    monitor_processes_done(&m.processes);
    tl_job_done(&m.job);
    return tl_exit_code(rc);
}
