/* encode.c - gradients as they are sent, and what that leaves out.
 *
 * Error feedback: what an encoding leaves out of a batch is added to the next one, so
 * that it arrives later and not never. A batch may be pushed again, after a time-out or
 * computed anew: it is then encoded from the same residual again, and what it leaves
 * out counts once a later batch is pushed. */
#include "client_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOPK_FRACTION 0.01
#define TILE          2048u

/* ---- life --------------------------------------------------------------------- */

static int find_encoding(const char *name, enum tl_encoding *ret_encoding) {
    for (unsigned e = 0; e < TL_ENCODINGS; e++) {
        if (name == NULL || strcmp(name, tl_encoding_names[e]) == 0) {
            *ret_encoding = (enum tl_encoding)e;
            return 0;
        }
    }
    return tl_fail(TL_E_CONFIG,
                   "encoding: \"%.40s\" is not f32, f16, bf16, int8 or topk", name);
}

int client_encoder_init(struct client_encoder *e,
                        const struct tl_client_config *config) {
    e->fraction = config->topk_fraction != 0.0 ? config->topk_fraction : TOPK_FRACTION;
    if (!(e->fraction > 0.0 && e->fraction <= 0.5)) {
        return tl_fail(TL_E_CONFIG, "topk_fraction: %g is not above 0, up to 0.5",
                       e->fraction);
    }
    return find_encoding(config->encoding, &e->encoding);
}

static uint64_t slice_bytes(const struct client_encoder *e, uint64_t count) {
    return tl_codec_size(e->encoding, count, tl_codec_topk_count(count, e->fraction));
}

int client_encoder_reserve(struct tl_client *c) {
    struct client_encoder *e = &c->encoder;
    if (e->encoding == TL_ENCODING_F32 || e->bytes != NULL) {
        return 0;
    }
    uint64_t bytes = 0;
    for (uint32_t s = 0; s < c->shard_count; s++) {
        bytes += slice_bytes(e, c->shards[s].count);
    }
    e->residual = calloc(c->parameters, sizeof(*e->residual));
    e->next = calloc(c->parameters, sizeof(*e->next));
    assert(bytes > 0); /* there is a shard, and it has a parameter */
    e->bytes = malloc(bytes);
    if (e->residual == NULL || e->next == NULL || e->bytes == NULL) {
        client_encoder_done(e);
        return tl_fail(TL_E_NOMEM,
                       "client: no memory for what %" PRIu64
                       " parameters leave out when they are encoded",
                       c->parameters);
    }
    return 0;
}

void client_encoder_done(struct client_encoder *e) {
    free(e->residual);
    free(e->next);
    free(e->bytes);
    e->residual = NULL;
    e->next = NULL;
    e->bytes = NULL;
}

/* ---- a gradient --------------------------------------------------------------- */

/* A later batch: what the last one left out is left for this one. */
static void settle(struct client_encoder *e, uint64_t sequence) {
    if (sequence != e->sequence) {
        float *settled = e->next;
        e->next = e->residual;
        e->residual = settled;
        e->sequence = sequence;
    }
}

static void add(float *sum, const float *a, const float *b, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        sum[i] = a[i] + b[i];
    }
}

/* What is not a number is sent, refused or not, and kept out of later gradients. */
static void take_away(float *values, const float *sent, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float rest = values[i] - sent[i];
        values[i] = isfinite(rest) ? rest : 0.0f;
    }
}

static void take_away_encoded(float *values, const struct tl_encoded *sent) {
    float tile[TILE];
    for (uint64_t at = 0; at < sent->count; at += TILE) {
        size_t n = sent->count - at < TILE ? (size_t)(sent->count - at) : TILE;
        tl_codec_decode(sent, at, n, tile);
        take_away(values + at, tile, n);
    }
}

static void encode_slice(const struct client_encoder *e, struct client_shard *shard,
                         const float *gradient, uint8_t *bytes) {
    const uint64_t count = shard->count;
    float *values = e->next + shard->first;
    add(values, gradient, e->residual + shard->first, count);
    tl_codec_encode(e->encoding, values, count, tl_codec_topk_count(count, e->fraction),
                    bytes);
    shard->gradient.bytes = bytes;
    take_away_encoded(values, &shard->gradient);
}

void client_encode(struct tl_client *c, uint64_t sequence, const float *gradient) {
    struct client_encoder *e = &c->encoder;
    uint8_t *bytes = e->bytes;
    settle(e, sequence);
    for (uint32_t s = 0; s < c->shard_count; s++) {
        struct client_shard *shard = &c->shards[s];
        const float *slice = gradient + shard->first;
        shard->gradient = (struct tl_encoded){.encoding = e->encoding,
                                              .bytes = slice,
                                              .size = slice_bytes(e, shard->count),
                                              .count = shard->count};
        if (e->encoding != TL_ENCODING_F32) {
            encode_slice(e, shard, slice, bytes);
            bytes += shard->gradient.size;
        }
    }
}
