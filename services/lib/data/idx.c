/* idx.c - the IDX format of MNIST and its descendants, read without trusting it.
 *
 * Two zero bytes, the element type, the rank, the dimensions as big-endian 32-bit
 * numbers, then the elements, and nothing after them. zlib's gz functions read gzip and
 * plain files alike. A header is believed only as far as the file's size allows: no
 * file makes this allocate more than it could hold. */
#include "idx.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    TYPE_UNSIGNED_BYTE = 0x08,
    READ_STEP = 1 << 20, /* gzread() takes int sizes */
    /* No deflate stream expands by more (zlib's technical notes). */
    EXPANSION_MAX = 1032,
};
/* 10 million images of 28 x 28: far above what a worker can use, far below overflow. */
#define IDX_BYTES_MAX (UINT64_C(1) << 33)

struct source {
    const char *path;
    gzFile file;
    uint64_t stored_bytes;
};

static void source_close(struct source *s) {
    if (s->file != NULL) {
        (void)gzclose_r(s->file);
    }
}

static int source_attach(struct source *s, int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return tl_fail(TL_E_CONFIG, "%s: cannot be examined: %s", s->path,
                       strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return tl_fail(TL_E_CONFIG, "%s: not a regular file; name an IDX file",
                       s->path);
    }
    s->stored_bytes = (uint64_t)st.st_size;
    s->file = gzdopen(fd, "rb");
    return s->file != NULL ? 0
                           : tl_fail(TL_E_NOMEM, "%s: no memory to read it", s->path);
}

static int source_open(struct source *s, const char *path) {
    *s = (struct source){.path = path};
    /* O_NONBLOCK: a named pipe is to be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return tl_fail(TL_E_CONFIG,
                       "%s: cannot be opened: %s; datasets/fetch gets "
                       "the public data sets",
                       path, strerror(errno));
    }
    int rc = source_attach(s, fd);
    if (rc != 0) {
        (void)close(fd);
    }
    return rc;
}

/* Read up to `size` bytes; *ret_got is less only at the end of the file. */
static int source_read(struct source *s, uint8_t *into, size_t size, size_t *ret_got) {
    size_t got = 0;
    while (got < size) {
        size_t left = size - got;
        int n =
            gzread(s->file, into + got, left < READ_STEP ? (unsigned)left : READ_STEP);
        /* A gzip stream that breaks off is only reported through gzerror(). */
        int error = Z_OK;
        const char *text = gzerror(s->file, &error);
        if (error == Z_MEM_ERROR) {
            return tl_fail(TL_E_NOMEM, "%s: no memory to read it", s->path);
        }
        if (n < 0 || error != Z_OK) {
            return tl_fail(TL_E_CONFIG, "%s: damaged after %zu bytes: %s", s->path, got,
                           error == Z_ERRNO ? strerror(errno) : text);
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int read_field(struct source *s, const char *field, uint32_t *ret_value) {
    uint8_t b[4];
    size_t got = 0;
    int rc = source_read(s, b, sizeof(b), &got);
    if (rc != 0) {
        return rc;
    }
    if (got != sizeof(b)) {
        return tl_fail(TL_E_CONFIG, "%s: %s: the file ends before it", s->path, field);
    }
    *ret_value =
        (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return 0;
}

static int read_magic(struct source *s, size_t min_rank, size_t max_rank,
                      struct tl_idx *idx) {
    uint32_t magic = 0;
    int rc = read_field(s, "magic number", &magic);
    if (rc != 0) {
        return rc;
    }
    idx->rank = magic & 0xffu;
    if (magic >> 8 != TYPE_UNSIGNED_BYTE || idx->rank < min_rank ||
        idx->rank > max_rank) {
        return tl_fail(TL_E_CONFIG, "%s: magic number: is 0x%08x, must be 0x%08x%s",
                       s->path, magic, TYPE_UNSIGNED_BYTE << 8 | (unsigned)min_rank,
                       min_rank == 1 ? " (IDX1, labels)" : " (IDX3, images)");
    }
    return 0;
}

static int read_dimensions(struct source *s, struct tl_idx *idx, uint64_t *ret_bytes) {
    static const char *const names[TL_IDX_RANK_MAX] = {
        "dimension 1 (examples)", "dimension 2", "dimension 3", "dimension 4"};
    uint64_t bytes = 1;
    for (size_t i = 0; i < idx->rank; i++) {
        int rc = read_field(s, names[i], &idx->dims[i]);
        if (rc != 0) {
            return rc;
        }
        if (idx->dims[i] == 0 || idx->dims[i] > INT32_MAX ||
            bytes > IDX_BYTES_MAX / idx->dims[i]) {
            return tl_fail(TL_E_CONFIG, "%s: %s: is %u; no such file is accepted",
                           s->path, names[i], idx->dims[i]);
        }
        bytes *= idx->dims[i];
    }
    if (bytes > s->stored_bytes * EXPANSION_MAX) {
        return tl_fail(
            TL_E_CONFIG,
            "%s: dimensions: ask for %llu bytes, more than the file can hold", s->path,
            (unsigned long long)bytes);
    }
    *ret_bytes = bytes;
    return 0;
}

/* Exactly `bytes` elements, and the end of the file: which is also what makes zlib
 * compare the checksum at a gzip stream's end. */
static int read_elements(struct source *s, struct tl_idx *idx, uint64_t bytes) {
    assert(bytes > 0); /* every dimension is */
    idx->bytes = malloc(bytes);
    if (idx->bytes == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for %llu bytes", s->path,
                       (unsigned long long)bytes);
    }
    size_t got = 0;
    int rc = source_read(s, idx->bytes, bytes, &got);
    if (rc != 0) {
        return rc;
    }
    if (got != bytes) {
        return tl_fail(TL_E_CONFIG,
                       "%s: elements: the file ends after %zu of %llu; fetch it again",
                       s->path, got, (unsigned long long)bytes);
    }
    uint8_t surplus;
    rc = source_read(s, &surplus, 1, &got);
    if (rc == 0 && got != 0) {
        rc = tl_fail(TL_E_CONFIG,
                     "%s: elements: the file goes on after the %llu that "
                     "its dimensions announce",
                     s->path, (unsigned long long)bytes);
    }
    return rc;
}

static int read_all(struct source *s, size_t min_rank, size_t max_rank,
                    struct tl_idx *idx) {
    uint64_t bytes = 0;
    int rc = read_magic(s, min_rank, max_rank, idx);
    if (rc == 0) {
        rc = read_dimensions(s, idx, &bytes);
    }
    return rc == 0 ? read_elements(s, idx, bytes) : rc;
}

int tl_idx_read(const char *path, size_t min_rank, size_t max_rank,
                struct tl_idx *ret_idx) {
    struct source s TL_CLEANUP(source_close);
    int rc = source_open(&s, path);
    if (rc != 0) {
        return rc;
    }
    struct tl_idx idx = {0};
    rc = read_all(&s, min_rank, max_rank, &idx);
    if (rc != 0) {
        free(idx.bytes);
        return rc;
    }
    *ret_idx = idx;
    return 0;
}
