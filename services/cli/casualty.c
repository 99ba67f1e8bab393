/* casualty.c - what became of each scheduled kill. */
#include "casualty.h"

void tl_casualty_seen(struct tl_casualty *c, int64_t now_ms, bool counts,
                      uint64_t progress) {
    if (!c->restarted || c->recovered) {
        return;
    }
    if (!c->has_base) {
        c->has_base = true;
        c->base = progress;
    }
    if (!counts || progress > c->base) {
        c->recovered = true;
        c->recovered_ms = now_ms;
    }
}

double tl_casualty_down_seconds(const struct tl_casualty *c) {
    return c->restarted ? (double)(c->restarted_ms - c->killed_ms) / 1000 : -1;
}

double tl_casualty_recovery_seconds(const struct tl_casualty *c) {
    return c->recovered ? (double)(c->recovered_ms - c->killed_ms) / 1000 : -1;
}
