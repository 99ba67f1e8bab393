/* metrics_find.c - samples out of a text in the Prometheus format. */
#include "throughline/service.h"

#include <stdlib.h>
#include <string.h>

/* The '}' that ends the labels: those within quotes belong to a value. */
static const char *labels_end(const char *c, const char *end) {
    bool quoted = false;
    for (; c < end; c++) {
        if (quoted && *c == '\\' && c + 1 < end) {
            c++;
        } else if (*c == '"') {
            quoted = !quoted;
        } else if (*c == '}' && !quoted) {
            return c;
        }
    }
    return NULL;
}

/* One line: is it a sample of `name` whose labels contain `labels`? */
static bool sample(const char *line, const char *end, const char *name,
                   const char *labels, double *ret_v) {
    const size_t length = strlen(name);
    if ((size_t)(end - line) <= length || strncmp(line, name, length) != 0) {
        return false;
    }
    const char *value = line + length;
    const char *inside = value;
    size_t inside_size = 0;
    if (*value == '{') {
        inside = value + 1;
        const char *close = labels_end(inside, end);
        if (close == NULL) {
            return false;
        }
        inside_size = (size_t)(close - inside);
        value = close + 1;
    }
    if (value >= end || *value != ' ' ||
        (labels != NULL &&
         memmem(inside, inside_size, labels, strlen(labels)) == NULL)) {
        return false;
    }
    char *stop;
    *ret_v = strtod(value, &stop);
    return stop != value && stop <= end;
}

bool tl_metrics_find(const char *text, const char *name, const char *labels,
                     double *ret_v) {
    double sum = 0.0;
    bool found = false;
    while (*text != '\0') {
        const char *end = strchrnul(text, '\n');
        double v;
        if (sample(text, end, name, labels, &v)) {
            sum += v;
            found = true;
        }
        text = *end == '\0' ? end : end + 1;
    }
    if (found) {
        *ret_v = sum;
    }
    return found;
}
