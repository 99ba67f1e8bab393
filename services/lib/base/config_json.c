/* config_json.c - nested JSON objects are dotted option names: overlay and dump. */
#include "option.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128u

struct overlay {
    const struct tl_option_table *table;
    void *target;
    const char *where;
};

static int take(const struct overlay *c, const char *prefix, const json_t *object);

/* ---- which option a key is ------------------------------------------------------ */

static bool is_group(const struct tl_option_table *t, const char *name) {
    const size_t length = strlen(name);
    for (size_t i = 0; i < t->count; i++) {
        if (strncmp(t->options[i].name, name, length) == 0 &&
            t->options[i].name[length] == '.') {
            return true;
        }
    }
    return false;
}

static size_t depth_of(const char *name) {
    size_t dots = 0;
    for (; *name != '\0'; name++) {
        dots += *name == '.';
    }
    return dots;
}

/* The first `depth` + 1 parts of a name: "optimizer.kind" at depth 0 is "optimizer". */
static char *part_of(const char *name, size_t depth) {
    const char *end = name;
    while (*end != '\0' && (*end != '.' || depth > 0)) {
        depth -= *end == '.';
        end++;
    }
    return strndup(name, (size_t)(end - name));
}

/* Keys are compared with what may stand at the same depth, groups included. */
static int unknown(const struct overlay *c, const char *name) {
    const size_t count = c->table->count;
    const size_t depth = depth_of(name);
    char **parts = calloc(count, sizeof(*parts));
    bool complete = parts != NULL;
    for (size_t i = 0; i < count && complete; i++) {
        parts[i] = part_of(c->table->options[i].name, depth);
        complete = parts[i] != NULL;
    }
    const char *meant =
        complete ? tl_nearest(name, (const char *const *)parts, count) : NULL;
    const int rc =
        meant != NULL
            ? tl_fail(TL_E_CONFIG, "%s: \"%s\" is not known; did you mean \"%s\"?",
                      c->where, name, meant)
            : tl_fail(TL_E_CONFIG, "%s: \"%s\" is not known", c->where, name);
    for (size_t i = 0; i < count && parts != NULL; i++) {
        free(parts[i]);
    }
    free(parts);
    return rc;
}

/* The secret that "x_file" gives, or NULL. */
static const struct tl_option *secret_of(const struct tl_option_table *t,
                                         const char *name) {
    static const char suffix[] = "_file";
    char plain[NAME_MAX_BYTES];
    const size_t length = strlen(name);
    if (length < sizeof(suffix) ||
        strcmp(name + length - (sizeof(suffix) - 1), suffix) != 0) {
        return NULL;
    }
    (void)snprintf(plain, sizeof(plain), "%.*s", (int)(length - (sizeof(suffix) - 1)),
                   name);
    const struct tl_option *o = tl_option_find(t, plain);
    return o != NULL && o->secret ? o : NULL;
}

/* ---- overlay -------------------------------------------------------------------- */

static int take_secret(const struct overlay *c, const struct tl_option *o,
                       const json_t *value, const char *label) {
    char path[4096];
    if (!json_is_string(value)) {
        return tl_fail(TL_E_CONFIG, "%s must be the path of a file", label);
    }
    const int rc =
        tl_path_beside(c->where, json_string_value(value), path, sizeof(path));
    return rc != 0 ? rc : tl_option_read_secret(o, c->target, path, label);
}

static int take_key(const struct overlay *c, const char *name, json_t *value) {
    char label[TL_LABEL_MAX];
    (void)snprintf(label, sizeof(label), "%s: \"%s\"", c->where, name);
    const struct tl_option *o = tl_option_find(c->table, name);
    if (o != NULL) {
        return tl_option_take(o, c->target, value, label, c->where);
    }
    o = secret_of(c->table, name);
    if (o != NULL) {
        return take_secret(c, o, value, label);
    }
    if (!is_group(c->table, name)) {
        return unknown(c, name);
    }
    if (!json_is_object(value)) {
        return tl_fail(TL_E_CONFIG, "%s must be an object", label);
    }
    return take(c, name, value);
}

/* Recursion ends where the table's names end: a deeper group is not known. */
static int take(const struct overlay *c, const char *prefix, const json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char name[NAME_MAX_BYTES];
        const int n = snprintf(name, sizeof(name), "%s%s%s", prefix,
                               prefix[0] == '\0' ? "" : ".", key);
        if (n < 0 || (size_t)n >= sizeof(name)) {
            return tl_fail(TL_E_CONFIG, "%s: \"%.40s...\" is not known", c->where,
                           name);
        }
        if (strchr(key, '.') != NULL) {
            return tl_fail(TL_E_CONFIG,
                           "%s: \"%s\" must be written as an object in an object",
                           c->where, name);
        }
        const int rc = take_key(c, name, value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int tl_config_json(const struct tl_option_table *t, void *target, const json_t *object,
                   const char *where) {
    if (!json_is_object(object)) {
        return tl_fail(TL_E_CONFIG, "%s: must be a JSON object", where);
    }
    const struct overlay c = {.table = t, .target = target, .where = where};
    return take(&c, "", object);
}

/* ---- dump ----------------------------------------------------------------------- */

/* The object in which `name`'s last part stands, made on the way; borrowed. */
static json_t *descend(json_t *root, const char *name, const char **ret_key) {
    json_t *object = root;
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(name, '.')) {
        char group[NAME_MAX_BYTES];
        (void)snprintf(group, sizeof(group), "%.*s", (int)(dot - name), name);
        json_t *inner = json_object_get(object, group);
        if (inner == NULL) {
            inner = json_object();
            if (json_object_set_new(object, group, inner) != 0) {
                return NULL;
            }
        }
        object = inner;
        name = dot + 1;
    }
    *ret_key = name;
    return object;
}

static bool dump_option(const struct tl_option *o, const void *target, json_t *root) {
    if (o->secret) {
        return true;
    }
    json_t *value = tl_option_json(o, target);
    if (value == NULL) {
        return o->type == TL_OPT_JSON;
    }
    const char *key;
    json_t *object = descend(root, o->name, &key);
    if (object == NULL) {
        json_decref(value);
        return false;
    }
    return json_object_set_new(object, key, value) == 0;
}

json_t *tl_config_dump(const struct tl_option_table *t, const void *target) {
    json_t *root = json_object();
    for (size_t i = 0; i < t->count && root != NULL; i++) {
        if (!dump_option(&t->options[i], target, root)) {
            json_decref(root);
            return NULL;
        }
    }
    return root;
}
