/* programs.c - where the programs are that a run starts.
 *
 * Our own services are looked for beside the running program first, so that a build
 * tree and an installation on one machine never mix. */
#include "programs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_program(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
           access(path, X_OK) == 0;
}

bool tl_program_in_path(const char *name, char *ret_path, size_t size) {
    const char *path = getenv("PATH");
    while (path && *path != '\0') {
        int length = (int)strcspn(path, ":");
        int need = snprintf(ret_path, size, "%.*s/%s", length, path, name);
        if (length > 0 && need < (int)size && is_program(ret_path)) {
            return true;
        }
        path += length;
        path += *path == ':';
    }
    return false;
}

int tl_program_service(const char *name, char *ret_path, size_t size) {
    char self[1024];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = '\0';
        if (snprintf(ret_path, size, "%s/%s", self, name) < (int)size &&
            is_program(ret_path)) {
            return 0;
        }
    }
    if (tl_program_in_path(name, ret_path, size)) {
        return 0;
    }
    return tl_fail(
        TL_E_CONFIG,
        "%s was found neither in %s nor in PATH; install all of throughline's "
        "programs in one directory",
        name, self);
}
