/* drill.c - kills and restarts on schedule, and what became of them. */
#include "redis.h"
#include "run.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

static const int64_t redis_within_ms = 500;

struct tl_process *tl_run_target(const struct tl_run *run, size_t slot) {
    const struct tl_drill_kill *kill = &run->options.drill.slots[slot].kill;
    return run->killed[slot] != NULL
               ? run->killed[slot]
               : tl_fleet_find(&run->fleet, kill->target, kill->index);
}

const char *tl_run_target_name(const struct tl_run *run, size_t slot) {
    static char text[64];
    const struct tl_drill_kill *kill = &run->options.drill.slots[slot].kill;
    const struct tl_process *p = tl_run_target(run, slot);
    const char *place = tl_drill_target_name(kill->target);
    if (!tl_drill_is_place(kill->target)) {
        return p->name;
    }
    (void)snprintf(text, sizeof(text), p != NULL ? "%s %s" : "%s", place,
                   p != NULL ? p->name : "");
    return text;
}

/* Who serves the shard, of those that fold its log. */
static struct tl_process *who_serves(const struct tl_run *run, uint32_t shard) {
    struct tl_member_entry e;
    if (tl_member_find(run->member, TL_ROLE_SERVER, shard, &e) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < run->fleet.count; i++) {
        struct tl_process *p = &run->fleet.items[i];
        if (p->kind == TL_DRILL_REPLICA && p->pid == e.pid) {
            return p;
        }
    }
    return NULL;
}

/* Who has this place in the chain, as Redis knows; NULL: nobody has. */
static struct tl_process *who_is(const struct tl_run *run,
                                 const struct tl_drill_kill *kill) {
    struct tl_chain_config c;
    int64_t deadline_ms = tl_now_ms() + redis_within_ms;
    if (run->job.strategy == TL_STRATEGY_HYBRID) {
        return who_serves(run, kill->index);
    }
    if (tl_member_chain_config(run->member, kill->index, deadline_ms, &c) != 0 ||
        c.count == 0 || (kill->target == TL_DRILL_MIDDLE && c.count < 3) ||
        (kill->target == TL_DRILL_TAIL && c.count < 2)) {
        return NULL;
    }
    uint32_t at = kill->target == TL_DRILL_TAIL     ? c.count - 1
                  : kill->target == TL_DRILL_MIDDLE ? c.count / 2
                                                    : 0;
    return tl_fleet_find(&run->fleet, TL_DRILL_REPLICA,
                         kill->index * tl_job_replicas(&run->job) + c.nodes[at].slot);
}

static struct tl_drill_moment moment_of(const struct tl_run *run) {
    return (struct tl_drill_moment){.now_ms = tl_run_now(run),
                                    .has_version = run->has_version,
                                    .version = run->version};
}

static void kill_now(struct tl_run *run, size_t slot) {
    const struct tl_drill_kill *kill = &run->options.drill.slots[slot].kill;
    struct tl_process *p =
        tl_drill_is_place(kill->target) ? who_is(run, kill) : tl_run_target(run, slot);
    if (!p || p->state != TL_PROCESS_RUNNING) {
        return; /* still down from an earlier kill, or nobody has that place: it waits
                 */
    }
    const struct tl_drill_moment moment = moment_of(run);
    run->killed[slot] = p;
    tl_process_signal(p, SIGKILL);
    p->state = TL_PROCESS_DOOMED;
    tl_drill_killed(&run->options.drill, slot, &moment);
    if (p->kind == TL_DRILL_SERVER || kill->target == TL_DRILL_HEAD) {
        run->victims[slot] = tl_probe_view(run->probe, kill->index).writer;
    }
    json_t *fields = json_pack("{s:s}", "schedule", kill->text);
    if (fields && moment.has_version) {
        (void)json_object_set_new(fields, "version",
                                  json_integer((json_int_t)moment.version));
    }
    tl_run_event(run, "kill", p, fields);
    tl_live_news(run, "killed %s (SIGKILL)", tl_run_target_name(run, slot));
}

static void restart_now(struct tl_run *run, size_t slot) {
    struct tl_process *p = tl_run_target(run, slot);
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
        if (tl_run_target(run, i - 1) == p && slot->state == TL_DRILL_DOWN) {
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
    case TL_DRILL_REPLICA:
        return TL_ROLE_REPLICA;
    case TL_DRILL_WORKER:
        return TL_ROLE_WORKER;
    case TL_DRILL_CHECKPOINTER:
        return TL_ROLE_CHECKPOINTER;
    default:
        return TL_ROLE_MONITOR;
    }
}

/* Does another process serve the shard, and how far is it? */
static bool serves_anew(const struct tl_run *run, size_t slot, uint32_t shard,
                        uint64_t *ret_version) {
    struct tl_probe_view view = tl_probe_view(run->probe, shard);
    *ret_version = view.version;
    return view.answers && view.writer != run->victims[slot];
}

/* Does the process that runs now show itself, and how far is it? */
static bool shows(const struct tl_run *run, size_t slot, uint64_t *ret_progress) {
    const struct tl_process *p = tl_run_target(run, slot);
    const struct tl_drill_kill *kill = &run->options.drill.slots[slot].kill;
    struct tl_member_entry entry;
    *ret_progress = 0;
    if (kill->target == TL_DRILL_HEAD) {
        return serves_anew(run, slot, kill->index, ret_progress);
    }
    if (p->state != TL_PROCESS_RUNNING) {
        return false;
    }
    if (p->kind == TL_DRILL_REDIS) {
        return tl_redis_answers(run->scratch.path);
    }
    if (p->kind == TL_DRILL_SERVER) {
        return serves_anew(run, slot, p->index, ret_progress);
    }
    if (tl_member_find(run->member, role_of(p->kind), p->index, &entry) != 0 ||
        entry.pid != p->pid || entry.state == TL_MEMBER_STARTING) {
        return false;
    }
    *ret_progress = entry.version;
    return true;
}

static void tell_recovery(struct tl_run *run, size_t i) {
    const struct tl_drill_slot *slot = &run->options.drill.slots[i];
    const struct tl_process *p = tl_run_target(run, i);
    double seconds = tl_drill_recovery_seconds(slot);
    int64_t began_ms =
        slot->state == TL_DRILL_BACK && slot->restarted_ms < slot->seen_ms
            ? slot->restarted_ms
            : slot->killed_ms;
    json_t *fields =
        json_pack("{s:f, s:f, s:f}", "recovery_seconds", seconds, "restore_seconds",
                  (double)(slot->seen_ms - began_ms) / 1000, "resume_seconds",
                  (double)(slot->recovered_ms - slot->seen_ms) / 1000);
    if (fields && slot->has_base) {
        (void)json_object_set_new(fields, "resumed_from",
                                  json_integer((json_int_t)slot->base));
    }
    tl_run_event(run, "recovered", p, fields);
    tl_live_news(run, "%s has recovered, %.*f s after the kill",
                 tl_run_target_name(run, i), seconds < 1 ? 3 : 1, seconds);
}

void tl_run_watch_recovery(struct tl_run *run) {
    struct tl_drill *drill = &run->options.drill;
    for (size_t i = 0; i < drill->count; i++) {
        uint64_t progress;
        bool is_open =
            drill->slots[i].state != TL_DRILL_WAITING && !drill->slots[i].has_recovered;
        if (is_open && shows(run, i, &progress) &&
            tl_drill_seen(drill, i, tl_run_now(run), progress)) {
            tell_recovery(run, i);
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
