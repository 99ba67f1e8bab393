/* entry.c - members and the end as JSON in Redis, and back, trusting nothing read.
 *
 * 64-bit identities are decimal strings, since JSON's numbers lose them in many
 * readers; counters are numbers. "epoch" comes first: the script that raises an epoch
 * rewrites it in place (lua.c). */
#include "throughline/config.h"

#include "member_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tl_entry_field(enum tl_role role, uint32_t index, char ret_field[TL_FIELD_MAX]) {
    (void)snprintf(ret_field, TL_FIELD_MAX, "%s/%" PRIu32, tl_role_name(role), index);
}

/* `object` as json_pack_ex() gave it, with what it said. */
static int dump(json_t *object, const json_error_t *error, char **ret_text) {
    if (object == NULL && json_error_code(error) == json_error_invalid_utf8) {
        return tl_fail(TL_E_INVALID, "membership: an address or reason is no UTF-8");
    }
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "membership: out of memory");
    }
    *ret_text = text;
    return 0;
}

int tl_entry_encode(const struct tl_member_entry *e, char **ret_text) {
    char incarnation[24];
    (void)snprintf(incarnation, sizeof(incarnation), "%" PRIu64, e->incarnation);
    json_error_t error;
    json_t *object = json_pack_ex(
        &error, 0, "{sI ss sI sI si si ss ss ss}", "epoch", (json_int_t)e->epoch,
        "incarnation", incarnation, "version", (json_int_t)e->version, "beat",
        (json_int_t)e->beat, "state", (int)e->state, "pid", (int)e->pid, "address",
        e->address, "http", e->http, "tail", e->tail);
    return dump(object, &error, ret_text);
}

/* ---- reading ------------------------------------------------------------------ */

static bool get_u64(const json_t *object, const char *key, uint64_t *ret_value) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0) {
        return false;
    }
    *ret_value = (uint64_t)json_integer_value(v);
    return true;
}

static bool get_text(const json_t *object, const char *key, char *ret_text,
                     size_t size) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v) || json_string_length(v) >= size) {
        return false;
    }
    memcpy(ret_text, json_string_value(v), json_string_length(v) + 1);
    return true;
}

/* A decimal number without sign, blanks or leading zeros, and nothing after it. */
static bool parse_decimal(const char *text, size_t size, uint64_t max,
                          uint64_t *ret_value) {
    uint64_t value = 0;
    if (size == 0 || (size > 1 && text[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text[i] - '0';
        if (digit > 9 || value > (max - digit) / 10) {
            return false;
        }
        value = 10 * value + digit;
    }
    *ret_value = value;
    return true;
}

static bool decode_field(const char *field, size_t size, struct tl_member_entry *e) {
    const char *slash = memchr(field, '/', size);
    size_t name = slash == NULL ? 0 : (size_t)(slash - field);
    for (int role = TL_ROLE_SERVER; name > 0 && role <= TL_ROLE_CLI; role++) {
        const char *known = tl_role_name((enum tl_role)role);
        uint64_t index;
        if (strlen(known) == name && memcmp(known, field, name) == 0) {
            bool is_good =
                parse_decimal(slash + 1, size - name - 1, UINT32_MAX, &index);
            e->role = (enum tl_role)role;
            e->index = is_good ? (uint32_t)index : 0;
            return is_good;
        }
    }
    return false;
}

static bool decode_body(const json_t *object, struct tl_member_entry *e) {
    char incarnation[24];
    uint64_t state, pid;
    bool is_good =
        get_u64(object, "epoch", &e->epoch) &&
        get_u64(object, "version", &e->version) && get_u64(object, "beat", &e->beat) &&
        get_u64(object, "state", &state) && get_u64(object, "pid", &pid) &&
        state <= TL_MEMBER_LEAVING && pid <= INT32_MAX &&
        get_text(object, "address", e->address, sizeof(e->address)) &&
        get_text(object, "http", e->http, sizeof(e->http)) &&
        (json_object_get(object, "tail") == NULL || /* of an earlier version */
         get_text(object, "tail", e->tail, sizeof(e->tail))) &&
        get_text(object, "incarnation", incarnation, sizeof(incarnation)) &&
        parse_decimal(incarnation, strlen(incarnation), UINT64_MAX, &e->incarnation);
    if (is_good) {
        e->state = (enum tl_member_state)state;
        e->pid = (int32_t)pid;
    }
    return is_good;
}

int tl_entry_decode(const char *field, size_t field_size, const char *text,
                    size_t text_size, struct tl_member_entry *ret_entry) {
    struct tl_member_entry e = {0};
    if (text_size > TL_ENTRY_TEXT_MAX || !decode_field(field, field_size, &e)) {
        return TL_E_CORRUPT;
    }
    json_t *object = NULL;
    int rc = tl_json_parse(text, text_size, "member", TL_E_CORRUPT, &object);
    if (rc != 0) {
        return rc;
    }
    bool is_good = decode_body(object, &e);
    json_decref(object);
    if (!is_good) {
        return TL_E_CORRUPT;
    }
    *ret_entry = e;
    return 0;
}

/* ---- the end ------------------------------------------------------------------ */

int tl_end_encode(const char *reason, const char *by, char **ret_text) {
    json_error_t error;
    json_t *object = json_pack_ex(&error, 0, "{ss ss}", "reason", reason, "by", by);
    return dump(object, &error, ret_text);
}

int tl_end_decode(const char *text, size_t text_size, char *ret_reason, size_t size) {
    json_t *object = NULL;
    int rc = tl_json_parse(text, text_size, "end", TL_E_CORRUPT, &object);
    if (rc != 0) {
        return rc;
    }
    const json_t *reason = json_object_get(object, "reason");
    bool is_good = json_is_string(reason);
    if (is_good && size > 0) {
        (void)snprintf(ret_reason, size, "%s", json_string_value(reason));
    }
    json_decref(object);
    return is_good ? 0 : TL_E_CORRUPT;
}
