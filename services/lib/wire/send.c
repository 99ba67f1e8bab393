/* send.c - a request's bytes out: header, payload, trailer, in as few calls as
 * possible.
 *
 * A piece of the payload is hashed right before the kernel copies it, so it is read
 * from memory once; and while the next piece is hashed here, the peer works on this
 * one. With shared memory a payload is put there, and the header is all that is sent.
 */
#include "link.h"

#include <string.h>

/* Gradients, if there is shared memory with room for them. */
static bool goes_through_memory(const struct tl_link *l) {
    uint8_t kind = l->request.kind;
    return l->shared.bytes != NULL && l->request.length <= l->shared.area &&
           (kind == TL_KIND_PUSH || kind == TL_KIND_PUSH_PULL);
}

void link_send_start(struct tl_link *l, bool checksum) {
    l->request.flags &= (uint16_t)~TL_FLAG_SHARED;
    if (goes_through_memory(l)) {
        memcpy(tl_shared_request(&l->shared), l->payload, l->request.length);
        l->request.flags |= TL_FLAG_SHARED;
    }
    const uint64_t length =
        (l->request.flags & TL_FLAG_SHARED) != 0 ? 0 : l->request.length;
    l->streamed = length;
    if (length > 0 && checksum) {
        l->request.flags |= TL_FLAG_CHECKSUM;
    } else {
        l->request.flags &= (uint16_t)~TL_FLAG_CHECKSUM;
        checksum = false;
    }
    tl_header_encode(&l->request, l->out.head);
    tl_sum_start(l->sum, l->request.checksum);
    l->hashed = 0;
    l->out.moved = 0;
    l->out.bytes = TL_HEADER_BYTES + length + (checksum ? TL_TRAILER_BYTES : 0);
}

bool link_send_is_done(const struct tl_link *l) {
    return l->out.moved == l->out.bytes;
}

static bool has_trailer(const struct tl_link *l) {
    return (l->request.flags & TL_FLAG_CHECKSUM) != 0;
}

/* Once what was hashed is sent, make the next piece of the payload ready, and the
 * trailer with the last one. A payload without a checksum is one piece. */
static void hash_ahead(struct tl_link *l) {
    const uint64_t length = l->streamed;
    bool is_sent = l->hashed == 0 || l->out.moved == TL_HEADER_BYTES + l->hashed;
    if (l->hashed == length || !is_sent) {
        return;
    }
    if (!has_trailer(l)) {
        l->hashed = length;
        return;
    }
    uint64_t left = length - l->hashed;
    uint64_t piece = left < TL_PIECE_BYTES ? left : TL_PIECE_BYTES;
    tl_sum_feed(l->sum, l->payload + l->hashed, piece);
    l->hashed += piece;
    if (l->hashed == length) {
        tl_trailer_encode(tl_sum_value(l->sum), l->out.tail);
    }
}

static void add_range(struct iovec *iov, int *count, const uint8_t *from,
                      uint64_t size) {
    if (size > 0) {
        iov[(*count)++] = (struct iovec){.iov_base = (void *)from, .iov_len = size};
    }
}

/* What can go out now, from where the last call stopped. */
static int ranges_to_send(const struct tl_link *l, struct iovec iov[3]) {
    const uint64_t moved = l->out.moved;
    const uint64_t length = l->streamed;
    int count = 0;
    if (moved < TL_HEADER_BYTES) {
        add_range(iov, &count, l->out.head + moved, TL_HEADER_BYTES - moved);
    }
    uint64_t at = moved > TL_HEADER_BYTES ? moved - TL_HEADER_BYTES : 0;
    if (at < l->hashed) {
        add_range(iov, &count, l->payload + at, l->hashed - at);
    }
    if (has_trailer(l) && l->hashed == length) {
        uint64_t from = at > length ? at - length : 0;
        add_range(iov, &count, l->out.tail + from, TL_TRAILER_BYTES - from);
    }
    return count;
}

int link_send(struct tl_link *l) {
    while (!link_send_is_done(l)) {
        hash_ahead(l);
        struct iovec iov[3];
        uint64_t sent = 0;
        int rc = link_stream_send(l, iov, (size_t)ranges_to_send(l, iov), &sent);
        if (rc != 0) {
            return rc;
        }
        l->out.moved += sent;
    }
    return link_stream_flush(l);
}
