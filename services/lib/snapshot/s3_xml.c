/* s3_xml.c - what an S3 server says: bounded XML, and the listings in it.
 *
 * Expat reads it. A document type, which no S3 server sends, is refused, and with it
 * every entity; depth, names and texts are bounded. */
#include "s3_internal.h"

#include <expat.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16u
#define PATH_MAX_ 512u

struct parsing {
    XML_Parser parser;
    s3_xml_fn each;
    void *ctx;
    char path[PATH_MAX_]; /* of the element that is open */
    size_t depth;
    char text[S3_TEXT_MAX]; /* directly in it */
    size_t length;
    bool is_wrong;
    int result; /* of `each` */
};

static void stop(struct parsing *p) {
    (void)XML_StopParser(p->parser, XML_FALSE);
}

static void refuse(struct parsing *p) {
    p->is_wrong = true;
    stop(p);
}

static void XMLCALL on_start(void *ctx, const XML_Char *name, const XML_Char **attrs) {
    struct parsing *p = ctx;
    const size_t at = strlen(p->path);
    (void)attrs;
    if (p->depth == DEPTH_MAX || at + strlen(name) + 2u > sizeof(p->path)) {
        refuse(p);
        return;
    }
    (void)snprintf(p->path + at, sizeof(p->path) - at, "%s%s", at == 0 ? "" : "/",
                   name);
    p->depth++;
    p->length = 0;
    p->text[0] = '\0';
}

static void XMLCALL on_end(void *ctx, const XML_Char *name) {
    struct parsing *p = ctx;
    (void)name;
    p->result = p->each(p->ctx, p->path, p->text);
    if (p->result != 0) {
        stop(p);
        return;
    }
    char *slash = strrchr(p->path, '/');
    *(slash == NULL ? p->path : slash) = '\0';
    p->depth--;
    p->length = 0;
    p->text[0] = '\0';
}

static void XMLCALL on_text(void *ctx, const XML_Char *bytes, int size) {
    struct parsing *p = ctx;
    if ((size_t)size >= sizeof(p->text) - p->length) {
        refuse(p);
        return;
    }
    memcpy(p->text + p->length, bytes, (size_t)size);
    p->length += (size_t)size;
    p->text[p->length] = '\0';
}

static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int has_subset) {
    (void)name;
    (void)system;
    (void)public;
    (void)has_subset;
    refuse(ctx);
}

static int parse(struct parsing *p, const char *bytes, size_t size) {
    XML_SetUserData(p->parser, p);
    XML_SetElementHandler(p->parser, on_start, on_end);
    XML_SetCharacterDataHandler(p->parser, on_text);
    XML_SetStartDoctypeDeclHandler(p->parser, on_doctype);
    const enum XML_Status status = XML_Parse(p->parser, bytes, (int)size, XML_TRUE);
    if (p->result != 0) {
        return p->result;
    }
    if (status == XML_STATUS_OK && !p->is_wrong) {
        return 0;
    }
    if (XML_GetErrorCode(p->parser) == XML_ERROR_NO_MEMORY) {
        return tl_fail(TL_E_NOMEM, "no memory for a server's answer");
    }
    return tl_fail(TL_E_PROTOCOL, "the server's answer is no XML of S3: %s",
                   p->is_wrong ? "too deep, too long, or with a document type"
                               : XML_ErrorString(XML_GetErrorCode(p->parser)));
}

int tl_s3_xml(const char *bytes, size_t size, s3_xml_fn each, void *ctx) {
    if (size == 0 || size > S3_ANSWER_MAX) {
        return tl_fail(TL_E_PROTOCOL,
                       "the server's answer of %zu bytes is no XML of S3", size);
    }
    struct parsing *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a server's answer");
    }
    p->each = each;
    p->ctx = ctx;
    p->parser = XML_ParserCreate(NULL);
    const int r = p->parser == NULL
                      ? tl_fail(TL_E_NOMEM, "no memory for a server's answer")
                      : parse(p, bytes, size);
    XML_ParserFree(p->parser);
    free(p);
    return r;
}

