/* targets.c - an arm beside the paper, and beside itself without a failure. */
#include "throughline/report.h"

#include <math.h>

#define SOONER 10.0 /* times, at 70 % */

static double value(const json_t *row, const char *key) {
    const json_t *v = json_object_get(row, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void put(json_t *row, const char *key, double v) {
    (void)json_object_set_new(row, key, isfinite(v) ? json_real(v) : json_null());
}

static void judge(json_t *row, const char *key, bool is_known, bool holds) {
    (void)json_object_set_new(
        row, key, is_known ? json_string(holds ? "yes" : "no") : json_null());
}

void tl_targets_judge(json_t *row) {
    const double gain = value(row, "accuracy") - value(row, "paper_accuracy");
    const double sooner =
        value(row, "paper_seconds_to_70") / value(row, "seconds_to_70");
    const double gap = value(row, "gap");
    const double interval = value(row, "gap_interval");
    put(row, "accuracy_gain", 100 * gain);
    put(row, "times_sooner", sooner);
    judge(row, "is_above", isfinite(gain), gain > 0);
    judge(row, "is_sooner", isfinite(sooner), sooner >= SOONER);
    judge(row, "is_undisturbed", isfinite(gap) && isfinite(interval),
          fabs(gap) <= interval);
}
