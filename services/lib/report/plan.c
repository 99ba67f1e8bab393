/* plan.c - an experiment's file as the runs it asks for.
 *
 * An arm sets keys of the job; a key whose value is an array is an axis of a matrix,
 * and the arm becomes one for each combination. Every arm meets each of its failures
 * with each seed. Neither strategies nor policies are known here: a value that this
 * build does not have is refused by the run that gets it. */
#include "throughline/config.h"
#include "throughline/drill.h"
#include "throughline/report.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 10000u

struct plan {
    const json_t *experiment;
    double scale;
    json_t *runs; /* the result */
};

/* ---- texts ------------------------------------------------------------------------
 */

/* In lower-case letters, digits and dashes: a file's name. */
static void append_slug(char *slug, size_t size, const char *text) {
    size_t n = strlen(slug);
    bool gap = n > 0;
    for (; *text != '\0' && n + 2 < size; text++) {
        if (isalnum((unsigned char)*text)) {
            if (gap) {
                slug[n++] = '-';
            }
            slug[n++] = (char)tolower((unsigned char)*text);
            gap = false;
        } else {
            gap = n > 0;
        }
    }
    slug[n] = '\0';
}

/* "checkpoint.every_seconds" is --checkpoint-every-seconds. */
static void flag_of(const char *key, char flag[128]) {
    (void)snprintf(flag, 128, "--%.100s", key);
    for (char *c = flag; *c != '\0'; c++) {
        *c = *c == '.' || *c == '_' ? '-' : *c;
    }
}

static bool is_scaled(const struct plan *p, const char *key) {
    size_t i = 0;
    const json_t *name = NULL;
    json_array_foreach(json_object_get(p->experiment, "scaled"), i, name) {
        if (json_is_string(name) && strcmp(json_string_value(name), key) == 0) {
            return true;
        }
    }
    return false;
}

/* A value as a flag takes it; what is scaled and no time is a count. */
static int text_of(const json_t *v, double scale, const char *key, char text[256]) {
    if (json_is_string(v)) {
        (void)snprintf(text, 256, "%.255s", json_string_value(v));
    } else if (json_is_integer(v) && scale == 1.0) {
        (void)snprintf(text, 256, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else if (json_is_number(v) && strstr(key, "seconds") == NULL && scale != 1.0) {
        const long long scaled = llround(json_number_value(v) * scale);
        (void)snprintf(text, 256, "%lld", scaled > 1 ? scaled : 1LL);
    } else if (json_is_number(v)) {
        (void)snprintf(text, 256, "%.9g", json_number_value(v) * scale);
    } else if (json_is_boolean(v)) {
        (void)snprintf(text, 256, "%s", json_is_true(v) ? "true" : "false");
    } else {
        return tl_fail(TL_E_CONFIG, "\"%s\" must be a text, a number, true or false",
                       key);
    }
    return 0;
}

static void add_argument(json_t *arguments, const char *fmt, ...) TL_PRINTF(2, 3);
static void add_argument(json_t *arguments, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)json_array_append_new(arguments, json_vsprintf(fmt, args));
    va_end(args);
}

/* ---- one run's arguments ------------------------------------------------------------
 */

static int add_settings(const struct plan *p, const json_t *set, json_t *arguments) {
    const char *key = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)set, key, v) {
        char flag[128];
        char text[256];
        const int rc = text_of(v, is_scaled(p, key) ? p->scale : 1.0, key, text);
        if (rc != 0) {
            return rc;
        }
        flag_of(key, flag);
        add_argument(arguments, "%s=%s", flag, text);
    }
    return 0;
}

static int add_ends(const struct plan *p, json_t *arguments) {
    const char *key = NULL;
    json_t *v = NULL;
    json_object_foreach(json_object_get(p->experiment, "until"), key, v) {
        char text[256];
        const double scale = strcmp(key, "accuracy") == 0 ? 1.0 : p->scale;
        if (!json_is_number(v)) {
            return tl_fail(TL_E_CONFIG, "\"until\": \"%s\" must be a number", key);
        }
        if (strcmp(key, "updates") == 0) {
            (void)snprintf(text, sizeof(text), "%lld",
                           llround(json_number_value(v) * scale));
        } else {
            (void)snprintf(text, sizeof(text), "%.9g", json_number_value(v) * scale);
        }
        add_argument(arguments, "--until=%s=%s", key, text);
    }
    return 0;
}

/* Whom to kill; an arm whose job has no servers says who stands for one. */
static const char *victim_of(const json_t *arm, const struct tl_drill_kill *k) {
    const char *victim = json_string_value(json_object_get(arm, "victim"));
    return k->target == TL_DRILL_SERVER && victim != NULL
               ? victim
               : tl_drill_target_name(k->target);
}

