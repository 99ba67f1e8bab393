/* manifest.c - what a snapshot is, as JSON, and back.
 *
 * Reading is strict: every field is there, in its range, and no other. The last one,
 * "check", is a hash over all others, so that a damaged digit is not taken for another
 * job's snapshot. It is computed over the compact text with sorted keys, and does not
 * depend on how the file is laid out. */
#include "throughline/config.h"

#include "snapshot_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FORMAT         "throughline-snapshot"
#define FORMAT_VERSION 2
#define MANIFEST_MAX   (2u << 20)
#define HEX_U64        17u
#define NUMBER_MAX     ((uint64_t)INT64_MAX)

/* Fields that are plain numbers in the structure and in JSON. */
static const struct {
    const char *key;
    size_t offset;
} numbers[] = {
    {"first", offsetof(struct tl_manifest, first)},
    {"count", offsetof(struct tl_manifest, count)},
    {"parameters", offsetof(struct tl_manifest, parameters)},
    {"version", offsetof(struct tl_manifest, version)},
    {"position", offsetof(struct tl_manifest, position)},
    {"epoch", offsetof(struct tl_manifest, epoch)},
    {"created_unix_ms", offsetof(struct tl_manifest, created_unix_ms)},
    {"state_bytes", offsetof(struct tl_manifest, state_bytes)},
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))
/* format, format_version, job, run, fold_digest, shard, shards, compression, digest,
 * parts; "check" has been taken out before they are counted. */
#define FIELDS  (NUMBERS + 10u)

void tl_manifest_done(struct tl_manifest *m) {
    free(m->parts);
    m->parts = NULL;
    m->part_count = 0;
}

void tl_manifests_free(struct tl_manifest *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        tl_manifest_done(&list[i]);
    }
    free(list);
}

/* ---- the rules that both ways share ------------------------------------------- */

static bool is_name(const char *text, size_t size) {
    const size_t length = strnlen(text, size);
    return length > 0 && length < size &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static bool is_hex(const char *text, size_t digits) {
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

static bool parts_are_sound(const struct tl_manifest *m) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < m->part_count; i++) {
        const uint64_t bytes = m->parts[i].bytes;
        if (!tl_part_is(m->parts[i].name, i) || bytes == 0 ||
            bytes > NUMBER_MAX - total) {
            return false;
        }
        total += bytes;
    }
    return m->zstd || total == m->state_bytes;
}

/* The first field that cannot be, or NULL. */
static const char *unsound(const struct tl_manifest *m) {
    if (!is_name(m->job, sizeof(m->job))) {
        return "job";
    }
    if (!is_name(m->run, sizeof(m->run))) {
        return "run";
    }
    if (m->shard >= m->shards) {
        return "shard";
    }
    if (m->count == 0 || m->first > m->parameters ||
        m->count > m->parameters - m->first) {
        return "count";
    }
    if (m->state_bytes == 0) {
        return "state_bytes";
    }
    if (!is_hex(m->digest, TL_SHA256_HEX - 1u)) {
        return "digest";
    }
    if (m->part_count == 0 || m->part_count > TL_PARTS_MAX || !parts_are_sound(m)) {
        return "parts";
    }
    return NULL;
}

/* Hash over every field of `root` but the check itself. */
static int check_of(const json_t *root, char ret_hex[HEX_U64]) {
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a manifest");
    }
    (void)snprintf(ret_hex, HEX_U64, "%016" PRIx64,
                   (uint64_t)XXH3_64bits(text, strlen(text)));
    free(text);
    return 0;
}

/* ---- writing ------------------------------------------------------------------ */

static json_t *hex_json(uint64_t value) {
    return json_sprintf("%016" PRIx64, value);
}

