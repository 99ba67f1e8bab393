/* frame.c - a frame's header and trailer as bytes, and the payload's running checksum.
 *
 * The header carries its own checksum, so that nothing in it, its length least of all,
 * is believed before it is known to be whole. Its size, and the places of magic,
 * version and checksum, are the same in every version of the protocol: a stranger of
 * another version is recognised, and not taken for damage. */
#include "throughline/wire.h"

#include "bytes.h"
#include "xxh3.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 6,
    AT_ENCODING = 7,
    AT_FLAGS = 8,
    AT_RESERVED16 = 10,
    AT_SHARD = 12,
    AT_WORKER = 16,
    AT_STATUS = 20,
    AT_NORM = 24,
    AT_RESERVED32 = 28,
    AT_EPOCH = 32,
    AT_INCARNATION = 40,
    AT_SEQUENCE = 48,
    AT_READ_VERSION = 56,
    AT_POSITION = 64,
    AT_LENGTH = 72,
    AT_CHECKSUM = 80,
};

#define KNOWN_FLAGS                                                                    \
    (TL_FLAG_CHECKSUM | TL_FLAG_WAIT | TL_FLAG_ENDED | TL_FLAG_SHARED | TL_FLAG_READS)

_Static_assert(AT_CHECKSUM + sizeof(uint64_t) == TL_HEADER_BYTES, "header layout");

static uint64_t header_checksum(const uint8_t buf[TL_HEADER_BYTES]) {
    return XXH3_64bits(buf, AT_CHECKSUM);
}

void tl_header_encode(struct tl_header *header, uint8_t buf[TL_HEADER_BYTES]) {
    uint32_t norm = 0;
    memcpy(&norm, &header->norm, sizeof(norm));
    memset(buf, 0, TL_HEADER_BYTES);
    put_u32(buf + AT_MAGIC, TL_MAGIC);
    put_u16(buf + AT_VERSION, TL_PROTOCOL_VERSION);
    buf[AT_KIND] = header->kind;
    buf[AT_ENCODING] = header->encoding;
    put_u16(buf + AT_FLAGS, header->flags);
    put_u32(buf + AT_SHARD, header->shard);
    put_u32(buf + AT_WORKER, header->worker);
    put_u32(buf + AT_STATUS, (uint32_t)header->status);
    put_u32(buf + AT_NORM, norm);
    put_u64(buf + AT_EPOCH, header->epoch);
    put_u64(buf + AT_INCARNATION, header->incarnation);
    put_u64(buf + AT_SEQUENCE, header->sequence);
    put_u64(buf + AT_READ_VERSION, header->read_version);
    put_u64(buf + AT_POSITION, header->position);
    put_u64(buf + AT_LENGTH, header->length);
    header->checksum = header_checksum(buf);
    put_u64(buf + AT_CHECKSUM, header->checksum);
}

static bool kind_is_known(uint8_t kind) {
    switch ((enum tl_kind)kind) {
    case TL_KIND_HELLO:
    case TL_KIND_WELCOME:
    case TL_KIND_JOIN:
    case TL_KIND_JOINED:
    case TL_KIND_LEAVE:
    case TL_KIND_LEFT:
    case TL_KIND_PUSH:
    case TL_KIND_ACK:
    case TL_KIND_PULL:
    case TL_KIND_WEIGHTS:
    case TL_KIND_PUSH_PULL:
    case TL_KIND_SNAPSHOT:
    case TL_KIND_STATE:
    case TL_KIND_RATE:
    case TL_KIND_RATED:
    case TL_KIND_PING:
    case TL_KIND_PONG:
    case TL_KIND_PART:
    case TL_KIND_ERROR:
    case TL_KIND_SHARE:
    case TL_KIND_SHARED:
    case TL_KIND_PROOF:
    case TL_KIND_CHALLENGE:
    case TL_KIND_CHAIN:
        return true;
    }
    return false;
}

/* Is this a whole header of this protocol? */
static int check_identity(const uint8_t buf[TL_HEADER_BYTES]) {
    bool is_frame = get_u32(buf + AT_MAGIC) == TL_MAGIC;
    if (get_u64(buf + AT_CHECKSUM) != header_checksum(buf)) {
        return tl_fail(TL_E_CHECKSUM,
                       is_frame
                           ? "frame: the header does not match its checksum"
                           : "frame: damaged, or the peer speaks another protocol");
    }
    if (!is_frame) {
        return tl_fail(TL_E_PROTOCOL, "frame: the header has another magic number");
    }
    uint16_t version = get_u16(buf + AT_VERSION);
    if (version != TL_PROTOCOL_VERSION) {
        return tl_fail(TL_E_PROTOCOL,
                       "frame: the peer speaks protocol version %u, this program %u",
                       version, TL_PROTOCOL_VERSION);
    }
    return 0;
}

