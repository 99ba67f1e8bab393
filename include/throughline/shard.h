/* shard.h - a program that holds one shard, from its arguments to its exit code.
 *
 * Path:   nn -> wire -> log -> fold -> chain, snapshot, serve: all of it from the log
 * on Thread: the main thread, which becomes the shard's loop.
 *
 * tl-server and tl-replica are this, each under its own name. Both read the same job,
 * recover or begin a state, serve it, announce themselves and wind down alike. What
 * differs is where the records come from: a server gives them their order itself
 * (strategies none, checkpoint) or reads a durable log (stateless); a replica is one of
 * a chain (chain), or reads a durable log beside others, of which one serves (hybrid).
 */
#ifndef THROUGHLINE_SHARD_H
#define THROUGHLINE_SHARD_H

#include "throughline/wire.h"

/* `role`: TL_ROLE_SERVER or TL_ROLE_REPLICA. Returns the exit code (service.h). */
int tl_shard_main(enum tl_role role, int argc, char **argv);

#endif