static json_t *parts_json(const struct tl_manifest *m) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < m->part_count; i++) {
        const struct tl_part *p = &m->parts[i];
        json_t *part = json_pack("{s:s, s:I, s:o}", "name", p->name, "bytes",
                                 (json_int_t)p->bytes, "xxh3", hex_json(p->xxh3));
        if (json_array_append_new(list, part) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* NULL on no memory: a NULL value makes the packing fail. */
static json_t *manifest_json(const struct tl_manifest *m) {
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:s, s:o, s:I, s:I, s:s, s:s}", "format", FORMAT,
                  "format_version", FORMAT_VERSION, "job", m->job, "run", m->run,
                  "fold_digest", hex_json(m->fold_digest), "shard",
                  (json_int_t)m->shard, "shards", (json_int_t)m->shards, "compression",
                  m->zstd ? "zstd" : "none", "digest", m->digest);
    int failures = root == NULL;
    for (size_t i = 0; i < NUMBERS && root != NULL; i++) {
        const uint64_t *value =
            (const uint64_t *)(const void *)((const char *)m + numbers[i].offset);
        failures += json_object_set_new(root, numbers[i].key,
                                        json_integer((json_int_t)*value)) < 0;
    }
    if (failures == 0) {
        failures += json_object_set_new(root, "parts", parts_json(m)) < 0;
    }
    if (failures > 0) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static bool numbers_fit(const struct tl_manifest *m) {
    for (size_t i = 0; i < NUMBERS; i++) {
        if (*(const uint64_t *)(const void *)((const char *)m + numbers[i].offset) >
            NUMBER_MAX) {
            return false;
        }
    }
    return true;
}

int tl_manifest_encode(const struct tl_manifest *m, char **ret_text) {
    const char *wrong = numbers_fit(m) ? unsound(m) : "numbers above 2^63";
    if (wrong != NULL) {
        return tl_fail(TL_E_INVALID, "manifest of version %" PRIu64 ": %s", m->version,
                       wrong);
    }
    char check[HEX_U64];
    json_t *root = manifest_json(m);
    char *text = NULL;
    if (root != NULL && check_of(root, check) == 0 &&
        json_object_set_new(root, "check", json_string(check)) == 0) {
        text = json_dumps(root, JSON_INDENT(2));
    }
    json_decref(root);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for a manifest");
    }
    *ret_text = text;
    return 0;
}

/* ---- reading ------------------------------------------------------------------ */

/* A text of fewer than `size` bytes, copied. */
static bool take_text(const json_t *o, const char *key, char *ret_text, size_t size) {
    const json_t *value = json_object_get(o, key);
    if (!json_is_string(value) || json_string_length(value) >= size ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        return false;
    }
    memcpy(ret_text, json_string_value(value), json_string_length(value) + 1u);
    return true;
}

static bool take_number(const json_t *o, const char *key, uint64_t max,
                        uint64_t *ret_value) {
    const json_t *value = json_object_get(o, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max) {
        return false;
    }
    *ret_value = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_u32(const json_t *o, const char *key, uint32_t *ret_value) {
    uint64_t value = 0;
    const bool is_good = take_number(o, key, UINT32_MAX - 1u, &value);
    *ret_value = (uint32_t)value;
    return is_good;
}

static bool take_hex(const json_t *o, const char *key, uint64_t *ret_value) {
    char text[HEX_U64];
    if (!take_text(o, key, text, sizeof(text)) || !is_hex(text, HEX_U64 - 1u)) {
        return false;
    }
    *ret_value = strtoull(text, NULL, 16);
    return true;
}

static bool take_compression(const json_t *o, bool *ret_zstd) {
    char text[8];
    if (!take_text(o, "compression", text, sizeof(text))) {
        return false;
    }
    *ret_zstd = strcmp(text, "zstd") == 0;
    return *ret_zstd || strcmp(text, "none") == 0;
}

static bool take_parts(const json_t *o, struct tl_manifest *m) {
    const json_t *list = json_object_get(o, "parts");
    const size_t count = json_array_size(list);
    if (count == 0 || count > TL_PARTS_MAX) {
        return false;
    }
    m->parts = calloc(count, sizeof(m->parts[0]));
    if (m->parts == NULL) {
        return false;
    }
    m->part_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const json_t *part = json_array_get(list, i);
        struct tl_part *p = &m->parts[i];
        if (json_object_size(part) != 3 ||
            !take_text(part, "name", p->name, sizeof(p->name)) ||
            !take_number(part, "bytes", NUMBER_MAX, &p->bytes) ||
            !take_hex(part, "xxh3", &p->xxh3)) {
            return false;
        }
    }
    return true;
}

