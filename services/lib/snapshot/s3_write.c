/* s3_write.c - an object out of pieces, with several of them on their way at once.
 *
 * What fits into one piece goes as one PUT, more as a multipart upload. Commit does not
 * wait: the next object is filled while the last ones are still being sent, and
 * settle() says whether all have arrived. Memory is that of the store's few buffers,
 * whatever the objects' sizes; who writes faster than the network takes waits for one.
 *
 * An object that fails after its commit fails the store's writing until settle() has
 * said so: a snapshot with a hole is not worth its other parts. */
#include "s3_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TURN_MS 100

struct s3_object {
    struct tl_store_writer base;
    struct s3_object *next; /* of those committed */
    char name[TL_OBJECT_NAME_MAX];
    struct s3_buffer *open;     /* being filled; NULL before the first byte */
    size_t filled;              /* bytes in it */
    uint64_t size;              /* of the object so far */
    char upload[S3_UPLOAD_MAX]; /* multipart: its identity; "": one PUT */
    char (*etags)[S3_ETAG_MAX]; /* of the pieces, in order */
    uint32_t pieces, etag_room; /* started so far */
    uint32_t pending;           /* requests that are not over */
    bool is_committed, is_complete;
    struct s3_request *closing; /* the request that makes it visible */
    char *manifest;             /* closing's body: the list of pieces */
    int failure;
    char why[512];
};

static struct s3_store *store_of(const struct s3_object *o) {
    return tl_s3_of(o->base.store);
}

static void note_failure(struct s3_object *o, int error, const char *why) {
    struct s3_store *s = store_of(o);
    if (o->failure == 0) {
        o->failure = error;
        (void)snprintf(o->why, sizeof(o->why), "%s", why);
    }
    if (o->is_committed && s->failure == 0) {
        s->failure = error;
        (void)snprintf(s->why, sizeof(s->why), "%s", why);
    }
}

/* ---- buffers ------------------------------------------------------------------ */

static struct s3_buffer *free_buffer(struct s3_store *s) {
    for (size_t i = 0; i < S3_BUFFERS; i++) {
        if (!s->buffers[i].is_taken) {
            return &s->buffers[i];
        }
    }
    return NULL;
}

/* Waits for a piece to arrive where all buffers are on their way. */
static int take_buffer(struct s3_store *s, struct s3_buffer **ret_buffer) {
    struct s3_buffer *b = free_buffer(s);
    while (b == NULL && s->request_count > 0) {
        tl_s3_turn(s, TURN_MS);
        b = free_buffer(s);
    }
    if (b == NULL) {
        return tl_fail(TL_E_LIMIT, "store %s: more than %u objects are being written",
                       s->name, S3_BUFFERS);
    }
    if (b->bytes == NULL) {
        /* Not malloc(), which after the first free would keep such blocks. */
        void *bytes = mmap(NULL, S3_PIECE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED) {
            return tl_fail(TL_E_NOMEM, "no memory for an upload");
        }
        b->bytes = bytes;
    }
    b->is_taken = true;
    *ret_buffer = b;
    return 0;
}

static void free_buffers(struct s3_store *s) {
    for (size_t i = 0; i < S3_BUFFERS; i++) {
        if (!s->buffers[i].is_taken && s->buffers[i].bytes != NULL) {
            (void)munmap(s->buffers[i].bytes, S3_PIECE_BYTES);
            s->buffers[i].bytes = NULL;
        }
    }
}

/* ---- one request of an object ------------------------------------------------- */

/* A piece, or the object itself: it owns its buffer until it is over. */
struct sending {
    struct s3_request request; /* first: the engine's `r` is this */
    struct s3_object *object;
    struct s3_buffer *buffer;
    uint32_t piece; /* of a multipart upload, from 1; 0: the whole object */
};

static void object_moves(struct s3_object *o);

