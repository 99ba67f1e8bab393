/* clock_jump.c - a wall clock that jumps: a library to preload into any program.
 *
 * CLOCK_REALTIME is off by the seconds in the 8 bytes of the file named by
 * TL_TEST_CLOCK, which a test changes while the program runs. CLOCK_MONOTONIC is the
 * system's, as it is when somebody sets the date. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("TL_TEST_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *map =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
    offset = map == MAP_FAILED ? NULL : map;
    if (fd >= 0) {
        (void)close(fd);
    }
}

int clock_gettime(clockid_t id, struct timespec *t) {
    long rc = syscall(SYS_clock_gettime, id, t);
    if (rc == 0 && offset != NULL &&
        (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        t->tv_sec += *offset;
    }
    return (int)rc;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return rc;
}

time_t time(time_t *t) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (t != NULL) {
        *t = now.tv_sec;
    }
    return now.tv_sec;
}
