/* process.c - what this process costs, as the kernel counts it. */
#include "process.h"

#include "throughline/service.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static uint64_t resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%*s %llu", &pages) != 1) {
        pages = 0;
    }
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void tl_process_usage(double *ret_cpu_seconds, uint64_t *ret_resident_bytes) {
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    *ret_cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    *ret_resident_bytes = resident_bytes();
}

uint64_t tl_process_descriptors(void) {
    uint64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return 0;
    }
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count < 3 ? 0 : count - 3; /* ".", ".." and the directory itself */
}

/* Field 22 of stat, clock ticks after boot; the command's name before it may hold
 * blanks and brackets, so counting starts behind the last one. */
static double start_after_boot(void) {
    char line[1024];
    unsigned long long ticks = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL) {
        return 0.0;
    }
    const char *rest = fgets(line, sizeof(line), file);
    (void)fclose(file);
    rest = rest != NULL ? strrchr(line, ')') : NULL;
    if (rest == NULL || sscanf(rest,
                               ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                               "%*s %*s %*s %*s %*s %*s %llu",
                               &ticks) != 1) {
        return 0.0;
    }
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

double tl_process_start_seconds(void) {
    struct timespec up = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &up);
    const double age =
        (double)up.tv_sec + (double)up.tv_nsec * 1e-9 - start_after_boot();
    return (double)tl_unix_ms() / 1000.0 - age;
}
