/* dir.c - a directory as a store.
 *
 * An object is written under a temporary name beside its place, synced, renamed, and
 * the directory synced: whoever sees the name sees all of it, after a power failure
 * too. A writer holds a lock on its temporary file, so that sweep() can tell the one
 * that a dead process left from the one that is being written. */
#include "throughline/service.h"

#include "dir_internal.h"
#include "snapshot_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT_MAX        3072u
#define TEMPORARY_MAX   (TL_OBJECT_NAME_MAX + 32u)
#define READ_BYTES      (256u << 10)
#define CREATE_ATTEMPTS 8
#define DIRECTORY_MODE  0777
#define FILE_MODE       0666
#define OPEN_DIRECTORY  (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

struct dir_store {
    struct tl_store base;
    int fd; /* of the root: names are relative to it */
    char root[ROOT_MAX];
};

struct dir_writer {
    struct tl_store_writer base;
    int fd;
    uint64_t size; /* written so far */
    char name[TL_OBJECT_NAME_MAX];
    char temporary[TEMPORARY_MAX];
};

static struct dir_store *of_store(struct tl_store *s) {
    return (struct dir_store *)s;
}

static struct dir_store *of_writer(const struct dir_writer *w) {
    return (struct dir_store *)w->base.store;
}

/* What somebody can do about it. */
static const char *advice(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return "; make room there, or choose another store";
    case EROFS:
    case EACCES:
    case EPERM:
        return "; make it writable for this user, or choose another store";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files";
    default:
        return "";
    }
}

static int fail(const struct dir_store *d, int error, const char *verb,
                const char *name) {
    return tl_fail(TL_E_IO, "store %s: cannot %s %s: %s%s", d->root, verb, name,
                   strerror(error), advice(error));
}

/* ---- directories -------------------------------------------------------------- */

/* The directory that holds `name`: "." for the root. */
static void parent_of(const char *name, char parent[TEMPORARY_MAX]) {
    const char *slash = strrchr(name, '/');
    if (slash == NULL) {
        (void)snprintf(parent, TEMPORARY_MAX, ".");
    } else {
        (void)snprintf(parent, TEMPORARY_MAX, "%.*s", (int)(slash - name), name);
    }
}

/* Make the entry of `name` in its directory durable. */
static int sync_entry(const struct dir_store *d, const char *name) {
    char parent[TEMPORARY_MAX];
    parent_of(name, parent);
    const int fd = openat(d->fd, parent, OPEN_DIRECTORY);
    if (fd < 0) {
        return fail(d, errno, "open the directory of", name);
    }
    /* EINVAL: this file system has nothing to sync for a directory. */
    const int error = fsync(fd) < 0 && errno != EINVAL ? errno : 0;
    (void)close(fd);
    return error == 0 ? 0 : fail(d, error, "sync the directory of", name);
}

