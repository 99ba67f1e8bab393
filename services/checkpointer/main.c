/* main.c - tl-checkpointer: options, and the order of starting and stopping. */
#include "checkpointer.h"

#include <stddef.h>
#include <stdlib.h>

static const struct tl_option option_rows[] = {
    {.name = "servers",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct checkpointer_options, servers),
     .size = sizeof(((struct checkpointer_options *)0)->servers),
     .fallback = "",
     .doc = "Addresses of the shards' servers, in order, separated by commas "
            "(tcp://host:port or unix:///path); by default Redis is asked."},
    {.name = "spool",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct checkpointer_options, spool),
     .size = sizeof(((struct checkpointer_options *)0)->spool),
     .fallback = "",
     .path = true,
     .doc = "Directory with room for the states of all shards, where they wait for "
            "the store; by default TMPDIR, or /tmp."},
};
static const struct tl_option_table option_table = {
    option_rows, sizeof(option_rows) / sizeof(option_rows[0])};

static int make_shards(struct checkpointer *c) {
    const uint32_t n = c->job.shards;
    c->shards = calloc(n, sizeof(*c->shards));
    c->polled = calloc((size_t)n + 3u, sizeof(*c->polled));
    if (c->shards == NULL || c->polled == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for %u shards", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        c->shards[i].capture.spool.fd = -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct shard *s = &c->shards[i];
        s->owner = c;
        s->number = i;
        s->pace.every_updates = c->job.checkpoint_updates;
        s->pace.every_ms = (int64_t)(c->job.checkpoint_seconds * 1000.0);
        s->pace.taken_ms = tl_now_ms();
        const int r = tl_link_new(&s->link);
        if (r < 0) {
            return r;
        }
        tl_link_set_trust(s->link, c->trust);
    }
    return 0;
}

static int check_job(const struct tl_job *job) {
    return tl_job_has_store(job)
               ? 0
               : tl_fail(TL_E_CONFIG, "strategy: \"none\" takes no snapshots; this job "
                                      "needs no checkpointer");
}

static void clean_up(struct checkpointer *c, struct tl_http *http) {
    presence_close(c);
    for (uint32_t i = 0; i < c->job.shards && c->shards != NULL; i++) {
        capture_abandon(&c->shards[i]);
        tl_link_free(c->shards[i].link);
    }
    store_stop(&c->store);
    tl_http_stop(http);
    gauges_done(&c->gauges);
    free(c->shards);
    free(c->polled);
    tl_trust_free(c->trust);
}

static int serve(struct checkpointer *c) {
    struct tl_http *http = NULL;
    char address[TL_NAME_MAX * 4] = "";
    c->presence.wake_fd = -1;
    c->store.wake_fd = -1;
    tl_health_ready("starting");
    int r = gauges_new(&c->gauges, c->job.shards);
    if (r == 0) {
        r = tl_trust_new(&c->service.trust, &c->trust);
    }
    if (r == 0) {
        r = make_shards(c);
    }
    if (r == 0) {
        r = tl_service_http(&c->service, NULL, &http, address);
    }
    if (r == 0) {
        r = presence_open(c, address);
    }
    if (r == 0) {
        r = store_start(&c->store, &c->job, c->service.run, c->service.redis);
    }
    if (r == 0) {
        r = checkpointer_run(c);
    }
    if (r == 0) {
        tl_service_stay(&c->service);
    }
    clean_up(c, http);
    return r;
}

int main(int argc, char **argv) {
    static struct checkpointer c;
    tl_service_start("checkpointer", "takes snapshots of every shard, keeps the newest",
                     argc, argv, &option_table, &c.options, &c.service, &c.job);
    int r = tl_stop_setup();
    if (r == 0) {
        r = check_job(&c.job);
    }
    if (r == 0) {
        r = tl_job_digest(&c.job, &c.job_digest);
    }
    if (r == 0) {
        r = tl_job_fold_digest(&c.job, &c.fold_digest);
    }
    if (r == 0) {
        r = serve(&c);
    }
    if (r < 0) {
        tl_log_line(TL_ERROR, "giving up", "error", tl_error_name(r), "why",
                    tl_error_text(), NULL);
    } else {
        tl_log_line(TL_INFO, "done", NULL);
    }
    tl_job_done(&c.job);
    return tl_exit_code(r);
}
