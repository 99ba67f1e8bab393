/* metrics_text.c - the registry in the Prometheus text format, version 0.0.4. */
#include "metrics.h"
#include "process.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The shortest of the two precisions that reads back the same. */
static void put_number(FILE *out, double v) {
    char text[40];
    if (isnan(v)) {
        (void)fputs("NaN", out);
        return;
    }
    if (isinf(v)) {
        (void)fputs(v > 0 ? "+Inf" : "-Inf", out);
        return;
    }
    (void)snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v) {
        (void)snprintf(text, sizeof(text), "%.17g", v);
    }
    (void)fputs(text, out);
}

static void put_help(FILE *out, const char *name, const char *help, const char *type) {
    (void)fprintf(out, "# HELP %s ", name);
    for (; *help != '\0'; help++) {
        if (*help == '\n') {
            (void)fputs("\\n", out);
        } else if (*help == '\\') {
            (void)fputs("\\\\", out);
        } else {
            (void)fputc(*help, out);
        }
    }
    (void)fprintf(out, "\n# TYPE %s %s\n", name, type);
}

static void put_sample(FILE *out, const char *name, const char *suffix,
                       const char *labels, double v) {
    (void)fprintf(out, "%s%s", name, suffix);
    if (labels[0] != '\0') {
        (void)fprintf(out, "{%s}", labels);
    }
    (void)fputc(' ', out);
    put_number(out, v);
    (void)fputc('\n', out);
}

static void put_bucket(FILE *out, const struct tl_metric *m, double bound,
                       uint64_t count) {
    (void)fprintf(out, "%s_bucket{%s%sle=\"", m->name, m->labels,
                  m->labels[0] != '\0' ? "," : "");
    put_number(out, bound);
    (void)fprintf(out, "\"} %llu\n", (unsigned long long)count);
}

/* Observations go on meanwhile: _count is what the buckets add up to, so that the two
 * never contradict each other. */
static void put_histogram(FILE *out, const struct tl_metric *m) {
    uint64_t count = 0;
    for (size_t i = 0; i <= m->bound_count; i++) {
        count += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        put_bucket(out, m, i < m->bound_count ? m->bounds[i] : (double)INFINITY, count);
    }
    put_sample(out, m->name, "_sum", m->labels, tl_metric_value(m));
    put_sample(out, m->name, "_count", m->labels, (double)count);
}

static void put_metric(FILE *out, const struct tl_metric *m) {
    if (m->type == TL_HISTOGRAM) {
        put_histogram(out, m);
    } else {
        put_sample(out, m->name, "", m->labels, tl_metric_value(m));
    }
}

static bool named_before(const struct tl_metric *m) {
    for (const struct tl_metric *p = tl_metrics_first(); p != m; p = p->next) {
        if (strcmp(p->name, m->name) == 0) {
            return true;
        }
    }
    return false;
}

/* The format wants all samples of one name together, whenever they were registered. */
static void put_family(FILE *out, const struct tl_metric *m) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    if (named_before(m)) {
        return;
    }
    put_help(out, m->name, m->help, types[m->type]);
    for (const struct tl_metric *p = m; p != NULL; p = p->next) {
        if (strcmp(p->name, m->name) == 0) {
            put_metric(out, p);
        }
    }
}

static void put_own(FILE *out, const char *name, const char *help, const char *type,
                    const char *labels, double v) {
    put_help(out, name, help, type);
    put_sample(out, name, "", labels, v);
}

static void put_process(FILE *out) {
    double cpu;
    uint64_t resident;
    tl_process_usage(&cpu, &resident);
    put_own(out, "throughline_build_info", "Version of this program.", "gauge",
            "version=\"" TL_VERSION "\"", 1);
    put_own(out, "throughline_process_start_time_seconds",
            "Unix time at which this process started.", "gauge", "",
            tl_process_start_seconds());
    put_own(out, "process_cpu_seconds_total", "User and system CPU time.", "counter",
            "", cpu);
    put_own(out, "process_resident_memory_bytes", "Resident memory.", "gauge", "",
            (double)resident);
    put_own(out, "process_open_fds", "Open file descriptors.", "gauge", "",
            (double)tl_process_descriptors());
}

char *tl_metrics_text(size_t *ret_size) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    for (const struct tl_metric *m = tl_metrics_first(); m != NULL; m = m->next) {
        put_family(out, m);
    }
    put_process(out);
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}
