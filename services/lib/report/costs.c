/* costs.c - what a run used, times what that costs, on demand and on spot capacity.
 *
 * The prices are examples of the size of public list prices; the page lets a reader
 * change them, `throughline report --prices` takes a file. */
#include "throughline/report.h"

#include <string.h>

static const struct {
    const char *price, *resource, *label;
    double on_demand, spot; /* US$ */
} terms[] = {
    {"vCPU-hour", "vcpu_hours", "vCPU-hours", 0.04, 0.013},
    {"GB-hour", "gb_hours", "GB-hours", 0.0045, 0.0015},
    {"1000 store reads", "kilo_reads", "1000 reads", 0.0004, 0.0004},
    {"1000 store writes", "kilo_writes", "1000 writes", 0.005, 0.005},
    {"store GB-month", "store_gb_months", "GB-months stored", 0.023, 0.023},
};
#define TERMS (sizeof(terms) / sizeof(terms[0]))

static const double month_seconds = 30.0 * 24 * 3600;

static double value(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static json_t *row_of(const json_t *run) {
    const json_t *f = json_object_get(run, "figures");
    return json_pack(
        "{s:O, s:f, s:f, s:f, s:f, s:f}", "label", json_object_get(run, "label"),
        "vcpu_hours", value(f, "cpu_seconds") / 3600, "gb_hours",
        value(f, "gigabyte_seconds") / 3600, "kilo_reads",
        value(f, "store_reads") / 1000, "kilo_writes", value(f, "store_writes") / 1000,
        "store_gb_months", value(f, "held_gigabyte_seconds") / month_seconds);
}

/* A file's price: a number for both, or {"on_demand": ..., "spot": ...}. */
static double price_of(const json_t *prices, const char *name, const char *kind,
                       double fallback) {
    const json_t *given = json_object_get(prices, name);
    const json_t *price = json_is_object(given) ? json_object_get(given, kind) : given;
    return json_is_number(price) ? json_number_value(price) : fallback;
}

json_t *tl_costs(const json_t *runs, const json_t *prices) {
    json_t *rows = json_array();
    json_t *list = json_array();
    size_t r = 0;
    const json_t *run = NULL;
    json_array_foreach(runs, r, run) {
        (void)json_array_append_new(rows, row_of(run));
    }
    for (size_t i = 0; i < TERMS; i++) {
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:f, s:f}", "price", terms[i].price, "resource",
                      terms[i].resource, "label", terms[i].label, "on_demand",
                      price_of(prices, terms[i].price, "on_demand", terms[i].on_demand),
                      "spot", price_of(prices, terms[i].price, "spot", terms[i].spot)));
    }
    return json_pack("{s:s, s:o, s:o}", "note",
                     "US$ for what was used, not for what was reserved. The prices are "
                     "examples: put in your own. A directory counts as an object store "
                     "would; the capacity of Redis and Kafka is not in it.",
                     "terms", list, "rows", rows);
}

int tl_costs_check(const json_t *prices) {
    const char *key = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)prices, key, v) {
        bool is_known = false;
        for (size_t i = 0; i < TERMS; i++) {
            is_known = is_known || strcmp(key, terms[i].price) == 0;
        }
        if (!is_known || (!json_is_number(v) && !json_is_object(v))) {
            return tl_fail(TL_E_CONFIG,
                           "prices: \"%s\": right are \"%s\", \"%s\", \"%s\", "
                           "\"%s\", \"%s\", each a number or {\"on_demand\": ..., "
                           "\"spot\": ...}",
                           key, terms[0].price, terms[1].price, terms[2].price,
                           terms[3].price, terms[4].price);
        }
    }
    return 0;
}

/* The same as a table with both sums. */
json_t *tl_costs_rows(const json_t *costs) {
    static const char *const kinds[] = {"on_demand", "spot"};
    json_t *rows = json_deep_copy(json_object_get(costs, "rows"));
    size_t r = 0;
    json_t *row = NULL;
    json_array_foreach(rows, r, row) {
        for (size_t k = 0; k < 2; k++) {
            double sum = 0.0;
            size_t t = 0;
            const json_t *term = NULL;
            json_array_foreach(json_object_get(costs, "terms"), t, term) {
                const json_t *resource = json_object_get(term, "resource");
                sum += value(row, json_string_value(resource)) * value(term, kinds[k]);
            }
            (void)json_object_set_new(row, kinds[k], json_real(sum));
        }
    }
    return rows;
}
