/* compare.c - several runs that differ in their seed alone, as one: means, and how far
 * they can be trusted. */
#include "throughline/report.h"

#include <math.h>
#include <stddef.h>

#define GAP_POINTS 200u

/* Student's t for a two-sided 95 % interval, by degrees of freedom from 1 on. */
static double student(size_t freedom) {
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                               2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                               2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                               2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
    return freedom <= sizeof(t) / sizeof(t[0]) ? t[freedom - 1] : 1.96;
}

/* Sums of what was seen; `missing` when one value was not known: then there is no mean,
 * since that of the others would flatter. */
struct sums {
    double n, sum, squares;
    int missing;
};

static void add(struct sums *s, double v) {
    s->n++;
    s->sum += v;
    s->squares += v * v;
}

static double mean(const struct sums *s) {
    return s->missing || s->n < 1 ? NAN : s->sum / s->n;
}

/* Half the width of the interval. */
static double interval(const struct sums *s) {
    if (s->missing || s->n < 2) {
        return NAN;
    }
    const double m = s->sum / s->n;
    const double variance = (s->squares - s->n * m * m) / (s->n - 1);
    return student((size_t)s->n - 1) * sqrt(variance > 0 ? variance / s->n : 0.0);
}

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* ---- numbers --------------------------------------------------------------------- */

static struct sums sums_of(const json_t *figures, const char *key) {
    struct sums s = {0};
    size_t i = 0;
    const json_t *run = NULL;
    json_array_foreach(figures, i, run) {
        const json_t *v = json_object_get(run, key);
        if (json_is_number(v)) {
            add(&s, json_number_value(v));
        } else {
            s.missing = 1;
        }
    }
    return s;
}

json_t *tl_compare_means(const json_t *figures) {
    json_t *means = json_object();
    const char *key = NULL;
    json_t *first = NULL;
    json_object_foreach(json_array_get(figures, 0), key, first) {
        char name[96];
        if (json_is_array(first) || json_is_object(first)) {
            continue;
        }
        const struct sums s = sums_of(figures, key);
        (void)snprintf(name, sizeof(name), "%.80s_interval", key);
        (void)json_object_set_new(means, key, number(mean(&s)));
        (void)json_object_set_new(means, name, number(interval(&s)));
    }
    (void)json_object_set_new(means, "seeds",
                              json_integer((json_int_t)json_array_size(figures)));
    return means;
}

/* ---- curves ---------------------------------------------------------------------- */

static double item(const json_t *array, size_t i) {
    return json_number_value(json_array_get(array, i));
}

/* On the straight line between the points around `x`; NAN outside of them. */
static double value_at(const json_t *curve, double x) {
    const json_t *xs = json_object_get(curve, "x");
    const json_t *ys = json_object_get(curve, "y");
    for (size_t i = 1; i < json_array_size(xs); i++) {
        const double from = item(xs, i - 1);
        const double to = item(xs, i);
        if (x >= from && x <= to && to > from) {
            const double part = (x - from) / (to - from);
            return item(ys, i - 1) * (1 - part) + item(ys, i) * part;
        }
    }
    return NAN;
}

/* As far as all of them go. */
static double common_end(const json_t *curves) {
    double end = INFINITY;
    size_t i = 0;
    const json_t *curve = NULL;
    json_array_foreach(curves, i, curve) {
        const json_t *xs = json_object_get(curve, "x");
        const size_t n = json_array_size(xs);
        const double last = n > 0 ? item(xs, n - 1) : 0.0;
        end = last < end ? last : end;
    }
    return isfinite(end) ? end : 0.0;
}

static struct sums sums_at(const json_t *curves, double x) {
    struct sums s = {0};
    size_t i = 0;
    const json_t *curve = NULL;
    json_array_foreach(curves, i, curve) {
        const double v = value_at(curve, x);
        if (isnan(v)) {
            s.missing = 1;
        } else {
            add(&s, v);
        }
    }
    return s;
}

/* Mean of a - b at `points` moments that both have; NAN: none. */
static double gap_of(const json_t *a, const json_t *b, unsigned points) {
    json_t *both = json_pack("[O, O]", a, b);
    const double end = common_end(both);
    struct sums s = {0};
    for (unsigned i = 0; i <= points; i++) {
        const double at = end * i / points;
        const double gap = value_at(a, at) - value_at(b, at);
        if (!isnan(gap)) {
            add(&s, gap);
        }
    }
    json_decref(both);
    return mean(&s);
}

json_t *tl_compare_gap(const json_t *curves, const json_t *controls) {
    struct sums s = {.missing = json_array_size(curves) != json_array_size(controls)};
    for (size_t i = 0; !s.missing && i < json_array_size(curves); i++) {
        const double gap =
            gap_of(json_array_get(curves, i), json_array_get(controls, i), GAP_POINTS);
        if (isnan(gap)) {
            s.missing = 1;
        } else {
            add(&s, gap);
        }
    }
    return json_pack("{s:o, s:o}", "gap", number(mean(&s)), "gap_interval",
                     number(interval(&s)));
}

json_t *tl_compare_curves(const json_t *curves, unsigned points) {
    json_t *x = json_array();
    json_t *y = json_array();
    json_t *low = json_array();
    json_t *high = json_array();
    const double end = common_end(curves);
    for (unsigned i = 0; i <= points; i++) {
        const double at = end * i / points;
        const struct sums s = sums_at(curves, at);
        const double m = mean(&s);
        if (!isnan(m)) {
            (void)json_array_append_new(x, number(at));
            (void)json_array_append_new(y, number(m));
            (void)json_array_append_new(low, number(m - interval(&s)));
            (void)json_array_append_new(high, number(m + interval(&s)));
        }
    }
    json_t *curve = json_pack("{s:o, s:o}", "x", x, "y", y);
    if (json_array_size(curves) > 1) {
        (void)json_object_set(curve, "low", low);
        (void)json_object_set(curve, "high", high);
    }
    json_decref(low);
    json_decref(high);
    return curve;
}
