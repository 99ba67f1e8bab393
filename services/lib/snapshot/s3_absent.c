/* s3_absent.c - an object that is created only if there is none of its name.
 *
 * S3 knows `If-None-Match: *`. An older server ignores it and overwrites; so the first
 * object of a store is written twice over: a server that knows the header refuses the
 * second one, which holds the same bytes and does no harm where it does not. From then
 * on such a server is looked at before and read after each object, which leaves a
 * moment between two writers; that is said once, aloud.
 *
 * An attempt that gets no answer may have done it all the same. The next one is then
 * refused; whose the object is, its bytes tell. */
#include "s3_internal.h"

#include <stdlib.h>
#include <string.h>

static int exists(struct s3_store *s, const char *name) {
    return tl_fail(TL_E_EXISTS, "store %s: %s exists", s->name, name);
}

struct comparison {
    const unsigned char *bytes;
    size_t size, seen;
    bool differs;
};

static int compare(void *ctx, const void *bytes, size_t size) {
    struct comparison *c = ctx;
    c->differs = c->differs || size > c->size - c->seen ||
                 memcmp(c->bytes + c->seen, bytes, size) != 0;
    c->seen += c->differs ? 0 : size;
    return 0;
}

/* 0 when the object holds these bytes, else TL_E_EXISTS. */
static int is_ours(struct s3_store *s, const char *name, const void *bytes,
                   size_t size) {
    struct comparison c = {.bytes = bytes, .size = size};
    const int r = tl_s3_read(&s->base, name, compare, &c);
    if (r < 0) {
        return r;
    }
    return c.differs || c.seen != size ? exists(s, name) : 0;
}

static int put(struct s3_store *s, const char *name, const void *bytes, size_t size,
               bool if_absent, unsigned int *ret_attempts) {
    struct s3_request r;
    int rc = tl_s3_request_init(&r, s, "PUT", name, "");
    if (rc < 0) {
        return rc;
    }
    r.body = bytes;
    r.body_size = size;
    r.if_absent = if_absent;
    rc = tl_s3_run(&r);
    *ret_attempts = r.attempts;
    tl_s3_request_done(&r);
    return rc;
}

static void learn(struct s3_store *s, bool knows) {
    s->knows_absent = knows ? 1 : -1;
    if (!knows) {
        tl_s3_notice(s,
                     "store %s: the server does not know If-None-Match: two "
                     "checkpointers of one job could overwrite each other's manifests; "
                     "run one of them, or use a server that knows it",
                     s->name);
    }
}

/* Without the header: look, write, and look who was the last. */
static int put_unguarded(struct s3_store *s, const char *name, const void *bytes,
                         size_t size) {
    uint64_t found = 0;
    unsigned int attempts = 0;
    int r = tl_s3_head(s, name, &found);
    if (r == 0) {
        return exists(s, name);
    }
    if (r == TL_E_NOTFOUND) {
        r = put(s, name, bytes, size, false, &attempts);
    }
    return r < 0 ? r : is_ours(s, name, bytes, size);
}

static int put_guarded(struct s3_store *s, const char *name, const void *bytes,
                       size_t size) {
    unsigned int attempts = 0;
    const int r = put(s, name, bytes, size, true, &attempts);
    if (r == TL_E_EXISTS) {
        return attempts > 1 ? is_ours(s, name, bytes, size) : exists(s, name);
    }
    return r;
}

/* The first object: does the server know the header? */
static int put_first(struct s3_store *s, const char *name, const void *bytes,
                     size_t size) {
    uint64_t found = 0;
    unsigned int attempts = 0;
    int r = tl_s3_head(s, name, &found);
    if (r != TL_E_NOTFOUND) {
        return r == 0 ? exists(s, name) : r;
    }
    r = put_guarded(s, name, bytes, size);
    if (r == TL_E_UNSUPPORTED) {
        learn(s, false);
        return put_unguarded(s, name, bytes, size);
    }
    if (r < 0) {
        return r;
    }
    const int second = put(s, name, bytes, size, true, &attempts);
    if (second == 0 || second == TL_E_EXISTS) {
        learn(s, second == TL_E_EXISTS);
    }
    return s->knows_absent < 0 ? is_ours(s, name, bytes, size) : 0;
}

int tl_s3_put_absent(struct s3_store *s, const char *name, const void *bytes,
                     size_t size) {
    if (s->knows_absent == 0) {
        return put_first(s, name, bytes, size);
    }
    return s->knows_absent > 0 ? put_guarded(s, name, bytes, size)
                               : put_unguarded(s, name, bytes, size);
}
