/* s3_credentials.c - who we are to an S3 server, from where other S3 clients take it.
 *
 * The first source that names an access key is the one; its secret must be there too.
 * The credentials file is read here and not by a library for INI files, since those cut
 * lines at a length that session tokens exceed. */
#include "s3_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (256u << 10)

static int too_long(const char *what) {
    return tl_fail(TL_E_CONFIG, "%s is too long for what it should be", what);
}

static int put(char *to, size_t size, const char *from, size_t length,
               const char *what) {
    if (length >= size) {
        return too_long(what);
    }
    memcpy(to, from, length);
    to[length] = '\0';
    return 0;
}

/* ---- files -------------------------------------------------------------------- */

/* A whole small text file; the caller frees it. */
static int read_text(const char *path, const char *what, char **ret_text) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return tl_fail(TL_E_CONFIG, "%s: cannot read %s: %s", what, path,
                       strerror(errno));
    }
    char *text = malloc(FILE_MAX + 1u);
    const size_t size = text == NULL ? 0 : fread(text, 1, FILE_MAX + 1u, file);
    const bool failed = ferror(file) != 0;
    (void)fclose(file);
    if (text == NULL || failed || size > FILE_MAX) {
        free(text);
        return text == NULL
                   ? tl_fail(TL_E_NOMEM, "no memory to read %s", path)
                   : tl_fail(TL_E_CONFIG, "%s: %s is not such a file", what, path);
    }
    text[size] = '\0';
    *ret_text = text;
    return 0;
}

static void free_text(char *text) {
    explicit_bzero(text, strlen(text));
    free(text);
}

/* The file's one line. */
static int read_line(const char *path, const char *what, char *to, size_t size) {
    char *text = NULL;
    int r = read_text(path, what, &text);
    if (text == NULL) {
        return r;
    }
    const size_t length = strcspn(text, "\r\n");
    r = length == 0 ? tl_fail(TL_E_CONFIG, "%s: %s is empty", what, path)
                    : put(to, size, text, length, what);
    free_text(text);
    return r;
}

/* ---- variables ---------------------------------------------------------------- */

/* NAME, or what the file named by NAME_FILE holds; "" when there is neither. */
static int from_variable(const char *name, char *to, size_t size) {
    char file[64];
    const char *value = getenv(name);
    if (value != NULL && value[0] != '\0') {
        return put(to, size, value, strlen(value), name);
    }
    (void)snprintf(file, sizeof(file), "%s_FILE", name);
    value = getenv(file);
    if (value != NULL && value[0] != '\0') {
        return read_line(value, file, to, size);
    }
    to[0] = '\0';
    return 0;
}

static int from_environment(struct s3_credentials *c) {
    int r = from_variable("AWS_ACCESS_KEY_ID", c->access_key, sizeof(c->access_key));
    if (r == 0) {
        r = from_variable("AWS_SECRET_ACCESS_KEY", c->secret_key,
                          sizeof(c->secret_key));
    }
    return r < 0 ? r
                 : from_variable("AWS_SESSION_TOKEN", c->session_token,
                                 sizeof(c->session_token));
}

/* ---- the shared credentials file ---------------------------------------------- */

struct line {
    const char *start;
    size_t length; /* without white space at both ends */
};

static struct line trim(const char *start, const char *end) {
    while (start < end && strchr(" \t\r", *start) != NULL) {
        start++;
    }
    while (end > start && strchr(" \t\r", end[-1]) != NULL) {
        end--;
    }
    return (struct line){start, (size_t)(end - start)};
}

static bool is_section(const struct line *l, const char *profile) {
    if (l->length < 2 || l->start[l->length - 1u] != ']') {
        return false;
    }
    const struct line name = trim(l->start + 1, l->start + l->length - 1);
    return name.length == strlen(profile) &&
           strncmp(name.start, profile, name.length) == 0;
}

static int take_setting(const struct line *l, struct s3_credentials *c) {
    const struct {
        const char *key;
        char *to;
        size_t size;
    } keys[] = {
        {"aws_access_key_id", c->access_key, sizeof(c->access_key)},
        {"aws_secret_access_key", c->secret_key, sizeof(c->secret_key)},
        {"aws_session_token", c->session_token, sizeof(c->session_token)},
    };
    const char *equals = memchr(l->start, '=', l->length);
    if (equals == NULL) {
        return 0;
    }
    const struct line key = trim(l->start, equals);
    const struct line value = trim(equals + 1, l->start + l->length);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (key.length == strlen(keys[i].key) &&
            strncmp(key.start, keys[i].key, key.length) == 0) {
            return put(keys[i].to, keys[i].size, value.start, value.length,
                       keys[i].key);
        }
    }
    return 0;
}