/* Only gradients have a choice. */
static bool encoding_is_possible(uint8_t kind, uint8_t encoding) {
    bool is_gradient =
        kind == TL_KIND_PUSH || kind == TL_KIND_PUSH_PULL || kind == TL_KIND_PART;
    return encoding < (is_gradient ? TL_ENCODINGS : 1u);
}

/* Does it say nothing that this version cannot mean? */
static int check_meaning(const uint8_t buf[TL_HEADER_BYTES]) {
    if (!kind_is_known(buf[AT_KIND])) {
        return tl_fail(TL_E_PROTOCOL, "frame: kind %u is not known", buf[AT_KIND]);
    }
    if (!encoding_is_possible(buf[AT_KIND], buf[AT_ENCODING])) {
        return tl_fail(TL_E_PROTOCOL, "frame: encoding %u is not known for kind %u",
                       buf[AT_ENCODING], buf[AT_KIND]);
    }
    if (get_u16(buf + AT_RESERVED16) != 0 || get_u32(buf + AT_RESERVED32) != 0 ||
        (get_u16(buf + AT_FLAGS) & ~KNOWN_FLAGS) != 0) {
        return tl_fail(TL_E_PROTOCOL, "frame: reserved bits of the header are set");
    }
    return 0;
}

static struct tl_header read_fields(const uint8_t buf[TL_HEADER_BYTES]) {
    uint32_t norm = get_u32(buf + AT_NORM);
    struct tl_header h = {
        .kind = buf[AT_KIND],
        .encoding = buf[AT_ENCODING],
        .flags = get_u16(buf + AT_FLAGS),
        .shard = get_u32(buf + AT_SHARD),
        .worker = get_u32(buf + AT_WORKER),
        .status = (int32_t)get_u32(buf + AT_STATUS),
        .epoch = get_u64(buf + AT_EPOCH),
        .incarnation = get_u64(buf + AT_INCARNATION),
        .sequence = get_u64(buf + AT_SEQUENCE),
        .read_version = get_u64(buf + AT_READ_VERSION),
        .position = get_u64(buf + AT_POSITION),
        .length = get_u64(buf + AT_LENGTH),
        .checksum = get_u64(buf + AT_CHECKSUM),
    };
    memcpy(&h.norm, &norm, sizeof(norm));
    return h;
}

int tl_header_decode(const uint8_t buf[TL_HEADER_BYTES], uint64_t max_length,
                     struct tl_header *ret_header) {
    int rc = check_identity(buf);
    if (rc == 0) {
        rc = check_meaning(buf);
    }
    if (rc != 0) {
        return rc;
    }
    struct tl_header h = read_fields(buf);
    if (h.length > max_length) {
        return tl_fail(TL_E_TOOBIG,
                       "frame: a payload of %" PRIu64 " bytes where at most %" PRIu64
                       " are expected",
                       h.length, max_length);
    }
    *ret_header = h;
    return 0;
}

/* ---- payload checksum ------------------------------------------------------------ */

/* The library allocates the state: it has an alignment that malloc() may not give. */
struct tl_sum {
    XXH3_state_t *state;
};

int tl_sum_new(struct tl_sum **ret_sum) {
    struct tl_sum *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->state = XXH3_createState()) == NULL) {
        free(s);
        return tl_fail(TL_E_NOMEM, "frame: no memory for a checksum");
    }
    tl_sum_start(s, 0);
    *ret_sum = s;
    return 0;
}

void tl_sum_free(struct tl_sum *s) {
    if (s != NULL) {
        (void)XXH3_freeState(s->state);
        free(s);
    }
}

void tl_sum_start(struct tl_sum *s, uint64_t header_checksum) {
    (void)XXH3_64bits_reset_withSeed(s->state, header_checksum);
}

void tl_sum_feed(struct tl_sum *s, const void *bytes, size_t size) {
    (void)XXH3_64bits_update(s->state, bytes, size);
}

uint64_t tl_sum_value(const struct tl_sum *s) {
    return XXH3_64bits_digest(s->state);
}

uint64_t tl_sum_of(uint64_t header_checksum, const void *bytes, size_t size) {
    return XXH3_64bits_withSeed(bytes, size, header_checksum);
}

void tl_trailer_encode(uint64_t sum, uint8_t buf[TL_TRAILER_BYTES]) {
    put_u64(buf, sum);
}

uint64_t tl_trailer_decode(const uint8_t buf[TL_TRAILER_BYTES]) {
    return get_u64(buf);
}
