/* signals.c - signals as a descriptor, so that the one loop of a run waits for
 * children, for the user and for sockets in one place, and a second Ctrl-C can be told
 * from the first. */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

int tl_signals_open(struct tl_signals *ret_signals) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
        sigaction(SIGPIPE, &ignore, NULL) != 0) {
        return tl_fail(TL_E_IO, "signals cannot be taken: %s", strerror(errno));
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return tl_fail(TL_E_IO, "signalfd: %s", strerror(errno));
    }
    *ret_signals = (struct tl_signals){.fd = fd};
    return 0;
}

void tl_signals_read(struct tl_signals *s) {
    struct signalfd_siginfo info;
    while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            continue; /* who has ended is found out by asking for each */
        }
        s->stops++;
        if (s->first_stop == 0) {
            s->first_stop = (int)info.ssi_signo;
        }
    }
}

void tl_signals_close(struct tl_signals *s) {
    if (s->fd >= 0) {
        (void)close(s->fd);
        s->fd = -1;
    }
}