static int add_kill(const struct plan *p, const json_t *arm, const char *given,
                    json_t *arguments) {
    struct tl_drill_kill k;
    char down[48] = "forever";
    const int rc = tl_drill_parse(given, &k);
    if (rc != 0) {
        return rc;
    }
    if (k.down_ms != TL_DRILL_FOREVER) {
        (void)snprintf(down, sizeof(down), "%lldms",
                       llround((double)k.down_ms * p->scale));
    }
    const char *who = victim_of(arm, &k);
    char number[16] = "";
    if (k.target == TL_DRILL_SERVER || k.target == TL_DRILL_WORKER ||
        k.target == TL_DRILL_REPLICA || tl_drill_is_place(k.target)) {
        (void)snprintf(number, sizeof(number), "/%" PRIu32, k.index);
    }
    if (k.trigger == TL_DRILL_AT_TIME) {
        add_argument(arguments, "--kill=%s%s@seconds=%.3f,down=%s", who, number,
                     (double)k.at_ms / 1000 * p->scale, down);
    } else {
        add_argument(arguments, "--kill=%s%s@updates=%lld,down=%s", who, number,
                     llround((double)k.version * p->scale), down);
    }
    return 0;
}

static int add_kills(const struct plan *p, const json_t *arm, const char *name,
                     json_t *arguments) {
    const json_t *kills =
        json_object_get(json_object_get(p->experiment, "kills"), name);
    if (!json_is_array(kills)) {
        return tl_fail(TL_E_CONFIG,
                       "\"kills\" has no \"%s\": it should be an array of --kill texts",
                       name);
    }
    int rc = 0;
    size_t i = 0;
    const json_t *kill = NULL;
    json_array_foreach(kills, i, kill) {
        rc = !json_is_string(kill)
                 ? tl_fail(TL_E_CONFIG, "\"kills\": \"%s\" must hold texts", name)
                 : add_kill(p, arm, json_string_value(kill), arguments);
        if (rc != 0) {
            break;
        }
    }
    return rc;
}

static json_int_t kill_count(const struct plan *p, const char *name) {
    return (json_int_t)json_array_size(
        json_object_get(json_object_get(p->experiment, "kills"), name));
}

/* ---- from arms to runs
 * --------------------------------------------------------------- */

static int add_run(struct plan *p, const json_t *arm, const char *label,
                   const json_t *set, const char *kills, json_int_t seed) {
    char name[160] = "";
    char with_kills[200];
    json_t *arguments = json_array();
    int rc = add_settings(p, json_object_get(p->experiment, "set"), arguments);
    rc = rc == 0 ? add_settings(p, set, arguments) : rc;
    rc = rc == 0 ? add_ends(p, arguments) : rc;
    rc = rc == 0 ? add_kills(p, arm, kills, arguments) : rc;
    if (rc == 0 && json_array_size(p->runs) >= RUNS_MAX) {
        rc = tl_fail(TL_E_CONFIG, "more than %u runs", RUNS_MAX);
    }
    if (rc != 0) {
        json_decref(arguments);
        return rc;
    }
    add_argument(arguments, "--seed=%lld", (long long)seed);
    (void)snprintf(with_kills, sizeof(with_kills), "%.120s, %.60s", label, kills);
    append_slug(name, sizeof(name) - 24, with_kills);
    const size_t n = strlen(name);
    (void)snprintf(name + n, sizeof(name) - n, "-seed%lld", (long long)seed);
    return json_array_append_new(
               p->runs,
               json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:O?, s:o}", "name", name,
                         "arm", label, "label", with_kills, "kills", kills,
                         "kill_count", kill_count(p, kills), "seed", seed, "paper",
                         json_object_get(arm, "paper"), "arguments", arguments)) == 0
               ? 0
               : tl_fail(TL_E_NOMEM, "no memory for a plan");
}

static int add_seeds(struct plan *p, const json_t *arm, const char *label,
                     const json_t *set, const char *kills) {
    const json_t *seeds = json_object_get(p->experiment, "seeds");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(seeds); i++) {
        const json_t *seed = json_array_get(seeds, i);
        rc = json_is_integer(seed)
                 ? add_run(p, arm, label, set, kills, json_integer_value(seed))
                 : tl_fail(TL_E_CONFIG, "\"seeds\" must be whole numbers");
    }
    return rc;
}

/* Every failure that the arm names, or all. */
static int add_failures(struct plan *p, const json_t *arm, const char *label,
                        const json_t *set) {
    const json_t *chosen = json_object_get(arm, "kills");
    int rc = 0;
    if (chosen == NULL) {
        const char *name = NULL;
        json_t *kills = NULL;
        json_object_foreach(json_object_get(p->experiment, "kills"), name, kills) {
            rc = rc == 0 ? add_seeds(p, arm, label, set, name) : rc;
        }
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(chosen); i++) {
        const char *name = json_string_value(json_array_get(chosen, i));
        rc = name != NULL ? add_seeds(p, arm, label, set, name)
                          : tl_fail(TL_E_CONFIG, "an arm's \"kills\" must be names");
    }
    return rc;
}

