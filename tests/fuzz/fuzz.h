/* fuzz.h - what the fuzz targets share. Each feeds bytes from nowhere to one decoder:
 * it may refuse them, and what it takes has to mean what its bytes say. */
#ifndef TL_TESTS_FUZZ_H
#define TL_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assert() that no build leaves out. */
static inline void must(int condition) {
    if (!condition) {
        abort();
    }
}

#endif
