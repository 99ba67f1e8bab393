/* process.h - what this process costs; inside base/ only. */
#ifndef TL_BASE_PROCESS_H
#define TL_BASE_PROCESS_H

#include <stdint.h>

uint64_t tl_process_descriptors(void);
/* Unix time at which the kernel started this process. */
double tl_process_start_seconds(void);

#endif
