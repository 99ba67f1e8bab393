/* s3_list.c - names in a bucket, page by page; and uploads that nobody will finish. */
#include "throughline/service.h"

#include "s3_internal.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names -------------------------------------------------------------------- */

/* In canonical order, as the signature wants it. */
static int page_query(const struct s3_store *s, const char *prefix, const char *token,
                      char query[S3_TARGET_MAX]) {
    char whole[S3_PREFIX_MAX + TL_OBJECT_NAME_MAX];
    (void)snprintf(whole, sizeof(whole), "%s%s", s->place.prefix, prefix);
    query[0] = '\0';
    int r = token[0] == '\0' ? 0 : tl_s3_query_add(query, "continuation-token", token);
    r = r == 0 ? tl_s3_query_add(query, "encoding-type", "url") : r;
    r = r == 0 ? tl_s3_query_add(query, "list-type", "2") : r;
    return r == 0 ? tl_s3_query_add(query, "prefix", whole) : r;
}

/* One page; `token` becomes the next one's. */
static int list_page(struct s3_store *s, const char *prefix, char token[S3_TEXT_MAX],
                     int (*each)(void *ctx, const char *name, uint64_t size),
                     void *ctx) {
    char query[S3_TARGET_MAX];
    char next[S3_TEXT_MAX];
    struct s3_request r;
    int rc = page_query(s, prefix, token, query);
    if (rc == 0) {
        rc = tl_s3_request_init(&r, s, "GET", NULL, query);
    }
    if (rc < 0) {
        return rc;
    }
    rc = tl_s3_run(&r);
    if (rc == 0) {
        rc = tl_s3_page(r.answer == NULL ? "" : r.answer, r.answer_size,
                        s->place.prefix, each, ctx, next);
    }
    if (rc == 0 && next[0] != '\0' && strcmp(next, token) == 0) {
        rc = tl_fail(TL_E_PROTOCOL, "store %s: a listing that does not end", s->name);
    }
    if (rc == 0) {
        memcpy(token, next, S3_TEXT_MAX);
    }
    tl_s3_request_done(&r);
    return rc;
}

int tl_s3_list(struct tl_store *store, const char *prefix,
               int (*each)(void *ctx, const char *name, uint64_t size), void *ctx) {
    struct s3_store *s = tl_s3_of(store);
    char token[S3_TEXT_MAX] = "";
    int r = 0;
    if (strlen(prefix) >= TL_OBJECT_NAME_MAX) {
        return tl_fail(TL_E_INVALID, "a prefix of %zu characters", strlen(prefix));
    }
    do {
        r = list_page(s, prefix, token, each, ctx);
    } while (r == 0 && token[0] != '\0');
    return r;
}

/* ---- uploads ------------------------------------------------------------------ */

void tl_s3_abort_upload(struct s3_store *s, const char *name, const char *upload) {
    char query[S3_TARGET_MAX] = "";
    struct s3_request r;
    if (tl_s3_query_add(query, "uploadId", upload) == 0 &&
        tl_s3_request_init(&r, s, "DELETE", name, query) == 0) {
        if (tl_s3_run(&r) < 0 && r.result != TL_E_NOTFOUND) {
            tl_s3_notice(s, "an upload stays unfinished until it is swept: %s", r.why);
        }
        tl_s3_request_done(&r);
    }
}

#define UPLOADS_MAX 1000u /* that one sweep aborts */

struct uploads {
    struct s3_store *store;
    int64_t now_s;
    char key[TL_OBJECT_NAME_MAX + S3_PREFIX_MAX];
    char id[S3_UPLOAD_MAX];
    char since[64];
    struct upload {
        char name[TL_OBJECT_NAME_MAX];
        char id[S3_UPLOAD_MAX];
    } * dead;
    size_t count;
};

/* An upload has no sign of life; one that began long ago is taken for a dead one's. */
static int upload_ends(struct uploads *u) {
    const struct s3_store *s = u->store;
    const size_t below = strlen(s->place.prefix);
    const time_t began = curl_getdate(u->since, NULL);
    const bool is_ours = strncmp(u->key, s->place.prefix, below) == 0 &&
                         tl_store_check_name(u->key + below) == 0;
    if (is_ours && u->id[0] != '\0' && u->count < UPLOADS_MAX &&
        u->now_s - (int64_t)began >= s->abandoned_s) {
        struct upload *d = &u->dead[u->count++];
        (void)snprintf(d->name, sizeof(d->name), "%.255s", u->key + below);
        memcpy(d->id, u->id, sizeof(d->id));
    }
    u->key[0] = '\0';
    u->id[0] = '\0';
    return 0;
}

/* "2026-01-31T12:00:00.000Z", which curl_getdate() does not read, as one that it does.
 */
static void plain_date(const char *text, char *to, size_t size) {
    int year = 0;
    int month = 0;
    int day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
    to[0] = '\0';
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &year, &month, &day, &hour, &minute,
               &second) == 6) { /* NOLINT(cert-err34-c): bounded, and all six counted */
        (void)snprintf(to, size, "%04d%02d%02d %02d:%02d:%02d GMT", year, month, day,
                       hour, minute, second);
    }
}

static int upload_element(void *ctx, const char *path, const char *text) {
    struct uploads *u = ctx;
    static const char entry[] = "ListMultipartUploadsResult/Upload";
    if (strncmp(path, entry, sizeof(entry) - 1u) != 0) {
        return 0;
    }
    const char *field = path + sizeof(entry) - 1u;
    if (strcmp(field, "/Key") == 0 && strlen(text) < sizeof(u->key)) {
        (void)snprintf(u->key, sizeof(u->key), "%s", text);
    } else if (strcmp(field, "/UploadId") == 0 && strlen(text) < sizeof(u->id)) {
        (void)snprintf(u->id, sizeof(u->id), "%s", text);
    } else if (strcmp(field, "/Initiated") == 0) {
        plain_date(text, u->since, sizeof(u->since));
    } else if (field[0] == '\0') {
        return upload_ends(u);
    }
    return 0;
}

static int find_dead(struct uploads *u) {
    char query[S3_TARGET_MAX] = "";
    struct s3_request r;
    int rc = tl_s3_query_add(query, "prefix", u->store->place.prefix);
    rc = rc == 0 ? tl_s3_query_add(query, "uploads", "") : rc;
    rc = rc == 0 ? tl_s3_request_init(&r, u->store, "GET", NULL, query) : rc;
    if (rc < 0) {
        return rc;
    }
    rc = tl_s3_run(&r);
    if (rc == 0) {
        rc = tl_s3_xml(r.answer == NULL ? "" : r.answer, r.answer_size, upload_element,
                       u);
    }
    tl_s3_request_done(&r);
    return rc;
}

int tl_s3_sweep(struct tl_store *store) {
    struct s3_store *s = tl_s3_of(store);
    struct uploads u = {.store = s, .now_s = (int64_t)(tl_unix_ms() / 1000u)};
    u.now_s += s->clock_offset_s;
    u.dead = calloc(UPLOADS_MAX, sizeof(*u.dead));
    if (u.dead == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory to look for old uploads");
    }
    const int r = find_dead(&u);
    for (size_t i = 0; i < u.count && r == 0; i++) {
        tl_s3_abort_upload(s, u.dead[i].name, u.dead[i].id);
    }
    free(u.dead);
    /* A server without this call, or rights without it, leave nothing to be swept. */
    return r == TL_E_UNSUPPORTED || r == TL_E_DENIED ? 0 : r;
}
