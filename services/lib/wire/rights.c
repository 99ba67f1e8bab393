/* rights.c - the one table of who may ask what.
 *
 * A new kind of request is nobody's until it has a row here. */
#include "throughline/auth.h"

#define R(role) (1u << TL_ROLE_##role)
#define ANYBODY                                                                        \
    (R(SERVER) | R(REPLICA) | R(WORKER) | R(CHECKPOINTER) | R(MONITOR) | R(CLI))

static const unsigned roles[UINT8_MAX + 1] = {
    [TL_KIND_HELLO] = ANYBODY,
    [TL_KIND_PROOF] = ANYBODY,
    [TL_KIND_PING] = ANYBODY,
    [TL_KIND_JOIN] = R(WORKER),
    [TL_KIND_LEAVE] = R(WORKER),
    [TL_KIND_PUSH] = R(WORKER),
    [TL_KIND_PUSH_PULL] = R(WORKER),
    [TL_KIND_SHARE] = R(WORKER),
    [TL_KIND_PULL] = R(WORKER) | R(MONITOR) | R(CLI),
    [TL_KIND_SNAPSHOT] = R(CHECKPOINTER),
    [TL_KIND_RATE] = R(CLI),
};

bool tl_role_may(enum tl_role role, uint8_t kind) {
    return role >= TL_ROLE_SERVER && role <= TL_ROLE_CLI &&
           (roles[kind] & (1u << role)) != 0;
}
