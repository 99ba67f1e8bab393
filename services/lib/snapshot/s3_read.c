/* s3_read.c - an object's bytes: as they come, and from where they broke off. */
#include "s3_internal.h"

#include <stdlib.h>
#include <string.h>

int tl_s3_read(struct tl_store *store, const char *name,
               int (*sink)(void *ctx, const void *bytes, size_t size), void *ctx) {
    struct s3_store *s = tl_s3_of(store);
    struct s3_request r;
    int rc = tl_store_check_name(name);
    if (rc == 0) {
        rc = tl_s3_request_init(&r, s, "GET", name, "");
    }
    if (rc < 0) {
        return rc;
    }
    r.sink = (struct tl_sink){sink, ctx};
    rc = tl_s3_run(&r);
    tl_s3_request_done(&r);
    return rc;
}

int tl_s3_head(struct s3_store *s, const char *name, uint64_t *ret_size) {
    struct s3_request r;
    int rc = tl_s3_request_init(&r, s, "HEAD", name, "");
    if (rc < 0) {
        return rc;
    }
    rc = tl_s3_run(&r);
    if (rc == 0) {
        *ret_size = r.length;
    }
    tl_s3_request_done(&r);
    return rc;
}
