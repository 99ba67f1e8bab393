/* config_help.c - the table as --help text and as rows of a Markdown table. */
#include "option.h"

static const char *placeholder(const struct tl_option *o) {
    switch (o->type) {
    case TL_OPT_BOOL:
        return "";
    case TL_OPT_U32:
    case TL_OPT_U64:
        return " N";
    case TL_OPT_DOUBLE:
        return " NUMBER";
    case TL_OPT_CHOICE:
        return " WORD";
    default:
        return o->path || o->secret ? " FILE" : " TEXT";
    }
}

/* "default 2; a whole number from 1 to 64, in ms" */
static void print_facts(const struct tl_option *o, FILE *out) {
    char right[256];
    tl_option_describe(o, right, sizeof(right));
    if (o->fallback == NULL) {
        (void)fputs("required; ", out);
    } else if (o->fallback[0] != '\0') {
        (void)fprintf(out, "default %s; ", o->fallback);
    }
    (void)fprintf(out, "%s%s%s", right, o->unit != NULL ? ", in " : "",
                  o->unit != NULL ? o->unit : "");
}

void tl_config_help(const struct tl_option_table *t, FILE *out) {
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        char flag[TL_VARIABLE_MAX];
        tl_flag_spell(o->name, flag, sizeof(flag));
        if (o->type != TL_OPT_JSON) {
            (void)fprintf(out, "  %s%s%s\n      %s\n      ", flag,
                          o->secret ? "-file" : "", placeholder(o), o->doc);
            print_facts(o, out);
            (void)fputc('\n', out);
        }
    }
}

static const char *type_name(const struct tl_option *o) {
    switch (o->type) {
    case TL_OPT_BOOL:
        return "boolean";
    case TL_OPT_U32:
    case TL_OPT_U64:
        return "whole number";
    case TL_OPT_DOUBLE:
        return "number";
    case TL_OPT_CHOICE:
        return "word";
    case TL_OPT_STRING:
        return o->path ? "path" : "text";
    default:
        return "object or path";
    }
}

static void print_range(const struct tl_option *o, FILE *out) {
    if (o->type == TL_OPT_CHOICE) {
        for (size_t i = 0; o->choices[i] != NULL; i++) {
            (void)fprintf(out, "%s`%s`", i == 0 ? "" : ", ", o->choices[i]);
        }
    } else if (o->min != 0.0 || o->max != 0.0) {
        (void)fprintf(out, "%.16g to %.16g", o->min, o->max);
    }
    if (o->unit != NULL) {
        (void)fprintf(out, " %s", o->unit);
    }
}

void tl_config_markdown(const struct tl_option_table *t, FILE *out) {
    (void)fputs("| name | type | default | range | meaning |\n"
                "|---|---|---|---|---|\n",
                out);
    for (size_t i = 0; i < t->count; i++) {
        const struct tl_option *o = &t->options[i];
        (void)fprintf(out, "| `%s` | %s%s | ", o->name, type_name(o),
                      o->secret ? ", secret" : "");
        if (o->fallback == NULL) {
            (void)fputs("required | ", out);
        } else if (o->fallback[0] == '\0') {
            (void)fputs("none | ", out);
        } else {
            (void)fprintf(out, "`%s` | ", o->fallback);
        }
        print_range(o, out);
        (void)fprintf(out, " | %s |\n", o->doc);
    }
}
