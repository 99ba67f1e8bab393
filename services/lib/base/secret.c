/* secret.c - a secret comes from a file: never from a command line, where every user of
 * the machine can read it, and never back into a dump or an error text. */
#include "option.h"

#include <errno.h>
#include <string.h>

static size_t without_line_end(const char *bytes, size_t n) {
    while (n > 0 && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r')) {
        n--;
    }
    return n;
}

int tl_option_read_secret(const struct tl_option *o, void *target, const char *path,
                          const char *label) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return tl_fail(TL_E_CONFIG, "%s: cannot read %s: %s", label, path,
                       strerror(errno));
    }
    char bytes[4096];
    size_t n = fread(bytes, 1, sizeof(bytes), file);
    const bool failed = ferror(file) != 0;
    (void)fclose(file);
    n = without_line_end(bytes, n);
    int rc = 0;
    if (failed || n == 0 || n >= o->size || n == sizeof(bytes)) {
        rc = tl_fail(TL_E_CONFIG, "%s: %s must hold 1 to %zu bytes of text", label,
                     path, o->size - 1);
    } else {
        bytes[n] = '\0';
        rc = tl_option_set_string(o, target, bytes, label);
    }
    explicit_bzero(bytes, sizeof(bytes));
    return rc;
}
