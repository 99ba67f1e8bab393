/* service_table.c - the options that every service has. */
#include "throughline/service.h"

#include <stddef.h>

static const char *const formats[] = {"logfmt", "json", NULL};
static const char *const levels[] = {"debug", "info", "warning", "error", NULL};

#define FIELD(member)                                                                  \
    .offset = offsetof(struct tl_service_options, member),                             \
    .size = sizeof(((struct tl_service_options *)NULL)->member)

static const struct tl_option service_options[] = {
    {.name = "job",
     .type = TL_OPT_STRING,
     FIELD(job),
     .path = true,
     .doc = "The job file; also the one argument without a flag."},
    {.name = "run",
     .type = TL_OPT_STRING,
     FIELD(run),
     .fallback = "default",
     .doc = "Name of this run, in lower-case letters, digits and dashes."},
    {.name = "redis",
     .type = TL_OPT_STRING,
     FIELD(redis),
     .fallback = "redis://127.0.0.1:6379",
     .url = true,
     .doc = "Redis of the membership: redis://host:port or unix:///path. With a "
            "password: --redis-file, a file that holds the URL."},
    {.name = "http",
     .type = TL_OPT_STRING,
     FIELD(http),
     .fallback = "127.0.0.1:0",
     .doc = "host:port of /metrics, /healthz and /readyz, port 0 for any; or off."},
    {.name = "http_advertise",
     .type = TL_OPT_STRING,
     FIELD(http_advertise),
     .fallback = "",
     .doc = "host:port to announce instead of the one bound by http, for a service "
            "that others reach under another name or address, as in a pod."},
    {.name = "stay",
     .type = TL_OPT_BOOL,
     FIELD(stay),
     .fallback = "false",
     .doc =
         "Server, checkpointer, monitor: when the job has ended, go on answering "
         "until SIGTERM. Worker: exit with 143 when SIGTERM comes before the job has "
         "ended. For supervisors that start again whatever ends, or take 0 for done, "
         "as Kubernetes does."},
    {.name = "log_format",
     .type = TL_OPT_CHOICE,
     FIELD(log_format),
     .fallback = "logfmt",
     .choices = formats,
     .doc = "Form of the log lines."},
    {.name = "log_level",
     .type = TL_OPT_CHOICE,
     FIELD(log_level),
     .fallback = "info",
     .choices = levels,
     .doc = "Least important lines that are logged."},
    {.name = "index",
     .type = TL_OPT_U32,
     FIELD(index),
     .fallback = "0",
     .min = 0,
     .max = 65535,
     .doc = "Shard of a server, number of a worker. On Kubernetes the default is "
            "JOB_COMPLETION_INDEX, or the number at the end of the pod's name."},
};

const struct tl_option_table tl_service_table = {
    .options = service_options,
    .count = sizeof(service_options) / sizeof(service_options[0]),
};
