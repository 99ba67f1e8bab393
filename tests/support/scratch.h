/* scratch.h - a private directory for a test program's files, removed at the end. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include "test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch[64];

/* cmocka group setup. */
static inline int scratch_setup(void **state) {
    (void)state;
    (void)snprintf(scratch, sizeof(scratch), "/tmp/throughline-test-XXXXXX");
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

static inline int scratch_remove(const char *path, const struct stat *st, int type,
                                 struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* cmocka group teardown. */
static inline int scratch_teardown(void **state) {
    (void)state;
    return nftw(scratch, scratch_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* "scratch/NAME"; good until the fourth next call. */
static inline const char *scratch_path(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
    return path;
}

static inline const char *scratch_write(const char *name, const char *text) {
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    return path;
}

/* A file's text, at most 64 KiB; good until the next call. */
static inline const char *scratch_read(const char *path) {
    static char text[65536];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    (void)fclose(f);
    return text;
}

#endif
