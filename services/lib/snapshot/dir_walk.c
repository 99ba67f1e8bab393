/* dir_walk.c - what is in a directory store: listing, and clearing away leftovers.
 *
 * Files come and go while the tree is walked; one that has gone is not an error. */
#include "dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Where locks do not work, an unfinished file this old is taken for a dead one. */
#define ABANDONED_SECONDS 3600

/* A directory's name stands for names that go on with a slash, and sorts like them. */
static int next_byte(const FTSENT *e, size_t i) {
    if (i < e->fts_namelen) {
        return (unsigned char)e->fts_name[i];
    }
    return i == e->fts_namelen && S_ISDIR(e->fts_statp->st_mode) ? '/' : '\0';
}

static int by_name(const FTSENT **a, const FTSENT **b) {
    for (size_t i = 0;; i++) {
        const int x = next_byte(*a, i);
        const int y = next_byte(*b, i);
        if (x != y || x == '\0') {
            return x - y;
        }
    }
}

static int start(char *root, FTS **ret_tree) {
    char *const paths[] = {root, NULL};
    *ret_tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    return *ret_tree == NULL
               ? tl_fail(TL_E_IO, "store %s: cannot list it: %s", root, strerror(errno))
               : 0;
}

static bool has_gone(const FTSENT *e) {
    return e->fts_level > 0 && (e->fts_errno == ENOENT || e->fts_errno == ENOTDIR);
}

/* The root has to be a directory; below it, something that cannot be looked at is a
 * failure, unless it has gone since its name was read. */
static int check_entry(char *root, const FTSENT *e) {
    const bool failed =
        e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS;
    if (failed && !has_gone(e)) {
        return tl_fail(TL_E_IO, "store %s: cannot list %s: %s", root, e->fts_path,
                       strerror(e->fts_errno));
    }
    if (e->fts_level == 0 && e->fts_info != FTS_D && e->fts_info != FTS_DP) {
        return tl_fail(TL_E_IO, "store %s: is not a directory any more", root);
    }
    return 0;
}

/* Next file or directory below the root; NULL at the end. */
static int step(char *root, FTS *tree, FTSENT **ret_entry) {
    for (;;) {
        errno = 0;
        FTSENT *e = fts_read(tree);
        if (e == NULL && errno != 0) {
            return tl_fail(TL_E_IO, "store %s: cannot list it: %s", root,
                           strerror(errno));
        }
        const int r = e == NULL ? 0 : check_entry(root, e);
        if (r < 0) {
            return r;
        }
        if (e == NULL ||
            (e->fts_level > 0 && (e->fts_info == FTS_F || e->fts_info == FTS_D))) {
            *ret_entry = e;
            return 0;
        }
    }
}

/* Could a name below the directory `name` start with `prefix`? */
static bool leads_to(const char *name, const char *prefix) {
    const size_t length = strlen(name);
    return strncmp(name, prefix, length) == 0 ||
           strncmp(name, prefix, strlen(prefix)) == 0;
}

static int visit(FTS *tree, FTSENT *e, const char *name, const char *prefix,
                 int (*each)(void *ctx, const char *name, uint64_t size), void *ctx) {
    const bool is_hidden = e->fts_name[0] == '.';
    if (e->fts_info == FTS_D) {
        if (is_hidden || !leads_to(name, prefix)) {
            (void)fts_set(tree, e, FTS_SKIP);
        }
        return 0;
    }
    return is_hidden || strncmp(name, prefix, strlen(prefix)) != 0
               ? 0
               : each(ctx, name, (uint64_t)e->fts_statp->st_size);
}

int tl_dir_walk(char *root, const char *prefix,
                int (*each)(void *ctx, const char *name, uint64_t size), void *ctx) {
    FTS *tree = NULL;
    FTSENT *e = NULL;
    int r = start(root, &tree);
    if (r < 0) {
        return r;
    }
    const size_t skip = strlen(root) + (root[strlen(root) - 1u] != '/');
    for (r = step(root, tree, &e); r == 0 && e != NULL; r = step(root, tree, &e)) {
        r = visit(tree, e, e->fts_path + skip, prefix, each, ctx);
        if (r != 0) {
            break;
        }
    }
    (void)fts_close(tree);
    return r;
}

/* Whoever gets the lock knows that the writer is dead, and removes the file while
 * holding it: a writer that was just about to lock sees that its file has gone. */
static void sweep_file(const FTSENT *e) {
    const int fd = open(e->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return;
    }
    const bool is_locked = flock(fd, LOCK_EX | LOCK_NB) < 0;
    const bool is_in_use = is_locked && errno == EWOULDBLOCK;
    const bool is_old = time(NULL) - e->fts_statp->st_mtime > ABANDONED_SECONDS;
    if (!is_in_use && (!is_locked || is_old)) {
        (void)unlink(e->fts_accpath);
    }
    (void)close(fd);
}

int tl_dir_sweep(char *root) {
    FTS *tree = NULL;
    FTSENT *e = NULL;
    int r = start(root, &tree);
    if (r < 0) {
        return r;
    }
    for (r = step(root, tree, &e); r == 0 && e != NULL; r = step(root, tree, &e)) {
        if (e->fts_info == FTS_F &&
            strncmp(e->fts_name, TL_TEMPORARY, sizeof(TL_TEMPORARY) - 1u) == 0) {
            sweep_file(e);
        }
    }
    (void)fts_close(tree);
    return r;
}
