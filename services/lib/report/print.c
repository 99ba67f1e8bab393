/* print.c - tables as CSV and as Markdown. */
#include "throughline/report.h"

#include <string.h>

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- CSV: RFC 4180, as precise as is known ----------------------------------------
 */

static void put_quoted(const char *text, FILE *out) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        (void)fputs(*text == '"' ? "\"\"" : (char[]){*text, '\0'}, out);
    }
    (void)fputc('"', out);
}

static void put_csv_cell(const json_t *v, FILE *out) {
    if (json_is_string(v)) {
        put_quoted(json_string_value(v), out);
    } else if (json_is_number(v)) {
        (void)fprintf(out, "%.9g", json_number_value(v));
    }
}

static void print_csv_table(const json_t *table, FILE *out) {
    const json_t *columns = json_object_get(table, "columns");
    size_t r = 0;
    size_t c = 0;
    const json_t *row = NULL;
    const json_t *column = NULL;
    json_array_foreach(columns, c, column) {
        (void)fputs(c > 0 ? "," : "", out);
        put_quoted(text_of(column, "key"), out);
    }
    (void)fputs("\r\n", out);
    json_array_foreach(json_object_get(table, "rows"), r, row) {
        json_array_foreach(columns, c, column) {
            (void)fputs(c > 0 ? "," : "", out);
            put_csv_cell(json_object_get(row, text_of(column, "key")), out);
        }
        (void)fputs("\r\n", out);
    }
}

void tl_print_csv(const json_t *tables, FILE *out) {
    size_t i = 0;
    const json_t *table = NULL;
    json_array_foreach(tables, i, table) {
        (void)fputs(i > 0 ? "\r\n" : "", out);
        print_csv_table(table, out);
    }
}

/* ---- Markdown: for people ----------------------------------------------------------
 */

/* A row whose values are of different kinds has digits of its own. */
static void put_cell(const json_t *row, const json_t *column, FILE *out) {
    const json_t *v = json_object_get(row, text_of(column, "key"));
    const json_t *own = json_object_get(row, "digits");
    const json_t *digits = own != NULL ? own : json_object_get(column, "digits");
    if (json_is_string(v)) {
        (void)fprintf(out, " %s |", json_string_value(v));
    } else if (json_is_number(v)) {
        (void)fprintf(out, " %.*f |",
                      json_is_integer(digits) ? (int)json_integer_value(digits) : 3,
                      json_number_value(v));
    } else {
        (void)fputs(" - |", out);
    }
}

static void print_markdown_table(const json_t *table, FILE *out) {
    const json_t *columns = json_object_get(table, "columns");
    size_t r = 0;
    size_t c = 0;
    const json_t *row = NULL;
    const json_t *column = NULL;
    (void)fprintf(out, "## %s\n", text_of(table, "title"));
    if (text_of(table, "note")[0] != '\0') {
        (void)fprintf(out, "%s\n", text_of(table, "note"));
    }
    (void)fputs("\n|", out);
    json_array_foreach(columns, c, column) {
        (void)fprintf(out, " %s |", text_of(column, "label"));
    }
    (void)fputs("\n|", out);
    json_array_foreach(columns, c, column) {
        (void)fputs(json_is_true(json_object_get(column, "text")) ? "---|" : "---:|",
                    out);
    }
    (void)fputc('\n', out);
    json_array_foreach(json_object_get(table, "rows"), r, row) {
        (void)fputc('|', out);
        json_array_foreach(columns, c, column) {
            put_cell(row, column, out);
        }
        (void)fputc('\n', out);
    }
}

void tl_print_markdown(const json_t *tables, FILE *out) {
    size_t i = 0;
    const json_t *table = NULL;
    json_array_foreach(tables, i, table) {
        (void)fputs(i > 0 ? "\n" : "", out);
        print_markdown_table(table, out);
    }
}
