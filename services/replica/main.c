/* main.c - tl-replica: one of several that hold the same shard. */
#include "throughline/shard.h"

int main(int argc, char **argv) {
    return tl_shard_main(TL_ROLE_REPLICA, argc, argv);
}
