/* presence.c - a worker that others can count on, or see waiting.
 *
 * The lease in Redis is the membership thread's business; this only tells it what to
 * say. Health is judged by the time since the main thread last spoke, but that thread
 * may rightly spend the job's whole patience in one call, waiting for a dead server: a
 * probe must not kill it for that. So it says beforehand how long it may be silent, and
 * a thread of its own shows it healthy for as long, and no longer. */
#include "worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PULSE_MS  2000
#define LINGER_MS 500

struct worker_presence {
    struct tl_member *member; /* NULL: no Redis */
    struct tl_member_entry self;
    pthread_t pulse;
    pthread_mutex_t lock; /* of the fields below */
    pthread_cond_t changed;
    int64_t silent_until_ms;
    bool stopping;
};

static void wait_a_pulse(struct worker_presence *p) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PULSE_MS / 1000;
    (void)pthread_cond_timedwait(&p->changed, &p->lock, &until);
}

static void *pulse(void *ctx) {
    struct worker_presence *p = ctx;
    (void)pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        if (tl_now_ms() <= p->silent_until_ms) {
            tl_health_beat();
        }
        wait_a_pulse(p);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int start_pulse(struct worker_presence *p) {
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&p->lock, NULL);
    int error = pthread_create(&p->pulse, NULL, pulse, p);
    return error == 0 ? 0
                      : tl_fail(TL_E_LIMIT, "no thread for the health check: %s",
                                strerror(error));
}

static int open_member(struct worker_presence *p, const struct worker *w) {
    if (strcmp(w->service.redis, "off") == 0) {
        return 0;
    }
    struct tl_member_config config = {
        .redis = w->service.redis,
        .job = w->job.name,
        .run = w->service.run,
        .lease_ms = w->job.lease_ms,
        .self = p->self,
    };
    return tl_member_open(&config, &p->member);
}

int worker_presence_new(const struct worker *w, const char *http,
                        struct worker_presence **ret_presence) {
    struct worker_presence *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the membership");
    }
    p->self = (struct tl_member_entry){
        .role = TL_ROLE_WORKER,
        .index = w->service.index,
        .state = TL_MEMBER_STARTING,
        .pid = getpid(),
    };
    (void)snprintf(p->self.http, sizeof(p->self.http), "%s", http);
    int rc = open_member(p, w);
    if (rc == 0) {
        rc = start_pulse(p);
    }
    if (rc != 0) {
        tl_member_close(p->member);
        free(p);
        return rc;
    }
    *ret_presence = p;
    return 0;
}

void worker_presence_free(struct worker_presence *p) {
    if (p == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_cond_signal(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->pulse, NULL);
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->lock);
    tl_member_close(p->member);
    free(p);
}

void worker_presence_announce(struct worker_presence *p, enum tl_member_state state,
                              uint64_t incarnation, uint64_t acknowledged) {
    bool at_once = p->self.state != state || p->self.incarnation != incarnation;
    p->self.state = state;
    p->self.incarnation = incarnation;
    p->self.version = acknowledged;
    if (p->member != NULL) {
        tl_member_announce(p->member, &p->self, at_once);
    }
}

void worker_presence_linger(struct worker_presence *p) {
    struct tl_member_entry monitor;
    worker_presence_announce(p, TL_MEMBER_LEAVING, p->self.incarnation,
                             p->self.version);
    if (p->member != NULL && tl_member_is_connected(p->member) &&
        tl_member_find(p->member, TL_ROLE_MONITOR, 0, &monitor) == 0) {
        struct timespec moment = {.tv_nsec = LINGER_MS * 1000000L};
        (void)nanosleep(&moment, NULL);
    }
}

void worker_presence_expect(struct worker_presence *p, int64_t ms) {
    tl_health_beat();
    (void)pthread_mutex_lock(&p->lock);
    p->silent_until_ms = tl_now_ms() + ms;
    (void)pthread_mutex_unlock(&p->lock);
}
