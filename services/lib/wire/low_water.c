/* low_water.c - how much of a payload must be there before it is worth waking up. */
#include "throughline/wire.h"

#include <sys/socket.h>

/* For less than this the call costs more than the wake-ups that it saves. */
#define WORTH_BYTES (64 << 10)

/* The kernel bounds it by its receive buffer, and speaks up when that is full or the
 * connection ends; failing to set it costs speed, not correctness. */
void tl_low_water(int socket, uint64_t left, int *level) {
    int wanted = left < TL_PIECE_BYTES ? (int)left : (int)TL_PIECE_BYTES;
    wanted = wanted > 0 ? wanted : 1;
    bool is_worth_it = wanted < *level || wanted >= WORTH_BYTES;
    if (wanted == *level || !is_worth_it) {
        return;
    }
    if (setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) == 0) {
        *level = wanted;
    }
}