/* The first field that is missing or not what it should be, or NULL. */
static const char *take_fields(const json_t *root, struct tl_manifest *m) {
    for (size_t i = 0; i < NUMBERS; i++) {
        uint64_t *value = (uint64_t *)(void *)((char *)m + numbers[i].offset);
        if (!take_number(root, numbers[i].key, NUMBER_MAX, value)) {
            return numbers[i].key;
        }
    }
    if (!take_text(root, "job", m->job, sizeof(m->job))) {
        return "job";
    }
    if (!take_text(root, "run", m->run, sizeof(m->run))) {
        return "run";
    }
    if (!take_hex(root, "fold_digest", &m->fold_digest)) {
        return "fold_digest";
    }
    if (!take_u32(root, "shard", &m->shard) || !take_u32(root, "shards", &m->shards)) {
        return "shard";
    }
    if (!take_compression(root, &m->zstd)) {
        return "compression";
    }
    if (!take_text(root, "digest", m->digest, sizeof(m->digest))) {
        return "digest";
    }
    if (!take_parts(root, m)) {
        return "parts";
    }
    return json_object_size(root) == FIELDS ? unsound(m) : "an unknown field";
}

/* The check comes first: a format number is only believed when it is intact. */
static int check_root(json_t *root, const char *where) {
    char stored[HEX_U64];
    char computed[HEX_U64];
    char format[sizeof(FORMAT)];
    uint64_t format_version = 0;
    if (!take_text(root, "check", stored, sizeof(stored))) {
        return tl_fail(TL_E_CORRUPT, "%s: no field \"check\"", where);
    }
    (void)json_object_del(root, "check");
    const int r = check_of(root, computed);
    if (r < 0) {
        return r;
    }
    if (strcmp(stored, computed) != 0) {
        return tl_fail(TL_E_CORRUPT, "%s: its fields do not match its check", where);
    }
    if (!take_text(root, "format", format, sizeof(format)) ||
        strcmp(format, FORMAT) != 0) {
        return tl_fail(TL_E_CORRUPT, "%s: is not a %s", where, FORMAT);
    }
    if (!take_number(root, "format_version", INT_MAX, &format_version) ||
        format_version != FORMAT_VERSION) {
        return tl_fail(TL_E_UNSUPPORTED,
                       "%s: format %" PRIu64 ", this program reads %d: use %s one, or "
                       "another store",
                       where, format_version, FORMAT_VERSION,
                       format_version < FORMAT_VERSION ? "an older" : "a newer");
    }
    return 0;
}

static int decode(const char *bytes, size_t size, const char *where,
                  struct tl_manifest *ret_manifest) {
    json_t *root = NULL;
    int r = tl_json_parse(bytes, size, where, TL_E_CORRUPT, &root);
    if (r < 0) {
        return r;
    }
    struct tl_manifest m = {.part_count = 0};
    r = check_root(root, where);
    if (r == 0) {
        const char *wrong = take_fields(root, &m);
        if (wrong != NULL) {
            r = tl_fail(TL_E_CORRUPT, "%s: field \"%s\" is not legal", where, wrong);
        }
    }
    json_decref(root);
    if (r < 0) {
        tl_manifest_done(&m);
        return r;
    }
    *ret_manifest = m;
    return 0;
}

/* A good snapshot must not pass for a damaged one for want of memory. */
int tl_manifest_decode(const char *bytes, size_t size, const char *where,
                       struct tl_manifest *ret_manifest) {
    int r = decode(bytes, size, where, ret_manifest);
    if (r != TL_E_CORRUPT) {
        return r;
    }
    return tl_json_has_room(size) ? decode(bytes, size, where, ret_manifest)
                                  : tl_fail(TL_E_NOMEM, "%s: out of memory", where);
}

int tl_manifest_read(struct tl_store *s, const struct tl_snapshot_key *key,
                     struct tl_manifest *ret_manifest) {
    char name[TL_OBJECT_NAME_MAX];
    char *bytes = NULL;
    size_t size = 0;
    tl_name_manifest(key, name);
    int r = tl_store_read_all(s, name, MANIFEST_MAX, &bytes, &size);
    if (r < 0) {
        return r;
    }
    struct tl_manifest m = {.part_count = 0};
    r = tl_manifest_decode(bytes, size, name, &m);
    free(bytes);
    if (r < 0) {
        return r;
    }
    const struct tl_snapshot_key own = tl_manifest_key(&m);
    if (own.shard != key->shard || tl_snapshot_compare(&own, key) != 0) {
        tl_manifest_done(&m);
        return tl_fail(TL_E_CORRUPT, "%s: describes another snapshot", name);
    }
    *ret_manifest = m;
    return 0;
}
