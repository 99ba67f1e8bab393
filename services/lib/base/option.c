/* option.c - one option's value: ranges, text, and what an error says about it. */
#include "option.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Whole numbers stay below what a double, and so every JSON reader, holds exactly. */
#define WHOLE_MAX 9007199254740992.0

const struct tl_option *tl_option_find(const struct tl_option_table *t,
                                       const char *name) {
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->options[i].name, name) == 0) {
            return &t->options[i];
        }
    }
    return NULL;
}

/* ---- what is right -------------------------------------------------------------- */

/* A table that gives no range means the whole type. */
static bool has_range(const struct tl_option *o) {
    return o->min != 0.0 || o->max != 0.0;
}

static double lowest(const struct tl_option *o) {
    if (has_range(o)) {
        return o->min;
    }
    return o->type == TL_OPT_DOUBLE ? -DBL_MAX : 0.0;
}

static double highest(const struct tl_option *o) {
    if (has_range(o)) {
        return o->max; /* the table's: at most 2^53 for whole numbers */
    }
    switch (o->type) {
    case TL_OPT_U32:
        return (double)UINT32_MAX;
    case TL_OPT_U64:
        return WHOLE_MAX;
    default:
        return DBL_MAX;
    }
}

static void describe_range(const struct tl_option *o, const char *kind, char *buffer,
                           size_t size) {
    if (o->type == TL_OPT_DOUBLE && !has_range(o)) {
        (void)snprintf(buffer, size, "%s", kind);
    } else {
        (void)snprintf(buffer, size, "%s from %.16g to %.16g", kind, lowest(o),
                       highest(o));
    }
}

static void describe_choices(const struct tl_option *o, char *buffer, size_t size) {
    size_t used = (size_t)snprintf(buffer, size, "one of");
    for (size_t i = 0; o->choices[i] != NULL && used < size; i++) {
        used += (size_t)snprintf(buffer + used, size - used, "%s%s",
                                 i == 0 ? " " : ", ", o->choices[i]);
    }
}

void tl_option_describe(const struct tl_option *o, char *buffer, size_t size) {
    switch (o->type) {
    case TL_OPT_BOOL:
        (void)snprintf(buffer, size, "true or false");
        break;
    case TL_OPT_U32:
    case TL_OPT_U64:
        describe_range(o, "a whole number", buffer, size);
        break;
    case TL_OPT_DOUBLE:
        describe_range(o, "a number", buffer, size);
        break;
    case TL_OPT_STRING:
        (void)snprintf(buffer, size, "text of at most %zu bytes", o->size - 1);
        break;
    case TL_OPT_CHOICE:
        describe_choices(o, buffer, size);
        break;
    case TL_OPT_JSON:
        (void)snprintf(buffer, size, "an object, or the path of a JSON file");
        break;
    }
}

int tl_option_refuse(const struct tl_option *o, const char *label, const char *shown) {
    char right[256];
    tl_option_describe(o, right, sizeof(right));
    if (o->secret || o->url) {
        return tl_fail(TL_E_CONFIG, "%s must be %s", label, right);
    }
    return tl_fail(TL_E_CONFIG, "%s must be %s, not %.64s", label, right, shown);
}

/* ---- setters -------------------------------------------------------------------- */

int tl_option_set_whole(const struct tl_option *o, void *target, uint64_t v,
                        const char *label, const char *shown) {
    /* Compared as whole numbers: 2^53 + 1 as a double would be 2^53. */
    if (v < (uint64_t)lowest(o) || v > (uint64_t)highest(o)) {
        return tl_option_refuse(o, label, shown);
    }
    if (o->type == TL_OPT_U32) {
        *(uint32_t *)tl_option_field(o, target) = (uint32_t)v;
    } else {
        *(uint64_t *)tl_option_field(o, target) = v;
    }
    return 0;
}

int tl_option_set_double(const struct tl_option *o, void *target, double v,
                         const char *label, const char *shown) {
    if (!isfinite(v) || v < lowest(o) || v > highest(o)) {
        return tl_option_refuse(o, label, shown);
    }
    *(double *)tl_option_field(o, target) = v;
    return 0;
}

int tl_option_set_string(const struct tl_option *o, void *target, const char *text,
                         const char *label) {
    const size_t length = strlen(text);
    if (length >= o->size) {
        return tl_fail(TL_E_CONFIG, "%s must be text of at most %zu bytes, not of %zu",
                       label, o->size - 1, length);
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            return tl_fail(TL_E_CONFIG, "%s contains a control character", label);
        }
    }
    memcpy(tl_option_field(o, target), text, length + 1);
    return 0;
}

/* ---- text ----------------------------------------------------------------------- */

