/* config.c - a table of options over a structure: defaults, set, complete. */
#include "option.h"

#include <string.h>

/* Without a default a field is empty, whatever memory the caller brought. */
static void clear(const struct tl_option *o, void *target) {
    switch (o->type) {
    case TL_OPT_BOOL:
        *(bool *)tl_option_field(o, target) = false;
        break;
    case TL_OPT_U32:
        *(uint32_t *)tl_option_field(o, target) = 0;
        break;
    case TL_OPT_U64:
        *(uint64_t *)tl_option_field(o, target) = 0;
        break;
    case TL_OPT_DOUBLE:
        *(double *)tl_option_field(o, target) = 0.0;
        break;
    case TL_OPT_STRING:
        memset(tl_option_field(o, target), 0, o->size);
        break;
    case TL_OPT_CHOICE:
        *(int *)tl_option_field(o, target) = 0;
        break;
    case TL_OPT_JSON:
        *(json_t **)tl_option_field(o, target) = NULL;
        break;
    }
}

int tl_config_defaults(const struct tl_option_table *t, void *target) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        clear(o, target);
        if (o->fallback == NULL || o->type == TL_OPT_JSON) {
            continue;
        }
        const int rc = tl_option_parse(o, target, o->fallback, o->name);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int tl_config_set(const struct tl_option_table *t, void *target, const char *name,
                  const char *value, const char *where) {
    const struct tl_option *o = tl_option_find(t, name);
    if (o == NULL) {
        return tl_fail(TL_E_CONFIG, "%s: \"%s\" is not known", where, name);
    }
    char label[TL_LABEL_MAX];
    (void)snprintf(label, sizeof(label), "%s: \"%s\"", where, name);
    return tl_option_parse(o, target, value, label);
}

int tl_config_complete(const struct tl_option_table *t, const void *target) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        if (tl_option_missing(o, target)) {
            char right[256];
            tl_option_describe(o, right, sizeof(right));
            return tl_fail(TL_E_CONFIG, "\"%s\" is missing: give %s", o->name, right);
        }
    }
    return 0;
}

void tl_config_done(const struct tl_option_table *t, void *target) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        if (o->type == TL_OPT_JSON) {
            json_decref(*(json_t **)tl_option_field(o, target));
        }
        clear(o, target);
    }
}
