/* exit_code.c - which exit code an error deserves: what a supervisor should do next. */
#include "throughline/service.h"

int tl_exit_code(int error) {
    switch (error) {
    case 0:
    case TL_E_ENDED:
        return TL_EXIT_OK;
    case TL_E_CONFIG:
    case TL_E_MISMATCH:
    case TL_E_AUTH:
    case TL_E_UNSUPPORTED:
        return TL_EXIT_CONFIG;
    case TL_E_FENCED:
        return TL_EXIT_FENCED;
    case TL_E_TIMEOUT:
        return TL_EXIT_TIMEOUT;
    default:
        return TL_EXIT_FAILED;
    }
}
