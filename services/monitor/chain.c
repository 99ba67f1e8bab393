/* chain.c - who has which place in the shards' chains.
 *
 * A head is in the roster twice, as a replica and as its shard's server: it is one
 * process, and counted as the replica. */
#include "monitor.h"

#define ASK_MS 200

bool monitor_is_double(const struct monitor *m, enum tl_role role) {
    return role == TL_ROLE_SERVER && tl_job_replicas(&m->job) > 0;
}

bool monitor_holds_shard(const struct monitor *m, const struct monitor_process *s,
                         uint32_t shard) {
    const uint32_t replicas = tl_job_replicas(&m->job);
    return replicas > 0 ? s->role == TL_ROLE_REPLICA && s->index / replicas == shard
                        : s->role == TL_ROLE_SERVER && s->index == shard;
}

static const char *position_of(uint32_t place, uint32_t count) {
    return place == 0 ? "head" : place + 1 == count ? "tail" : "middle";
}

static struct monitor_process *replica(struct monitor *m, uint32_t shard,
                                       uint32_t slot) {
    return monitor_processes_find(&m->processes, TL_ROLE_REPLICA,
                                  shard * tl_job_replicas(&m->job) + slot);
}

/* Without a chain, replicas are standbys of the one that serves. */
static void look_at_standbys(struct monitor *m, uint32_t shard) {
    struct tl_member_entry server;
    const bool is_served =
        tl_member_find(m->member, TL_ROLE_SERVER, shard, &server) == 0;
    for (uint32_t slot = 0; slot < tl_job_replicas(&m->job); slot++) {
        struct monitor_process *s = replica(m, shard, slot);
        if (s != NULL) {
            const bool serves = is_served && s->is_alive && s->entry.pid == server.pid;
            s->position = !s->is_alive ? NULL : serves ? "head" : "standby";
            s->place = serves ? 0 : 1 + slot;
        }
    }
}

/* While Redis is away (false), the last places stay. */
static bool look_at(struct monitor *m, uint32_t shard) {
    struct tl_chain_config c;
    const uint32_t length = tl_job_replicas(&m->job);
    if (tl_member_chain_config(m->member, shard, tl_now_ms() + ASK_MS, &c) != 0) {
        return false;
    }
    if (c.count == 0) {
        look_at_standbys(m, shard);
        return true;
    }
    for (uint32_t slot = 0; slot < length; slot++) {
        struct monitor_process *s = replica(m, shard, slot);
        if (s != NULL) {
            s->position = NULL;
        }
    }
    for (uint32_t place = 0; place < c.count; place++) {
        struct monitor_process *s = c.nodes[place].slot < length
                                        ? replica(m, shard, c.nodes[place].slot)
                                        : NULL;
        if (s != NULL) {
            s->position = position_of(place, c.count);
            s->place = place;
        }
    }
    return true;
}

void monitor_chain_measure(struct monitor *m) {
    bool answers = m->member != NULL && tl_job_replicas(&m->job) > 0;
    for (uint32_t shard = 0; answers && shard < m->job.shards; shard++) {
        answers = look_at(m, shard);
    }
}
