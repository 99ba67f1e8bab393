/* json_file.c - a JSON file, bounded and strict. */
#include "throughline/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)16 << 20)
#define PIECE    ((size_t)64 << 10)

/* Pieces, not the size that the file system claims: a job may come through a pipe. */
static int read_all(FILE *file, const char *path, char **ret_bytes, size_t *ret_size) {
    char *bytes = NULL;
    size_t size = 0;
    for (;;) {
        char *larger = size <= FILE_MAX ? realloc(bytes, size + PIECE) : NULL;
        if (larger == NULL) {
            free(bytes);
            return size > FILE_MAX
                       ? tl_fail(TL_E_CONFIG, "%s: larger than 16 MiB", path)
                       : tl_fail(TL_E_NOMEM, "%s: out of memory", path);
        }
        bytes = larger;
        const size_t n = fread(bytes + size, 1, PIECE, file);
        size += n;
        if (n < PIECE) {
            break;
        }
    }
    if (ferror(file)) {
        free(bytes);
        return tl_fail(TL_E_CONFIG, "%s: cannot be read: %s", path, strerror(errno));
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

bool tl_json_has_room(size_t size) {
    void *volatile probe = malloc(PIECE + size * 8); /* or the compiler knows better */
    bool has_room = probe != NULL;
    free(probe);
    return has_room;
}

/* Jansson takes an allocation that failed for an error in the text, and a good snapshot
 * must not pass for a damaged one: bad is what is bad twice, with memory at hand. */
int tl_json_parse(const char *bytes, size_t size, const char *where, int code,
                  json_t **ret_json) {
    json_error_t error;
    json_t *json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL && tl_json_has_room(size)) {
        json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    } else if (json == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: out of memory", where);
    }
    if (json == NULL) {
        return tl_fail(code, "%s:%d:%d: not JSON: %s", where, error.line, error.column,
                       error.text);
    }
    *ret_json = json;
    return 0;
}

int tl_json_load(const char *path, json_t **ret_json) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return tl_fail(errno == ENOMEM ? TL_E_NOMEM : TL_E_CONFIG,
                       "%s: cannot be opened: %s", path, strerror(errno));
    }
    char *bytes = NULL;
    size_t size = 0;
    int rc = read_all(file, path, &bytes, &size);
    (void)fclose(file);
    if (rc != 0) {
        return rc;
    }
    rc = tl_json_parse(bytes, size, path, TL_E_CONFIG, ret_json);
    free(bytes);
    return rc;
}
