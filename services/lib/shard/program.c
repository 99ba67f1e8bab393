/* program.c - settings, start, exit code. */
#include "throughline/shard.h"

#include "server.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct tl_option option_rows[] = {
    {.name = "listen",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct server_options, listen),
     .size = sizeof(((struct server_options *)0)->listen),
     .fallback = "tcp://127.0.0.1:0",
     .doc = "Where to serve frames: tcp://host:port or unix:///path, several separated "
            "by commas; the first is announced."},
    {.name = "advertise",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct server_options, advertise),
     .size = sizeof(((struct server_options *)0)->advertise),
     .fallback = "",
     .doc = "Address to announce instead of the first one listened on."},
    {.name = "without_secret",
     .type = TL_OPT_BOOL,
     .offset = offsetof(struct server_options, without_secret),
     .fallback = "false",
     .doc = "Listen without a secret where other machines can connect too: whoever "
            "reaches it can train, read and spoil the model."},
    {.name = "drain_ms",
     .type = TL_OPT_U32,
     .offset = offsetof(struct server_options, drain_ms),
     .fallback = "5000",
     .min = 0,
     .max = 600000,
     .unit = "ms",
     .doc = "After SIGTERM, how long to wait for a last snapshot of what was "
            "acknowledged."},
    {.name = "role_label",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct server_options, role_label),
     .size = sizeof(((struct server_options *)0)->role_label),
     .fallback = "",
     .doc =
         "On Kubernetes: a label of this pod, as in throughline/role, that says what "
         "this process is: starting, waiting, serving; in a chain head, middle, "
         "tail. Needs a service account with get and patch on the pod."},
};
static const struct tl_option_table option_table = {
    option_rows, sizeof(option_rows) / sizeof(option_rows[0])};

static int read_trust(struct server *s) {
    int rc = tl_trust_new(&s->service.trust, &s->trust);
    const struct tl_secret *secret = tl_trust_secret(s->trust);
    if (rc == 0 && secret != NULL && secret->role != 0) {
        rc = tl_fail(TL_E_CONFIG,
                     "secret file %s: a server needs the job's secret, this is the key "
                     "of a %s",
                     s->service.trust.secret, tl_role_name(secret->role));
    }
    return rc;
}

static int label_pod(struct server *s) {
    if (s->options.role_label[0] == '\0') {
        return 0;
    }
    int rc = tl_pod_label_new(s->options.role_label, &s->label);
    if (rc == 0) {
        tl_pod_label_set(s->label, "starting");
    }
    return rc;
}

static int fail_start(int rc) {
    tl_log_line(TL_ERROR, "cannot start", "error", tl_error_name(rc), "why",
                tl_error_text(), NULL);
    return tl_exit_code(rc);
}

/* The strategies of a replica are not those of a server: who is started for another
 * would hold a state that nobody asks for. */
static int check_role(const struct server *s, enum tl_role role) {
    bool is_replicated = tl_job_replicas(&s->job) > 0;
    if (is_replicated == (role == TL_ROLE_REPLICA)) {
        return 0;
    }
    return tl_fail(TL_E_CONFIG, "the job's strategy needs %s, not %s",
                   is_replicated ? "tl-replica" : "tl-server",
                   is_replicated ? "tl-server" : "tl-replica");
}

/* Replicas are numbered over the whole job, so that one StatefulSet can hold them all.
 */
static void take_place(struct server *s) {
    uint32_t replicas = tl_job_replicas(&s->job);
    s->number = s->service.index;
    if (replicas > 0) {
        s->slot = s->number % replicas;
        s->service.index = s->number / replicas;
    }
}

static int prepare(struct server *s, enum tl_role role) {
    s->writer = tl_random_u64();
    s->role = role;
    int rc = check_role(s, role);
    if (rc == 0) {
        take_place(s);
        rc = tl_stop_setup();
    }
    rc = rc == 0 ? read_trust(s) : rc;
    rc = rc == 0 ? label_pod(s) : rc;
    rc = rc == 0 ? server_gauges_new(s) : rc;
    return rc == 0 ? server_recover(s) : rc;
}

int tl_shard_main(enum tl_role role, int argc, char **argv) {
    static struct server s;
    bool is_server = role == TL_ROLE_SERVER;
    tl_service_start(is_server ? "server" : "replica",
                     is_server ? "folds one shard of the parameters and serves them"
                               : "one of several that hold the same shard: folds what "
                                 "is committed, becomes the head when that dies",
                     argc, argv, &option_table, &s.options, &s.service, &s.job);
    int rc = prepare(&s, role);
    int code = rc == 0 ? server_run(&s) : fail_start(rc);
    tl_pod_label_free(s.label);
    tl_fold_free(s.fold);
    tl_trust_free(s.trust);
    free(s.gauges);
    tl_job_done(&s.job);
    return code;
}
