/* spool.c - a state's bytes between a server and the store, in a file without a name.
 *
 * The server is done as soon as the spool has all; how fast the store takes it is then
 * nobody's business but the checkpointer's. The kernel frees the file with its last
 * descriptor, however this process ends. */
#include "checkpointer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const struct spool *s, int error, const char *verb) {
    return tl_fail(TL_E_IO,
                   "a state cannot be %s in %s: %s; make room there, or name another "
                   "directory with --spool",
                   verb, s->directory, strerror(error));
}

/* Where the kernel or the file system knows no nameless files. */
static int open_named(const char *directory) {
    char path[TL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/throughline-spool-XXXXXX", directory);
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        (void)unlink(path);
    }
    return fd;
}

int spool_open(struct spool *s, const char *directory) {
    const char *fallback = getenv("TMPDIR");
    if (directory[0] == '\0') {
        directory = fallback != NULL && fallback[0] != '\0' ? fallback : "/tmp";
    }
    *s = (struct spool){.fd = -1};
    (void)snprintf(s->directory, sizeof(s->directory), "%s", directory);
    s->fd = open(s->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        s->fd = open_named(s->directory);
    }
    return s->fd < 0 ? fail(s, errno, "kept") : 0;
}

int spool_write(struct spool *s, const void *bytes, size_t size) {
    const char *next = bytes;
    while (size > 0) {
        const ssize_t n = write(s->fd, next, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(s, errno, "kept");
        }
        next += n;
        size -= (size_t)n;
        s->size += (uint64_t)n;
    }
    return 0;
}

int spool_read(const struct spool *s, uint64_t at, void *bytes, size_t size,
               size_t *ret_size) {
    ssize_t n = 0;
    do {
        n = pread(s->fd, bytes, size, (off_t)at);
    } while (n < 0 && errno == EINTR);
    if (n < 0 || (n == 0 && at < s->size)) {
        return fail(s, n < 0 ? errno : EIO, "read back");
    }
    *ret_size = (size_t)n;
    return 0;
}

void spool_close(struct spool *s) {
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    s->fd = -1;
    s->size = 0;
}
