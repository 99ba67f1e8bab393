/* metrics.c - counters, gauges and histograms that cost an atomic operation each. */
#include "metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tl_metric *_Atomic first;

struct tl_metric *tl_metrics_first(void) {
    return atomic_load_explicit(&first, memory_order_acquire);
}

static struct tl_metric *next_of(struct tl_metric *m) {
    return atomic_load_explicit(&m->next, memory_order_acquire);
}

static void metric_free(struct tl_metric *m) {
    if (m != NULL) {
        free(m->name);
        free(m->labels);
        free(m->help);
        free(m->bounds);
        free((void *)m->buckets);
        free(m);
    }
}

static struct tl_metric *metric_create(enum tl_metric_type type, const char *name,
                                       const char *labels, const char *help,
                                       const double *bounds, size_t bound_count) {
    struct tl_metric *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    m->type = type;
    m->name = strdup(name);
    m->labels = strdup(labels);
    m->help = strdup(help);
    m->bound_count = bound_count;
    m->bounds = calloc(bound_count + 1, sizeof(*m->bounds));
    m->buckets = calloc(bound_count + 1, sizeof(*m->buckets));
    if (m->name == NULL || m->labels == NULL || m->help == NULL || m->bounds == NULL ||
        m->buckets == NULL) {
        metric_free(m);
        return NULL;
    }
    if (bound_count > 0) {
        memcpy(m->bounds, bounds, bound_count * sizeof(*bounds));
    }
    return m;
}

/* The same name and labels again give the same metric. */
static struct tl_metric *find_or_append(enum tl_metric_type type, const char *name,
                                        const char *labels, const char *help,
                                        const double *bounds, size_t bound_count) {
    struct tl_metric *last = NULL;
    for (struct tl_metric *m = tl_metrics_first(); m != NULL; m = next_of(m)) {
        if (strcmp(m->name, name) == 0) {
            assert(m->type == type);
            if (strcmp(m->labels, labels) == 0) {
                return m;
            }
        }
        last = m;
    }
    struct tl_metric *m = metric_create(type, name, labels, help, bounds, bound_count);
    if (m != NULL) {
        atomic_store_explicit(last != NULL ? &last->next : &first, m,
                              memory_order_release);
    }
    return m;
}

struct tl_metric *tl_metric_new(enum tl_metric_type type, const char *name,
                                const char *labels, const char *help,
                                const double *bounds, size_t bound_count) {
    assert(type == TL_HISTOGRAM ? bound_count > 0 : bound_count == 0);
    (void)pthread_mutex_lock(&lock);
    struct tl_metric *m = find_or_append(type, name, labels != NULL ? labels : "", help,
                                         bounds, bound_count);
    (void)pthread_mutex_unlock(&lock);
    return m;
}

/* ---- changes -------------------------------------------------------------------- */

static void add(_Atomic double *to, double v) {
    double old = atomic_load_explicit(to, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        to, &old, old + v, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void tl_metric_add(struct tl_metric *m, double v) {
    assert(m->type != TL_HISTOGRAM);
    add(&m->value, v);
}

void tl_metric_set(struct tl_metric *m, double v) {
    assert(m->type != TL_HISTOGRAM);
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}

void tl_metric_observe(struct tl_metric *m, double v) {
    assert(m->type == TL_HISTOGRAM);
    size_t i = 0;
    while (i < m->bound_count && !(v <= m->bounds[i])) {
        i++;
    }
    atomic_fetch_add_explicit(&m->buckets[i], 1, memory_order_relaxed);
    add(&m->value, v);
}

double tl_metric_value(const struct tl_metric *m) {
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}
