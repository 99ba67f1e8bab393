/* machine.c - where a run took place: figures mean little without it. */
#include "report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What the first line of `path` that begins with `key` says behind its colon. */
static void read_field(const char *path, const char *key, char *value, size_t size) {
    char line[512];
    FILE *file = fopen(path, "re");
    (void)snprintf(value, size, "unknown");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *text = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) == 0 && text != NULL) {
            text += 1 + strspn(text + 1, " \t");
            text[strcspn(text, "\n")] = '\0';
            (void)snprintf(value, size, "%s", text);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

json_t *tl_machine(void) {
    char cpu[256];
    char memory[64];
    struct utsname system;
    read_field("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
    read_field("/proc/meminfo", "MemTotal", memory, sizeof(memory));
    const double gigabytes = strtod(memory, NULL) * 1024 / 1e9;
    (void)snprintf(memory, sizeof(memory), "%.1f GB", gigabytes);
    if (uname(&system) != 0) {
        return json_object();
    }
    char kernel[160];
    (void)snprintf(kernel, sizeof(kernel), "%.60s %.60s %.30s", system.sysname,
                   system.release, system.machine);
    return json_pack("{s:s, s:I, s:s, s:s, s:s}", "processor", cpu, "cores",
                     (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "memory", memory,
                     "system", kernel, "throughline", TL_VERSION);
}
