/* codec.c - a state's bytes through zstd, or past it, in bounded memory. */
#include "snapshot_internal.h"

#include <stdlib.h>
#include <zstd.h>

struct tl_codec {
    enum tl_codec_kind kind;
    struct tl_sink sink;
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
    bool frame_complete;
    size_t buffer_size;
    unsigned char *buffer; /* what zstd produced, on its way to the sink */
};

static int start_zstd(struct tl_codec *c, uint32_t level) {
    if (c->kind == TL_CODEC_PACK) {
        c->pack = ZSTD_createCCtx();
        c->buffer_size = ZSTD_CStreamOutSize();
        if (c->pack != NULL && ZSTD_isError(ZSTD_CCtx_setParameter(
                                   c->pack, ZSTD_c_compressionLevel, (int)level))) {
            return tl_fail(TL_E_CONFIG, "zstd level %u is not one", level);
        }
    } else {
        c->unpack = ZSTD_createDCtx();
        c->buffer_size = ZSTD_DStreamOutSize();
    }
    c->buffer = malloc(c->buffer_size);
    if ((c->pack == NULL && c->unpack == NULL) || c->buffer == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for zstd");
    }
    return 0;
}

int tl_codec_new(enum tl_codec_kind kind, uint32_t level, struct tl_sink sink,
                 struct tl_codec **ret_codec) {
    struct tl_codec *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a codec");
    }
    c->kind = kind;
    c->sink = sink;
    const int r = kind == TL_CODEC_COPY ? 0 : start_zstd(c, level);
    if (r < 0) {
        tl_codec_free(c);
        return r;
    }
    *ret_codec = c;
    return 0;
}

void tl_codec_free(struct tl_codec *c) {
    if (c != NULL) {
        (void)ZSTD_freeCCtx(c->pack);
        (void)ZSTD_freeDCtx(c->unpack);
        free(c->buffer);
        free(c);
    }
}

static int deliver(struct tl_codec *c, const ZSTD_outBuffer *out) {
    return out->pos == 0 ? 0 : c->sink.feed(c->sink.ctx, c->buffer, out->pos);
}

/* Until `in` is used up and, at the end of the frame, until zstd has given all. */
static int pack(struct tl_codec *c, ZSTD_inBuffer in, ZSTD_EndDirective directive) {
    size_t left = 0;
    do {
        ZSTD_outBuffer out = {c->buffer, c->buffer_size, 0};
        left = ZSTD_compressStream2(c->pack, &out, &in, directive);
        if (ZSTD_isError(left)) {
            return tl_fail(TL_E_NOMEM, "zstd: %s", ZSTD_getErrorName(left));
        }
        const int r = deliver(c, &out);
        if (r < 0) {
            return r;
        }
    } while (in.pos < in.size || (directive == ZSTD_e_end && left > 0));
    return 0;
}

/* One frame holds the whole state: bytes behind its end are damage. */
static int unpack(struct tl_codec *c, ZSTD_inBuffer in) {
    bool is_drained = false;
    while (in.pos < in.size || !is_drained) {
        if (c->frame_complete) {
            return in.pos < in.size
                       ? tl_fail(TL_E_CORRUPT, "bytes behind the end of a zstd frame")
                       : 0;
        }
        ZSTD_outBuffer out = {c->buffer, c->buffer_size, 0};
        const size_t left = ZSTD_decompressStream(c->unpack, &out, &in);
        if (ZSTD_isError(left)) {
            return tl_fail(TL_E_CORRUPT, "zstd: %s", ZSTD_getErrorName(left));
        }
        c->frame_complete = left == 0;
        is_drained = out.pos < out.size;
        const int r = deliver(c, &out);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int tl_codec_feed(struct tl_codec *c, const void *bytes, size_t size) {
    const ZSTD_inBuffer in = {bytes, size, 0};
    switch (c->kind) {
    case TL_CODEC_PACK:
        return pack(c, in, ZSTD_e_continue);
    case TL_CODEC_UNPACK:
        return unpack(c, in);
    case TL_CODEC_COPY:
        break;
    }
    return c->sink.feed(c->sink.ctx, bytes, size);
}

int tl_codec_end(struct tl_codec *c) {
    if (c->kind == TL_CODEC_PACK) {
        return pack(c, (ZSTD_inBuffer){NULL, 0, 0}, ZSTD_e_end);
    }
    if (c->kind == TL_CODEC_UNPACK && !c->frame_complete) {
        return tl_fail(TL_E_CORRUPT, "a zstd frame ends too early");
    }
    return 0;
}
