/* presence.c - membership: where the servers are, and what others know of us.
 *
 * Without Redis (--redis off) the servers' addresses come from --servers, and nobody is
 * told anything. With it, the roster's last state stays good while Redis is away. */
#include "checkpointer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* On the membership's thread. */
static void wake(void *ctx) {
    const struct presence *p = ctx;
    const uint64_t one = 1;
    if (write(p->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        tl_log_line(TL_ERROR, "cannot wake the loop", "why", strerror(errno), NULL);
    }
}

static int open_member(struct checkpointer *c) {
    struct presence *p = &c->presence;
    const struct tl_member_config config = {
        .redis = c->service.redis,
        .job = c->job.name,
        .run = c->service.run,
        .lease_ms = c->job.lease_ms,
        .self = p->self,
        .on_change = wake,
        .ctx = p,
    };
    return tl_member_open(&config, &p->member);
}

/* --servers: one address for each shard. */
static int parse_servers(struct checkpointer *c) {
    char list[TL_PATH_MAX];
    char *rest = NULL;
    uint32_t count = 0;
    c->servers = calloc(c->job.shards, sizeof(*c->servers));
    if (c->servers == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the servers' addresses");
    }
    (void)snprintf(list, sizeof(list), "%s", c->options.servers);
    for (char *text = strtok_r(list, ",", &rest); text != NULL;
         text = strtok_r(NULL, ",", &rest)) {
        struct tl_address surplus;
        const int r = tl_address_parse(text, count < c->job.shards ? &c->servers[count]
                                                                   : &surplus);
        if (r < 0) {
            return r;
        }
        count++;
    }
    return count == c->job.shards
               ? 0
               : tl_fail(TL_E_CONFIG,
                         "--servers has %" PRIu32 " addresses for %" PRIu32 " shards",
                         count, c->job.shards);
}

int presence_open(struct checkpointer *c, const char *http) {
    struct presence *p = &c->presence;
    p->self = (struct tl_member_entry){
        .role = TL_ROLE_CHECKPOINTER,
        .index = c->service.index,
        .incarnation = tl_random_u64(),
        .state = TL_MEMBER_STARTING,
        .pid = getpid(),
    };
    (void)snprintf(p->self.http, sizeof(p->self.http), "%s", http);
    p->was_connected = true;
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        return tl_fail(TL_E_LIMIT, "no event descriptor: %s", strerror(errno));
    }
    if (c->options.servers[0] != '\0') {
        const int r = parse_servers(c);
        if (r < 0) {
            return r;
        }
    }
    if (strcmp(c->service.redis, "off") == 0) {
        return c->servers != NULL
                   ? 0
                   : tl_fail(TL_E_CONFIG, "without Redis the servers have to be named: "
                                          "--servers ADDRESS,...");
    }
    return open_member(c);
}

void presence_close(struct checkpointer *c) {
    tl_member_close(c->presence.member);
    if (c->presence.wake_fd >= 0) {
        (void)close(c->presence.wake_fd);
    }
    free(c->servers);
}

int presence_find(struct checkpointer *c, uint32_t shard,
                  struct tl_address *ret_address) {
    struct tl_member_entry server;
    if (c->servers != NULL) {
        *ret_address = c->servers[shard];
        return 0;
    }
    const int r = tl_member_find(c->presence.member, TL_ROLE_SERVER, shard, &server);
    if (r < 0 || server.address[0] == '\0') {
        return tl_fail(TL_E_UNAVAILABLE, "shard %" PRIu32 " has no server at present",
                       shard);
    }
    return tl_address_parse(server.address, ret_address);
}

bool presence_is_leaving(const struct checkpointer *c, uint32_t shard) {
    struct tl_member_entry server;
    return c->presence.member != NULL &&
           tl_member_find(c->presence.member, TL_ROLE_SERVER, shard, &server) == 0 &&
           server.state == TL_MEMBER_LEAVING;
}

/* What a recovery of all shards could go back to: the oldest of the newest. */
void presence_announce(struct checkpointer *c, enum tl_member_state state) {
    struct presence *p = &c->presence;
    const struct tl_pace *oldest = &c->shards[0].pace;
    for (uint32_t i = 1; i < c->job.shards; i++) {
        const struct tl_pace *pace = &c->shards[i].pace;
        oldest = pace->taken_version < oldest->taken_version ? pace : oldest;
    }
    p->self.version = oldest->taken_version;
    p->self.epoch = oldest->epoch;
    p->self.state = c->is_ending ? TL_MEMBER_LEAVING : state;
    if (p->member != NULL) {
        tl_member_announce(p->member, &p->self, true);
    }
}

/* Servers may have moved: whoever waits to connect does so now. */
static void hurry(struct checkpointer *c) {
    for (uint32_t i = 0; i < c->job.shards; i++) {
        if (c->shards[i].step == SHARD_AWAY) {
            c->shards[i].act_ms = 0;
        }
    }
}

void presence_look(struct checkpointer *c) {
    struct presence *p = &c->presence;
    uint64_t count = 0;
    if (read(p->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        tl_log_line(TL_ERROR, "cannot read the wake-up", "why", strerror(errno), NULL);
    }
    const bool is_connected = tl_member_is_connected(p->member);
    if (is_connected != p->was_connected) {
        char why[256];
        tl_member_trouble(p->member, why, sizeof(why));
        tl_log_line(is_connected ? TL_INFO : TL_WARNING,
                    is_connected ? "membership is back" : "membership is away", "why",
                    is_connected ? "" : why, NULL);
    }
    p->was_connected = is_connected;
    hurry(c);
}