static void sending_ends(struct s3_request *r) {
    struct sending *g = (struct sending *)r;
    struct s3_object *o = g->object;
    g->buffer->is_taken = false;
    o->pending--;
    if (r->result < 0) {
        note_failure(o, r->result, r->why);
    } else if (g->piece == 0) {
        o->is_complete = true;
    } else if (r->etag[0] == '\0') {
        note_failure(o, TL_E_PROTOCOL, "the server gives a piece no ETag");
    } else {
        memcpy(o->etags[g->piece - 1u], r->etag, S3_ETAG_MAX);
    }
    tl_s3_request_done(r);
    free(g);
    object_moves(o);
}

/* Send the open buffer; `query` says what it is. */
static int send_buffer(struct s3_object *o, uint32_t piece, const char *query) {
    struct sending *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for an upload");
    }
    int r = tl_s3_request_init(&g->request, store_of(o), "PUT", o->name, query);
    if (r < 0) {
        free(g);
        return r;
    }
    if (piece == 0 && o->base.sha256[0] != '\0') {
        g->request.body_sha256 = o->base.sha256;
    }
    g->request.body = o->open->bytes;
    g->request.body_size = o->filled;
    g->request.done = sending_ends;
    g->object = o;
    g->buffer = o->open;
    g->piece = piece;
    o->open = NULL;
    o->filled = 0;
    o->pending++;
    tl_s3_start(&g->request);
    return 0;
}

/* ---- multipart ---------------------------------------------------------------- */

static int take_upload(struct s3_object *o, const struct s3_request *r) {
    const int rc = tl_s3_xml_find(r->answer, r->answer_size,
                                  "InitiateMultipartUploadResult/UploadId", o->upload,
                                  sizeof(o->upload));
    if (rc == TL_E_NOMEM || o->upload[0] != '\0') {
        return rc;
    }
    return tl_fail(TL_E_PROTOCOL,
                   "store %s: the server begins an upload of %s without saying which",
                   store_of(o)->name, o->name);
}

static int begin_upload(struct s3_object *o) {
    struct s3_request r;
    int rc = tl_s3_request_init(&r, store_of(o), "POST", o->name, "uploads=");
    if (rc < 0) {
        return rc;
    }
    rc = tl_s3_run(&r);
    rc = rc == 0 ? take_upload(o, &r) : rc;
    tl_s3_request_done(&r);
    return rc;
}

static int room_for_etag(struct s3_object *o) {
    if (o->pieces < o->etag_room) {
        return 0;
    }
    const uint32_t room = o->etag_room == 0 ? 16u : 2u * o->etag_room;
    void *grown = realloc(o->etags, (size_t)room * sizeof(o->etags[0]));
    if (grown == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for an upload");
    }
    o->etags = grown;
    o->etag_room = room;
    return 0;
}

static int send_piece(struct s3_object *o) {
    char query[S3_TARGET_MAX] = "";
    char number[16];
    if (o->pieces == S3_PIECES_MAX) {
        return tl_fail(TL_E_TOOBIG,
                       "store %s: %s is larger than %u pieces of %u bytes; make "
                       "checkpoint.part_bytes smaller",
                       store_of(o)->name, o->name, S3_PIECES_MAX, S3_PIECE_BYTES);
    }
    int r = o->upload[0] == '\0' ? begin_upload(o) : 0;
    r = r == 0 ? room_for_etag(o) : r;
    (void)snprintf(number, sizeof(number), "%" PRIu32, o->pieces + 1u);
    r = r == 0 ? tl_s3_query_add(query, "partNumber", number) : r;
    r = r == 0 ? tl_s3_query_add(query, "uploadId", o->upload) : r;
    return r < 0 ? r : send_buffer(o, ++o->pieces, query);
}

