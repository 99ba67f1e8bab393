/* reader.c - one shard's entries, in order and without a gap, as records.
 *
 * A reader that starts in the middle of a record's parts begins as many entries earlier
 * as parts may lie apart, and gives out nothing of what comes before its start. */
#include "durable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int open_parts(struct tl_reader *r, uint64_t count) {
    const struct entry_rules rules = {
        .identity = r->log->identity,
        .shard = r->shard,
        .count = count,
        .max_entry_bytes = r->log->max_entry_bytes,
        .span = r->log->span,
    };
    r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->fd < 0) {
        return tl_fail(TL_E_LIMIT, "log: eventfd: %s", strerror(errno));
    }
    int rc = assembly_new(&rules, &r->assembly);
    return rc == 0 ? r->log->ops->read_open(r) : rc;
}

static void release(struct tl_reader *r) {
    assembly_free(r->assembly);
    if (r->fd >= 0) {
        (void)close(r->fd);
    }
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

int tl_reader_new(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t count,
                  struct tl_reader **ret_reader) {
    struct tl_reader *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    r->log = log;
    r->shard = shard;
    r->from = position;
    r->position = position > log->span ? position - log->span : 0;
    (void)pthread_mutex_init(&r->lock, NULL);
    int rc = open_parts(r, count);
    if (rc != 0) {
        release(r);
        return rc;
    }
    atomic_fetch_add(&log->users, 1);
    *ret_reader = r;
    return 0;
}

void tl_reader_free(struct tl_reader *r) {
    if (r != NULL) {
        r->log->ops->read_close(r);
        atomic_fetch_sub(&r->log->users, 1);
        release(r);
    }
}

/* Positions have no gaps: what is missing was removed, by us too early or by others. */
static int check_next(const struct tl_reader *r, uint64_t position) {
    if (position == r->position + 1 || TL_MUTATE(hole_skipped)) {
        return 0;
    }
    return tl_fail(TL_E_NOTFOUND,
                   "log of shard %" PRIu32 ": the entries from position %" PRIu64
                   " to %" PRIu64 " are gone, and needed: start from a checkpoint at "
                   "position %" PRIu64 " or above, or begin a new run",
                   r->shard, r->position + 1, position - 1, position - 1);
}

int tl_reader_next(struct tl_reader *r, struct tl_reader_item *ret_item) {
    for (;;) {
        const uint8_t *bytes = NULL;
        size_t size = 0;
        uint64_t position = 0;
        int rc = r->log->ops->read_next(r, &position, &bytes, &size);
        if (rc == 0) {
            rc = check_next(r, position);
        }
        if (rc == 0) {
            rc = assembly_take(r->assembly, position, bytes, size, ret_item);
        }
        if (rc != 0) {
            return rc;
        }
        r->position = position;
        if (position > r->from) {
            return 0;
        }
    }
}

int tl_reader_fd(const struct tl_reader *r) {
    return r->fd;
}

void reader_trouble(struct tl_reader *r, const char *trouble) {
    (void)pthread_mutex_lock(&r->lock);
    (void)snprintf(r->trouble, sizeof(r->trouble), "%s", trouble);
    (void)pthread_mutex_unlock(&r->lock);
}

void tl_reader_trouble(struct tl_reader *r, char *ret_text, size_t size) {
    (void)pthread_mutex_lock(&r->lock);
    (void)snprintf(ret_text, size, "%s", r->trouble);
    (void)pthread_mutex_unlock(&r->lock);
}
