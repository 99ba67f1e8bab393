/* appender.c - records into one shard's log, in order; which of them are durable.
 *
 * The kind of log brings the entries there on a thread of its own and reports each one;
 * here they are counted. A record in parts that took more than its span is no record
 * (log.h), and is appended again before anybody is told that it is durable. */
#include "durable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void append_entry_free(struct append_entry *e) {
    if (e != NULL) {
        free(e->bytes);
        free(e);
    }
}

static void free_parts(struct append_entry *e) {
    while (e != NULL) {
        struct append_entry *next = e->next;
        append_entry_free(e);
        e = next;
    }
}

int tl_appender_new(struct tl_log *log, uint32_t shard, uint32_t max_pending,
                    struct tl_appender **ret_appender) {
    struct tl_appender *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    a->log = log;
    a->rules = (struct entry_rules){
        .identity = log->identity,
        .shard = shard,
        .max_entry_bytes = log->max_entry_bytes,
        .span = log->span,
    };
    a->parts_most = entry_parts(log->max_entry_bytes, log->record_bytes);
    a->max_pending = a->parts_most > 1 ? 1 : max_pending;
    (void)pthread_mutex_init(&a->lock, NULL);
    a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = a->fd >= 0 ? log->ops->append_open(a)
                        : tl_fail(TL_E_LIMIT, "log: eventfd: %s", strerror(errno));
    if (rc != 0) {
        if (a->fd >= 0) {
            (void)close(a->fd);
        }
        (void)pthread_mutex_destroy(&a->lock);
        free(a);
        return rc;
    }
    atomic_fetch_add(&log->users, 1);
    *ret_appender = a;
    return 0;
}

void tl_appender_free(struct tl_appender *a) {
    if (a == NULL) {
        return;
    }
    a->log->ops->append_close(a);
    atomic_fetch_sub(&a->log->users, 1);
    free_parts(a->parts);
    (void)close(a->fd);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
}

/* ---- putting ----------------------------------------------------------------------
 */

static int put_entries(struct tl_appender *a, const struct tl_header *header,
                       const void *payload, uint64_t parts) {
    for (uint64_t i = 0; i < parts; i++) {
        struct append_entry *e = calloc(1, sizeof(*e));
        if (e != NULL) {
            e->appender = a;
            e->record = a->put + 1;
            e->is_first = i == 0;
            e->is_last = i + 1 == parts;
            e->bytes = entry_encode(&a->rules, header, payload, i, parts, &e->size);
        }
        if (e == NULL || e->bytes == NULL) {
            append_entry_free(e);
            return tl_fail(TL_E_NOMEM, "log: no memory for a record to append");
        }
        int rc = a->log->ops->append_put(a, e);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int tl_appender_put(struct tl_appender *a, const struct tl_header *header,
                    const void *payload) {
    int rc = tl_appender_failure(a);
    if (rc != 0) {
        return rc;
    }
    if (a->put - tl_appender_durable_count(a) >= a->max_pending) {
        return TL_E_BUSY;
    }
    uint64_t parts = entry_parts(a->rules.max_entry_bytes, header->length);
    rc = put_entries(a, header, payload, parts);
    a->put += rc == 0;
    return rc;
}

/* ---- what the driver reports --------------------------------------------------------
 */

/* Append the parts again, all of them: they lay too far apart. */
static int put_again(struct tl_appender *a, struct append_entry *parts) {
    int rc = 0;
    while (parts != NULL) {
        struct append_entry *next = parts->next;
        parts->next = NULL;
        if (rc == 0) {
            rc = a->log->ops->append_put(a, parts);
        } else {
            append_entry_free(parts);
        }
        parts = next;
    }
    return rc;
}

static void keep_part(struct tl_appender *a, struct append_entry *entry) {
    struct append_entry **end = &a->parts;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    entry->next = NULL;
    *end = entry;
}

void appender_settled(struct append_entry *entry, uint64_t position) {
    struct tl_appender *a = entry->appender;
    struct append_entry *parts = NULL;
    bool is_whole = false;
    uint64_t record = entry->record;
    bool is_last = entry->is_last;
    (void)pthread_mutex_lock(&a->lock);
    a->first_position = entry->is_first ? position : a->first_position;
    keep_part(a, entry);
    if (is_last) {
        parts = a->parts;
        a->parts = NULL;
        is_whole = position == a->first_position ||
                   position - a->first_position < a->rules.span;
        a->durable = is_whole ? record : a->durable;
    }
    (void)pthread_mutex_unlock(&a->lock);
    if (is_whole) {
        free_parts(parts);
        event_raise(a->fd);
    } else if (is_last) {
        int rc = put_again(a, parts);
        if (rc != 0) {
            appender_failed(a, rc);
        }
    }
}

void appender_failed(struct tl_appender *a, int failure) {
    (void)pthread_mutex_lock(&a->lock);
    if (a->failure == 0) {
        a->failure = failure;
        (void)snprintf(a->why, sizeof(a->why), "%s", tl_error_text());
    }
    (void)pthread_mutex_unlock(&a->lock);
    event_raise(a->fd);
}

void appender_trouble(struct tl_appender *a, const char *trouble) {
    (void)pthread_mutex_lock(&a->lock);
    (void)snprintf(a->trouble, sizeof(a->trouble), "%s", trouble);
    (void)pthread_mutex_unlock(&a->lock);
}

/* ---- what can be asked ----------------------------------------------------------- */

uint64_t tl_appender_put_count(const struct tl_appender *a) {
    return a->put;
}

uint64_t tl_appender_durable_count(struct tl_appender *a) {
    event_clear(a->fd);
    (void)pthread_mutex_lock(&a->lock);
    uint64_t durable = a->durable;
    (void)pthread_mutex_unlock(&a->lock);
    return durable;
}

int tl_appender_fd(const struct tl_appender *a) {
    return a->fd;
}

int tl_appender_failure(struct tl_appender *a) {
    (void)pthread_mutex_lock(&a->lock);
    int failure = a->failure;
    (void)pthread_mutex_unlock(&a->lock);
    return failure == 0 ? 0 : tl_fail(failure, "%s", a->why);
}

void tl_appender_trouble(struct tl_appender *a, char *ret_text, size_t size) {
    (void)pthread_mutex_lock(&a->lock);
    (void)snprintf(ret_text, size, "%s", a->trouble);
    (void)pthread_mutex_unlock(&a->lock);
}
