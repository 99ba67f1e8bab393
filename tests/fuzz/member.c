/* What anybody may have written to Redis: an entry of the membership, the end, a URL.
 * The first line is the field, the rest the text. */
#include "fuzz.h"
#include "member_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
    struct tl_member_entry e;
    char reason[128];
    if (line == NULL) {
        return 0;
    }
    const char *field = (const char *)data;
    const char *text = (const char *)line + 1;
    size_t field_size = (size_t)(line - data);
    size_t text_size = size - field_size - 1;
    if (tl_entry_decode(field, field_size, text, text_size, &e) == 0) {
        char *again = NULL;
        struct tl_member_entry copy;
        must(tl_entry_encode(&e, &again) == 0);
        must(tl_entry_decode(field, field_size, again, strlen(again), &copy) == 0);
        must(copy.beat == e.beat && copy.incarnation == e.incarnation);
        free(again);
    }
    (void)!tl_end_decode(text, text_size, reason, sizeof(reason));
    return 0;
}
