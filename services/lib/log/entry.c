/* entry.c - records as a log's entries, and back.
 *
 * An entry is a frame like those on a connection. A gradient that is larger than an
 * entry may be goes in parts; what becomes of them is decided by the entries' order
 * alone, so that every reader of a log sees the same records at the same positions. */
#include "../wire/bytes.h"
#include "durable.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PART_HEAD  16u /* offset and size of the whole */
#define FRAME_REST (TL_HEADER_BYTES + TL_TRAILER_BYTES)

/* ---- records as entries ---------------------------------------------------------- */

static uint64_t part_room(uint64_t max_entry_bytes) {
    return (max_entry_bytes - FRAME_REST - PART_HEAD) / sizeof(float) * sizeof(float);
}

uint64_t entry_parts(uint64_t max_entry_bytes, uint64_t payload_bytes) {
    if (payload_bytes + FRAME_REST <= max_entry_bytes) {
        return 1;
    }
    uint64_t room = part_room(max_entry_bytes);
    return (payload_bytes + room - 1) / room;
}

/* Twice what it takes when all workers' parts take turns. */
uint64_t entry_span(uint64_t parts, uint32_t workers) {
    return parts > 1 ? 2 * parts * workers + 16 : 0;
}

/* Header and trailer around a payload that is in place already. */
static void seal(struct tl_header *h, uint8_t *frame) {
    h->flags |= h->length > 0 ? TL_FLAG_CHECKSUM : 0;
    tl_header_encode(h, frame);
    if (h->length > 0) {
        uint8_t *payload = frame + TL_HEADER_BYTES;
        tl_trailer_encode(tl_sum_of(h->checksum, payload, h->length),
                          payload + h->length);
    }
}

uint8_t *entry_encode(const struct entry_rules *rules, const struct tl_header *record,
                      const void *payload, uint64_t part, uint64_t parts,
                      size_t *ret_size) {
    struct tl_header h = *record;
    uint64_t offset = 0;
    uint64_t size = record->length;
    size_t head = 0;
    if (parts > 1) {
        uint64_t room = part_room(rules->max_entry_bytes);
        offset = part * room;
        size = record->length - offset < room ? record->length - offset : room;
        head = PART_HEAD;
        h.kind = TL_KIND_PART;
    }
    h.shard = rules->shard;
    h.epoch = rules->identity;
    h.length = head + size;
    *ret_size = TL_HEADER_BYTES + h.length + (h.length > 0 ? TL_TRAILER_BYTES : 0);
    uint8_t *frame = malloc(*ret_size);
    if (frame == NULL) {
        return NULL;
    }
    if (head > 0) {
        put_u64(frame + TL_HEADER_BYTES, offset);
        put_u64(frame + TL_HEADER_BYTES + 8, record->length);
    }
    if (size > 0) {
        memcpy(frame + TL_HEADER_BYTES + head, (const uint8_t *)payload + offset, size);
    }
    seal(&h, frame);
    return frame;
}

/* ---- entries as records ---------------------------------------------------------- */

/* A record in parts that has begun. */
struct open_record {
    uint64_t began; /* position of its first part; 0: none is open */
    struct tl_header header;
    uint64_t total, have;
    uint8_t *bytes;
};

struct assembly {
    struct entry_rules rules;
    uint8_t *aligned; /* a payload moved to where floats may lie */
    size_t aligned_size;
    uint8_t *handed_out; /* the record that was completed last */
    struct open_record open[TL_WORKER_LIMIT];
};

int assembly_new(const struct entry_rules *rules, struct assembly **ret) {
    struct assembly *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return tl_fail(TL_E_NOMEM, "log: out of memory");
    }
    a->rules = *rules;
    *ret = a;
    return 0;
}

static void drop(struct open_record *o) {
    free(o->bytes);
    *o = (struct open_record){0};
}

void assembly_free(struct assembly *a) {
    if (a == NULL) {
        return;
    }
    for (uint32_t w = 0; w < TL_WORKER_LIMIT; w++) {
        drop(&a->open[w]);
    }
    free(a->aligned);
    free(a->handed_out);
    free(a);
}