static bool text_whole(const char *text, uint64_t *ret_v) {
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text)) {
        return false;
    }
    errno = 0;
    *ret_v = strtoull(text, NULL, 10);
    return errno == 0;
}

/* strtod() also takes blanks, hexadecimal, "inf" and "nan": none of them is meant. */
static bool text_double(const char *text, double *ret_v) {
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) {
        return false;
    }
    char *end;
    errno = 0;
    *ret_v = strtod(text, &end);
    return errno == 0 && *end == '\0';
}

static bool text_bool(const char *text, bool *ret_v) {
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};
    for (size_t value = 0; value < 2; value++) {
        for (size_t i = 0; i < 4; i++) {
            if (strcmp(text, words[value][i]) == 0) {
                *ret_v = value == 1;
                return true;
            }
        }
    }
    return false;
}

static int text_choice(const struct tl_option *o, const char *text) {
    for (int i = 0; o->choices[i] != NULL; i++) {
        if (strcmp(o->choices[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

static int parse_json(const struct tl_option *o, void *target, const char *text,
                      const char *label) {
    json_t *path = json_string(text);
    if (path == NULL) {
        return tl_option_refuse(o, label, "text that is not UTF-8");
    }
    const int rc = tl_option_take(o, target, path, label, "");
    json_decref(path);
    return rc;
}

int tl_option_parse(const struct tl_option *o, void *target, const char *text,
                    const char *label) {
    char shown[72];
    (void)snprintf(shown, sizeof(shown), "\"%.60s\"", text);
    uint64_t whole;
    double number;
    int choice;
    switch (o->type) {
    case TL_OPT_BOOL:
        return text_bool(text, tl_option_field(o, target))
                   ? 0
                   : tl_option_refuse(o, label, shown);
    case TL_OPT_U32:
    case TL_OPT_U64:
        return text_whole(text, &whole)
                   ? tl_option_set_whole(o, target, whole, label, shown)
                   : tl_option_refuse(o, label, shown);
    case TL_OPT_DOUBLE:
        return text_double(text, &number)
                   ? tl_option_set_double(o, target, number, label, shown)
                   : tl_option_refuse(o, label, shown);
    case TL_OPT_STRING:
        return tl_option_set_string(o, target, text, label);
    case TL_OPT_CHOICE:
        choice = text_choice(o, text);
        if (choice < 0) {
            return tl_option_refuse(o, label, shown);
        }
        *(int *)tl_option_field(o, target) = choice;
        return 0;
    case TL_OPT_JSON:
        return parse_json(o, target, text, label);
    }
    return tl_fail(TL_E_INVALID, "%s: an option of no known type", o->name);
}

/* ---- out ------------------------------------------------------------------------ */

json_t *tl_option_json(const struct tl_option *o, const void *target) {
    const void *value = tl_option_value(o, target);
    switch (o->type) {
    case TL_OPT_BOOL:
        return json_boolean(*(const bool *)value);
    case TL_OPT_U32:
        return json_integer(*(const uint32_t *)value);
    case TL_OPT_U64:
        return json_integer((json_int_t)(*(const uint64_t *)value));
    case TL_OPT_DOUBLE:
        return json_real(*(const double *)value);
    case TL_OPT_STRING:
        return json_string(value);
    case TL_OPT_CHOICE:
        return json_string(o->choices[*(const int *)value]);
    case TL_OPT_JSON:
        return json_incref(*(json_t *const *)value);
    }
    return NULL;
}

bool tl_option_missing(const struct tl_option *o, const void *target) {
    if (o->fallback != NULL) {
        return false;
    }
    const void *value = tl_option_value(o, target);
    switch (o->type) {
    case TL_OPT_U32:
        return *(const uint32_t *)value == 0;
    case TL_OPT_U64:
        return *(const uint64_t *)value == 0;
    case TL_OPT_DOUBLE:
        return *(const double *)value == 0.0;
    case TL_OPT_STRING:
        return *(const char *)value == '\0';
    case TL_OPT_JSON:
        return *(json_t *const *)value == NULL;
    default:
        return false;
    }
}

/* ---- spellings ------------------------------------------------------------------ */

void tl_flag_spell(const char *name, char *buffer, size_t size) {
    (void)snprintf(buffer, size, "--%s", name);
    for (char *c = buffer; *c != '\0'; c++) {
        if (*c == '.' || *c == '_') {
            *c = '-';
        }
    }
}

void tl_variable_spell(const char *name, char *buffer, size_t size) {
    (void)snprintf(buffer, size, "THROUGHLINE_%s", name);
    for (char *c = buffer; *c != '\0'; c++) {
        *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
    }
}
