/* member.c - a handle on the membership: start, stop, and what the last look showed. */
#include "throughline/service.h"

#include "member_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LEASE_DEFAULT_MS 3000u
#define LEASE_MIN_MS     100u

void tl_member_lock(const struct tl_member *m) {
    (void)pthread_mutex_lock((pthread_mutex_t *)&m->lock);
}

void tl_member_unlock(const struct tl_member *m) {
    (void)pthread_mutex_unlock((pthread_mutex_t *)&m->lock);
}

void tl_member_wake(const struct tl_member *m) {
    uint64_t one = 1;
    ssize_t n = write(m->wake_fd, &one, sizeof(one));
    (void)n; /* a full counter wakes as well */
}

/* ---- open and close ----------------------------------------------------------- */

static int check_name(const char *what, const char *name) {
    size_t size = name == NULL ? 0 : strlen(name);
    bool is_good = size > 0 && size < TL_NAME_MAX &&
                   strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
    if (!is_good) {
        return tl_fail(TL_E_CONFIG,
                       "membership: the %s's name must be 1 to %u of a-z, 0-9 and '-'",
                       what, TL_NAME_MAX - 1);
    }
    return 0;
}

static int check_self(const struct tl_member_config *c) {
    const struct tl_member_entry *self = &c->self;
    if (c->lease_ms != 0 && c->lease_ms < LEASE_MIN_MS) {
        return tl_fail(TL_E_CONFIG, "membership: a lease of %u ms is below %u ms",
                       c->lease_ms, LEASE_MIN_MS);
    }
    if ((int)self->role < 0 || self->role > TL_ROLE_CLI ||
        memchr(self->address, '\0', sizeof(self->address)) == NULL ||
        memchr(self->http, '\0', sizeof(self->http)) == NULL ||
        memchr(self->tail, '\0', sizeof(self->tail)) == NULL) {
        return tl_fail(TL_E_INVALID, "membership: no such role, or endless address");
    }
    return 0;
}

static int check(const struct tl_member_config *c, struct tl_redis_url *ret_url) {
    int rc = check_name("job", c->job);
    if (rc == 0) {
        rc = check_name("run", c->run);
    }
    if (rc == 0) {
        rc = check_self(c);
    }
    return rc != 0 ? rc : tl_redis_url_parse(c->redis, ret_url);
}

/* What the caller may leave out. */
static void complete_self(struct tl_member_entry *self) {
    if (self->pid == 0) {
        self->pid = (int32_t)getpid();
    }
    if (self->incarnation == 0 && self->role != TL_ROLE_WORKER) {
        self->incarnation = tl_random_u64();
    }
}

static void fill(struct tl_member *m, const struct tl_member_config *c) {
    tl_keys_make(c->job, c->run, &m->keys);
    m->lease_ms = c->lease_ms == 0 ? LEASE_DEFAULT_MS : c->lease_ms;
    m->role = c->self.role;
    m->index = c->self.index;
    m->on_change = c->on_change;
    m->on_event = c->on_event;
    m->ctx = c->ctx;
    m->self = c->self;
    complete_self(&m->self);
    m->is_news = true; /* also where a dead one's entry is replaced */
    m->started_ms = -1;
}

static void init_locks(struct tl_member *m) {
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&m->idle, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&m->lock, NULL);
}

static void dispose(struct tl_member *m) {
    if (m->wake_fd >= 0) {
        (void)close(m->wake_fd);
    }
    (void)pthread_cond_destroy(&m->idle);
    (void)pthread_mutex_destroy(&m->lock);
    tl_roster_free(m->roster);
    tl_epochs_done(&m->epochs);
    explicit_bzero(&m->url, sizeof(m->url));
    free(m);
}

/* Signals are for the service's own threads. */
static int start_thread(struct tl_member *m) {
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&m->thread, NULL, tl_member_drive, m);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return tl_fail(TL_E_LIMIT, "membership: no thread: %s", strerror(error));
    }
    return 0;
}

int tl_member_open(const struct tl_member_config *config,
                   struct tl_member **ret_member) {
    struct tl_redis_url url;
    int rc = check(config, &url);
    if (rc != 0) {
        return rc;
    }
    struct tl_member *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the membership");
    }
    m->url = url;
    fill(m, config);
    init_locks(m);
    m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->wake_fd < 0) {
        rc = tl_fail(TL_E_LIMIT, "membership: no event descriptor: raise ulimit -n");
    }
    if (rc == 0) {
        rc = tl_roster_new(m->lease_ms, &m->roster);
    }
    if (rc == 0) {
        rc = start_thread(m);
    }
    if (rc != 0) {
        dispose(m);
        return rc;
    }
    *ret_member = m;
    return 0;
}

