/* config_flag.c - options from the command line: --optimizer-learning-rate 0.01. */
#include "option.h"

#include <string.h>

/* How a flag speaks of its option. */
enum manner { PLAIN, NEGATED, FROM_FILE };

static bool spelled(const struct tl_option *o, const char *before, const char *after,
                    const char *flag) {
    char name[TL_VARIABLE_MAX];
    char right[TL_VARIABLE_MAX];
    (void)snprintf(name, sizeof(name), "%s%s%s", before, o->name, after);
    tl_flag_spell(name, right, sizeof(right));
    return strcmp(right, flag) == 0;
}

static const struct tl_option *find(const struct tl_option_table *t, const char *flag,
                                    enum manner *ret_manner) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        if (spelled(o, "", "", flag)) {
            *ret_manner = PLAIN;
            return o;
        }
        if (o->type == TL_OPT_BOOL && spelled(o, "no-", "", flag)) {
            *ret_manner = NEGATED;
            return o;
        }
        if ((o->secret || o->url) && spelled(o, "", "-file", flag)) {
            *ret_manner = FROM_FILE;
            return o;
        }
    }
    return NULL;
}

static int set_bool(const struct tl_option *o, void *target, const char *value,
                    const char *flag, enum manner manner) {
    if (value != NULL && manner == NEGATED) {
        return tl_fail(TL_E_CONFIG, "%s takes no value", flag);
    }
    if (value == NULL) {
        value = manner == NEGATED ? "false" : "true";
    }
    return tl_option_parse(o, target, value, flag);
}

static int set_value(const struct tl_option *o, void *target, const char *value,
                     const char *flag, enum manner manner) {
    if (manner == FROM_FILE) {
        return tl_option_read_secret(o, target, value, flag);
    }
    if (o->secret) {
        return tl_fail(TL_E_CONFIG,
                       "%s: a secret does not belong on a command line; use %s-file",
                       flag, flag);
    }
    if (o->url && tl_url_has_password(value)) {
        return tl_fail(TL_E_CONFIG,
                       "%s: a password on a command line can be read by everybody on "
                       "this machine; put the URL into a file and give %s-file",
                       flag, flag);
    }
    if (o->type == TL_OPT_JSON) {
        return tl_fail(TL_E_CONFIG, "%s: give \"%s\" in the job file", flag, o->name);
    }
    return tl_option_parse(o, target, value, flag);
}

int tl_config_flag(const struct tl_option_table *t, void *target, int argc,
                   char *const *argv) {
    char flag[TL_VARIABLE_MAX];
    if (argc < 1 || strncmp(argv[0], "--", 2) != 0) {
        return 0;
    }
    const size_t length = strcspn(argv[0], "=");
    if (length >= sizeof(flag)) {
        return 0;
    }
    memcpy(flag, argv[0], length);
    flag[length] = '\0';
    enum manner manner;
    const struct tl_option *o = find(t, flag, &manner);
    if (o == NULL) {
        return 0;
    }
    const char *value = argv[0][length] == '=' ? argv[0] + length + 1 : NULL;
    int taken = 1;
    int rc;
    if (o->type == TL_OPT_BOOL) {
        rc = set_bool(o, target, value, flag, manner);
    } else {
        if (value == NULL && argc > 1 && strncmp(argv[1], "--", 2) != 0) {
            value = argv[1];
            taken = 2;
        }
        rc = value != NULL ? set_value(o, target, value, flag, manner)
                           : tl_fail(TL_E_CONFIG, "%s needs a value", flag);
    }
    return rc != 0 ? rc : taken;
}

void tl_config_flags(const struct tl_option_table *t, FILE *out) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        char flag[TL_VARIABLE_MAX];
        tl_flag_spell(o->name, flag, sizeof(flag));
        if (o->type == TL_OPT_JSON) {
            continue;
        }
        (void)fprintf(out, "%s%s\n", flag, o->secret ? "-file" : "");
        if (o->type == TL_OPT_BOOL) {
            (void)fprintf(out, "--no-%s\n", flag + 2);
        } else if (o->url) {
            (void)fprintf(out, "%s-file\n", flag);
        }
    }
}
