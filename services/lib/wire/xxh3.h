/* xxh3.h - XXH3 in the widest vectors that this processor has.
 *
 * On x86-64 the library's plain functions stop at SSE2; its dispatching ones ask the
 * processor and hash a payload two and a half times as fast. On arm64 NEON is always
 * there. The value is the same everywhere. */
#ifndef TL_WIRE_XXH3_H
#define TL_WIRE_XXH3_H

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#endif
