/* drill.c - kills and restarts on schedule, and what became of them. */
#include "redis.h"
#include "run.h"

#include <inttypes.h>
#include <signal.h>

static struct tl_process *target_of(const struct tl_run *run, size_t slot) {
    const struct tl_drill_kill *kill = &run->options.drill.slots[slot].kill;
    return tl_fleet_find(&run->fleet, kill->target, kill->index);
}

static struct tl_drill_moment moment_of(const struct tl_run *run) {
    return (struct tl_drill_moment){.now_ms = tl_run_now(run),
                                    .has_version = run->has_version,
                                    .version = run->version};
}

static void kill_now(struct tl_run *run, size_t slot) {
    struct tl_process *p = target_of(run, slot);
    if (!p || p->state != TL_PROCESS_RUNNING) {
        return; /* still down from an earlier kill: this one waits */
    }
    const struct tl_drill_moment moment = moment_of(run);
    tl_process_signal(p, SIGKILL);
    p->state = TL_PROCESS_DOOMED;
    tl_drill_killed(&run->options.drill, slot, &moment);
    if (p->kind == TL_DRILL_SERVER) {
        run->victims[slot] = tl_probe_view(run->probe, p->index).writer;
    }
    json_t *fields =
        json_pack("{s:s}", "schedule", run->options.drill.slots[slot].kill.text);
    if (fields && moment.has_version) {
        (void)json_object_set_new(fields, "version",
                                  json_integer((json_int_t)moment.version));
    }
    tl_run_event(run, "kill", p, fields);
    tl_live_news(run, "killed %s (SIGKILL)", p->name);
}

static void restart_now(struct tl_run *run, size_t slot) {
    struct tl_process *p = target_of(run, slot);
    if (!p || p->state != TL_PROCESS_DOWN) {
        return; /* not gone yet */
    }
    if (p->kind == TL_DRILL_WORKER && run->phase == TL_RUN_ENDING) {
        return; /* there is nothing left to compute */
    }
    if (tl_process_start(p) != 0) {
        tl_run_fail(run, TL_EXIT_FAILED, "%s", tl_error_text());
        return;
    }
    tl_drill_restarted(&run->options.drill, slot, tl_run_now(run));
    double down = tl_drill_down_seconds(&run->options.drill.slots[slot]);
    tl_run_event(run, "restart", p, json_pack("{s:f}", "down_seconds", down));
    tl_live_news(run, "started %s again after %.1f s", p->name, down);
}

/* Its restart is due from now on: it may not be gone yet. */
bool tl_run_bring_back(struct tl_run *run, const struct tl_process *p) {
    struct tl_drill *drill = &run->options.drill;
    for (size_t i = drill->count; i > 0; i--) {
        struct tl_drill_slot *slot = &drill->slots[i - 1];
        if (target_of(run, i - 1) == p && slot->state == TL_DRILL_DOWN) {
            slot->kill.down_ms = tl_run_now(run) - slot->killed_ms;
            return true;
        }
    }
    return false;
}

void tl_run_drill(struct tl_run *run) {
    struct tl_drill_action actions[TL_DRILL_MAX];
    const struct tl_drill_moment moment = moment_of(run);
    size_t n = tl_drill_due(&run->options.drill, &moment, actions, TL_DRILL_MAX);
    for (size_t i = 0; i < n && run->phase < TL_RUN_STOPPING; i++) {
        if (actions[i].kind == TL_DRILL_RESTART) {
            restart_now(run, actions[i].slot);
        } else if (run->phase == TL_RUN_TRAINING) {
            kill_now(run, actions[i].slot);
        }
    }
}

/* ---- signs of life ------------------------------------------------------------ */

static enum tl_role role_of(enum tl_drill_target kind) {
    switch (kind) {
    case TL_DRILL_WORKER:
        return TL_ROLE_WORKER;
    case TL_DRILL_CHECKPOINTER:
        return TL_ROLE_CHECKPOINTER;
    default:
        return TL_ROLE_MONITOR;
    }
}

/* Does the process that runs now show itself, and how far is it? */
static bool shows(const struct tl_run *run, size_t slot, uint64_t *ret_progress) {
    const struct tl_process *p = target_of(run, slot);
    struct tl_member_entry entry;
    *ret_progress = 0;
    if (p->state != TL_PROCESS_RUNNING) {
        return false;
    }
    if (p->kind == TL_DRILL_REDIS) {
        return tl_redis_answers(run->scratch.path);
    }
    if (p->kind == TL_DRILL_SERVER) {
        struct tl_probe_view view = tl_probe_view(run->probe, p->index);
        *ret_progress = view.version;
        return view.answers && view.writer != run->victims[slot];
    }
    if (tl_member_find(run->member, role_of(p->kind), p->index, &entry) != 0 ||
        entry.pid != p->pid || entry.state != TL_MEMBER_SERVING) {
        return false;
    }
    *ret_progress = entry.version;
    return true;
}

static void tell_recovery(struct tl_run *run, const struct tl_drill_slot *slot,
                          const struct tl_process *p) {
    double seconds = tl_drill_recovery_seconds(slot);
    json_t *fields =
        json_pack("{s:f, s:f, s:f}", "recovery_seconds", seconds, "restore_seconds",
                  (double)(slot->seen_ms - slot->restarted_ms) / 1000, "resume_seconds",
                  (double)(slot->recovered_ms - slot->seen_ms) / 1000);
    if (fields && slot->has_base) {
        (void)json_object_set_new(fields, "resumed_from",
                                  json_integer((json_int_t)slot->base));
    }
    tl_run_event(run, "recovered", p, fields);
    tl_live_news(run, "%s has recovered, %.1f s after the kill", p->name, seconds);
}

void tl_run_watch_recovery(struct tl_run *run) {
    struct tl_drill *drill = &run->options.drill;
    for (size_t i = 0; i < drill->count; i++) {
        uint64_t progress;
        if (drill->slots[i].state == TL_DRILL_BACK && shows(run, i, &progress) &&
            tl_drill_seen(drill, i, tl_run_now(run), progress)) {
            tell_recovery(run, &drill->slots[i], target_of(run, i));
        }
    }
}

void tl_run_judge_drill(struct tl_run *run) {
    for (size_t i = 0; i < run->options.drill.count; i++) {
        if (run->options.drill.slots[i].state == TL_DRILL_WAITING) {
            tl_run_fail(run, TL_EXIT_FAILED,
                        "--kill %s never happened: the job ended at %" PRIu64
                        " updates, after %.1f s",
                        run->options.drill.slots[i].kill.text, run->version,
                        (double)run->ended_ms / 1000);
            return;
        }
    }
}
