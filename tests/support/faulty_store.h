/* faulty_store.h - a store around another one, in which operation number n goes wrong.
 *
 * Operations are counted from 1: create, write, commit, abandon, read, list, remove,
 * sweep. The one that is due fails, or takes the whole process with it; `before` says
 * whether it happens before the inner store has done it, or after. */
#ifndef FAULTY_STORE_H
#define FAULTY_STORE_H

#include "throughline/snapshot.h"

#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct faulty_store {
    struct tl_store base;
    struct tl_store *inner;
    unsigned count;  /* operations so far */
    unsigned due;    /* the one that goes wrong; 0: none */
    bool before;     /* the inner store does not see it */
    bool is_killing; /* SIGKILL for the process, instead of an error */
    bool fired;
};

struct faulty_writer {
    struct tl_store_writer base;
    struct tl_store_writer *inner;
};

static inline struct faulty_store *faulty_of(struct tl_store *s) {
    return (struct faulty_store *)s;
}

static inline int faulty_fire(struct faulty_store *f) {
    f->fired = true;
    if (f->is_killing) {
        (void)kill(getpid(), SIGKILL);
    }
    return tl_fail(TL_E_IO, "operation %u of the test's store failed", f->due);
}

/* An operation begins: nonzero when it is to fail unseen. */
static inline int faulty_enter(struct faulty_store *f) {
    f->count++;
    return f->count == f->due && f->before ? faulty_fire(f) : 0;
}

/* It has been done, with this outcome. */
static inline int faulty_leave(struct faulty_store *f, int outcome) {
    return f->count == f->due && !f->before ? faulty_fire(f) : outcome;
}

static inline int faulty_create(struct tl_store *s, const char *name,
                                struct tl_store_writer **ret_writer) {
    struct faulty_store *f = faulty_of(s);
    struct faulty_writer *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->base.store = s;
    int r = faulty_enter(f);
    if (r == 0) {
        r = f->inner->ops->create(f->inner, name, &w->inner);
        if (r == 0 && faulty_leave(f, 0) != 0) {
            f->inner->ops->abandon(w->inner);
            r = TL_E_IO;
        }
    }
    if (r != 0) {
        free(w);
        return r;
    }
    *ret_writer = &w->base;
    return 0;
}

static inline int faulty_write(struct tl_store_writer *writer, const void *bytes,
                               size_t size) {
    struct faulty_writer *w = (struct faulty_writer *)writer;
    struct faulty_store *f = faulty_of(w->base.store);
    const int r = faulty_enter(f);
    return r != 0 ? r : faulty_leave(f, f->inner->ops->write(w->inner, bytes, size));
}

static inline int faulty_commit(struct tl_store_writer *writer, bool if_absent) {
    struct faulty_writer *w = (struct faulty_writer *)writer;
    struct faulty_store *f = faulty_of(w->base.store);
    int r = faulty_enter(f);
    if (r != 0) {
        f->inner->ops->abandon(w->inner);
    } else {
        r = faulty_leave(f, f->inner->ops->commit(w->inner, if_absent));
    }
    free(w);
    return r;
}

static inline void faulty_abandon(struct tl_store_writer *writer) {
    struct faulty_writer *w = (struct faulty_writer *)writer;
    struct faulty_store *f = faulty_of(w->base.store);
    (void)faulty_enter(f);
    f->inner->ops->abandon(w->inner);
    (void)faulty_leave(f, 0);
    free(w);
}

static inline int faulty_read(struct tl_store *s, const char *name,
                              int (*sink)(void *ctx, const void *bytes, size_t size),
                              void *ctx) {
    struct faulty_store *f = faulty_of(s);
    const int r = faulty_enter(f);
    return r != 0 ? r : faulty_leave(f, f->inner->ops->read(f->inner, name, sink, ctx));
}

static inline int faulty_list(struct tl_store *s, const char *prefix,
                              int (*each)(void *ctx, const char *name, uint64_t size),
                              void *ctx) {
    struct faulty_store *f = faulty_of(s);
    const int r = faulty_enter(f);
    return r != 0 ? r
                  : faulty_leave(f, f->inner->ops->list(f->inner, prefix, each, ctx));
}

static inline int faulty_remove(struct tl_store *s, const char *name) {
    struct faulty_store *f = faulty_of(s);
    const int r = faulty_enter(f);
    return r != 0 ? r : faulty_leave(f, f->inner->ops->remove(f->inner, name));
}

static inline int faulty_sweep(struct tl_store *s) {
    struct faulty_store *f = faulty_of(s);
    const int r = faulty_enter(f);
    return r != 0 ? r : faulty_leave(f, f->inner->ops->sweep(f->inner));
}

/* The inner store stays the test's. */
static inline void faulty_close(struct tl_store *s) {
    (void)s;
}

static inline void faulty_init(struct faulty_store *f, struct tl_store *inner) {
    static const struct tl_store_ops ops = {
        .create = faulty_create,
        .write = faulty_write,
        .commit = faulty_commit,
        .abandon = faulty_abandon,
        .read = faulty_read,
        .list = faulty_list,
        .remove = faulty_remove,
        .sweep = faulty_sweep,
        .close = faulty_close,
    };
    *f = (struct faulty_store){.base.ops = &ops, .inner = inner};
}

#endif
