/* spellings.c - flags and variables that are nearly right. */
#include "spellings.h"

#include "throughline/service.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int tl_spellings_of(const struct tl_option_table *const *tables, size_t table_count,
                    void (*spell)(const char *name, char *, size_t),
                    struct tl_spellings *ret_spellings) {
    struct tl_spellings s = {0};
    for (size_t i = 0; i < table_count; i++) {
        s.count += tables[i]->count;
    }
    s.names = calloc(s.count + 1, sizeof(*s.names));
    s.texts = calloc(s.count + 1, sizeof(*s.texts));
    if (s.names == NULL || s.texts == NULL) {
        tl_spellings_done(&s);
        return tl_fail(TL_E_NOMEM, "out of memory");
    }
    size_t n = 0;
    for (size_t i = 0; i < table_count; i++) {
        for (size_t j = 0; j < tables[i]->count; j++, n++) {
            spell(tables[i]->options[j].name, s.texts[n], sizeof(s.texts[n]));
            s.names[n] = s.texts[n];
        }
    }
    *ret_spellings = s;
    return 0;
}

void tl_spellings_done(struct tl_spellings *s) {
    free((void *)s->names);
    free(s->texts);
}

int tl_flag_unknown(const struct tl_option_table *const *tables, size_t table_count,
                    const char *flag) {
    struct tl_spellings s = {0};
    char plain[TL_VARIABLE_MAX];
    (void)snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(flag, "="), flag);
    int rc = tl_spellings_of(tables, table_count, tl_flag_spell, &s);
    if (rc != 0) {
        return rc;
    }
    const char *meant = tl_nearest(plain, s.names, s.count);
    rc = meant != NULL
             ? tl_fail(TL_E_CONFIG, "%s is not known; did you mean %s?", plain, meant)
             : tl_fail(TL_E_CONFIG, "%s is not known; --help lists the options", plain);
    tl_spellings_done(&s);
    return rc;
}

static bool listed(const struct tl_spellings *s, const char *name) {
    for (size_t i = 0; i < s->count; i++) {
        const size_t length = strlen(s->names[i]);
        if (strncmp(s->names[i], name, length) == 0 &&
            (name[length] == '\0' || strcmp(name + length, "_FILE") == 0)) {
            return true;
        }
    }
    return false;
}

static void warn(const struct tl_spellings *s, const char *variable) {
    static const char prefix[] = "THROUGHLINE_";
    char name[TL_VARIABLE_MAX];
    const size_t length = strcspn(variable, "=");
    if (strncmp(variable, prefix, sizeof(prefix) - 1) != 0 || length >= sizeof(name)) {
        return;
    }
    memcpy(name, variable, length);
    name[length] = '\0';
    const char *meant = listed(s, name) ? NULL : tl_nearest(name, s->names, s->count);
    if (meant != NULL) {
        tl_log_line(TL_WARNING, "a variable that is not known is ignored", "variable",
                    name, "did_you_mean", meant, NULL);
    }
}

void tl_environment_warn(const struct tl_option_table *const *tables,
                         size_t table_count) {
    struct tl_spellings s = {0};
    if (tl_spellings_of(tables, table_count, tl_variable_spell, &s) != 0) {
        return; /* a hint is not worth more */
    }
    for (char *const *variable = environ; *variable != NULL; variable++) {
        warn(&s, *variable);
    }
    tl_spellings_done(&s);
}
