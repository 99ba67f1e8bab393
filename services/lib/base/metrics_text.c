/* metrics_text.c - the registry as text: Prometheus' own format, version 0.0.4, or
 * OpenMetrics 1.0.0.
 *
 * They differ in little: OpenMetrics names a counter's family without "_total", tells
 * units, escapes quotes in help texts, and says where the text ends. */
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

static bool ends_in(const char *text, const char *end) {
    const size_t n = strlen(text);
    const size_t m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static void put_escaped(FILE *out, const char *help, enum tl_metrics_format format) {
    for (; *help != '\0'; help++) {
        if (*help == '\n') {
            (void)fputs("\\n", out);
        } else if (*help == '\\') {
            (void)fputs("\\\\", out);
        } else if (*help == '"' && format == TL_METRICS_OPEN) {
            (void)fputs("\\\"", out);
        } else {
            (void)fputc(*help, out);
        }
    }
}

static void put_head(FILE *out, const char *name, const char *help, const char *type,
                     enum tl_metrics_format format) {
    static const char *const units[] = {"seconds", "bytes"};
    char family[128];
    (void)snprintf(family, sizeof(family), "%s", name);
    if (format == TL_METRICS_OPEN && ends_in(family, "_total")) {
        family[strlen(family) - strlen("_total")] = '\0';
    }
    (void)fprintf(out, "# HELP %s ", family);
    put_escaped(out, help, format);
    (void)fprintf(out, "\n# TYPE %s %s\n", family, type);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (format == TL_METRICS_OPEN && ends_in(family, units[i])) {
            (void)fprintf(out, "# UNIT %s %s\n", family, units[i]);
        }
    }
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
static void put_family(FILE *out, const struct tl_metric *m,
                       enum tl_metrics_format format) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    if (named_before(m)) {
        return;
    }
    put_head(out, m->name, m->help, types[m->type], format);
    for (const struct tl_metric *p = m; p != NULL; p = p->next) {
        if (strcmp(p->name, m->name) == 0) {
            put_metric(out, p);
        }
    }
}

/* What every process says of itself. */
static void put_process(FILE *out, enum tl_metrics_format format) {
    double cpu = 0.0;
    uint64_t resident = 0;
    tl_process_usage(&cpu, &resident);
    const struct {
        const char *name, *help, *type, *labels;
        double value;
    } own[] = {
        {"throughline_build_info", "Version of this program.", "gauge",
         "version=\"" TL_VERSION "\"", 1},
        {"throughline_process_start_time_seconds",
         "Unix time at which this process started.", "gauge", "",
         tl_process_start_seconds()},
        {"process_cpu_seconds_total", "User and system CPU time.", "counter", "", cpu},
        {"process_resident_memory_bytes", "Resident memory.", "gauge", "",
         (double)resident},
        {"process_open_fds", "Open file descriptors.", "gauge", "",
         (double)tl_process_descriptors()},
    };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        put_head(out, own[i].name, own[i].help, own[i].type, format);
        put_sample(out, own[i].name, "", own[i].labels, own[i].value);
    }
}

char *tl_metrics_text(enum tl_metrics_format format, size_t *ret_size) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    for (const struct tl_metric *m = tl_metrics_first(); m != NULL; m = m->next) {
        put_family(out, m, format);
    }
    put_process(out, format);
    if (format == TL_METRICS_OPEN) {
        (void)fputs("# EOF\n", out);
    }
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}
