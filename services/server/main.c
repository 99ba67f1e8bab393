/* main.c - tl-server: folds one shard, serves its weights. */
#include "throughline/shard.h"

int main(int argc, char **argv) {
    return tl_shard_main(TL_ROLE_SERVER, argc, argv);
}