/* ---- one element -------------------------------------------------------------- */

struct finding {
    const char *path;
    char *text;
    size_t size;
    bool found;
};

static int find(void *ctx, const char *path, const char *text) {
    struct finding *f = ctx;
    if (!f->found && strcmp(path, f->path) == 0 && strlen(text) < f->size) {
        (void)snprintf(f->text, f->size, "%s", text);
        f->found = true;
    }
    return 0;
}

int tl_s3_xml_find(const char *bytes, size_t size, const char *path, char *ret_text,
                   size_t text_size) {
    struct finding f = {.path = path, .text = ret_text, .size = text_size};
    const int r = bytes == NULL ? 0 : tl_s3_xml(bytes, size, find, &f);
    return r < 0     ? r
           : f.found ? 0
                     : tl_fail(TL_E_NOTFOUND, "the server's answer has no %s", path);
}

/* ---- a page of a listing ------------------------------------------------------ */

struct page {
    const char *prefix; /* of the store: names are below it */
    int (*each)(void *ctx, const char *name, uint64_t size);
    void *ctx;
    char key[S3_TEXT_MAX];
    char size[32];
    char *next;
    bool is_cut; /* there are more pages */
    bool is_listing;
};

/* Keys come escaped as in a URL. One that is none of ours is nobody's business here. */
static int entry_ends(struct page *p) {
    int length = 0;
    char *end = NULL;
    char *key = curl_easy_unescape(NULL, p->key, 0, &length);
    if (key == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a listing");
    }
    const size_t below = strlen(p->prefix);
    const uint64_t size = strtoull(p->size, &end, 10);
    const bool is_ours = (size_t)length == strlen(key) &&
                         strncmp(key, p->prefix, below) == 0 &&
                         tl_store_check_name(key + below) == 0;
    const bool is_sound = p->size[0] >= '0' && p->size[0] <= '9' && *end == '\0';
    int r = 0;
    if (is_ours) {
        r = is_sound ? p->each(p->ctx, key + below, size)
                     : tl_fail(TL_E_PROTOCOL, "a listing gives %s no size", key);
    }
    curl_free(key);
    p->key[0] = '\0';
    p->size[0] = '\0';
    return r;
}

static int page_element(void *ctx, const char *path, const char *text) {
    struct page *p = ctx;
    if (strcmp(path, "ListBucketResult/Contents/Key") == 0) {
        (void)snprintf(p->key, sizeof(p->key), "%s", text);
    } else if (strcmp(path, "ListBucketResult/Contents/Size") == 0) {
        (void)snprintf(p->size, sizeof(p->size), "%.31s", text);
    } else if (strcmp(path, "ListBucketResult/Contents") == 0) {
        return entry_ends(p);
    } else if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        p->is_cut = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        (void)snprintf(p->next, S3_TEXT_MAX, "%s", text);
    } else if (strcmp(path, "ListBucketResult") == 0) {
        p->is_listing = true;
    }
    return 0;
}

int tl_s3_page(const char *bytes, size_t size, const char *prefix,
               int (*each)(void *ctx, const char *name, uint64_t size), void *ctx,
               char ret_next[S3_TEXT_MAX]) {
    struct page p = {.prefix = prefix, .each = each, .ctx = ctx, .next = ret_next};
    ret_next[0] = '\0';
    const int r = tl_s3_xml(bytes, size, page_element, &p);
    if (r != 0) {
        return r;
    }
    if (!p.is_listing || p.is_cut != (ret_next[0] != '\0')) {
        return tl_fail(TL_E_PROTOCOL, p.is_listing
                                          ? "a listing ends without saying how to go on"
                                          : "the server's answer is no listing");
    }
    return 0;
}