static int bad(int code, const struct assembly *a, uint64_t position,
               const char *what) {
    return tl_fail(
        code,
        "log of shard %" PRIu32 ": the entry at position %" PRIu64
        " %s; nothing after it can be used: bring the log back as it was, or "
        "start a new run from its newest checkpoint",
        a->rules.shard, position, what);
}

/* The frame as a whole: intact, ours, of this run and shard. */
static int check_frame(struct assembly *a, uint64_t position, const uint8_t *bytes,
                       size_t size, struct tl_header *ret_header) {
    if (size < TL_HEADER_BYTES) {
        return bad(TL_E_MISMATCH, a, position, "is no frame of ours");
    }
    int rc = tl_header_decode(bytes, size, ret_header);
    if (rc != 0) {
        bool is_ours = get_u32(bytes) == TL_MAGIC;
        return bad(is_ours ? TL_E_CORRUPT : TL_E_MISMATCH, a, position,
                   is_ours ? "is damaged (its header)" : "is no frame of ours");
    }
    const struct tl_header *h = ret_header;
    size_t rest = h->length > 0 ? TL_TRAILER_BYTES : 0;
    if (size != TL_HEADER_BYTES + h->length + rest) {
        return bad(TL_E_CORRUPT, a, position, "is damaged (its length)");
    }
    if (h->epoch != a->rules.identity || h->shard != a->rules.shard) {
        return bad(TL_E_MISMATCH, a, position, "is of another job, run or shard");
    }
    const uint8_t *payload = bytes + TL_HEADER_BYTES;
    if (h->length > 0 && tl_sum_of(h->checksum, payload, h->length) !=
                             tl_trailer_decode(payload + h->length)) {
        return bad(TL_E_CORRUPT, a, position, "is damaged (its payload)");
    }
    return h->worker < TL_WORKER_LIMIT
               ? 0
               : bad(TL_E_MISMATCH, a, position, "names an impossible worker");
}

/* The payload where a float may lie. */
static int align(struct assembly *a, const uint8_t **payload, size_t size) {
    if ((uintptr_t)*payload % sizeof(float) == 0) {
        return 0;
    }
    if (a->aligned_size < size) {
        uint8_t *grown = realloc(a->aligned, size);
        if (grown == NULL) {
            return tl_fail(TL_E_NOMEM, "log: no memory for a record of %zu bytes",
                           size);
        }
        a->aligned = grown;
        a->aligned_size = size;
    }
    memcpy(a->aligned, *payload, size);
    *payload = a->aligned;
    return 0;
}

static int gradient(struct assembly *a, uint64_t position, const struct tl_header *h,
                    const uint8_t *payload, struct tl_record *ret_record) {
    enum tl_encoding encoding = (enum tl_encoding)h->encoding;
    if (tl_codec_check_size(encoding, a->rules.count, h->length) != 0) {
        return bad(TL_E_MISMATCH, a, position, "is a gradient of another size");
    }
    int rc = encoding == TL_ENCODING_F32 ? align(a, &payload, h->length) : 0;
    ret_record->kind = TL_RECORD_GRADIENT;
    ret_record->encoding = encoding;
    ret_record->values = payload;
    ret_record->value_count = a->rules.count;
    ret_record->value_bytes = h->length;
    return rc;
}

static double double_of(const uint8_t bytes[8]) {
    uint64_t bits = get_u64(bytes);
    double d = 0.0;
    memcpy(&d, &bits, sizeof(d));
    return d;
}

static int record_of(struct assembly *a, uint64_t position, const struct tl_header *h,
                     const uint8_t *payload, struct tl_record *ret_record) {
    *ret_record = (struct tl_record){
        .shard = h->shard,
        .worker = h->worker,
        .incarnation = h->incarnation,
        .sequence = h->sequence,
        .read_version = h->read_version,
        .step = h->position,
        .norm = h->norm,
    };
    bool has_payload = h->length != 0;
    switch (h->kind) {
    case TL_KIND_PUSH:
        return gradient(a, position, h, payload, ret_record);
    case TL_KIND_JOIN:
        ret_record->kind = TL_RECORD_JOIN;
        break;
    case TL_KIND_LEAVE:
        ret_record->kind = TL_RECORD_LEAVE;
        break;
    case TL_KIND_RATE:
        ret_record->kind = TL_RECORD_RATE;
        has_payload = h->length != sizeof(double);
        ret_record->rate = has_payload ? 0.0 : double_of(payload);
        break;
    default:
        return bad(TL_E_MISMATCH, a, position, "is a frame that no log holds");
    }
    return has_payload ? bad(TL_E_MISMATCH, a, position, "has an impossible size") : 0;
}

