/* hello.c - the two payloads that open a connection, as bytes. */
#include "throughline/wire.h"

#include "bytes.h"

enum {
    AT_ROLE = 0,
    AT_HELLO_RESERVED = 4,
    AT_JOB = 8,
    AT_RUN = AT_JOB + TL_NAME_MAX,
    AT_DIGEST = AT_RUN + TL_NAME_MAX,
    AT_HELLO_WRITER = AT_DIGEST + 8,
    AT_HELLO_NONCE = AT_HELLO_WRITER + 8,
};
_Static_assert(AT_HELLO_NONCE + TL_NONCE_BYTES == TL_HELLO_BYTES, "hello layout");

enum {
    AT_WRITER = 0,
    AT_PARAMETERS = 8,
    AT_FIRST = 16,
    AT_COUNT = 24,
    AT_SHARDS = 32,
    AT_CONSISTENCY = 36,
    AT_IGNORES_NORM = 37,
    AT_WELCOME_RESERVED = 38,
};
_Static_assert(AT_WELCOME_RESERVED + 2 == TL_WELCOME_BYTES, "welcome layout");

#define CONSISTENCY_LAST 2u /* enum tl_consistency: async, sync, ssp */

const char *tl_role_name(enum tl_role role) {
    switch (role) {
    case TL_ROLE_SERVER:
        return "server";
    case TL_ROLE_REPLICA:
        return "replica";
    case TL_ROLE_WORKER:
        return "worker";
    case TL_ROLE_CHECKPOINTER:
        return "checkpointer";
    case TL_ROLE_MONITOR:
        return "monitor";
    case TL_ROLE_CLI:
        return "cli";
    }
    return "?";
}

/* ---- names -------------------------------------------------------------------- */

static bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* A name fills its field with zeroes to the end, so that one name has one encoding. */
static void put_name(uint8_t *at, const char name[TL_NAME_MAX]) {
    size_t length = strnlen(name, TL_NAME_MAX - 1);
    memset(at, 0, TL_NAME_MAX);
    memcpy(at, name, length);
}

static int get_name(const uint8_t *at, const char *field, char ret_name[TL_NAME_MAX]) {
    size_t length = 0;
    while (length < TL_NAME_MAX && is_name_character((char)at[length])) {
        length++;
    }
    for (size_t i = length; i < TL_NAME_MAX; i++) {
        if (at[i] != 0) {
            return tl_fail(TL_E_PROTOCOL,
                           "hello: the %s's name has a character beside a-z, 0-9, '-'",
                           field);
        }
    }
    if (length == TL_NAME_MAX) {
        return tl_fail(TL_E_PROTOCOL,
                       "hello: the %s's name is longer than %u characters", field,
                       TL_NAME_MAX - 1);
    }
    memcpy(ret_name, at, TL_NAME_MAX);
    return 0;
}

/* ---- hello -------------------------------------------------------------------- */

void tl_hello_encode(const struct tl_hello *h, uint8_t buf[TL_HELLO_BYTES]) {
    put_u32(buf + AT_ROLE, (uint32_t)h->role);
    put_u32(buf + AT_HELLO_RESERVED, 0);
    put_name(buf + AT_JOB, h->job);
    put_name(buf + AT_RUN, h->run);
    put_u64(buf + AT_DIGEST, h->job_digest);
    put_u64(buf + AT_HELLO_WRITER, h->writer);
    memcpy(buf + AT_HELLO_NONCE, h->nonce, TL_NONCE_BYTES);
}

int tl_hello_decode(const uint8_t *bytes, size_t size, struct tl_hello *ret_hello) {
    if (size != TL_HELLO_BYTES) {
        return tl_fail(TL_E_PROTOCOL, "hello: %zu bytes instead of %u", size,
                       TL_HELLO_BYTES);
    }
    uint32_t role = get_u32(bytes + AT_ROLE);
    if (role < TL_ROLE_SERVER || role > TL_ROLE_CLI) {
        return tl_fail(TL_E_PROTOCOL, "hello: role %u is not known", role);
    }
    if (get_u32(bytes + AT_HELLO_RESERVED) != 0) {
        return tl_fail(TL_E_PROTOCOL, "hello: reserved bits are set");
    }
    struct tl_hello h = {
        .role = (enum tl_role)role,
        .job_digest = get_u64(bytes + AT_DIGEST),
        .writer = get_u64(bytes + AT_HELLO_WRITER),
    };
    memcpy(h.nonce, bytes + AT_HELLO_NONCE, TL_NONCE_BYTES);
    int rc = get_name(bytes + AT_JOB, "job", h.job);
    if (rc == 0) {
        rc = get_name(bytes + AT_RUN, "run", h.run);
    }
    if (rc == 0) {
        *ret_hello = h;
    }
    return rc;
}

/* ---- welcome ------------------------------------------------------------------ */

void tl_welcome_encode(const struct tl_welcome *w, uint8_t buf[TL_WELCOME_BYTES]) {
    memset(buf, 0, TL_WELCOME_BYTES);
    put_u64(buf + AT_WRITER, w->writer);
    put_u64(buf + AT_PARAMETERS, w->parameters);
    put_u64(buf + AT_FIRST, w->first);
    put_u64(buf + AT_COUNT, w->count);
    put_u32(buf + AT_SHARDS, w->shards);
    buf[AT_CONSISTENCY] = w->consistency;
    buf[AT_IGNORES_NORM] = w->ignores_norm ? 1 : 0;
}

static bool slice_fits(const struct tl_welcome *w) {
    return w->parameters > 0 && w->parameters <= TL_PARAMETERS_MAX && w->count > 0 &&
           w->count <= w->parameters && w->first <= w->parameters - w->count &&
           w->shards > 0 && w->shards <= w->parameters;
}

int tl_welcome_decode(const uint8_t *bytes, size_t size,
                      struct tl_welcome *ret_welcome) {
    if (size != TL_WELCOME_BYTES) {
        return tl_fail(TL_E_PROTOCOL, "welcome: %zu bytes instead of %u", size,
                       TL_WELCOME_BYTES);
    }
    const uint8_t *reserved = bytes + AT_WELCOME_RESERVED;
    struct tl_welcome w = {
        .writer = get_u64(bytes + AT_WRITER),
        .shards = get_u32(bytes + AT_SHARDS),
        .parameters = get_u64(bytes + AT_PARAMETERS),
        .first = get_u64(bytes + AT_FIRST),
        .count = get_u64(bytes + AT_COUNT),
        .consistency = bytes[AT_CONSISTENCY],
        .ignores_norm = bytes[AT_IGNORES_NORM] == 1,
    };
    if (!slice_fits(&w)) {
        return tl_fail(TL_E_PROTOCOL,
                       "welcome: the shard's slice does not fit the model");
    }
    if (w.consistency > CONSISTENCY_LAST || bytes[AT_IGNORES_NORM] > 1 ||
        (reserved[0] | reserved[1]) != 0) {
        return tl_fail(TL_E_PROTOCOL,
                       "welcome: consistency or reserved bits not known");
    }
    *ret_welcome = w;
    return 0;
}
