/* s3_place.c - where a bucket is: an s3:// URL and its settings as an address. */
#include "s3_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "s3://"

/* A setting, else the first of these variables that is not empty, else `fallback`. */
static const char *setting(const char *value, const char *const *variables,
                           const char *fallback) {
    if (value[0] != '\0') {
        return value;
    }
    for (; *variables != NULL; variables++) {
        const char *text = getenv(*variables);
        if (text != NULL && text[0] != '\0') {
            return text;
        }
    }
    return fallback;
}

static bool fits(char *to, size_t size, const char *from) {
    const size_t length = strlen(from);
    if (length >= size) {
        return false;
    }
    memcpy(to, from, length + 1u);
    return true;
}

/* Letters, digits, dots and dashes, as in a host's name; S3 allows no others. */
static bool is_bucket(const char *name) {
    const size_t length = strlen(name);
    return length >= 3 && length <= 63 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == length &&
           isalnum((unsigned char)name[0]) && isalnum((unsigned char)name[length - 1]);
}

static int take_bucket(const char *url, const char *start, size_t length,
                       struct s3_place *p) {
    if (length < sizeof(p->bucket)) {
        memcpy(p->bucket, start, length);
        p->bucket[length] = '\0';
    }
    return length < sizeof(p->bucket) && is_bucket(p->bucket)
               ? 0
               : tl_fail(TL_E_CONFIG,
                         "store \"%s\": a bucket's name has 3 to 63 small letters, "
                         "digits, dots and dashes, as in s3://my-bucket/my-run",
                         url);
}

/* Slashes around it say nothing. */
static int take_prefix(const char *url, const char *start, struct s3_place *p) {
    size_t length = 0;
    start += strspn(start, "/");
    length = strlen(start);
    while (length > 0 && start[length - 1u] == '/') {
        length--;
    }
    if (length == 0) {
        p->prefix[0] = '\0';
        return 0;
    }
    if (length + 1u < sizeof(p->prefix)) {
        (void)snprintf(p->prefix, sizeof(p->prefix), "%.*s", (int)length, start);
    }
    if (length + 1u >= sizeof(p->prefix) || tl_store_check_name(p->prefix) < 0) {
        return tl_fail(
            TL_E_CONFIG,
            "store \"%s\": the prefix may have letters, digits, '-', '_' and "
            "'.', in segments that start with none of '.' and '/'",
            url);
    }
    p->prefix[length] = '/';
    p->prefix[length + 1u] = '\0';
    return 0;
}

/* Scheme and host, without a path. */
static int check_endpoint(const char *endpoint) {
    const char *host = strstr(endpoint, "://");
    const bool is_http = strncmp(endpoint, "http://", 7) == 0;
    const bool is_https = strncmp(endpoint, "https://", 8) == 0;
    host = host == NULL ? endpoint : host + 3;
    const size_t length = strlen(host);
    const bool is_plain = length > 0 && strcspn(host, "/?#@ \"<>\\") == length;
    return (is_http || is_https) && is_plain
               ? 0
               : tl_fail(TL_E_CONFIG,
                         "s3.endpoint \"%.200s\": right is http://HOST[:PORT] or "
                         "https://HOST[:PORT]",
                         endpoint);
}

static int make_base(const struct tl_s3_options *o, struct s3_place *p) {
    static const char *const variables[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL",
                                            NULL};
    char amazon[128];
    char endpoint[TL_S3_NAME_MAX];
    (void)snprintf(amazon, sizeof(amazon), "https://s3.%s.amazonaws.com", p->region);
    if (!fits(endpoint, sizeof(endpoint), setting(o->endpoint, variables, amazon))) {
        return tl_fail(TL_E_CONFIG, "s3.endpoint is longer than %u characters",
                       TL_S3_NAME_MAX - 1u);
    }
    size_t length = strlen(endpoint);
    while (length > 0 && endpoint[length - 1u] == '/') {
        endpoint[--length] = '\0';
    }
    const int r = check_endpoint(endpoint);
    if (r < 0) {
        return r;
    }
    const bool is_virtual =
        o->style == TL_S3_VIRTUAL ||
        (o->style == TL_S3_AUTO && strstr(endpoint, ".amazonaws.com") != NULL);
    const char *host = strstr(endpoint, "://") + 3;
    if (is_virtual) {
        (void)snprintf(p->base, sizeof(p->base), "%.*s%s.%s", (int)(host - endpoint),
                       endpoint, p->bucket, host);
    } else {
        (void)snprintf(p->base, sizeof(p->base), "%s/%s", endpoint, p->bucket);
    }
    return 0;
}

int tl_s3_place(const char *url, const struct tl_s3_options *o,
                struct s3_place *ret_place) {
    static const char *const regions[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char *const authorities[] = {"AWS_CA_BUNDLE", NULL};
    struct s3_place p = {.bucket = ""};
    const char *start = url + strlen(SCHEME);
    const size_t length = strcspn(start, "/");
    int r = take_bucket(url, start, length, &p);
    if (r == 0) {
        r = take_prefix(url, start + length, &p);
    }
    if (r < 0) {
        return r;
    }
    if (!fits(p.region, sizeof(p.region), setting(o->region, regions, "us-east-1")) ||
        strspn(p.region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(p.region)) {
        return tl_fail(TL_E_CONFIG, "s3.region is no region: right is a word like "
                                    "eu-central-1");
    }
    if (!fits(p.ca_file, sizeof(p.ca_file), setting(o->ca_file, authorities, ""))) {
        return tl_fail(TL_E_CONFIG, "s3.ca_file is longer than %u characters",
                       TL_PATH_MAX - 1u);
    }
    r = make_base(o, &p);
    if (r == 0) {
        *ret_place = p;
    }
    return r;
}
