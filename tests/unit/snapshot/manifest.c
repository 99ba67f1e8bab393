/* Manifests: what is written is read again; whatever is wrong is found. */
#include "snapshot_internal.h"
#include "test.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static struct tl_part parts[2] = {
    {.name = "part-0000-00000000000000ab", .bytes = 600, .xxh3 = 0xfedcba9876543210u},
    {.name = "part-0001-00000000000000ab", .bytes = 400, .xxh3 = 1},
};

static struct tl_manifest sample(void) {
    return (struct tl_manifest){
        .job = "fashion-cnn",
        .run = "r-1",
        .fold_digest = 0x8000000000000001u,
        .shard = 1,
        .shards = 3,
        .first = 100,
        .count = 50,
        .parameters = 200,
        .version = 1200,
        .position = 1300,
        .epoch = 4,
        .created_unix_ms = 1700000000123u,
        .state_bytes = 1000,
        .digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        .part_count = 2,
        .parts = parts,
    };
}

static char *encoded(void) {
    const struct tl_manifest m = sample();
    char *text = NULL;
    assert_int_equal(tl_manifest_encode(&m, &text), 0);
    return text;
}

static bool is_sample(const struct tl_manifest *m) {
    const struct tl_manifest s = sample();
    return strcmp(m->job, s.job) == 0 && strcmp(m->run, s.run) == 0 &&
           m->fold_digest == s.fold_digest && m->shard == s.shard &&
           m->shards == s.shards && m->first == s.first && m->count == s.count &&
           m->parameters == s.parameters && m->version == s.version &&
           m->position == s.position && m->epoch == s.epoch &&
           m->created_unix_ms == s.created_unix_ms && m->zstd == s.zstd &&
           m->state_bytes == s.state_bytes && strcmp(m->digest, s.digest) == 0 &&
           m->part_count == 2 && memcmp(m->parts, parts, sizeof(parts)) == 0;
}

static void what_is_written_is_read_again(void **state) {
    char *text = encoded();
    struct tl_manifest m;
    (void)state;
    assert_int_equal(tl_manifest_decode(text, strlen(text), "m", &m), 0);
    assert_true(is_sample(&m));
    tl_manifest_done(&m);
    free(text);
}

static void every_damaged_bit_is_found_or_harmless(void **state) {
    char *text = encoded();
    const size_t size = strlen(text);
    size_t found = 0;
    (void)state;
    for (size_t bit = 0; bit < 8u * size; bit++) {
        struct tl_manifest m;
        text[bit / 8u] = (char)(text[bit / 8u] ^ (1 << bit % 8u));
        const int r = tl_manifest_decode(text, size, "m", &m);
        text[bit / 8u] = (char)(text[bit / 8u] ^ (1 << bit % 8u));
        if (r == 0) {
            /* White space for white space, at most. */
            assert_true(is_sample(&m));
            tl_manifest_done(&m);
        } else {
            assert_int_equal(r, TL_E_CORRUPT);
            found++;
        }
    }
    assert_true(found > 6u * size);
    free(text);
}

static void every_cut_is_found(void **state) {
    char *text = encoded();
    const size_t size = strlen(text);
    (void)state;
    for (size_t length = 0; length < size; length++) {
        struct tl_manifest m;
        assert_int_equal(tl_manifest_decode(text, length, "m", &m), TL_E_CORRUPT);
    }
    free(text);
}

/* The sample with `key` (an object's member, or "parts/N/member") set to `value`, NULL
 * removing it, and the check put right again. */
static int decode_with(const char *key, json_t *value) {
    char *text = encoded();
    json_t *root = json_loads(text, 0, NULL);
    json_t *object = root;
    char check[17];
    const char *member = key;
    if (strncmp(key, "parts/", 6) == 0) {
        object = json_array_get(json_object_get(root, "parts"), (size_t)(key[6] - '0'));
        member = key + 8;
    }
    free(text);
    (void)json_object_del(root, "check");
    if (value == NULL) {
        assert_int_equal(json_object_del(object, member), 0);
    } else {
        assert_int_equal(json_object_set_new(object, member, value), 0);
    }
    text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    (void)snprintf(check, sizeof(check), "%016" PRIx64,
                   (uint64_t)XXH3_64bits(text, strlen(text)));
    free(text);
    assert_int_equal(json_object_set_new(root, "check", json_string(check)), 0);
    text = json_dumps(root, 0);
    json_decref(root);
    struct tl_manifest m;
    const int r = tl_manifest_decode(text, strlen(text), "m", &m);
    if (r == 0) {
        tl_manifest_done(&m);
    }
    free(text);
    return r;
}

