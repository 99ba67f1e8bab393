/* error.h - the one table of error codes, and the text that goes with a failure.
 *
 * Every fallible call of the project returns 0 or a negative TL_E_* from this
 * table. The place nearest the cause adds context once, with tl_fail(); callers
 * pass the code on unchanged, and whoever reports it prints tl_error_text().
 *
 * Thread: the text of the last failure is per thread. */
#ifndef THROUGHLINE_ERROR_H
#define THROUGHLINE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TL_MUST_USE           __attribute__((warn_unused_result))
#define TL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define TL_CLEANUP(fn)        __attribute__((cleanup(fn)))
#else
#define TL_MUST_USE
#define TL_PRINTF(fmt, first)
#define TL_CLEANUP(fn)
#endif

/* X(name, value, retriable, text). Values are part of the wire protocol (the
 * `status` of a reply) and never change their meaning.
 * Retriable: the same call may succeed later without anybody changing it. */
#define TL_ERRORS(X)                                                                   \
    X(NOMEM, 1, true, "out of memory")                                                 \
    X(INVALID, 2, false, "invalid argument")                                           \
    X(CONFIG, 3, false, "configuration error")                                         \
    X(PARSE, 4, false, "cannot be parsed")                                             \
    X(IO, 5, true, "input/output error")                                               \
    X(NOTFOUND, 6, false, "not found")                                                 \
    X(EXISTS, 7, false, "exists already")                                              \
    X(CORRUPT, 8, false, "damaged data")                                               \
    X(CHECKSUM, 9, true, "checksum does not match")                                    \
    X(PROTOCOL, 10, false, "protocol violation")                                       \
    X(TOOBIG, 11, false, "larger than the declared maximum")                           \
    X(TIMEOUT, 12, true, "deadline passed")                                            \
    X(CLOSED, 13, true, "connection closed by peer")                                   \
    X(REFUSED, 14, true, "connection refused")                                         \
    X(BUSY, 15, true, "busy, try again")                                               \
    X(DUPLICATE, 16, false, "sequence folded before")                                  \
    X(STALE, 17, false, "older than the staleness bound")                              \
    X(LATE, 18, false, "the step has been committed without it")                       \
    X(SHAPE, 19, false, "wrong number of values")                                      \
    X(NONFINITE, 20, false, "NaN or infinity among the values")                        \
    X(FENCED, 21, false, "fenced: a newer epoch or incarnation has taken over")        \
    X(EPOCH, 22, true, "another epoch: join again")                                    \
    X(NOTJOINED, 23, true, "the worker has not joined")                                \
    X(ENDED, 24, false, "the job has ended")                                           \
    X(MISMATCH, 25, false, "belongs to another job or run")                            \
    X(DENIED, 26, false, "not allowed for this role")                                  \
    X(LIMIT, 27, true, "limit reached")                                                \
    X(UNAVAILABLE, 28, true, "not reachable")                                          \
    X(UNSUPPORTED, 29, false, "not supported")                                         \
    X(INTERRUPTED, 30, true, "interrupted")                                            \
    X(NOTMODIFIED, 31, true, "nothing newer")                                          \
    X(AUTH, 32, false, "does not prove to belong to this job")

enum tl_error {
#define TL_ERROR_ENUM(name, value, retriable, text) TL_E_##name = -(value),
    TL_ERRORS(TL_ERROR_ENUM)
#undef TL_ERROR_ENUM
};

/* The table's short name ("TIMEOUT") and text for `code`; "OK" for 0 and
 * "UNKNOWN" for a number that is not in the table. Never NULL. */
const char *tl_error_name(int code);
const char *tl_error_string(int code);

/* Whether the same call may succeed later. */
bool tl_error_retriable(int code);

/* Record what failed, where, and what to do, as one line without a newline, and
 * return `code`. Longer texts are cut at 511 bytes. */
int tl_fail(int code, const char *fmt, ...) TL_PRINTF(2, 3);

/* The text recorded by the last tl_fail() of this thread; "" when there was none.
 * Borrowed until the thread's next tl_fail(). */
const char *tl_error_text(void);

#ifdef __cplusplus
}
#endif
#endif