static int make_parents(const struct dir_store *d, const char *name) {
    char parent[TL_OBJECT_NAME_MAX];
    for (const char *slash = strchr(name, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - name), name);
        if (mkdirat(d->fd, parent, DIRECTORY_MODE) < 0) {
            if (errno == EEXIST) {
                continue;
            }
            return fail(d, errno, "make the directory", parent);
        }
        const int r = sync_entry(d, parent);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* An object store has no directories: empty ones go with their last object. */
static void remove_empty_parents(const struct dir_store *d, const char *name) {
    char path[TEMPORARY_MAX];
    char parent[TEMPORARY_MAX];
    (void)snprintf(path, sizeof(path), "%s", name);
    for (parent_of(path, parent); strcmp(parent, ".") != 0; parent_of(path, parent)) {
        if (unlinkat(d->fd, parent, AT_REMOVEDIR) < 0) {
            return;
        }
        memcpy(path, parent, sizeof(path));
    }
}

/* ---- writing ------------------------------------------------------------------ */

static void name_temporary(struct dir_writer *w) {
    char parent[TEMPORARY_MAX];
    parent_of(w->name, parent);
    (void)snprintf(w->temporary, sizeof(w->temporary),
                   "%.*s/" TL_TEMPORARY "%016" PRIx64, (int)TL_OBJECT_NAME_MAX, parent,
                   tl_random_u64());
}

/* Open and lock the temporary file. TL_E_BUSY: a clean-up removed the directory or the
 * file between two steps; try again. */
static int open_temporary(struct dir_writer *w) {
    const struct dir_store *d = of_writer(w);
    struct stat status;
    int r = make_parents(d, w->name);
    if (r < 0) {
        return r;
    }
    name_temporary(w);
    w->fd =
        openat(d->fd, w->temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, FILE_MODE);
    if (w->fd < 0) {
        return errno == ENOENT ? TL_E_BUSY : fail(d, errno, "create", w->name);
    }
    if (flock(w->fd, LOCK_EX) < 0 || fstat(w->fd, &status) < 0) {
        r = fail(d, errno, "lock", w->name);
    } else if (status.st_nlink == 0) {
        r = TL_E_BUSY;
    }
    if (r < 0) {
        (void)unlinkat(d->fd, w->temporary, 0);
        (void)close(w->fd);
    }
    return r;
}

static int dir_create(struct tl_store *s, const char *name,
                      struct tl_store_writer **ret_writer) {
    int r = tl_store_check_name(name);
    if (r < 0) {
        return r;
    }
    struct dir_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to write %s", name);
    }
    w->base.store = s;
    (void)snprintf(w->name, sizeof(w->name), "%s", name);
    for (int attempt = 0; attempt < CREATE_ATTEMPTS; attempt++) {
        r = open_temporary(w);
        if (r != TL_E_BUSY) {
            break;
        }
    }
    if (r < 0) {
        free(w);
        return r == TL_E_BUSY ? fail(of_store(s), ENOENT, "create", name) : r;
    }
    *ret_writer = &w->base;
    return 0;
}

static int dir_write(struct tl_store_writer *writer, const void *bytes, size_t size) {
    struct dir_writer *w = (struct dir_writer *)writer;
    const char *next = bytes;
    while (size > 0) {
        const ssize_t n = write(w->fd, next, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(of_writer(w), errno, "write", w->name);
        }
        next += n;
        w->size += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static void dir_abandon(struct tl_store_writer *writer) {
    struct dir_writer *w = (struct dir_writer *)writer;
    (void)unlinkat(of_writer(w)->fd, w->temporary, 0);
    remove_empty_parents(of_writer(w), w->name);
    (void)close(w->fd);
    free(w);
}

/* Give the file its name. A file system without RENAME_NOREPLACE has hard links. */
static int publish(struct dir_writer *w, bool if_absent) {
    const struct dir_store *d = of_writer(w);
    int r = renameat2(d->fd, w->temporary, d->fd, w->name,
                      if_absent ? RENAME_NOREPLACE : 0u);
    if (r < 0 && if_absent && errno == EINVAL) {
        r = linkat(d->fd, w->temporary, d->fd, w->name, 0);
        if (r == 0) {
            (void)unlinkat(d->fd, w->temporary, 0);
        }
    }
    if (r < 0) {
        return errno == EEXIST
                   ? tl_fail(TL_E_EXISTS, "store %s: %s exists", d->root, w->name)
                   : fail(d, errno, "rename the finished", w->name);
    }
    return sync_entry(d, w->name);
}

static int dir_commit(struct tl_store_writer *writer, bool if_absent) {
    struct dir_writer *w = (struct dir_writer *)writer;
    int r = fsync(w->fd) < 0 ? fail(of_writer(w), errno, "sync", w->name)
                             : publish(w, if_absent);
    if (r < 0) {
        dir_abandon(writer);
        return r;
    }
    tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_WRITE, 1, w->size);
    /* Who reads it back shall see the disk's bytes, not those in the cache. */
    (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(w->fd);
    free(w);
    return 0;
}

/* ---- reading ------------------------------------------------------------------ */

static int open_object(const struct dir_store *d, const char *name, int *ret_fd) {
    struct stat status;
    const int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return tl_fail(TL_E_NOTFOUND, "store %s: there is no %s", d->root, name);
    }
    if (fd < 0) {
        return fail(d, errno, "open", name);
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        (void)close(fd);
        return tl_fail(TL_E_CORRUPT, "store %s: %s is not a file", d->root, name);
    }
    *ret_fd = fd;
    return 0;
}

static int read_pieces(const struct dir_store *d, int fd, const char *name,
                       char *buffer, struct tl_sink sink) {
    tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_READ, 1, 0);
    for (;;) {
        const ssize_t n = read(fd, buffer, READ_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            /* EIO: these bytes are lost, another snapshot's may not be. */
            const int r = fail(d, errno, "read", name);
            return errno == EIO ? TL_E_CORRUPT : r;
        }
        tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_READ, 0, (uint64_t)n);
        const int r = n == 0 ? 0 : sink.feed(sink.ctx, buffer, (size_t)n);
        if (n == 0 || r < 0) {
            return r;
        }
    }
}

