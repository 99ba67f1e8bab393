/* walk.h - one description of a layout, walked to write and to read: the two can't
 * drift apart. */
#ifndef TL_FOLD_WALK_H
#define TL_FOLD_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Numbers and arrays are written as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the state's bytes are little-endian");

struct walk {
    bool writes;
    uint8_t *to;         /* writing: next byte */
    const uint8_t *from; /* reading: next byte */
};

static inline void walk_bytes(struct walk *k, void *value, size_t size) {
    if (k->writes) {
        memcpy(k->to, value, size);
        k->to += size;
    } else {
        memcpy(value, k->from, size);
        k->from += size;
    }
}

static inline void walk_u32(struct walk *k, uint32_t *value) {
    walk_bytes(k, value, sizeof(*value));
}

static inline void walk_u64(struct walk *k, uint64_t *value) {
    walk_bytes(k, value, sizeof(*value));
}

static inline void walk_f64(struct walk *k, double *value) {
    walk_bytes(k, value, sizeof(*value));
}

#endif
