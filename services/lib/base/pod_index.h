/* pod_index.h - the default of the option "index"; inside base/ only. */
#ifndef TL_BASE_POD_INDEX_H
#define TL_BASE_POD_INDEX_H

#include "throughline/error.h"

#include <stdint.h>

/* JOB_COMPLETION_INDEX (an Indexed Job); else, on Kubernetes, the number after the last
 * dash of HOSTNAME (a StatefulSet); else 0. TL_E_CONFIG  the former is no number */
TL_MUST_USE int tl_pod_index(uint32_t *ret_index);

#endif
