/* health.h - what /healthz and /readyz say; inside base/ only. */
#ifndef TL_BASE_HEALTH_H
#define TL_BASE_HEALTH_H

#include <stdint.h>

/* How long ago the main loop turned. */
int64_t tl_health_age_ms(void);
/* NULL when ready. */
const char *tl_health_why_not(void);

#endif
