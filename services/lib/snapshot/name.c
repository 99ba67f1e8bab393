/* name.c - what objects of a snapshot are called.
 *
 * A name is only ever taken apart by formatting what was read from it again and
 * comparing: there is one spelling of each, and everything else is not ours. */
#include "snapshot_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_DIGITS 16u

struct tl_snapshot_key tl_manifest_key(const struct tl_manifest *m) {
    return (struct tl_snapshot_key){
        .shard = m->shard, .version = m->version, .epoch = m->epoch};
}

static int compare_u64(uint64_t a, uint64_t b) {
    return (a > b) - (a < b);
}

int tl_snapshot_compare(const struct tl_snapshot_key *a,
                        const struct tl_snapshot_key *b) {
    const int by_epoch =
        TL_MUTATE(newest_version_wins) ? 0 : compare_u64(a->epoch, b->epoch);
    return by_epoch != 0 ? by_epoch : compare_u64(a->version, b->version);
}

void tl_key_name(const struct tl_snapshot_key *key, char *name) {
    (void)snprintf(name, TL_OBJECT_NAME_MAX,
                   "shard-%04" PRIu32 "/%020" PRIu64 "-%010" PRIu64, key->shard,
                   key->version, key->epoch);
}

static void append(char *name, const char *tail) {
    const size_t length = strlen(name);
    (void)snprintf(name + length, TL_OBJECT_NAME_MAX - length, "%s", tail);
}

void tl_name_manifest(const struct tl_snapshot_key *key, char *name) {
    tl_key_name(key, name);
    append(name, ".manifest.json");
}

void tl_name_part(const struct tl_snapshot_key *key, const char *part, char *name) {
    tl_key_name(key, name);
    append(name, "/");
    append(name, part);
}

void tl_part_format(uint32_t index, uint64_t token, char part[TL_PART_NAME_MAX]) {
    (void)snprintf(part, TL_PART_NAME_MAX, "part-%04" PRIu32 "-%016" PRIx64, index,
                   token);
}

bool tl_part_is(const char *part, uint32_t index) {
    const size_t length = strnlen(part, TL_PART_NAME_MAX);
    if (length < TOKEN_DIGITS || length == TL_PART_NAME_MAX) {
        return false;
    }
    const uint64_t token = strtoull(part + length - TOKEN_DIGITS, NULL, 16);
    char canonical[TL_PART_NAME_MAX];
    tl_part_format(index, token, canonical);
    return strcmp(part, canonical) == 0;
}

/* Digits up to `end`, which is stepped over. */
static bool take_number(const char **text, char end, uint64_t *ret_number) {
    char *rest = NULL;
    if (**text < '0' || **text > '9') {
        return false;
    }
    *ret_number = strtoull(*text, &rest, 10);
    if (*rest != end) {
        return false;
    }
    *text = rest + (end != '\0');
    return true;
}

static bool take_key(const char **text, struct tl_snapshot_key *ret_key) {
    static const char prefix[] = "shard-";
    uint64_t shard = 0;
    if (strncmp(*text, prefix, sizeof(prefix) - 1u) != 0) {
        return false;
    }
    *text += sizeof(prefix) - 1u;
    if (!take_number(text, '/', &shard) || shard >= UINT32_MAX ||
        !take_number(text, '-', &ret_key->version)) {
        return false;
    }
    ret_key->shard = (uint32_t)shard;
    const size_t digits = strspn(*text, "0123456789");
    ret_key->epoch = strtoull(*text, NULL, 10);
    *text += digits;
    return digits > 0;
}

bool tl_name_parse(const char *name, struct tl_snapshot_key *ret_key,
                   char ret_part[TL_PART_NAME_MAX]) {
    const char *rest = name;
    struct tl_snapshot_key key;
    char canonical[TL_OBJECT_NAME_MAX];
    if (!take_key(&rest, &key)) {
        return false;
    }
    ret_part[0] = '\0';
    if (*rest != '/') {
        tl_name_manifest(&key, canonical);
    } else {
        const char *index = rest + sizeof("/part-") - 1u;
        if (strncmp(rest, "/part-", sizeof("/part-") - 1u) != 0 ||
            !tl_part_is(rest + 1, (uint32_t)strtoul(index, NULL, 10))) {
            return false;
        }
        tl_name_part(&key, rest + 1, canonical);
        (void)snprintf(ret_part, TL_PART_NAME_MAX, "%s", rest + 1);
    }
    *ret_key = key;
    return strcmp(name, canonical) == 0;
}
