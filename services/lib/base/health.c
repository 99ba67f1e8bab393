/* health.c - the heartbeat and the readiness that the main thread leaves for others. */
#include "health.h"

#include "throughline/service.h"

#include <stdatomic.h>

static _Atomic int64_t beat_ms;
static const char *_Atomic why_not = "starting";

void tl_health_beat(void) {
    atomic_store(&beat_ms, tl_now_ms());
}

void tl_health_ready(const char *reason) {
    atomic_store(&why_not, reason);
}

int64_t tl_health_age_ms(void) {
    return tl_now_ms() - atomic_load(&beat_ms);
}

const char *tl_health_why_not(void) {
    return atomic_load(&why_not);
}
