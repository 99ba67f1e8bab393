/* costs.c - what a run used, times what that costs.
 *
 * The prices are examples of the size of public list prices; the page lets a reader
 * change them, `throughline report --prices` takes a file. */
#include "throughline/report.h"

static const struct {
    const char *price, *resource, *label;
    double dollars;
} terms[] = {
    {"vCPU-hour", "vcpu_hours", "vCPU-hours", 0.04},
    {"GB-hour", "gb_hours", "GB-hours", 0.0045},
    {"1000 writes to the store", "kilo_writes", "1000 writes", 0.005},
};
#define TERMS (sizeof(terms) / sizeof(terms[0]))

static double value(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static json_t *row_of(const json_t *run) {
    const json_t *figures = json_object_get(run, "figures");
    /* A snapshot is a part and a manifest. */
    return json_pack("{s:O, s:f, s:f, s:f}", "label", json_object_get(run, "label"),
                     "vcpu_hours", value(figures, "cpu_seconds") / 3600, "gb_hours",
                     value(figures, "gigabyte_seconds") / 3600, "kilo_writes",
                     2 * value(figures, "snapshots") / 1000);
}

json_t *tl_costs(const json_t *runs, const json_t *prices) {
    json_t *rows = json_array();
    json_t *term_list = json_array();
    json_t *price_list = json_object();
    size_t r = 0;
    const json_t *run = NULL;
    json_array_foreach(runs, r, run) {
        (void)json_array_append_new(rows, row_of(run));
    }
    for (size_t i = 0; i < TERMS; i++) {
        const json_t *given = json_object_get(prices, terms[i].price);
        (void)json_array_append_new(
            term_list, json_pack("{s:s, s:s, s:s}", "price", terms[i].price, "resource",
                                 terms[i].resource, "label", terms[i].label));
        (void)json_object_set_new(price_list, terms[i].price,
                                  json_real(json_is_number(given)
                                                ? json_number_value(given)
                                                : terms[i].dollars));
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "note",
                     "US$ for what was used, not for what was reserved. The prices are "
                     "examples: put in your own; spot capacity often costs a third.",
                     "prices", price_list, "terms", term_list, "rows", rows);
}
