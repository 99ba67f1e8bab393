/* config_environment.c - options from THROUGHLINE_* variables.
 *
 * Unknown variables are no error: Kubernetes puts THROUGHLINE_REDIS_PORT and the like
 * into every pod of a release of that name. */
#include "option.h"

#include <stdlib.h>
#include <string.h>

/* An empty variable counts as unset: that is how compose files leave things out. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static int overlay(const struct tl_option *o, void *target) {
    char name[TL_VARIABLE_MAX];
    char file[TL_VARIABLE_MAX + sizeof("_FILE")];
    tl_variable_spell(o->name, name, sizeof(name));
    const char *value = variable(name);
    if (value != NULL) {
        return tl_option_parse(o, target, value, name);
    }
    if (!o->secret && !o->url) {
        return 0;
    }
    (void)snprintf(file, sizeof(file), "%s_FILE", name);
    value = variable(file);
    return value != NULL ? tl_option_read_secret(o, target, value, file) : 0;
}

int tl_config_environment(const struct tl_option_table *t, void *target) {
    for (size_t i = 0; i < t->count; i++) {
        const int rc = overlay(&t->options[i], target);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* A secret stays, in the variable that a child reads it from: no file holds it. */
static int leave_behind(const struct tl_option *o, const void *target) {
    char name[TL_VARIABLE_MAX];
    char file[TL_VARIABLE_MAX + sizeof("_FILE")];
    tl_variable_spell(o->name, name, sizeof(name));
    (void)snprintf(file, sizeof(file), "%s_FILE", name);
    (void)unsetenv(name);
    if (!o->secret) {
        return 0;
    }
    (void)unsetenv(file);
    const char *value = tl_option_value(o, target);
    return value[0] == '\0' || setenv(name, value, 1) == 0
               ? 0
               : tl_fail(TL_E_NOMEM, "no memory for the environment");
}

int tl_config_environment_replace(const struct tl_option_table *t, const void *target) {
    int rc = 0;
    for (size_t i = 0; i < t->count && rc == 0; i++) {
        rc = leave_behind(&t->options[i], target);
    }
    return rc;
}