static int dir_read(struct tl_store *s, const char *name,
                    int (*sink)(void *ctx, const void *bytes, size_t size), void *ctx) {
    const struct dir_store *d = of_store(s);
    int fd = -1;
    int r = tl_store_check_name(name);
    if (r == 0) {
        r = open_object(d, name, &fd);
    }
    if (r < 0) {
        return r;
    }
    char *buffer = malloc(READ_BYTES);
    r = buffer == NULL ? tl_fail(TL_E_NOMEM, "no memory to read %s", name)
                       : read_pieces(d, fd, name, buffer, (struct tl_sink){sink, ctx});
    free(buffer);
    (void)close(fd);
    return r;
}

/* ---- names -------------------------------------------------------------------- */

static int dir_list(struct tl_store *s, const char *prefix,
                    int (*each)(void *ctx, const char *name, uint64_t size),
                    void *ctx) {
    return tl_dir_walk(of_store(s)->root, prefix, each, ctx);
}

static int dir_remove(struct tl_store *s, const char *name) {
    const struct dir_store *d = of_store(s);
    const int r = tl_store_check_name(name);
    if (r < 0) {
        return r;
    }
    if (unlinkat(d->fd, name, 0) < 0) {
        return errno == ENOENT || errno == ENOTDIR ? 0 : fail(d, errno, "remove", name);
    }
    tl_backend_count(TL_BACKEND_STORE, TL_ACCESS_WRITE, 1, 0);
    const int synced = sync_entry(d, name);
    remove_empty_parents(d, name);
    return synced;
}

static int dir_sweep(struct tl_store *s) {
    return tl_dir_sweep(of_store(s)->root);
}

static void dir_close(struct tl_store *s) {
    (void)close(of_store(s)->fd);
    free(s);
}

/* ---- opening ------------------------------------------------------------------ */

static const struct tl_store_ops dir_ops = {
    .create = dir_create,
    .write = dir_write,
    .commit = dir_commit,
    .abandon = dir_abandon,
    .read = dir_read,
    .list = dir_list,
    .remove = dir_remove,
    .sweep = dir_sweep,
    .close = dir_close,
};

/* As mkdir -p; what is there already is no error. */
static int make_root(struct dir_store *d) {
    for (char *slash = strchr(d->root + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        const int error =
            mkdir(d->root, DIRECTORY_MODE) < 0 && errno != EEXIST ? errno : 0;
        const int r = error == 0 ? 0 : fail(d, error, "make", "the directory");
        if (slash == NULL || r < 0) {
            return r;
        }
        *slash = '/';
    }
}

static int open_root(struct dir_store *d, bool make) {
    d->fd = open(d->root, OPEN_DIRECTORY);
    if (d->fd < 0 && errno == ENOENT) {
        const int r = make ? make_root(d)
                           : tl_fail(TL_E_NOTFOUND,
                                     "store %s: there is no such directory", d->root);
        if (r < 0) {
            return r;
        }
        d->fd = open(d->root, OPEN_DIRECTORY);
    }
    return d->fd < 0 ? fail(d, errno, "open", "the directory") : 0;
}

int tl_dir_open(const char *root, bool make, struct tl_store **ret_store) {
    if (strnlen(root, ROOT_MAX) >= ROOT_MAX) {
        return tl_fail(TL_E_CONFIG, "store %.64s...: longer than %u characters", root,
                       ROOT_MAX - 1u);
    }
    struct dir_store *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the store %s", root);
    }
    d->base.ops = &dir_ops;
    (void)snprintf(d->root, sizeof(d->root), "%s", root);
    const int r = open_root(d, make);
    if (r < 0) {
        free(d);
        return r;
    }
    *ret_store = &d->base;
    return 0;
}
