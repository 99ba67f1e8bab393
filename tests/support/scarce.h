/* scarce.h - memory that runs out at any point that the test chooses.
 *
 * A test program that links scarce.c gets its malloc() and relatives: those that this
 * thread asks for fail from number N on, or only number N. Those of
 * every library do, libc's included; but in a build with AddressSanitizer, which says
 * what a failure forgot to free, and in tests of what calls fts_open() or hiredis,
 * which die of it, only our own and Jansson's. */
#ifndef TEST_SCARCE_H
#define TEST_SCARCE_H

#include "throughline/error.h"

#include "test.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Let allocation `number` (from 1) of this thread fail; with `on`, all after it too. */
void scarce_begin(unsigned long number, bool on);
/* Let allocation `number` of all other threads together fail. */
void scarce_begin_elsewhere(unsigned long number);
bool scarce_has_failed(void);
/* Enough memory again. Has one failed since? */
bool scarce_end(void);

/* Does the failure name its cause: by its code, or as what the system said? */
static inline bool scarce_is_named(int rc) {
    return rc == TL_E_NOMEM || strstr(tl_error_text(), strerror(ENOMEM)) != NULL;
}

/* Do `work` with allocation 1 failing, then 2, ..., until it needs no more of them.
 * Each time it fails and says why, or does without and succeeds; it cleans up after
 * itself either way, and works when there is memory. Returns how many points there
 * were. */
static inline unsigned long scarce_torture(int (*work)(void *ctx), void *ctx) {
    unsigned long points[2] = {0, 0};
    assert_int_equal(work(ctx), 0);
    for (int on = 0; on < 2; on++) {
        bool failed = true;
        for (unsigned long n = 1; failed; n++) {
            scarce_begin(n, on == 1);
            int rc = work(ctx);
            failed = scarce_end();
            points[on] += failed;
            if (rc != 0 && (!failed || !scarce_is_named(rc))) {
                fail_msg("allocation %lu%s: %s: %s", n, on == 1 ? " and all after" : "",
                         tl_error_name(rc), tl_error_text());
            }
        }
        assert_int_equal(work(ctx), 0);
    }
    print_message("%lu allocations, each failing alone; %lu, with all after it\n",
                  points[0], points[1]);
    assert_true(points[0] > 0 && points[1] > 0);
    return points[0];
}

#endif
