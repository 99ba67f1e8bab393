/* option_json.c - an option's value from a JSON file, strictly typed.
 *
 * What stands in a file is relative to that file, so that a job can be moved
 * with its model and data, and started from any directory. */
#include "option.h"

#include <stdlib.h>
#include <string.h>

int tl_path_beside(const char *file, const char *path, char *buffer, size_t size) {
    const char *slash = strrchr(file, '/');
    const size_t folder =
        path[0] == '/' || slash == NULL ? 0 : (size_t)(slash - file) + 1;
    const int n = snprintf(buffer, size, "%.*s%s", (int)folder, file, path);
    if (n < 0 || (size_t)n >= size) {
        return tl_fail(TL_E_TOOBIG, "the path of \"%.64s\" is longer than %zu bytes",
                       path, size - 1);
    }
    return 0;
}

static int refuse(const struct tl_option *o, const json_t *value, const char *label) {
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const int rc = tl_option_refuse(o, label, shown != NULL ? shown : "this");
    free(shown);
    return rc;
}

static int take_whole(const struct tl_option *o, void *target, const json_t *value,
                      const char *label) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return refuse(o, value, label);
    }
    char shown[32];
    const uint64_t v = (uint64_t)json_integer_value(value);
    (void)snprintf(shown, sizeof(shown), "%llu", (unsigned long long)v);
    return tl_option_set_whole(o, target, v, label, shown);
}

static int take_double(const struct tl_option *o, void *target, const json_t *value,
                       const char *label) {
    if (!json_is_number(value)) {
        return refuse(o, value, label);
    }
    char shown[32];
    const double v = json_number_value(value);
    (void)snprintf(shown, sizeof(shown), "%.16g", v);
    return tl_option_set_double(o, target, v, label, shown);
}

static int take_string(const struct tl_option *o, void *target, const json_t *value,
                       const char *label, const char *file) {
    if (!json_is_string(value)) {
        return refuse(o, value, label);
    }
    const char *text = json_string_value(value);
    char path[4096];
    if (o->path && text[0] != '\0') {
        const int rc = tl_path_beside(file, text, path, sizeof(path));
        if (rc != 0) {
            return tl_fail(TL_E_CONFIG, "%s: %s", label, tl_error_text());
        }
        text = path;
    }
    return tl_option_set_string(o, target, text, label);
}

/* An object in place, or the path of a file that holds it. */
static int take_object(const struct tl_option *o, void *target, json_t *value,
                       const char *label, const char *file) {
    json_t *object = NULL;
    char path[TL_PATH_MAX];
    if (json_is_object(value)) {
        (void)snprintf(path, sizeof(path), "%s", label);
        object = json_incref(value);
    } else if (json_is_string(value)) {
        int rc = tl_path_beside(file, json_string_value(value), path, sizeof(path));
        if (rc == 0) {
            rc = tl_json_load(path, &object);
        }
        if (rc != 0) {
            return tl_fail(rc == TL_E_NOMEM ? rc : TL_E_CONFIG, "%s: %s", label,
                           tl_error_text());
        }
    } else {
        return refuse(o, value, label);
    }
    json_t **slot = tl_option_field(o, target);
    json_decref(*slot);
    *slot = object;
    if (o->source != 0) {
        (void)snprintf((char *)target + o->source, TL_PATH_MAX, "%s", path);
    }
    return 0;
}

int tl_option_take(const struct tl_option *o, void *target, json_t *value,
                   const char *label, const char *file) {
    switch (o->type) {
    case TL_OPT_BOOL:
        if (!json_is_boolean(value)) {
            return refuse(o, value, label);
        }
        *(bool *)tl_option_field(o, target) = json_is_true(value);
        return 0;
    case TL_OPT_U32:
    case TL_OPT_U64:
        return take_whole(o, target, value, label);
    case TL_OPT_DOUBLE:
        return take_double(o, target, value, label);
    case TL_OPT_STRING:
        return take_string(o, target, value, label, file);
    case TL_OPT_CHOICE:
        return json_is_string(value)
                   ? tl_option_parse(o, target, json_string_value(value), label)
                   : refuse(o, value, label);
    case TL_OPT_JSON:
        return take_object(o, target, value, label, file);
    }
    return tl_fail(TL_E_INVALID, "%s: an option of no known type", o->name);
}
