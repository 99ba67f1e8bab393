/* error.c - the error table's texts, and the last failure of each thread. */
#include "throughline/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_text[512];

const char *tl_error_name(int code) {
    switch (code) {
    case 0:
        return "OK";
#define CASE(name, value, retriable, text)                                             \
    case -(value):                                                                     \
        return #name;
        TL_ERRORS(CASE)
#undef CASE
    default:
        return "UNKNOWN";
    }
}

const char *tl_error_string(int code) {
    switch (code) {
    case 0:
        return "no error";
#define CASE(name, value, retriable, text)                                             \
    case -(value):                                                                     \
        return text;
        TL_ERRORS(CASE)
#undef CASE
    default:
        return "unknown error";
    }
}

bool tl_error_retriable(int code) {
#define OR_THIS(name, value, retriable, text) || (code == -(value) && (retriable))
    return false TL_ERRORS(OR_THIS);
#undef OR_THIS
}

/* The text is built apart from last_text: a caller that adds context passes
 * tl_error_text() as an argument. Foreign text (a peer's, a file's) must not break the
 * promise of one line. */
int tl_fail(int code, const char *fmt, ...) {
    char text[sizeof(last_text)];
    va_list args;
    va_start(args, fmt);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): a false alarm of clang 14 */
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            *c = ' ';
        }
    }
    memcpy(last_text, text, strlen(text) + 1);
    return code;
}

const char *tl_error_text(void) {
    return last_text;
}