/* ---- parts ----------------------------------------------------------------------- */

/* As bits: NaN is what it is. */
static bool is_same_norm(float a, float b) {
    uint32_t bits[2];
    memcpy(&bits[0], &a, sizeof(a));
    memcpy(&bits[1], &b, sizeof(b));
    return bits[0] == bits[1];
}

static bool continues(const struct open_record *o, const struct tl_header *h,
                      uint64_t offset, uint64_t total) {
    return o->began != 0 && o->header.incarnation == h->incarnation &&
           o->header.sequence == h->sequence && is_same_norm(o->header.norm, h->norm) &&
           o->header.encoding == h->encoding &&
           o->header.read_version == h->read_version && o->total == total &&
           o->have == offset;
}

static int begin(struct assembly *a, struct open_record *o, uint64_t position,
                 const struct tl_header *h, uint64_t total) {
    drop(o); /* what its worker had begun before will not be completed */
    o->bytes = malloc(total);
    if (o->bytes == NULL) {
        return tl_fail(TL_E_NOMEM, "log of shard %" PRIu32 ": no memory for a record",
                       a->rules.shard);
    }
    o->began = position;
    o->header = *h;
    o->total = total;
    return 0;
}

/* The whole as the one frame that it would have been. */
static int complete(struct assembly *a, struct open_record *o, uint64_t position,
                    struct tl_reader_item *ret_item) {
    struct tl_header whole = o->header;
    whole.kind = TL_KIND_PUSH;
    whole.length = o->total;
    free(a->handed_out);
    a->handed_out = o->bytes;
    o->bytes = NULL;
    drop(o);
    ret_item->has_record = true;
    return record_of(a, position, &whole, a->handed_out, &ret_item->record);
}

static int take_part(struct assembly *a, uint64_t position, const struct tl_header *h,
                     const uint8_t *payload, struct tl_reader_item *ret_item) {
    if (h->length <= PART_HEAD) {
        return bad(TL_E_MISMATCH, a, position, "is a part of nothing");
    }
    uint64_t offset = get_u64(payload);
    uint64_t total = get_u64(payload + 8);
    uint64_t size = h->length - PART_HEAD;
    uint64_t most = tl_codec_size_max((enum tl_encoding)h->encoding, a->rules.count);
    if (total > most || offset > total || size > total - offset) {
        return bad(TL_E_MISMATCH, a, position, "is a part of an impossible record");
    }
    struct open_record *o = &a->open[h->worker];
    int rc = offset == 0 ? begin(a, o, position, h, total) : 0;
    if (rc != 0 || !continues(o, h, offset, total)) {
        return rc;
    }
    if (position - o->began >= a->rules.span) {
        drop(o);
        return 0;
    }
    memcpy(o->bytes + offset, payload + PART_HEAD, size);
    o->have += size;
    return o->have == total ? complete(a, o, position, ret_item) : 0;
}

int assembly_take(struct assembly *a, uint64_t position, const uint8_t *bytes,
                  size_t size, struct tl_reader_item *ret_item) {
    struct tl_header h = {0};
    int rc = check_frame(a, position, bytes, size, &h);
    if (rc != 0) {
        return rc;
    }
    *ret_item = (struct tl_reader_item){.position = position, .bytes = size};
    const uint8_t *payload = bytes + TL_HEADER_BYTES;
    if (h.kind == TL_KIND_PART) {
        return take_part(a, position, &h, payload, ret_item);
    }
    ret_item->has_record = true;
    return record_of(a, position, &h, payload, &ret_item->record);
}
