/* fleet.c - which processes a run consists of, and their command lines.
 *
 * Every service gets the resolved job file and the run's name; addresses of servers are
 * sockets in the scratch directory, everything to keep goes to the output directory. */
#include "fleet.h"

#include "probe.h"
#include "programs.h"
#include "redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tl_fleet_has_checkpointer(const struct tl_job *job) {
    return tl_job_has_store(job) &&
           (job->checkpoint_updates > 0 || job->checkpoint_seconds > 0);
}

/* Name, log file and place of the next process. */
static struct tl_process *next(struct tl_fleet *f, const struct tl_fleet_plan *plan,
                               enum tl_drill_target kind, uint32_t index) {
    struct tl_process *p = &f->items[f->count++];
    const char *name = tl_drill_target_name(kind);
    p->kind = kind;
    p->index = index;
    if (kind == TL_DRILL_SERVER || kind == TL_DRILL_REPLICA ||
        kind == TL_DRILL_WORKER) {
        (void)snprintf(p->name, sizeof(p->name), "%s/%" PRIu32, name, index);
        (void)snprintf(p->log, sizeof(p->log), "%s/logs/%s-%" PRIu32 ".log", plan->out,
                       name, index);
    } else {
        (void)snprintf(p->name, sizeof(p->name), "%s", name);
        (void)snprintf(p->log, sizeof(p->log), "%s/logs/%s.log", plan->out, name);
    }
    return p;
}

/* What every service of ours is told. */
static int common(struct tl_process *p, const struct tl_fleet_plan *plan,
                  const char *program) {
    const char *http = p->kind == TL_DRILL_MONITOR ? plan->dashboard : "127.0.0.1:0";
    char path[TL_PATH_MAX], redis[TL_PATH_MAX];
    int rc = tl_program_service(program, path, sizeof(path));
    tl_redis_url(plan->scratch, redis, sizeof(redis));
    rc = rc == 0 ? tl_process_arg(p, "%s", path) : rc;
    rc = rc == 0 ? tl_process_arg(p, "--job=%s/job.json", plan->out) : rc;
    rc = rc == 0 ? tl_process_arg(p, "--run=%s", plan->run) : rc;
    rc = rc == 0 ? tl_process_arg(p, "--redis=%s", redis) : rc;
    rc = rc == 0 ? tl_process_arg(p, "--http=%s", http) : rc;
    rc = rc == 0 ? tl_process_arg(p, "--log-level=%s", plan->log_level) : rc;
    return rc == 0 ? tl_process_arg(p, "--index=%" PRIu32, p->index) : rc;
}

static int plan_server(struct tl_fleet *f, const struct tl_fleet_plan *plan,
                       uint32_t shard) {
    struct tl_process *p = next(f, plan, TL_DRILL_SERVER, shard);
    char address[TL_PATH_MAX];
    tl_probe_address(plan->scratch, shard, address, sizeof(address));
    int rc = common(p, plan, "tl-server");
    return rc == 0 ? tl_process_arg(p, "--listen=%s", address) : rc;
}

/* Those of one shard follow each other. */
static int plan_replica(struct tl_fleet *f, const struct tl_fleet_plan *plan,
                        uint32_t number) {
    struct tl_process *p = next(f, plan, TL_DRILL_REPLICA, number);
    int rc = common(p, plan, "tl-replica");
    return rc == 0 ? tl_process_arg(p, "--listen=unix://%s/replica-%" PRIu32 ".sock",
                                    plan->scratch, number)
                   : rc;
}

/* Whoever holds the shards: a server each, or several replicas. */
static int plan_shards(struct tl_fleet *f, const struct tl_fleet_plan *plan) {
    uint32_t replicas = tl_job_replicas(plan->job);
    int rc = 0;
    for (uint32_t i = 0; i < plan->job->shards && replicas == 0 && rc == 0; i++) {
        rc = plan_server(f, plan, i);
    }
    for (uint32_t i = 0; i < plan->job->shards * replicas && rc == 0; i++) {
        rc = plan_replica(f, plan, i);
    }
    return rc;
}

static int plan_worker(struct tl_fleet *f, const struct tl_fleet_plan *plan,
                       uint32_t number) {
    struct tl_process *p = next(f, plan, TL_DRILL_WORKER, number);
    int rc = common(p, plan, "tl-worker");
    return rc == 0 ? tl_process_arg(p, "--ledger=%s/ledger-%" PRIu32, plan->out, number)
                   : rc;
}

static int plan_monitor(struct tl_fleet *f, const struct tl_fleet_plan *plan) {
    struct tl_process *p = next(f, plan, TL_DRILL_MONITOR, 0);
    int rc = common(p, plan, "tl-monitor");
    return rc == 0 ? tl_process_arg(p, "--timeline=%s/timeline.jsonl", plan->out) : rc;
}

static int plan_redis(struct tl_fleet *f, const struct tl_fleet_plan *plan) {
    char data[TL_PATH_MAX + 16];
    (void)snprintf(data, sizeof(data), "%s/redis", plan->out);
    return tl_redis_plan(plan->scratch, tl_job_is_logged(plan->job) ? data : NULL,
                         next(f, plan, TL_DRILL_REDIS, 0));
}

static int plan_all(struct tl_fleet *f, const struct tl_fleet_plan *plan) {
    int rc = plan_redis(f, plan);
    rc = rc == 0 ? plan_shards(f, plan) : rc;
    for (uint32_t i = 0; i < plan->job->workers && rc == 0; i++) {
        rc = plan_worker(f, plan, i);
    }
    if (rc == 0 && tl_fleet_has_checkpointer(plan->job)) {
        rc = common(next(f, plan, TL_DRILL_CHECKPOINTER, 0), plan, "tl-checkpointer");
    }
    return rc == 0 ? plan_monitor(f, plan) : rc;
}

int tl_fleet_new(const struct tl_fleet_plan *plan, struct tl_fleet *ret_fleet) {
    size_t replicas = tl_job_replicas(plan->job);
    size_t most =
        plan->job->shards * (replicas > 0 ? replicas : 1) + plan->job->workers + 3;
    struct tl_fleet f = {.items = calloc(most, sizeof(*f.items))};
    if (!f.items) {
        return tl_fail(TL_E_NOMEM, "no memory for %zu processes", most);
    }
    int rc = plan_all(&f, plan);
    if (rc != 0) {
        tl_fleet_done(&f);
        return rc;
    }
    *ret_fleet = f;
    return 0;
}

void tl_fleet_done(struct tl_fleet *f) {
    for (size_t i = 0; i < f->count; i++) {
        tl_process_done(&f->items[i]);
    }
    free(f->items);
    f->items = NULL;
    f->count = 0;
}

void tl_fleet_keep_http(struct tl_process *p, const char *address) {
    char *kept = NULL;
    for (size_t i = 0; i < p->argc; i++) {
        if (strncmp(p->argv[i], "--http=", 7) == 0 &&
            asprintf(&kept, "--http=%s", address) >= 0) {
            free(p->argv[i]);
            p->argv[i] = kept;
        }
    }
}

struct tl_process *tl_fleet_find(const struct tl_fleet *f, enum tl_drill_target kind,
                                 uint32_t index) {
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].kind == kind && f->items[i].index == index) {
            return &f->items[i];
        }
    }
    return NULL;
}