static void every_field_is_needed(void **state) {
    static const char *const keys[] = {
        "format",      "format_version", "job",          "run",
        "shard",       "shards",         "fold_digest",  "compression",
        "digest",      "first",          "count",        "parameters",
        "version",     "position",       "epoch",        "created_unix_ms",
        "parts",       "state_bytes",    "parts/0/name", "parts/0/bytes",
        "parts/1/xxh3"};
    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const int expected =
            strcmp(keys[i], "format_version") == 0 ? TL_E_UNSUPPORTED : TL_E_CORRUPT;
        assert_int_equal(decode_with(keys[i], NULL), expected);
        assert_int_equal(decode_with(keys[i], json_null()), expected);
        assert_int_equal(decode_with(keys[i], json_true()), expected);
    }
}

static void values_are_checked(void **state) {
    (void)state;
    assert_int_equal(decode_with("version", json_integer(1200)), 0);
    assert_int_equal(decode_with("version", json_integer(-1)), TL_E_CORRUPT);
    assert_int_equal(decode_with("version", json_real(1200.0)), TL_E_CORRUPT);
    assert_int_equal(decode_with("version", json_string("1200")), TL_E_CORRUPT);
    assert_int_equal(decode_with("shard", json_integer(3)), TL_E_CORRUPT);
    assert_int_equal(decode_with("shards", json_integer(1LL << 32)), TL_E_CORRUPT);
    assert_int_equal(decode_with("count", json_integer(0)), TL_E_CORRUPT);
    assert_int_equal(decode_with("count", json_integer(101)), TL_E_CORRUPT);
    assert_int_equal(decode_with("first", json_integer(INT64_MAX)), TL_E_CORRUPT);
    assert_int_equal(decode_with("state_bytes", json_integer(999)), TL_E_CORRUPT);
    assert_int_equal(decode_with("state_bytes", json_integer(0)), TL_E_CORRUPT);
    assert_int_equal(decode_with("job", json_string("")), TL_E_CORRUPT);
    assert_int_equal(decode_with("job", json_string("../etc")), TL_E_CORRUPT);
    assert_int_equal(decode_with("job", json_stringn("a\0b", 3)), TL_E_CORRUPT);
    assert_int_equal(
        decode_with("run", json_string("0123456789012345678901234567890123456789"
                                       "012345678901234567890123456789")),
        TL_E_CORRUPT);
    assert_int_equal(decode_with("compression", json_string("gzip")), TL_E_CORRUPT);
    assert_int_equal(decode_with("fold_digest", json_string("xyz")), TL_E_CORRUPT);
    assert_int_equal(decode_with("digest", json_string("00ff")), TL_E_CORRUPT);
    assert_int_equal(decode_with("extra", json_integer(1)), TL_E_CORRUPT);
    assert_int_equal(decode_with("format", json_string("tar")), TL_E_CORRUPT);
    assert_int_equal(decode_with("parts", json_array()), TL_E_CORRUPT);
    assert_int_equal(decode_with("parts/0/extra", json_integer(1)), TL_E_CORRUPT);
    assert_int_equal(decode_with("parts/0/bytes", json_integer(0)), TL_E_CORRUPT);
    assert_int_equal(decode_with("parts/0/bytes", json_integer(INT64_MAX)),
                     TL_E_CORRUPT);
    assert_int_equal(
        decode_with("parts/0/name", json_string("part-0001-00000000000000ab")),
        TL_E_CORRUPT);
    assert_int_equal(decode_with("parts/0/name", json_string("../../../etc/passwd")),
                     TL_E_CORRUPT);
}

static void another_format_is_named(void **state) {
    (void)state;
    assert_int_equal(decode_with("format_version", json_integer(3)), TL_E_UNSUPPORTED);
    assert_non_null(
        strstr(tl_error_text(), "format 3, this program reads 2: use a newer"));
    assert_int_equal(decode_with("format_version", json_integer(1)), TL_E_UNSUPPORTED);
    assert_non_null(
        strstr(tl_error_text(), "format 1, this program reads 2: use an older"));
}

static void a_key_twice_is_refused(void **state) {
    static const char text[] = "{\"check\":\"0\",\"check\":\"1\"}";
    struct tl_manifest m;
    (void)state;
    assert_int_equal(tl_manifest_decode(text, sizeof(text) - 1u, "m", &m),
                     TL_E_CORRUPT);
}

static void what_could_not_be_read_is_not_written(void **state) {
    struct tl_manifest m = sample();
    char *text = NULL;
    (void)state;
    m.version = UINT64_MAX;
    assert_int_equal(tl_manifest_encode(&m, &text), TL_E_INVALID);
    m = sample();
    m.job[0] = '\0';
    assert_int_equal(tl_manifest_encode(&m, &text), TL_E_INVALID);
    m = sample();
    m.part_count = 1;
    assert_int_equal(tl_manifest_encode(&m, &text), TL_E_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(every_damaged_bit_is_found_or_harmless),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(every_field_is_needed),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(another_format_is_named),
        cmocka_unit_test(a_key_twice_is_refused),
        cmocka_unit_test(what_could_not_be_read_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