/* Take the first axis apart, and go on with what is left; without one it is an arm. */
static int expand(struct plan *p, const json_t *arm, const char *label, json_t *set) {
    const char *key = NULL;
    json_t *v = NULL;
    json_object_foreach(set, key, v) {
        if (!json_is_array(v)) {
            continue;
        }
        int rc = 0;
        for (size_t i = 0; rc == 0 && i < json_array_size(v); i++) {
            char text[256];
            char longer[160];
            rc = text_of(json_array_get(v, i), 1.0, key, text);
            (void)snprintf(longer, sizeof(longer), "%.100s %.50s", label, text);
            json_t *one = json_copy(set);
            (void)json_object_set(one, key, json_array_get(v, i));
            rc = rc == 0 ? expand(p, arm, longer, one) : rc;
            json_decref(one);
        }
        return rc;
    }
    return add_failures(p, arm, label[0] == ' ' ? label + 1 : label, set);
}

/* A slip of the pen is no setting. */
static int check_keys(const json_t *object, const char *const *known, size_t count) {
    const char *key = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)object, key, v) {
        bool is_known = false;
        for (size_t i = 0; i < count; i++) {
            is_known = is_known || strcmp(key, known[i]) == 0;
        }
        if (!is_known) {
            const char *near = tl_nearest(key, known, count);
            return tl_fail(TL_E_CONFIG, "there is no \"%s\"%s%s%s", key,
                           near != NULL ? "; did you mean \"" : "",
                           near != NULL ? near : "", near != NULL ? "\"?" : "");
        }
    }
    return 0;
}

static int add_arm(struct plan *p, const json_t *arm) {
    static const char *const known[] = {"name", "set", "kills", "paper", "victim"};
    const char *name = json_string_value(json_object_get(arm, "name"));
    const json_t *set = json_object_get(arm, "set");
    if (!json_is_object(arm) || (set != NULL && !json_is_object(set))) {
        return tl_fail(TL_E_CONFIG,
                       "an arm must be an object with \"name\" and \"set\"");
    }
    int rc = check_keys(arm, known, sizeof(known) / sizeof(known[0]));
    if (rc != 0) {
        return rc;
    }
    json_t *copy = set != NULL ? json_copy((json_t *)set) : json_object();
    rc = expand(p, arm, name != NULL ? name : "", copy);
    json_decref(copy);
    return rc;
}

/* ---- the file
 * -------------------------------------------------------------------------- */

static int check(const json_t *experiment) {
    static const char *const known[] = {"name",  "title",  "note",  "job",
                                        "arms",  "seeds",  "kills", "set",
                                        "until", "scaled", "paper"};
    const int rc = check_keys(experiment, known, sizeof(known) / sizeof(known[0]));
    if (rc != 0) {
        return rc;
    }
    if (json_array_size(json_object_get(experiment, "arms")) == 0 ||
        json_array_size(json_object_get(experiment, "seeds")) == 0 ||
        json_object_size(json_object_get(experiment, "kills")) == 0 ||
        !json_is_string(json_object_get(experiment, "job"))) {
        return tl_fail(TL_E_CONFIG, "an experiment needs \"job\", \"arms\", \"kills\" "
                                    "and \"seeds\" (docs/experiments.md)");
    }
    return 0;
}

/* Two runs of one name would share a directory. */
static int check_names(const json_t *runs) {
    json_t *seen = json_object();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(runs); i++) {
        const json_t *name = json_object_get(json_array_get(runs, i), "name");
        if (json_object_get(seen, json_string_value(name)) != NULL) {
            rc = tl_fail(TL_E_CONFIG, "two arms come to one name: %s",
                         json_string_value(name));
        }
        (void)json_object_set_new(seen, json_string_value(name), json_true());
    }
    json_decref(seen);
    return rc;
}

int tl_plan_read(const json_t *experiment, double scale, json_t **ret_plan) {
    struct plan p = {experiment, scale, json_array()};
    int rc = check(experiment);
    const json_t *arms = json_object_get(experiment, "arms");
    for (size_t i = 0; rc == 0 && i < json_array_size(arms); i++) {
        rc = add_arm(&p, json_array_get(arms, i));
    }
    rc = rc == 0 ? check_names(p.runs) : rc;
    if (rc != 0) {
        json_decref(p.runs);
        return rc;
    }
    *ret_plan = p.runs;
    return 0;
}