/* The list of pieces that makes them an object; ETags are quoted already. */
static char *list_pieces(const struct s3_object *o) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    (void)fputs("<CompleteMultipartUpload>", out);
    for (uint32_t i = 0; i < o->pieces; i++) {
        (void)fprintf(out, "<Part><PartNumber>%" PRIu32 "</PartNumber><ETag>", i + 1u);
        for (const char *c = o->etags[i]; *c != '\0'; c++) {
            if (strchr("<>&", *c) == NULL) {
                (void)fputc(*c, out);
            }
        }
        (void)fputs("</ETag></Part>", out);
    }
    (void)fputs("</CompleteMultipartUpload>", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void closing_ends(struct s3_request *r) {
    struct s3_object *o = r->owner;
    o->pending--;
    o->closing = NULL;
    if (r->result < 0 && !(r->result == TL_E_NOTFOUND && r->attempts > 1)) {
        note_failure(o, r->result, r->why);
    } else {
        /* Not found after an attempt without an answer: that one did it. Whether it
         * did, reading the object back or its size in a listing will tell. */
        o->is_complete = true;
    }
    tl_s3_request_done(r);
    free(r);
    object_moves(o);
}

static int close_upload(struct s3_object *o) {
    char query[S3_TARGET_MAX] = "";
    struct s3_request *r = calloc(1, sizeof(*r));
    o->manifest = list_pieces(o);
    if (r == NULL || o->manifest == NULL) {
        free(r);
        return tl_fail(TL_E_NOMEM, "no memory for an upload");
    }
    int rc = tl_s3_query_add(query, "uploadId", o->upload);
    if (rc == 0) {
        rc = tl_s3_request_init(r, store_of(o), "POST", o->name, query);
    }
    if (rc < 0) {
        free(r);
        return rc;
    }
    r->body = o->manifest;
    r->body_size = strlen(o->manifest);
    r->done = closing_ends;
    r->owner = o;
    o->closing = r;
    o->pending++;
    tl_s3_start(r);
    return 0;
}

/* ---- an object's life --------------------------------------------------------- */

static void free_object(struct s3_object *o) {
    if (o->open != NULL) {
        o->open->is_taken = false;
    }
    free(o->manifest);
    free(o->etags);
    free(o);
}

/* Something of it is over: all pieces of a committed object close it. */
static void object_moves(struct s3_object *o) {
    if (o->is_committed && o->pending == 0 && o->failure == 0 && !o->is_complete) {
        const int r = close_upload(o);
        if (r < 0) {
            note_failure(o, r, tl_error_text());
        }
    }
}

/* Forget those that are in the bucket. */
static void free_complete(struct s3_store *s) {
    struct s3_object **at = &s->committed;
    while (*at != NULL) {
        struct s3_object *o = *at;
        if (o->is_complete && o->pending == 0) {
            *at = o->next;
            free_object(o);
        } else {
            at = &o->next;
        }
    }
}

/* What went wrong behind our back is said to whoever writes next. */
static int earlier_failure(const struct s3_store *s) {
    return s->failure < 0 ? tl_fail(s->failure, "%s", s->why) : 0;
}

int tl_s3_create(struct tl_store *store, const char *name,
                 struct tl_store_writer **ret_writer) {
    struct s3_store *s = tl_s3_of(store);
    int r = tl_store_check_name(name);
    if (r == 0) {
        r = earlier_failure(s);
    }
    if (r < 0) {
        return r;
    }
    struct s3_object *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to write %s", name);
    }
    o->base.store = store;
    (void)snprintf(o->name, sizeof(o->name), "%s", name);
    free_complete(s);
    *ret_writer = &o->base;
    return 0;
}

/* A full buffer is sent only when more comes: the last piece may then be the first. */
static int make_room(struct s3_object *o) {
    int r = 0;
    if (o->open != NULL && o->filled == S3_PIECE_BYTES) {
        r = send_piece(o);
    }
    return r == 0 && o->open == NULL ? take_buffer(store_of(o), &o->open) : r;
}

