/* call.c - say HELLO to another process of this shard, and keep the connection.
 *
 * Names are resolved and a dead host is waited for: this blocks, and belongs on the
 * thread pool. */
#include "server.h"

#include <stdio.h>
#include <time.h>

#define TRIES        10u
#define PAUSE_NS     500000
#define WAIT_MOST_MS 1000

void server_call_prepare(const struct server *s, struct server_call *c) {
    c->trust = s->trust;
    c->wait_ms =
        s->job.lease_ms / 2 < WAIT_MOST_MS ? s->job.lease_ms / 2 : WAIT_MOST_MS;
    c->header = (struct tl_header){.shard = s->service.index};
    c->hello = (struct tl_hello){.role = TL_ROLE_REPLICA, .job_digest = s->digest};
    (void)snprintf(c->hello.job, sizeof(c->hello.job), "%s", s->job.name);
    (void)snprintf(c->hello.run, sizeof(c->hello.run), "%s", s->service.run);
}

static int say_hello(struct server_call *c, struct tl_link *link) {
    uint8_t welcome[TL_WELCOME_BYTES];
    int status = 0;
    tl_link_set_trust(link, c->trust);
    int rc = tl_link_connect(link, &c->address);
    rc = rc == 0 ? tl_link_hello(link, &c->header, &c->hello, welcome) : rc;
    rc = rc == 0 ? tl_links_wait(&link, 1, tl_now_ms() + c->wait_ms, -1, &status) : rc;
    rc = rc == 0 ? status : rc;
    if (rc == 0 && tl_link_reply(link)->kind == TL_KIND_ERROR) {
        rc = tl_link_reply(link)->status < 0 ? tl_link_reply(link)->status
                                             : TL_E_PROTOCOL;
    }
    if (rc == 0) {
        tl_link_detach(link, &c->fd, &c->tls);
    }
    return rc;
}

/* A connection that is closed at once was to a process that is just dying: the next one
 * is refused. */
int server_call(struct server_call *c) {
    struct tl_link *link = NULL;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int rc = tl_link_new(&link);
    for (unsigned i = 0; i < TRIES && link != NULL; i++) {
        rc = say_hello(c, link);
        if (rc != TL_E_CLOSED) {
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    tl_link_free(link);
    return rc;
}
