/* scratch.h - a private directory for one run's sockets. */
#ifndef THROUGHLINE_CLI_SCRATCH_H
#define THROUGHLINE_CLI_SCRATCH_H

#include "throughline/error.h"

/* A socket's path must fit in sockaddr_un: 107 bytes and a NUL. */
#define TL_SCRATCH_MAX 80u

struct tl_scratch {
    char path[TL_SCRATCH_MAX];
    int lock; /* descriptor of the directory, locked as long as the run lives */
};

/* Make one under $XDG_RUNTIME_DIR, else /tmp, and remove what killed runs left there.
 *   TL_E_IO  nowhere possible; the text names the directory */
TL_MUST_USE int tl_scratch_make(struct tl_scratch *ret_scratch);
void tl_scratch_remove(struct tl_scratch *s); /* once more is legal */

#endif