int tl_s3_profile(const char *text, const char *profile,
                  struct s3_credentials *ret_credentials) {
    struct s3_credentials c = {.access_key = ""};
    bool is_ours = false;
    bool found = false;
    int r = 0;
    while (*text != '\0' && r == 0) {
        const char *end = text + strcspn(text, "\n");
        const struct line l = trim(text, end);
        if (l.length > 0 && l.start[0] == '[') {
            is_ours = is_section(&l, profile);
            found = found || is_ours;
        } else if (l.length > 0 && l.start[0] != '#' && l.start[0] != ';' && is_ours) {
            r = take_setting(&l, &c);
        }
        text = *end == '\0' ? end : end + 1;
    }
    if (r == 0 && !found) {
        return TL_E_NOTFOUND;
    }
    if (r == 0) {
        *ret_credentials = c;
    }
    explicit_bzero(&c, sizeof(c));
    return r;
}

/* Which file: "" when no home is known. Was it asked for by name? */
static bool name_file(const struct tl_s3_options *o, char path[TL_PATH_MAX]) {
    const char *variable = getenv("AWS_SHARED_CREDENTIALS_FILE");
    const char *home = getenv("HOME");
    path[0] = '\0';
    if (o->credentials_file[0] != '\0') {
        (void)snprintf(path, TL_PATH_MAX, "%s", o->credentials_file);
        return true;
    }
    if (variable != NULL && variable[0] != '\0') {
        (void)snprintf(path, TL_PATH_MAX, "%s", variable);
        return true;
    }
    if (home != NULL && home[0] != '\0') {
        (void)snprintf(path, TL_PATH_MAX, "%s/.aws/credentials", home);
    }
    return false;
}

static int from_file(const struct tl_s3_options *o, struct s3_credentials *c) {
    char path[TL_PATH_MAX];
    char *text = NULL;
    const char *variable = getenv("AWS_PROFILE");
    const char *profile = o->profile;
    if (profile[0] == '\0') {
        profile = variable != NULL && variable[0] != '\0' ? variable : "default";
    }
    const bool is_named = name_file(o, path);
    int r = path[0] == '\0' ? TL_E_CONFIG
                            : read_text(path, "the shared credentials file", &text);
    if (text == NULL) {
        return is_named || r == TL_E_NOMEM ? r : 0;
    }
    r = tl_s3_profile(text, profile, c);
    free_text(text);
    if (r == TL_E_NOTFOUND) {
        return tl_fail(TL_E_CONFIG, "%s has no profile [%s]", path, profile);
    }
    return r < 0 ? tl_fail(r, "%s: %s", path, tl_error_text()) : 0;
}

/* ---- in order ----------------------------------------------------------------- */

static int find(const struct tl_s3_options *o, struct s3_credentials *c) {
    if (o->access_key[0] != '\0' || o->secret_key[0] != '\0') {
        memcpy(c->access_key, o->access_key, sizeof(c->access_key));
        memcpy(c->secret_key, o->secret_key, sizeof(c->secret_key));
        memcpy(c->session_token, o->session_token, sizeof(c->session_token));
        return 0;
    }
    /* Whoever names a profile means it, whatever the environment holds besides. */
    int r = o->profile[0] != '\0' ? 0 : from_environment(c);
    if (r == 0 && c->access_key[0] == '\0' && c->secret_key[0] == '\0') {
        r = from_file(o, c);
    }
    return r;
}

int tl_s3_credentials(const struct tl_s3_options *o,
                      struct s3_credentials *ret_credentials) {
    struct s3_credentials c = {.access_key = ""};
    int r = find(o, &c);
    if (r == 0 && (c.access_key[0] == '\0') != (c.secret_key[0] == '\0')) {
        r = tl_fail(TL_E_CONFIG, "an S3 %s without its %s: give both",
                    c.access_key[0] == '\0' ? "secret key" : "access key",
                    c.access_key[0] == '\0' ? "access key" : "secret key");
    } else if (r == 0 && c.access_key[0] == '\0') {
        r = tl_fail(TL_E_CONFIG,
                    "no credentials for S3: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY (or the same with _FILE), or s3.access_key "
                    "and s3.secret_key_file, or write ~/.aws/credentials");
    }
    if (r == 0) {
        *ret_credentials = c;
    }
    explicit_bzero(&c, sizeof(c));
    return r;
}
