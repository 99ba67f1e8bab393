/* probe.h - asks each shard's server how far it is, many times a second.
 *
 * The membership tells the same, but once a second, and not at all while Redis is away;
 * a kill "at updates=300" and a recovery time deserve better.
 *
 * Thread: the main thread; nothing blocks. */
#ifndef THROUGHLINE_CLI_PROBE_H
#define THROUGHLINE_CLI_PROBE_H

#include "throughline/error.h"
#include "throughline/trust.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl_probe;

/* What a shard's server last said. */
struct tl_probe_view {
    bool known;      /* it has answered at least once in this run */
    bool answers;    /* the last question was answered */
    uint64_t writer; /* random number of the process that answered last */
    uint64_t epoch;
    uint64_t version;
};

/* From now on the shard's server is at `address`: the head of a chain moves. */
void tl_probe_aim(struct tl_probe *p, uint32_t shard, const char *address);
/* Servers at "unix://DIR/server-S.sock"; see tl_probe_address(). `trust` is borrowed.
 */
TL_MUST_USE int tl_probe_new(const char *directory, uint32_t shards, const char *job,
                             const char *run, const struct tl_trust *trust,
                             struct tl_probe **ret_probe);
void tl_probe_free(struct tl_probe *p); /* NULL is legal */
void tl_probe_address(const char *directory, uint32_t shard, char *ret_text,
                      size_t size);

/* Ask whom it is time to ask, take in what was answered. */
void tl_probe_advance(struct tl_probe *p, int64_t now_ms);
/* Add the descriptors to wait for; returns how many of at most `max`. */
size_t tl_probe_poll(const struct tl_probe *p, struct pollfd *fds, size_t max);

struct tl_probe_view tl_probe_view(const struct tl_probe *p, uint32_t shard);
/* The lowest version over all shards; false until each has answered once. */
bool tl_probe_version(const struct tl_probe *p, uint64_t *ret_version);
/* A server said that the job has ended. */
bool tl_probe_has_ended(const struct tl_probe *p);

#endif
