/* samples.c - the monitor's samples, read from the timeline as it grows.
 *
 * The file is read as a stranger's: a line may be of a kind not known here, or damaged.
 */
#include "samples.h"

#include <jansson.h>
#include <string.h>

static uint64_t count_of(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static bool parse(const char *line, size_t size, struct tl_sample *ret_sample) {
    json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(json, "kind"));
    bool is_sample = kind && strcmp(kind, "sample") == 0;
    if (is_sample) {
        const json_t *accuracy = json_object_get(json, "accuracy");
        const json_t *gradients = json_object_get(json, "gradients");
        *ret_sample = (struct tl_sample){
            .t = json_number_value(json_object_get(json, "t")),
            .final = json_is_true(json_object_get(json, "final")),
            .has_evaluation = json_is_number(accuracy),
            .version = count_of(json, "version"),
            .accuracy = json_number_value(accuracy),
            .loss = json_number_value(json_object_get(json, "loss")),
            .has_gradients = json_is_integer(json_object_get(gradients, "folded")),
            .folded = count_of(gradients, "folded"),
            .lost = count_of(gradients, "lost"),
            .duplicated = count_of(gradients, "duplicated"),
            .late = count_of(gradients, "late"),
            .stale = count_of(gradients, "stale"),
            .nonfinite = count_of(gradients, "nonfinite"),
        };
    }
    json_decref(json);
    return is_sample;
}

bool tl_samples_next(struct tl_timeline_reader *r, struct tl_sample *ret_sample) {
    const char *line;
    size_t size;
    while (tl_timeline_next(r, &line, &size)) {
        if (parse(line, size, ret_sample)) {
            return true;
        }
    }
    return false;
}
