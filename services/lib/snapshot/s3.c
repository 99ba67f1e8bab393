/* s3.c - a bucket as a store.
 *
 * Names are keys below the URL's prefix. An object is in the bucket whole or not at
 * all; that is S3's promise, and what an interrupted multipart upload leaves is
 * invisible until it is swept. Opening asks the server nothing: the first operation
 * does. */
#include "throughline/service.h"

#include "s3_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ABANDONED_SECONDS 3600

static int s3_remove(struct tl_store *store, const char *name) {
    struct s3_request r;
    int rc = tl_store_check_name(name);
    if (rc == 0) {
        rc = tl_s3_request_init(&r, tl_s3_of(store), "DELETE", name, "");
    }
    if (rc < 0) {
        return rc;
    }
    rc = tl_s3_run(&r);
    tl_s3_request_done(&r);
    return rc == TL_E_NOTFOUND ? 0 : rc;
}

/* ---- does the server compare what it gets with the hash that came with it? ------ */

/* An object of which the request says another hash: refused, or it proves nothing. */
static int send_a_lie(struct s3_store *s, const char *name, bool *ret_refused) {
    static const char wrong_sha256[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    struct s3_request r;
    int rc = tl_s3_request_init(&r, s, "PUT", name, "");
    if (rc < 0) {
        return rc;
    }
    r.body = "?";
    r.body_size = 1;
    r.body_sha256 = wrong_sha256;
    r.only_once = true;
    rc = tl_s3_run(&r);
    *ret_refused = r.outcome.status >= 400 && r.outcome.status < 500;
    tl_s3_request_done(&r);
    return rc;
}

static bool s3_proves(struct tl_store *store) {
    struct s3_store *s = tl_s3_of(store);
    char name[64];
    bool is_refused = false;
    if (s->proves == 0) {
        (void)snprintf(name, sizeof(name), "probe-%016" PRIx64, tl_random_u64());
        const int r = send_a_lie(s, name, &is_refused);
        if (r == 0) {
            (void)s3_remove(store, name);
        }
        if (r == 0 || is_refused) {
            s->proves = is_refused ? 1 : -1;
        }
    }
    return s->proves > 0;
}

/* ---- opening ------------------------------------------------------------------ */

static void s3_close(struct tl_store *store) {
    struct s3_store *s = tl_s3_of(store);
    (void)tl_s3_settle(store, true);
    (void)curl_multi_cleanup(s->multi);
    explicit_bzero(s, sizeof(*s));
    free(s);
}

static const struct tl_store_ops s3_ops = {
    .create = tl_s3_create,
    .write = tl_s3_write,
    .commit = tl_s3_commit,
    .abandon = tl_s3_abandon,
    .settle = tl_s3_settle,
    .proves = s3_proves,
    .read = tl_s3_read,
    .list = tl_s3_list,
    .remove = s3_remove,
    .sweep = tl_s3_sweep,
    .close = s3_close,
};

static int prepare(struct s3_store *s, const char *url,
                   const struct tl_s3_options *options) {
    s->base.ops = &s3_ops;
    s->base.object_bytes = S3_PIECE_BYTES;
    s->abandoned_s = ABANDONED_SECONDS;
    s->options = *options;
    (void)snprintf(s->name, sizeof(s->name), "%s", url);
    int r = tl_s3_place(url, options, &s->place);
    if (r == 0) {
        r = tl_s3_credentials(options, &s->credentials);
    }
    if (r == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        r = tl_fail(TL_E_NOMEM, "libcurl cannot be started");
    }
    if (r < 0) {
        return r;
    }
    s->multi = curl_multi_init();
    return s->multi == NULL ? tl_fail(TL_E_NOMEM, "no memory for the store %s", url)
                            : 0;
}

int tl_s3_open(const char *url, const struct tl_s3_options *options,
               struct tl_store **ret_store) {
    struct tl_s3_options defaults;
    int r = 0;
    if (options == NULL) {
        r = tl_config_defaults(&tl_s3_table, &defaults);
        options = &defaults;
    }
    if (r < 0) {
        return r;
    }
    struct s3_store *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the store %s", url);
    }
    r = prepare(s, url, options);
    if (r < 0) {
        explicit_bzero(s, sizeof(*s));
        free(s);
        return r;
    }
    *ret_store = &s->base;
    return 0;
}
