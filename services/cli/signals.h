/* signals.h - the signals of a program that minds other processes, as a descriptor. */
#ifndef THROUGHLINE_CLI_SIGNALS_H
#define THROUGHLINE_CLI_SIGNALS_H

#include "throughline/error.h"

struct tl_signals {
    int fd;             /* poll it: readable when a signal has come */
    unsigned int stops; /* how often SIGINT, SIGTERM or SIGHUP came */
    int first_stop;     /* the first of them, 0: none */
};

/* Take SIGCHLD and the stop signals; before any thread is started. */
TL_MUST_USE int tl_signals_open(struct tl_signals *ret_signals);
/* Count what has come; does not wait. */
void tl_signals_read(struct tl_signals *s);
void tl_signals_close(struct tl_signals *s);

#endif