int tl_s3_write(struct tl_store_writer *w, const void *bytes, size_t size) {
    struct s3_object *o = (struct s3_object *)w;
    const unsigned char *next = bytes;
    while (size > 0) {
        int r = earlier_failure(store_of(o));
        if (r == 0 && o->failure < 0) {
            r = tl_fail(o->failure, "%s", o->why);
        }
        if (r == 0) {
            r = make_room(o);
        }
        if (r < 0) {
            return r;
        }
        const size_t room = S3_PIECE_BYTES - o->filled;
        const size_t n = size < room ? size : room;
        memcpy(o->open->bytes + o->filled, next, n);
        o->filled += n;
        o->size += n;
        next += n;
        size -= n;
    }
    tl_s3_turn(store_of(o), 0);
    return 0;
}

/* Wait until nothing of it is under way, and take back what the server has. */
static void give_up(struct s3_object *o) {
    struct s3_store *s = store_of(o);
    while (o->pending > 0) {
        tl_s3_turn(s, TURN_MS);
    }
    if (o->upload[0] != '\0') {
        tl_s3_abort_upload(s, o->name, o->upload);
    }
    free_object(o);
}

void tl_s3_abandon(struct tl_store_writer *w) {
    struct s3_object *o = (struct s3_object *)w;
    if (o->failure == 0) {
        o->failure = TL_E_INTERRUPTED;
    }
    give_up(o);
}

/* As one PUT, made visible at once or not at all. */
static int commit_absent(struct s3_object *o) {
    if (o->upload[0] != '\0') {
        tl_s3_abandon(&o->base);
        return tl_fail(TL_E_TOOBIG,
                       "an object that must be new has at most %u bytes in an S3 store",
                       S3_PIECE_BYTES);
    }
    const void *bytes = o->open == NULL ? (const unsigned char *)"" : o->open->bytes;
    const int r = tl_s3_put_absent(store_of(o), o->name, bytes, o->filled);
    free_object(o);
    return r;
}

static int commit_soon(struct s3_object *o) {
    struct s3_store *s = store_of(o);
    int r = o->open == NULL ? take_buffer(s, &o->open) : 0;
    if (r == 0) {
        r = o->upload[0] == '\0' ? send_buffer(o, 0, "") : send_piece(o);
    }
    if (r < 0) {
        return r;
    }
    o->is_committed = true;
    o->next = s->committed;
    s->committed = o;
    if (o->failure < 0) { /* before it was ours to remember */
        note_failure(o, o->failure, o->why);
    }
    return 0;
}

int tl_s3_commit(struct tl_store_writer *w, bool if_absent) {
    struct s3_object *o = (struct s3_object *)w;
    if (if_absent) {
        return commit_absent(o);
    }
    const int r = commit_soon(o);
    if (r < 0) {
        char why[512];
        (void)snprintf(why, sizeof(why), "%s", tl_error_text());
        tl_s3_abandon(w);
        return tl_fail(r, "%s", why);
    }
    return 0;
}

/* Requests that are under way end at once, as failures. */
static void drop_requests(struct s3_store *s) {
    while (s->request_count > 0) {
        struct s3_request *r = s->requests[0];
        tl_s3_drop(r);
        r->is_over = true;
        r->result = tl_fail(TL_E_INTERRUPTED, "given up");
        (void)snprintf(r->why, sizeof(r->why), "given up");
        if (r->done != NULL) {
            r->done(r);
        }
    }
}

int tl_s3_settle(struct tl_store *store, bool give_up_all) {
    struct s3_store *s = tl_s3_of(store);
    if (give_up_all) {
        for (struct s3_object *o = s->committed; o != NULL; o = o->next) {
            o->failure = o->failure == 0 ? TL_E_INTERRUPTED : o->failure;
        }
        drop_requests(s);
    }
    while (s->request_count > 0) {
        tl_s3_turn(s, TURN_MS);
    }
    const int failure = s->failure;
    free_complete(s);
    s->failure = 0;
    while (s->committed != NULL) {
        struct s3_object *o = s->committed;
        s->committed = o->next;
        give_up(o);
    }
    free_buffers(s);
    return failure < 0 ? tl_fail(failure, "%s", s->why) : 0;
}
