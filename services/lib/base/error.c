/* error.c - the error table's texts, and the last failure of each thread. */
#include "throughline/error.h"

#include <stdarg.h>
#include <stdio.h>

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
    switch (code) {
#define CASE(name, value, retriable, text)                                             \
    case -(value):                                                                     \
        return retriable;
        TL_ERRORS(CASE)
#undef CASE
    default:
        return false;
    }
}

int tl_fail(int code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(last_text, sizeof(last_text), fmt, args);
    va_end(args);
    return code;
}

const char *tl_error_text(void) {
    return last_text;
}
