/* files.c - small things done with files by several commands. */
#include "files.h"

#include "throughline/config.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int tl_make_directories(const char *path) {
    char part[TL_PATH_MAX + 16];
    (void)snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return tl_fail(TL_E_CONFIG, "%s cannot be made: %s", part, strerror(errno));
        }
        *slash = '/';
    }
    if (mkdir(part, 0777) != 0 && errno != EEXIST) {
        return tl_fail(TL_E_CONFIG, "%s cannot be made: %s", part, strerror(errno));
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind,
                      struct FTW *place) {
    (void)status;
    (void)kind;
    (void)place;
    (void)remove(path);
    return 0;
}

void tl_remove_files(const char *path) {
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
