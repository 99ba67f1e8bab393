/* dashboard.c - where the run can be looked at, and what is asked there. */
#include "run.h"

#include <stdio.h>
#include <string.h>

/* The address is the monitor's; a monitor that is started again gets the same one, so
 * that viewers find it. */
void tl_run_announce_dashboard(struct tl_run *run) {
    struct tl_member_entry monitor;
    if (run->dashboard[0] != '\0' ||
        tl_member_find(run->member, TL_ROLE_MONITOR, 0, &monitor) != 0 ||
        monitor.http[0] == '\0') {
        return;
    }
    (void)snprintf(run->dashboard, sizeof(run->dashboard), "%.255s", monitor.http);
    tl_fleet_keep_http(tl_fleet_find(&run->fleet, TL_DRILL_MONITOR, 0), monitor.http);
    tl_live_news(run, "dashboard: http://%s/%s%s", run->dashboard,
                 run->control.token[0] != '\0' ? "#token=" : "", run->control.token);
}

static struct tl_process *find(const struct tl_run *run, const char *name) {
    for (size_t i = 0; i < run->fleet.count; i++) {
        if (strcmp(run->fleet.items[i].name, name) == 0) {
            return &run->fleet.items[i];
        }
    }
    return NULL;
}

/* A kill by hand is one more on the schedule, due now. */
static bool kill_by_hand(struct tl_run *run, const struct tl_process *p) {
    const struct tl_drill_kill kill = {.text = "by hand",
                                       .target = p->kind,
                                       .index = p->index,
                                       .trigger = TL_DRILL_AT_TIME,
                                       .at_ms = tl_run_now(run),
                                       .down_ms = TL_DRILL_FOREVER};
    return run->phase == TL_RUN_TRAINING && p->state == TL_PROCESS_RUNNING &&
           tl_drill_add(&run->options.drill, &kill) == 0;
}

static bool obey(struct tl_run *run, const char *request) {
    const char *slash = strchr(request, '/');
    struct tl_process *p = slash != NULL ? find(run, slash + 1) : NULL;
    if (p == NULL) {
        return false;
    }
    if (strncmp(request, "kill/", 5) == 0) {
        return kill_by_hand(run, p);
    }
    return strncmp(request, "revive/", 7) == 0 && tl_run_bring_back(run, p);
}

void tl_run_obey(struct tl_run *run) {
    char request[TL_CONTROL_REQUEST_MAX + 1];
    while (tl_control_next(&run->control, request)) {
        if (!obey(run, request)) {
            tl_live_news(run, "asked for by a viewer, but not possible: %.64s",
                         request);
        }
    }
}
