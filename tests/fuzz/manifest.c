/* A snapshot's manifest: what is taken can be written again, and is taken again. */
#include "fuzz.h"
#include "snapshot_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <xxhash.h>

static void decode(const char *bytes, size_t size) {
    struct tl_manifest m;
    struct tl_manifest again;
    char *text = NULL;
    if (tl_manifest_decode(bytes, size, "manifest", &m) != 0) {
        return;
    }
    must(m.first + m.count <= m.parameters && m.part_count <= TL_PARTS_MAX);
    must(tl_manifest_encode(&m, &text) == 0);
    must(tl_manifest_decode(text, strlen(text), "again", &again) == 0);
    must(again.version == m.version && again.part_count == m.part_count);
    free(text);
    tl_manifest_done(&m);
    tl_manifest_done(&again);
}

/* The same with the check made right: nothing else would get behind it. */
static void decode_checked(const char *bytes, size_t size) {
    char check[17];
    json_t *root = json_loadb(bytes, size, 0, NULL);
    if (json_is_object(root)) {
        (void)json_object_del(root, "check");
        char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
        must(text != NULL);
        (void)snprintf(check, sizeof(check), "%016" PRIx64,
                       (uint64_t)XXH3_64bits(text, strlen(text)));
        free(text);
        must(json_object_set_new(root, "check", json_string(check)) == 0);
        text = json_dumps(root, JSON_COMPACT);
        must(text != NULL);
        decode(text, strlen(text));
        free(text);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode((const char *)data, size);
    decode_checked((const char *)data, size);
    return 0;
}
