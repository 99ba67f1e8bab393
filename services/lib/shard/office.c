/* office.c - the shard's server, as an office that one of several processes holds.
 *
 * Whoever serves the shard is registered as "server/SHARD" beside its own entry as a
 * replica, with a membership of its own: so workers, checkpointer and monitor find it
 * as they find any server. A successor's entry stays when its predecessor signs off. */
#include "server.h"

#include <stdlib.h>
#include <unistd.h>

struct tl_member_entry server_office_entry(const struct server *s, uint64_t epoch) {
    struct tl_member_entry e = s->self;
    e.epoch = epoch;
    e.pid = (int32_t)getpid();
    e.role = TL_ROLE_SERVER;
    e.index = s->service.index;
    e.incarnation = s->writer;
    e.state = TL_MEMBER_SERVING;
    server_replica_tail(s, e.tail);
    return e;
}

int server_office_take(struct server *s) {
    if (s->office != NULL) {
        return 0;
    }
    const struct tl_member_config config = {
        .redis = s->service.redis,
        .job = s->job.name,
        .run = s->service.run,
        .lease_ms = s->job.lease_ms,
        .self = server_office_entry(s, s->epoch),
    };
    return tl_member_open(&config, &s->office);
}

void server_office_announce(struct server *s) {
    if (s->office != NULL) {
        const struct tl_member_entry e = server_office_entry(s, s->epoch);
        tl_member_announce(s->office, &e, true);
    }
}

/* Signing off talks with Redis: on the thread pool. */
static void close_job(uv_work_t *work) {
    tl_member_close(work->data);
}

static void close_done(uv_work_t *work, int status) {
    (void)status;
    free(work);
}

void server_office_leave(struct server *s) {
    struct tl_member *m = s->office;
    uv_work_t *work = m != NULL ? calloc(1, sizeof(*work)) : NULL;
    s->office = NULL;
    if (work != NULL) {
        work->data = m;
    }
    if (work == NULL || uv_queue_work(&s->loop, work, close_job, close_done) != 0) {
        free(work);
        tl_member_close(m);
    }
}

void server_office_close(struct server *s) {
    tl_member_close(s->office);
    s->office = NULL;
}
