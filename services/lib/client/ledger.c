/* ledger.c - the last acknowledged sequence, in a file that outlives the process.
 *
 * What a worker saw acknowledged is what a recovered server's loss is counted against,
 * so it must not die with the worker. The record is written with one pwrite() before a
 * call returns: SIGKILL cannot tear it, and a full disk is an error, not a signal. With
 * ledger_sync it is on the disk by then. */
#include "client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define LEDGER_MAGIC UINT64_C(0x31524744454c4c54) /* "TLLEDGR1" */

/* In the machine's own byte order: the file never leaves it. */
struct record {
    uint64_t magic;
    uint64_t owner;
    uint64_t incarnation;
    uint64_t acknowledged;
    uint64_t reserved[3];
    uint64_t checksum; /* of the fields before it */
};
_Static_assert(sizeof(struct record) == 64, "one record is one cache line");

static uint64_t checksum_of(const struct record *r) {
    return XXH3_64bits(r, offsetof(struct record, checksum));
}

static uint64_t owner_of(const struct tl_client_config *config) {
    char text[3 * TL_NAME_MAX];
    int n =
        snprintf(text, sizeof(text), "%s/%s/%u", config->job == NULL ? "" : config->job,
                 config->run == NULL ? "" : config->run, config->worker);
    return XXH3_64bits(text, (size_t)n);
}

static int take_record(struct client_ledger *l, const struct record *r, ssize_t size) {
    static const struct record blank;
    if (size == 0 || (size == sizeof(*r) && memcmp(r, &blank, sizeof(*r)) == 0)) {
        return 0; /* new, or its maker was killed before the first write */
    }
    if (size != sizeof(*r) || r->magic != LEDGER_MAGIC ||
        r->checksum != checksum_of(r)) {
        return tl_fail(TL_E_CONFIG,
                       "ledger %s: damaged, or not a ledger; without it losses are not "
                       "counted: remove it to start without",
                       l->path);
    }
    if (r->owner != l->owner) {
        return tl_fail(
            TL_E_CONFIG,
            "ledger %s: belongs to another job, run or worker; name another file",
            l->path);
    }
    l->incarnation = r->incarnation;
    l->acknowledged = r->acknowledged;
    return 0;
}

static int read_ledger(struct client_ledger *l) {
    struct record r[2] = {{0}};
    ssize_t size = pread(l->fd, r, sizeof(r), 0);
    if (size < 0) {
        return tl_fail(TL_E_CONFIG, "ledger %s: cannot be read: %s", l->path,
                       strerror(errno));
    }
    return take_record(l, &r[0], size);
}

int client_ledger_open(struct client_ledger *l, const struct tl_client_config *config) {
    *l = (struct client_ledger){
        .fd = -1, .owner = owner_of(config), .is_synced = config->ledger_sync != 0};
    if (config->ledger == NULL) {
        return 0;
    }
    int n = snprintf(l->path, sizeof(l->path), "%s", config->ledger);
    if (n < 0 || (size_t)n >= sizeof(l->path)) {
        return tl_fail(TL_E_CONFIG, "ledger: the path is longer than %zu bytes",
                       sizeof(l->path) - 1);
    }
    l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->fd < 0) {
        return tl_fail(TL_E_CONFIG, "ledger %s: cannot be opened: %s", l->path,
                       strerror(errno));
    }
    return read_ledger(l);
}

void client_ledger_close(struct client_ledger *l) {
    if (l->fd >= 0) {
        (void)close(l->fd);
        l->fd = -1;
    }
}

int client_ledger_write(struct client_ledger *l, uint64_t incarnation,
                        uint64_t acknowledged) {
    l->incarnation = incarnation;
    l->acknowledged = acknowledged;
    if (l->fd < 0) {
        return 0;
    }
    struct record r = {
        .magic = LEDGER_MAGIC,
        .owner = l->owner,
        .incarnation = incarnation,
        .acknowledged = acknowledged,
    };
    r.checksum = checksum_of(&r);
    ssize_t n = 0;
    do {
        n = pwrite(l->fd, &r, sizeof(r), 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(r)) {
        return tl_fail(TL_E_IO, "ledger %s: cannot be written: %s", l->path,
                       n < 0 ? strerror(errno) : "the disk is full");
    }
    if (l->is_synced && fdatasync(l->fd) != 0) {
        return tl_fail(TL_E_IO, "ledger %s: cannot be synced: %s", l->path,
                       strerror(errno));
    }
    return 0;
}
