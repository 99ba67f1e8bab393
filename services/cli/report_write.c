/* report_write.c - a report as HTML, CSV, JSON or Markdown. */
#include "throughline/page.h"
#include "throughline/report.h"

#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int write_html(const json_t *model, FILE *out) {
    size_t size = 0;
    char *html = tl_page_html(model, &size);
    if (html == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the report");
    }
    (void)fwrite(html, 1, size, out);
    free(html);
    return 0;
}

/* Without the lines: they are in the timeline. */
static int write_json(const json_t *model, FILE *out) {
    json_t *copy = json_deep_copy(model);
    size_t i = 0;
    json_t *run = NULL;
    json_array_foreach(json_object_get(copy, "runs"), i, run) {
        (void)json_object_del(run, "lines");
    }
    (void)json_dumpf(copy, out, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    (void)fputc('\n', out);
    json_decref(copy);
    return 0;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static int write_markdown(const json_t *model, FILE *out) {
    const json_t *machine = json_object_get(model, "machine");
    (void)fprintf(out, "# %s\n%s\n\n", text_of(model, "title"), text_of(model, "note"));
    if (text_of(model, "reproduce")[0] != '\0') {
        (void)fprintf(out, "    %s\n\n", text_of(model, "reproduce"));
    }
    if (machine != NULL) {
        (void)fprintf(out, "%s, %lld cores, %s; Throughline %s.\n\n",
                      text_of(machine, "processor"),
                      (long long)json_integer_value(json_object_get(machine, "cores")),
                      text_of(machine, "memory"), text_of(machine, "throughline"));
    }
    tl_print_markdown(json_object_get(model, "tables"), out);
    return 0;
}

static int write_csv(const json_t *model, FILE *out) {
    tl_print_csv(json_object_get(model, "tables"), out);
    return 0;
}

int tl_report_write(const json_t *model, int format, const char *path) {
    static int (*const writers[])(const json_t *, FILE *) = {
        write_html, write_csv, write_json, write_markdown};
    const bool is_file = strcmp(path, "-") != 0;
    FILE *out = is_file ? fopen(path, "we") : stdout;
    if (out == NULL) {
        return tl_fail(TL_E_IO, "%s: %s", path, strerror(errno));
    }
    int rc = writers[format](model, out);
    if ((is_file ? fclose(out) : fflush(out)) != 0 && rc == 0) {
        rc = tl_fail(TL_E_IO, "%s: %s", path, strerror(errno));
    }
    return rc;
}

int tl_report_html(const char *directory) {
    char path[TL_PATH_MAX + 32];
    json_t *model = NULL;
    (void)snprintf(path, sizeof(path), "%s/report.html", directory);
    int rc = tl_report_model(directory, NULL, &model);
    rc = rc == 0 ? tl_report_write(model, TL_REPORT_HTML, path) : rc;
    json_decref(model);
    return rc;
}
