/* tempdir.h - a private directory for one test, and a whole file at once. */
#ifndef TEMPDIR_H
#define TEMPDIR_H

#include "test.h"

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPDIR_MAX 128

/* Make it; `path` gets its name. In memory where that is possible: these tests sync a
 * lot, and none of them pulls the plug. */
static inline void tempdir_make(char path[TEMPDIR_MAX]) {
    const char *base = getenv("TMPDIR");
    if (base == NULL || strlen(base) >= 64) {
        base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    (void)snprintf(path, TEMPDIR_MAX, "%s/throughline-XXXXXX", base);
    assert_non_null(mkdtemp(path));
}

/* Remove it with all that is in it. */
static inline void tempdir_remove(char *path) {
    char *const paths[] = {path, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    assert_non_null(tree);
    for (FTSENT *e = fts_read(tree); e != NULL; e = fts_read(tree)) {
        if (e->fts_info != FTS_D) {
            (void)remove(e->fts_accpath);
        }
    }
    (void)fts_close(tree);
}

/* The file's bytes, malloc'ed. */
static inline char *file_read(const char *path, size_t *ret_size) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long size = ftell(f);
    assert_true(size >= 0);
    rewind(f);
    char *bytes = malloc((size_t)size + 1u);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)size, f), (size_t)size);
    (void)fclose(f);
    bytes[size] = '\0';
    *ret_size = (size_t)size;
    return bytes;
}

static inline void file_write(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

#endif
