/* scratch.c - a private directory for one run's sockets.
 *
 * A socket's path is short by law, and a run's output directory may be anywhere; so the
 * sockets live in a directory of their own, which only this user may enter. It is
 * locked while its run lives: a run that is killed cannot tidy up, and the next one
 * that finds a directory without a lock does it instead. */
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "throughline-run-"

/* Between mkdtemp() and its lock a directory looks abandoned; so young ones are left.
 */
static const time_t abandoned_seconds = 60;

/* Remove the directory and the files in it; it has no subdirectories. */
static void remove_directory(const char *path, int directory) {
    int copy = fcntl(directory, F_DUPFD_CLOEXEC, 0);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    if (listing) {
        for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
            if (entry->d_name[0] != '.') {
                (void)unlinkat(directory, entry->d_name, 0);
            }
        }
        (void)closedir(listing);
    } else if (copy >= 0) {
        (void)close(copy);
    }
    (void)rmdir(path);
}

static bool is_abandoned(int directory) {
    struct stat status;
    return fstat(directory, &status) == 0 && status.st_uid == geteuid() &&
           time(NULL) - status.st_mtime > abandoned_seconds &&
           flock(directory, LOCK_EX | LOCK_NB) == 0;
}

static void sweep(const char *base) {
    DIR *listing = opendir(base);
    if (!listing) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        char path[512];
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            snprintf(path, sizeof(path), "%s/%s", base, entry->d_name) >=
                (int)sizeof(path)) {
            continue;
        }
        int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (directory < 0) {
            continue;
        }
        if (is_abandoned(directory)) {
            remove_directory(path, directory);
        }
        (void)close(directory);
    }
    (void)closedir(listing);
}

static int make_under(const char *base, struct tl_scratch *ret_scratch) {
    struct tl_scratch s;
    int length = snprintf(s.path, sizeof(s.path), "%s/" PREFIX "XXXXXX", base);
    if (length >= (int)sizeof(s.path)) {
        return tl_fail(TL_E_IO,
                       "%s: too long a path for sockets; set XDG_RUNTIME_DIR to "
                       "a shorter one",
                       base);
    }
    if (!mkdtemp(s.path)) {
        return tl_fail(TL_E_IO, "%s: no directory can be made there: %s", base,
                       strerror(errno));
    }
    s.lock = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.lock < 0 || flock(s.lock, LOCK_EX | LOCK_NB) != 0) {
        int rc = tl_fail(TL_E_IO, "%s: cannot be locked: %s", s.path, strerror(errno));
        (void)rmdir(s.path);
        if (s.lock >= 0) {
            (void)close(s.lock);
        }
        return rc;
    }
    *ret_scratch = s;
    return 0;
}

int tl_scratch_make(struct tl_scratch *ret_scratch) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && runtime[0] == '/') {
        sweep(runtime);
        if (make_under(runtime, ret_scratch) == 0) {
            return 0;
        }
    }
    sweep("/tmp");
    return make_under("/tmp", ret_scratch);
}

void tl_scratch_remove(struct tl_scratch *s) {
    if (s->path[0] == '\0') {
        return;
    }
    remove_directory(s->path, s->lock);
    (void)close(s->lock);
    s->path[0] = '\0';
}
