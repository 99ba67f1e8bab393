/* discovery.c - where each shard's server is now.
 *
 * The membership knows servers that move; a fixed list serves jobs without Redis, and
 * while Redis has nothing to say. */
#include "client_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LEASE_MS    3000u
#define BEHIND_MOST 1000u /* versions; a standby cut off from its log stays behind */

static uint32_t count_items(const char *list) {
    uint32_t count = 1;
    for (const char *c = list; *c != '\0'; c++) {
        count += *c == ',' ? 1 : 0;
    }
    return count;
}

/* Parse one item of the list; a copy, since addresses end with their text. */
static int parse_item(const char *item, size_t length, struct tl_address *ret_address) {
    char text[TL_ADDRESS_MAX];
    if (length >= sizeof(text)) {
        return tl_fail(TL_E_CONFIG, "servers: an address has more than %zu bytes",
                       sizeof(text) - 1);
    }
    memcpy(text, item, length);
    text[length] = '\0';
    return tl_address_parse(text, ret_address);
}

static int parse_list(struct client_discovery *d, const char *list) {
    uint32_t count = count_items(list);
    if (count > TL_LINKS_MAX) {
        return tl_fail(TL_E_CONFIG, "servers: more than %u addresses", TL_LINKS_MAX);
    }
    d->fixed = calloc(count, sizeof(*d->fixed));
    if (d->fixed == NULL) {
        return tl_fail(TL_E_NOMEM, "servers: out of memory");
    }
    d->fixed_count = count;
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strcspn(list, ",");
        int rc = parse_item(list, length, &d->fixed[i]);
        if (rc != 0) {
            return rc;
        }
        list += length + 1;
    }
    return 0;
}

/* On the membership's thread. */
static void on_change(void *ctx) {
    const struct client_discovery *d = ctx;
    const uint64_t one = 1;
    (void)!write(d->changed_fd, &one, sizeof(one)); /* a full counter is readable too */
}

bool client_discovery_has_changed(const struct client_discovery *d) {
    uint64_t count;
    return d->changed_fd >= 0 &&
           read(d->changed_fd, &count, sizeof(count)) == sizeof(count);
}

static int watch(struct client_discovery *d, const struct tl_client_config *config) {
    d->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->changed_fd < 0) {
        return tl_fail(TL_E_LIMIT, "client: no event descriptor: raise ulimit -n");
    }
    const struct tl_member_config member = {
        .redis = config->redis,
        .job = config->job,
        .run = config->run,
        .lease_ms = LEASE_MS,
        .on_change = on_change,
        .ctx = d,
    };
    return tl_member_open(&member, &d->member);
}

int client_discovery_open(struct client_discovery *d,
                          const struct tl_client_config *config) {
    int rc = 0;
    d->changed_fd = -1;
    d->replicas = config->observer ? config->replicas : 0;
    if (config->servers != NULL) {
        rc = parse_list(d, config->servers);
    }
    if (rc == 0 && config->redis != NULL) {
        rc = watch(d, config);
    }
    if (rc != 0) {
        client_discovery_close(d);
    }
    return rc;
}

void client_discovery_close(struct client_discovery *d) {
    tl_member_close(d->member);
    free(d->fixed);
    if (d->changed_fd >= 0) {
        (void)close(d->changed_fd);
    }
    *d = (struct client_discovery){.changed_fd = -1};
}

int client_discovery_find_tail(void *ctx, uint32_t shard,
                               struct tl_address *ret_address) {
    const struct client_discovery *d = ctx;
    struct tl_member_entry entry;
    bool is_there = d->member != NULL &&
                    tl_member_find(d->member, TL_ROLE_SERVER, shard, &entry) == 0 &&
                    entry.tail[0] != '\0' &&
                    tl_address_parse(entry.tail, ret_address) == 0;
    return is_there ? 0
                    : tl_fail(TL_E_UNAVAILABLE, "shard %" PRIu32 ": no tail is there",
                              shard);
}

static bool is_there(const struct client_discovery *d, enum tl_role role,
                     uint32_t index, struct tl_member_entry *ret_entry) {
    return tl_member_find(d->member, role, index, ret_entry) == 0 &&
           ret_entry->state != TL_MEMBER_STARTING && ret_entry->address[0] != '\0';
}

/* One that stands by has nothing else to do. The last weights are the server's. */
static bool find_standby(const struct client_discovery *d, uint32_t shard,
                         struct tl_member_entry *ret_entry) {
    struct tl_member_entry server = {0};
    if (d->replicas == 0 || tl_member_has_ended(d->member, NULL, 0)) {
        return false;
    }
    (void)!tl_member_find(d->member, TL_ROLE_SERVER, shard, &server);
    for (uint32_t slot = d->replicas; slot-- > 0;) {
        if (is_there(d, TL_ROLE_REPLICA, shard * d->replicas + slot, ret_entry) &&
            ret_entry->incarnation != server.incarnation &&
            ret_entry->version + BEHIND_MOST >= server.version) {
            return true;
        }
    }
    return false;
}

int client_discovery_find(void *ctx, uint32_t shard, struct tl_address *ret_address) {
    const struct client_discovery *d = ctx;
    struct tl_member_entry entry;
    if (d->member != NULL && (find_standby(d, shard, &entry) ||
                              is_there(d, TL_ROLE_SERVER, shard, &entry))) {
        return tl_address_parse(entry.address, ret_address) == 0
                   ? 0
                   : tl_fail(TL_E_UNAVAILABLE,
                             "shard %" PRIu32
                             ": its server announces no usable address",
                             shard);
    }
    if (shard < d->fixed_count) {
        *ret_address = d->fixed[shard];
        return 0;
    }
    bool redis_is_away = d->member != NULL && !tl_member_is_connected(d->member);
    return tl_fail(TL_E_UNAVAILABLE, "shard %" PRIu32 ": %s", shard,
                   redis_is_away ? "Redis, which knows its server, cannot be reached"
                                 : "no server is registered for it");
}
