/* scarce.c - see scarce.h. */
#include "scarce.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/* SCARCE_OWN: the linker's --wrap takes our own calls alone, and Jansson asks us. */
#ifdef SCARCE_OWN
#define MINE(name) __wrap_##name
#define REAL(name) __real_##name
#else
#define MINE(name) name
#define REAL(name) __libc_##name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *old, size_t size);
void *MINE(malloc)(size_t size);
void *MINE(calloc)(size_t n, size_t size);
void *MINE(realloc)(void *old, size_t size);
void *MINE(aligned_alloc)(size_t alignment, size_t size);
int MINE(posix_memalign)(void **ret_memory, size_t alignment, size_t size);

#ifdef SCARCE_OWN
void *REAL(aligned_alloc)(size_t alignment, size_t size);
#else
void *REAL(memalign)(size_t alignment, size_t size);
#endif

static _Atomic long left;          /* allocations until the failure; 0 or less: never */
static _Atomic bool goes_on, here; /* in the thread that began, or in all others */
static _Atomic bool failed;
static _Atomic pthread_t owner; /* the thread that began */

#ifdef SCARCE_OWN
/* Before anything of Jansson's is allocated. */
__attribute__((constructor)) static void serve_jansson(void) {
    json_set_alloc_funcs(MINE(malloc), free);
}
#endif

static void begin(unsigned long number, bool on, bool in_this_thread) {
    owner = pthread_self();
    goes_on = on;
    here = in_this_thread;
    failed = false;
    left = (long)number;
}

void scarce_begin(unsigned long number, bool on) {
    begin(number, on, true);
}

void scarce_begin_elsewhere(unsigned long number) {
    begin(number, false, false);
}

bool scarce_has_failed(void) {
    return failed;
}

bool scarce_end(void) {
    left = 0;
    return failed;
}

static bool is_refused(void) {
    if (left <= 0 || (pthread_equal(pthread_self(), owner) != 0) != here) {
        return false;
    }
    long number = atomic_fetch_sub(&left, 1);
    if (number > 1 || (number < 1 && !goes_on)) {
        return false;
    }
    left = goes_on ? 1 : 0;
    failed = true;
    errno = ENOMEM;
    return true;
}

void *MINE(malloc)(size_t size) {
    return is_refused() ? NULL : REAL(malloc)(size);
}

void *MINE(calloc)(size_t n, size_t size) {
    return is_refused() ? NULL : REAL(calloc)(n, size);
}

void *MINE(realloc)(void *old, size_t size) {
    return is_refused() ? NULL : REAL(realloc)(old, size);
}

#ifdef SCARCE_OWN
void *MINE(aligned_alloc)(size_t alignment, size_t size) {
    return is_refused() ? NULL : REAL(aligned_alloc)(alignment, size);
}
#else
void *MINE(aligned_alloc)(size_t alignment, size_t size) {
    return is_refused() ? NULL : REAL(memalign)(alignment, size);
}

int MINE(posix_memalign)(void **ret_memory, size_t alignment, size_t size) {
    void *memory = is_refused() ? NULL : REAL(memalign)(alignment, size);
    if (memory == NULL) {
        return ENOMEM;
    }
    *ret_memory = memory;
    return 0;
}
#endif
