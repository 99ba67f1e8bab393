/* secret.c - a secret file's text becomes keys; no error's text ever repeats it. */
#include "throughline/auth.h"

#include "mac.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEY_PREFIX "throughline-key:"

/* ---- HKDF-SHA256 (RFC 5869), for one block of output ----------------------------- */

static int extract(const void *secret, size_t size, uint8_t ret_key[TL_KEY_BYTES]) {
    static const char salt[] = "throughline";
    return tl_mac(salt, sizeof(salt) - 1, secret, size, ret_key);
}

static int expand(const uint8_t key[TL_KEY_BYTES], const char *role,
                  uint8_t ret_key[TL_KEY_BYTES]) {
    char info[64];
    int n = snprintf(info, sizeof(info), "role %s\x01", role);
    return tl_mac(key, TL_KEY_BYTES, info, (size_t)n, ret_key);
}

/* ---- a role's key as text ----------------------------------------------------------
 */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *text, uint8_t ret_key[TL_KEY_BYTES]) {
    for (size_t i = 0; i < TL_KEY_BYTES; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        ret_key[i] = (uint8_t)(16 * high + low);
    }
    return true;
}

static enum tl_role role_named(const char *name, size_t size) {
    for (enum tl_role role = TL_ROLE_SERVER; role <= TL_ROLE_CLI; role++) {
        const char *known = tl_role_name(role);
        if (strlen(known) == size && memcmp(known, name, size) == 0) {
            return role;
        }
    }
    return 0;
}

static int parse_role_key(const char *text, size_t size, struct tl_secret *ret_secret) {
    const char *colon = memchr(text, ':', size);
    size_t name = colon == NULL ? 0 : (size_t)(colon - text);
    struct tl_secret s = {.role = role_named(text, name)};
    if (s.role == 0 || size - name - 1 != (size_t)2 * TL_KEY_BYTES ||
        !read_hex(colon + 1, s.key)) {
        return tl_fail(TL_E_CONFIG,
                       "a role's key is \"" KEY_PREFIX "ROLE:\" and %u "
                       "hexadecimal digits, as `throughline secret` makes it",
                       2 * TL_KEY_BYTES);
    }
    *ret_secret = s;
    return 0;
}

void tl_secret_print(const struct tl_secret *role_key, char ret_text[TL_ROLE_KEY_MAX]) {
    int at = snprintf(ret_text, TL_ROLE_KEY_MAX,
                      KEY_PREFIX "%s:", tl_role_name(role_key->role));
    for (size_t i = 0; i < TL_KEY_BYTES; i++) {
        at += snprintf(ret_text + at, TL_ROLE_KEY_MAX - (size_t)at, "%02x",
                       role_key->key[i]);
    }
}

/* ---- from text to keys ----------------------------------------------------------- */

int tl_secret_parse(const char *text, size_t size, struct tl_secret *ret_secret) {
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) {
        size--;
    }
    if (size < TL_SECRET_MIN || size > TL_SECRET_MAX) {
        return tl_fail(
            TL_E_CONFIG,
            "a secret has %u to %u bytes, not %zu; `throughline secret FILE` "
            "makes one",
            TL_SECRET_MIN, TL_SECRET_MAX, size);
    }
    const size_t prefix = strlen(KEY_PREFIX);
    if (size > prefix && memcmp(text, KEY_PREFIX, prefix) == 0) {
        return parse_role_key(text + prefix, size - prefix, ret_secret);
    }
    struct tl_secret s = {0};
    int rc = extract(text, size, s.key);
    if (rc == 0) {
        *ret_secret = s;
    }
    return rc;
}

int tl_secret_read(const char *path, struct tl_secret *ret_secret) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return tl_fail(TL_E_CONFIG, "secret file %s: cannot be read: %s", path,
                       strerror(errno));
    }
    char text[TL_SECRET_MAX + 3];         /* a line end, and one byte too many */
    (void)setvbuf(file, NULL, _IONBF, 0); /* no copy that nobody clears */
    size_t size = fread(text, 1, sizeof(text), file);
    const bool failed = ferror(file) != 0;
    (void)fclose(file);
    int rc = failed ? tl_fail(TL_E_CONFIG, "it cannot be read")
                    : tl_secret_parse(text, size, ret_secret);
    explicit_bzero(text, sizeof(text));
    return rc == 0 ? 0 : tl_fail(rc, "secret file %s: %s", path, tl_error_text());
}

int tl_secret_for(const struct tl_secret *secret, enum tl_role role,
                  struct tl_secret *ret_secret) {
    if (secret->role == role) {
        *ret_secret = *secret;
        return 0;
    }
    if (secret->role != 0) {
        return tl_fail(TL_E_AUTH, "this key is good for a %s, not for a %s",
                       tl_role_name(secret->role), tl_role_name(role));
    }
    struct tl_secret s = {.role = role};
    int rc = expand(secret->key, tl_role_name(role), s.key);
    if (rc == 0) {
        *ret_secret = s;
    }
    return rc;
}

void tl_secret_clear(struct tl_secret *secret) {
    explicit_bzero(secret, sizeof(*secret));
}
