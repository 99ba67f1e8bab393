/* What an S3 server says: a page of a listing, and the text of one element. */
#include "fuzz.h"
#include "s3_internal.h"

static int take(void *ctx, const char *name, uint64_t size) {
    (void)ctx;
    (void)size;
    must(strnlen(name, TL_OBJECT_NAME_MAX) < TL_OBJECT_NAME_MAX);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char next[S3_TEXT_MAX] = "";
    char code[64] = "";
    const char *text = (const char *)data;
    if (tl_s3_page(text, size, "run/", take, NULL, next) == 0) {
        must(strnlen(next, sizeof(next)) < sizeof(next));
    }
    if (tl_s3_xml_find(text, size, "Error/Code", code, sizeof(code)) == 0) {
        must(strnlen(code, sizeof(code)) < sizeof(code));
    }
    return 0;
}
