/* main.c - tl-worker: computes gradients on its share of the data. */
#include "worker.h"

#include <stddef.h>
#include <string.h>

#define FIELD(field)                                                                   \
    .offset = offsetof(struct worker_options, field),                                  \
    .size = sizeof(((struct worker_options *)0)->field)

static const struct tl_option option_rows[] = {
    {.name = "servers",
     .type = TL_OPT_STRING,
     FIELD(servers),
     .fallback = "",
     .doc = "Addresses of the shards' servers, in order, separated by commas "
            "(tcp://host:port or unix:///path); by default Redis is asked."},
    {.name = "ledger",
     .type = TL_OPT_STRING,
     FIELD(ledger),
     .fallback = "",
     .doc = "A file that outlives this process and keeps the number of the last "
            "acknowledged gradient; none by default."},
    {.name = "compute_only",
     .type = TL_OPT_U32,
     FIELD(compute_only),
     .fallback = "0",
     .min = 0,
     .max = 1e9,
     .unit = "gradients",
     .doc = "Compute so many gradients for nobody, print gradients per second, and "
            "exit; 0 trains."},
    {.name = "max_rate",
     .type = TL_OPT_DOUBLE,
     FIELD(max_rate),
     .fallback = "0",
     .min = 0,
     .max = 1e6,
     .unit = "gradients/s",
     .doc = "Compute at most so many gradients per second; 0 is without limit."},
};
static const struct tl_option_table option_table = {
    option_rows, sizeof(option_rows) / sizeof(option_rows[0])};

static const char *or_null(const char *text) {
    return text[0] != '\0' ? text : NULL;
}

static void on_wait(void *ctx, const char *why) {
    (void)ctx;
    if (why[0] != '\0') {
        tl_log_line(TL_WARNING, "waiting", "why", why, NULL);
    } else {
        tl_log_line(TL_INFO, "the wait is over", NULL);
    }
}

static int open_client(struct worker *w) {
    bool has_redis = strcmp(w->service.redis, "off") != 0;
    uint64_t digest = 0;
    int rc = tl_job_digest(&w->job, &digest);
    if (rc != 0) {
        return rc;
    }
    struct tl_client_config config = {
        .servers = or_null(w->options.servers),
        .redis = has_redis ? w->service.redis : NULL,
        .job = w->job.name,
        .run = w->service.run,
        .job_digest = digest,
        .secret_file = w->service.trust.secret,
        .tls_cert = w->service.trust.tls_cert,
        .tls_key = w->service.trust.tls_key,
        .tls_ca = w->service.trust.tls_ca,
        .worker = w->service.index,
        .patience_ms = w->job.patience_ms,
        .request_ms = w->job.request_ms,
        .no_unix_checksum = !w->job.unix_checksum,
        .no_shared_memory = !w->job.shared_memory,
        .encoding = tl_encoding_names[w->job.encoding],
        .topk_fraction = w->job.topk_fraction,
        .ledger = or_null(w->options.ledger),
        .ledger_sync = w->job.ledger_sync,
        .on_wait = on_wait,
        .ctx = w,
    };
    rc = worker_logged(w, &config);
    return rc == 0 ? tl_client_open(&config, &w->client) : rc;
}

/* In the signal's handler: a call that waits for a server returns. */
static void interrupt_client(void *ctx) {
    tl_client_interrupt(ctx);
}

static int train(struct worker *w) {
    struct tl_http *http = NULL;
    char address[TL_NAME_MAX * 4] = "";
    tl_health_ready("not joined yet: that takes Redis and a server of every shard");
    int rc = worker_gauges_new(&w->gauges);
    if (rc == 0) {
        rc = tl_service_http(&w->service, NULL, &http, address);
    }
    if (rc == 0) {
        rc = worker_presence_new(w, address, &w->presence);
    }
    if (rc == 0) {
        rc = open_client(w);
    }
    if (rc == 0) {
        tl_stop_hook(interrupt_client, w->client);
        rc = worker_train(w);
        tl_stop_hook(NULL, NULL);
    }
    tl_client_free(w->client);
    tl_log_close(w->log);
    worker_presence_free(w->presence);
    tl_http_stop(http);
    return rc;
}

int main(int argc, char **argv) {
    static struct worker w;
    tl_service_start("worker", "computes gradients on its share of the data", argc,
                     argv, &option_table, &w.options, &w.service, &w.job);
    int rc = tl_stop_setup();
    if (rc == 0) {
        rc = worker_example_init(&w.example, &w.job, w.service.index);
    }
    if (rc == 0) {
        rc = w.options.compute_only > 0 ? worker_baseline(&w) : train(&w);
    }
    if (rc != 0) {
        tl_log_line(TL_ERROR, "giving up", "error", tl_error_name(rc), "why",
                    tl_error_text(), NULL);
    }
    worker_example_done(&w.example);
    tl_job_done(&w.job);
    /* A supervisor that takes 0 for done would not start this worker again. */
    return rc == 0 && w.is_unfinished && w.service.stay ? TL_EXIT_STOPPED
                                                        : tl_exit_code(rc);
}