void tl_member_close(struct tl_member *m) {
    if (m == NULL) {
        return;
    }
    tl_member_lock(m);
    m->is_stopping = true;
    tl_member_unlock(m);
    tl_member_wake(m);
    (void)pthread_join(m->thread, NULL);
    dispose(m);
}

/* ---- ourselves ---------------------------------------------------------------- */

static bool is_news(const struct tl_member_entry *old,
                    const struct tl_member_entry *new) {
    return old->state != new->state || old->epoch != new->epoch ||
           old->incarnation != new->incarnation ||
           strcmp(old->address, new->address) != 0 ||
           strcmp(old->http, new->http) != 0 || strcmp(old->tail, new->tail) != 0;
}

void tl_member_announce(struct tl_member *m, const struct tl_member_entry *self,
                        bool now) {
    struct tl_member_entry next = *self;
    next.role = m->role;
    next.index = m->index;
    next.address[sizeof(next.address) - 1] = '\0';
    next.http[sizeof(next.http) - 1] = '\0';
    next.tail[sizeof(next.tail) - 1] = '\0';
    tl_member_lock(m);
    if (next.incarnation == 0) {
        next.incarnation = m->self.incarnation;
    }
    if (next.pid == 0) {
        next.pid = m->self.pid;
    }
    m->is_news = m->is_news || is_news(&m->self, &next);
    m->is_due = m->is_due || now;
    m->self = next;
    tl_member_unlock(m);
    if (now) {
        tl_member_wake(m);
    }
}

int tl_member_predecessor(const struct tl_member *m,
                          struct tl_member_entry *ret_entry) {
    tl_member_lock(m);
    int rc = !m->has_beaten ? TL_E_BUSY : m->has_predecessor ? 0 : TL_E_NOTFOUND;
    if (rc == 0) {
        *ret_entry = m->predecessor;
    }
    tl_member_unlock(m);
    return rc;
}

/* ---- what is known ------------------------------------------------------------ */

bool tl_member_is_connected(const struct tl_member *m) {
    tl_member_lock(m);
    bool is_connected = m->is_connected;
    tl_member_unlock(m);
    return is_connected;
}

void tl_member_trouble(const struct tl_member *m, char *ret_text, size_t size) {
    tl_member_lock(m);
    (void)snprintf(ret_text, size, "%s", m->trouble);
    tl_member_unlock(m);
}

uint64_t tl_member_newest_epoch(const struct tl_member *m, uint32_t shard) {
    tl_member_lock(m);
    uint64_t epoch = tl_epochs_get(&m->epochs, shard);
    tl_member_unlock(m);
    return epoch;
}

bool tl_member_keep_end_locked(struct tl_member *m, const char *end) {
    if (m->end[0] != '\0' || end[0] == '\0') {
        return false;
    }
    (void)snprintf(m->end, sizeof(m->end), "%s", end);
    return true;
}

bool tl_member_has_ended(const struct tl_member *m, char *reason, size_t size) {
    tl_member_lock(m);
    bool has_ended = m->end[0] != '\0' && tl_end_decode(m->end, strlen(m->end), reason,
                                                        reason == NULL ? 0 : size) == 0;
    tl_member_unlock(m);
    return has_ended;
}

int64_t tl_member_age_locked(const struct tl_member *m) {
    return m->started_ms < 0 ? -1 : tl_now_ms() - m->born_ms;
}

int64_t tl_member_run_age_ms(const struct tl_member *m) {
    tl_member_lock(m);
    int64_t age_ms = tl_member_age_locked(m);
    tl_member_unlock(m);
    return age_ms;
}

int tl_member_find(const struct tl_member *m, enum tl_role role, uint32_t index,
                   struct tl_member_entry *ret_entry) {
    tl_member_lock(m);
    int rc = tl_roster_find(m->roster, role, index, ret_entry);
    tl_member_unlock(m);
    return rc;
}

size_t tl_member_list(const struct tl_member *m, struct tl_member_entry *entries,
                      size_t max) {
    tl_member_lock(m);
    size_t n = tl_roster_list(m->roster, entries, max);
    tl_member_unlock(m);
    return n;
}

void tl_member_stats(const struct tl_member *m, uint64_t *ret_commands,
                     uint64_t *ret_failures) {
    *ret_commands = atomic_load(&m->counters.commands);
    *ret_failures = atomic_load(&m->counters.failures);
}
